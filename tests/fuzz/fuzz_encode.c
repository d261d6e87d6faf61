/* fuzz_encode: texts through a sentencepiece vocabulary: ids in range, and the text comes back. Run in the
 * repository's root. */
#include "tests/fuzz/fuzz.h"

#include "base/strbuf.h"
#include "base/utf8.h"
#include "server/text/assets.h"

static struct tokenizer *open_once(void)
{
    static struct tokenizer *t;
    struct text_assets *a;
    struct err_note note;
    if (t) return t;
    FUZZ_CHECK(text_assets_open(&a, "tests/goldens/spm/prepend", &note) == OK);
    const struct tokenizer_src src = text_assets_vocabulary(a);
    FUZZ_CHECK(tokenizer_new(&t, &src, &note) == OK);
    text_assets_close(a);
    return t;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const struct tokenizer *t = open_once();
    const char *text = (const char *)data;
    struct token_vec v = {0};
    struct err_note note = {0};
    struct strbuf back;
    enum err e = tokenizer_encode(t, text, n, 0, &v, &note);
    if (e != OK) {
        FUZZ_CHECK(!utf8_valid(text, n));
        fuzz_refused(e, &note);
        return 0;
    }
    strbuf_init(&back);
    for (size_t i = 0; i < v.n; i++) {
        size_t len;
        const char *p = tokenizer_bytes(t, v.id[i], &len);
        strbuf_put(&back, p, len);
    }
    /* as sent, but for the spaces put before parts and the mark that spaces are written as */
    if (!memmem(text, n, "\xe2\x96\x81", 3) && !memmem(text, n, "<|tool|>", 8) && n > 0)
        FUZZ_CHECK(back.len == n + 1 && memcmp(back.data + 1, text, n) == 0);
    strbuf_fini(&back);
    token_vec_fini(&v);
    return 0;
}
