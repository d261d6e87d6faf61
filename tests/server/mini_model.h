/* mini_model: a tokenizer with one token a byte behind three special ones, SmolLM2's chat template, and the
 * facts of a model around them. Token of byte b: MINI_BYTE + b. */
#ifndef FLUXD_TESTS_SERVER_MINI_MODEL_H
#define FLUXD_TESTS_SERVER_MINI_MODEL_H

#include <math.h>
#include <string.h>

#include "server/api/prep.h"
#include "tests/base/cm.h"

enum {
    MINI_END,
    MINI_IM_START,
    MINI_IM_END,
    MINI_BYTE,
    MINI_VOCAB = MINI_BYTE + 256,
    MINI_LAYERS = 4,
    MINI_LEN = 512
};

static const char mini_template[] =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "Be kind<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    "{% if shout is defined and shout %}{{ '!' }}{% endif %}";

struct mini {
    struct tokenizer *tokenizer;
    struct tmpl *tmpl;
    struct chat_tokens *tokens;
    struct engine_info info;
    struct constraints *constraints;
    struct prep_env env;
};

/* GPT-2's letter of a byte, as UTF-8. */
static inline size_t mini_letter(unsigned b, char *out)
{
    unsigned c = b, nth = 0;
    const bool own = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    for (unsigned i = 0; i < b; i++)
        nth += !((i >= 0x21 && i <= 0x7E) || (i >= 0xA1 && i <= 0xAC) || i >= 0xAE);
    c = own ? b : 0x100 + nth;
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    out[0] = (char)(0xC0 | c >> 6);
    out[1] = (char)(0x80 | (c & 0x3F));
    return 2;
}

static inline void mini_open(struct mini *m)
{
    static const char *const special[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    static char letter[256][2];
    const char *piece[MINI_VOCAB];
    size_t len[MINI_VOCAB];
    uint8_t kind[MINI_VOCAB] = {TOKEN_SPECIAL, TOKEN_SPECIAL, TOKEN_SPECIAL};
    struct err_note note;
    memset(m, 0, sizeof *m);
    for (unsigned i = 0; i < MINI_VOCAB; i++) {
        piece[i] = i < MINI_BYTE ? special[i] : letter[i - MINI_BYTE];
        len[i] = i < MINI_BYTE ? strlen(special[i]) : mini_letter(i - MINI_BYTE, letter[i - MINI_BYTE]);
    }
    const struct tokenizer_src src = {.n_piece = MINI_VOCAB,
                                      .piece = piece,
                                      .piece_len = len,
                                      .kind = kind,
                                      .pre = "gpt-2",
                                      .bos_id = -1,
                                      .eos_id = MINI_IM_END,
                                      .unk_id = -1};
    assert_int_equal(tokenizer_new(&m->tokenizer, &src, &note), OK);
    assert_int_equal(tmpl_compile(&m->tmpl, mini_template, sizeof mini_template - 1, &note), OK);
    assert_int_equal(chat_tokens_new(&m->tokens, m->tokenizer, &note), OK);
    m->info = (struct engine_info){.n_layer = MINI_LAYERS,
                                   .n_vocab = MINI_VOCAB,
                                   .max_len = MINI_LEN,
                                   .n_eos = 1,
                                   .eos = {MINI_IM_END},
                                   .page_bytes = 1024};
    m->constraints = constraints_new(&(struct constraint_conf){.tokenizer = m->tokenizer,
                                                               .eos = m->info.eos,
                                                               .n_eos = 1,
                                                               .n_vocab = MINI_VOCAB,
                                                               .bytes_most = 64 << 20});
    assert_non_null(m->constraints);
    m->env = (struct prep_env){
        .chat = {.tmpl = m->tmpl,
                 .tokenizer = m->tokenizer,
                 .tokens = m->tokens,
                 .knows = {.format = tool_formats, .tools = true, .calls = true, .system = true},
                 .eos_id = MINI_IM_END},
        .model = &m->info,
        .model_id = "mini",
        .gen_temperature = NAN,
        .gen_top_p = NAN,
        .gen_min_p = NAN,
        .gen_repetition = NAN,
        .gen_top_k = -1,
        .seed = -1,
        .choices_most = 256,
        .tokenize_bytes_most = 1 << 20,
        .detokenize_ids_most = MINI_LEN,
        .limits = json_limits_default,
        .constraints = m->constraints,
        .thought = {"<think>", 7, "</think>", 8}};
}

static inline void mini_close(struct mini *m)
{
    constraints_free(m->constraints);
    chat_tokens_free(m->tokens);
    tmpl_free(m->tmpl);
    tokenizer_free(m->tokenizer);
}

/* The ids of a text in which <|im_start|>, <|im_end|> and <|endoftext|> count as special ones. */
static inline void mini_ids(const char *text, struct token_vec *out)
{
    static const char *const special[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    for (const char *p = text; *p;) {
        int32_t id = MINI_BYTE + (uint8_t)*p;
        size_t n = 1;
        for (int i = 0; i < MINI_BYTE; i++)
            if (!strncmp(p, special[i], strlen(special[i]))) {
                id = i;
                n = strlen(special[i]);
            }
        assert_true(token_vec_push(out, id));
        p += n;
    }
}

#endif
