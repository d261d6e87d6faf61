/* fuzz_tokenizer: tokenizer.json, and a text through what it makes. */
#include "tests/fuzz/fuzz.h"

#include "server/text/assets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static char dir[] = "/tmp/fluxd-fuzz-XXXXXX", path[64];
    const char *file = fuzz_file(data, n);
    struct text_assets *a;
    struct tokenizer *t;
    struct err_note note = {0};
    if (!path[0]) {
        FUZZ_CHECK(mkdtemp(dir));
        snprintf(path, sizeof path, "%s/tokenizer.json", dir);
        FUZZ_CHECK(symlink(file, path) == 0);
    }
    enum err e = text_assets_open(&a, dir, &note);
    if (e != OK) {
        fuzz_refused(e, &note);
        return 0;
    }
    const struct tokenizer_src src = text_assets_vocabulary(a);
    struct token_vec v = {0};
    if ((e = tokenizer_new(&t, &src, &note)) == OK) {
        static const char text[] = "It's 12 \xe2\x96\x81<s> \xf0\x9f\x98\x80\n";
        tokenizer_encode(t, text, sizeof text - 1, TOKENIZE_SPECIAL | TOKENIZE_ADD, &v, NULL);
        for (size_t i = 0; i < v.n; i++) FUZZ_CHECK(v.id[i] >= 0 && v.id[i] < src.n_piece);
        tokenizer_free(t);
    } else
        fuzz_refused(e, &note);
    token_vec_fini(&v);
    text_assets_close(a);
    return 0;
}
