/* fuzz_grammar: schemas, patterns, choices and GBNF, and a few steps of what they make. The first byte says
 * which. */
#include "tests/fuzz/fuzz.h"

#include "server/text/grammar/grammar.h"

enum { N_TOKEN = 257 };

static struct grammar_vocab *open_once(void)
{
    static struct grammar_vocab *v;
    static char text[256];
    struct grammar_token token[N_TOKEN];
    const int32_t eos = N_TOKEN - 1;
    if (v) return v;
    for (int b = 0; b < 256; b++) {
        text[b] = (char)b;
        token[b] = (struct grammar_token){&text[b], 1};
    }
    token[eos] = (struct grammar_token){"", 0};
    FUZZ_CHECK(grammar_vocab_new(&v, token, N_TOKEN, &eos, 1, NULL) == OK);
    return v;
}

static void walk(struct grammar *g)
{
    uint32_t bits[(N_TOKEN + 31) / 32];
    struct grammar_matcher *m;
    if (grammar_matcher_new(&m, g) != OK) return;
    for (int i = 0; i < 24; i++) {
        int32_t next = -1;
        if (grammar_matcher_mask(m, bits) != OK) break;
        for (int32_t t = 0; t < N_TOKEN && next < 0; t++)
            if (bits[t >> 5] >> (t & 31) & 1) next = t;
        if (next < 0 || next == N_TOKEN - 1) break;
        FUZZ_CHECK(grammar_matcher_accept(m, next) == OK); /* what the mask allows is taken */
    }
    grammar_matcher_free(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct grammar *g;
    struct err_note note = {0};
    if (n < 1) return 0;
    enum err e = grammar_compile(&g, open_once(), (enum grammar_kind)(data[0] % 4), (const char *)data + 1,
                                 n - 1, NULL, NULL, &note);
    if (e != OK) {
        fuzz_refused(e, &note);
        return 0;
    }
    walk(g);
    grammar_give(g);
    return 0;
}
