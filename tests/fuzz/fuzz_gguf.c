/* fuzz_gguf: GGUF files, and what they say about text. */
#include "tests/fuzz/fuzz.h"

#include "base/files/gguf.h"
#include "server/text/assets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *path = fuzz_file(data, n);
    struct gguf *g;
    struct err_note note = {0};
    enum err e = gguf_open(&g, path, &note);
    if (e != OK) {
        fuzz_refused(e, &note);
        return 0;
    }
    for (int i = 0; i < gguf_n_tensor(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        FUZZ_CHECK(t->offset >= 0 && t->n_bytes >= 0 && t->offset + t->n_bytes <= (int64_t)n);
    }
    gguf_close(g);
    struct text_assets *a;
    struct tokenizer *t;
    if ((e = text_assets_open(&a, path, &note)) != OK) {
        fuzz_refused(e, &note);
        return 0;
    }
    const struct tokenizer_src src = text_assets_vocabulary(a);
    struct token_vec v = {0};
    e = tokenizer_new(&t, &src, &note);
    if (e == OK) {
        tokenizer_encode(t, "a \xc3\xbc  b", 7, TOKENIZE_SPECIAL | TOKENIZE_ADD, &v, NULL);
        for (size_t i = 0; i < v.n; i++) FUZZ_CHECK(v.id[i] >= 0 && v.id[i] < src.n_piece);
        tokenizer_free(t);
    } else
        fuzz_refused(e, &note);
    token_vec_fini(&v);
    text_assets_close(a);
    return 0;
}
