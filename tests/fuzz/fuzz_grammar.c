/* fuzz_grammar: any text as a schema, pattern, list of choices or GBNF, and any bytes as what a model wants
 * to say: nothing may crash, leak or go beyond its limits, and what a mask allows is accepted. */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "server/text/grammar/matcher.h"

enum { N_TOKEN = 300, WORDS = (N_TOKEN + 31) / 32, EOS = 299 };

static struct grammar_vocab *make_vocab(void)
{
    static const char *const piece[] = {"{\"",  "\": ", ", ", "\"}", "[]", "null",
                                        "true", "12",   "ab", "\\n", "é",  "\xc3"};
    static char byte[256];
    struct grammar_token token[N_TOKEN] = {{0}};
    struct grammar_vocab *v;
    int32_t eos = EOS;
    for (int i = 0; i < 256; i++) {
        byte[i] = (char)i;
        token[i] = (struct grammar_token){&byte[i], 1};
    }
    for (size_t i = 0; i < sizeof piece / sizeof *piece; i++)
        token[256 + i] = (struct grammar_token){piece[i], strlen(piece[i])};
    FUZZ_CHECK(grammar_vocab_new(&v, token, N_TOKEN, &eos, 1, NULL) == OK);
    return v;
}

static void talk(struct grammar *g, const uint8_t *want, size_t n)
{
    struct grammar_matcher *m;
    uint32_t bits[WORDS];
    char forced[16];
    if (grammar_matcher_new(&m, g) != OK) return;
    for (size_t i = 0; i < n && i < 24; i++) {
        if (grammar_matcher_mask(m, bits) != OK) break;
        int32_t t = want[i];
        for (int k = 0; k < N_TOKEN && !(bits[t >> 5] >> (t & 31) & 1); k++) t = (t + 1) % N_TOKEN;
        if (!(bits[t >> 5] >> (t & 31) & 1)) break;
        enum err e = grammar_matcher_accept(m, t);
        FUZZ_CHECK(e != ERR_INVALID_VALUE);
        if (e != OK || t == EOS) break;
        if (want[i] % 7 == 0) grammar_matcher_rollback(m, 1);
        grammar_matcher_forced(m, forced, sizeof forced);
    }
    FUZZ_CHECK(g->pool.bytes <= g->pool.bytes_max);
    grammar_matcher_free(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct grammar_vocab *vocab;
    struct grammar_limits lim = {.compile_bytes = 8 << 20,
                                 .compile_steps = 100000,
                                 .states = 5000,
                                 .alternatives = 64,
                                 .threads = 500,
                                 .run_bytes = 256 << 10,
                                 .mask_bytes = 4096,
                                 .mask_steps = 100000};
    struct err_note note = {0};
    struct grammar *g;
    if (!vocab) vocab = make_vocab();
    if (n < 2) return 0;
    size_t head =
        data[0] % 16u < n - 1 ? data[0] % 16u : n - 1; /* what the model says, then the grammar's text */
    char *text = malloc(n - 1 - head + 1);
    if (!text) return 0;
    memcpy(text, data + 1 + head, n - 1 - head);
    struct grammar_opts opts = {.space = (enum grammar_space)(data[0] / 16 % 3)};
    static const enum grammar_kind kinds[] = {GRAMMAR_SCHEMA, GRAMMAR_GBNF, GRAMMAR_REGEX, GRAMMAR_CHOICE};
    enum grammar_kind kind = data[0] >= 0xc0 ? kinds[1 + data[0] % 3] : kinds[0];
    const enum err e = grammar_compile(&g, vocab, kind, text, n - 1 - head, &opts, &lim, &note);
    if (e == OK) {
        talk(g, data + 1, head);
        grammar_give(g);
    } else
        fuzz_refused(e, &note);
    free(text);
    return 0;
}
