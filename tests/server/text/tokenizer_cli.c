/* tokenizer_cli MODEL FLAGS IN OUT: the ids of many texts, for tests/goldens/make_tokenizers.py. MODEL is a
 * GGUF file or a directory; IN holds (uint32 length, bytes) after one another, OUT gets (int32 enum err,
 * uint32 count, int32 ids). */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "server/text/assets.h"
#include "server/text/tokenizer.h"

static int die(const char *what)
{
    fprintf(stderr, "tokenizer_cli: %s\n", what);
    return 2;
}

static int encode_all(const struct tokenizer *t, int flags, FILE *in, FILE *out)
{
    struct token_vec v = {0};
    uint32_t len;
    char *text = NULL;
    int rc = 0;
    while (rc == 0 && fread(&len, sizeof len, 1, in) == 1) {
        char *p = realloc(text, (size_t)len + 1);
        if (!p)
            rc = die("out of memory");
        else
            text = p;
        if (rc == 0 && fread(text, 1, len, in) != len) rc = die("the input is cut");
        if (rc != 0) break;
        v.n = 0;
        int32_t e = (int32_t)tokenizer_encode(t, text, len, flags, &v, NULL);
        uint32_t n = (uint32_t)v.n;
        if (fwrite(&e, sizeof e, 1, out) != 1 || fwrite(&n, sizeof n, 1, out) != 1 ||
            fwrite(v.id, sizeof *v.id, n, out) != n)
            rc = die("cannot write");
    }
    free(text);
    token_vec_fini(&v);
    return rc;
}

int main(int argc, char **argv)
{
    struct text_assets *a;
    struct tokenizer *t;
    struct err_note note = {0};
    if (argc != 5) return die("MODEL FLAGS IN OUT");
    int64_t t0 = clock_ns();
    if (text_assets_open(&a, argv[1], &note) != OK) return die(note.text);
    const struct tokenizer_src src = text_assets_vocabulary(a);
    if (tokenizer_new(&t, &src, &note) != OK) return die(note.text);
    double load_ms = clock_ms_since(t0);
    FILE *in = fopen(argv[3], "rb"), *out = fopen(argv[4], "wb");
    t0 = clock_ns();
    int rc = in && out ? encode_all(t, atoi(argv[2]), in, out) : die("cannot open the texts");
    fprintf(stderr, "loaded in %.0f ms, encoded in %.0f ms\n", load_ms, clock_ms_since(t0));
    if (in) fclose(in);
    if (out && fclose(out) != 0) rc = die("cannot write");
    tokenizer_free(t);
    text_assets_close(a);
    return rc;
}
