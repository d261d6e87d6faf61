/* Broken tokenizer files: truncated everywhere, every value replaced by wild ones, bytes flipped. Always a
 * refusal that names the file, or a tokenizer that encodes; never a crash, never a block of memory out of
 * proportion to the file. */
#include "tests/engine/mutate.h"
#include "tests/engine/tiny_tokenizer.h"

#include "base/files/jdoc.h"
#include "base/strbuf.h"
#include "server/text/assets.h"
#include "server/text/tokenizer.h"

enum {
    SLACK = 96 * 1024 /* an arena's block, a table's least size, a pattern's program */,
    VALUES_MOST = 1024,
    FLIPS = 1500
};

static char dir[32];
static int n_case, n_taken, n_encoded;

static void encode_some(const struct text_assets *a, const char *what)
{
    const struct tokenizer_src src = text_assets_vocabulary(a);
    static const char text[] = "<s>abc 12ab\xC3\xA9 e\xCC\x81 <t\xC3\xA9> \n </s>  cab\"<";
    struct tokenizer *t = NULL;
    struct err_note note = {0};
    if (tokenizer_new(&t, &src, &note) != OK) {
        assert_refusal(&note, a->file, NULL, what);
        return;
    }
    struct token_vec v = {0};
    enum err e = tokenizer_encode(t, text, sizeof text - 1, TOKENIZE_SPECIAL | TOKENIZE_ADD, &v, &note);
    assert_true(e == OK || e == ERR_INVALID_REQUEST);
    for (size_t i = 0; i < v.n; i++) {
        size_t n;
        assert_true(v.id[i] >= 0 && v.id[i] < a->n_piece);
        assert_non_null(tokenizer_bytes(t, v.id[i], &n));
    }
    token_vec_fini(&v);
    tokenizer_free(t);
    n_encoded++;
}

/* Every `nth` tokenizer that is taken is built, too: the trial of its patterns takes milliseconds. */
static void try_file(int file, const char *text, size_t n, int nth, const char *what)
{
    char path[128];
    struct text_assets *t = NULL;
    struct err_note note = {0};
    tiny_path(path, dir, file);
    tiny_put(dir, file, text, n);
    watch_begin();
    enum err e = text_assets_open(&t, dir, &note);
    watch_end();
    long long size = (long long)(n > sizeof TINY_TOKENIZER ? n : sizeof TINY_TOKENIZER);
    if (watch.most > 2 * size + SLACK)
        fail_msg("%s: a block of %lld bytes for a file of %zu", what, (long long)watch.most, n);
    n_case++;
    if (e != OK) {
        assert_true(e == ERR_MODEL_FILE);
        assert_refusal(&note, dir, NULL, what);
        return;
    }
    if (n_taken++ % nth == 0) encode_some(t, what);
    text_assets_close(t);
}

static const char *const whole[] = {TINY_TOKENIZER, TINY_CONFIG, TINY_GENERATION};

static void restore(int file) { tiny_put(dir, file, whole[file], strlen(whole[file])); }

static void truncated_files_are_refused(void **state)
{
    (void)state;
    for (int file = 0; file < 3; file++) {
        size_t n = strlen(whole[file]);
        n_taken = 0;
        for (size_t cut = 0; cut < n; cut++) {
            char what[64];
            snprintf(what, sizeof what, "file %d cut at %zu", file, cut);
            try_file(file, whole[file], cut, 1, what);
        }
        assert_int_equal(n_taken, 1); /* without its last newline it is whole */
        restore(file);
    }
}

/* --- every value */

static struct jval value[VALUES_MOST];
static int n_value;

static void list_values(struct jval v)
{
    assert_true(n_value < VALUES_MOST);
    value[n_value++] = v;
    for (struct jiter it = jval_iter(v); jiter_next(&it);) {
        if (it.object) value[n_value++] = it.key;
        list_values(it.value);
    }
}

static void wild_values_are_refused_or_harmless(void **state)
{
    (void)state;
    static char deep[201];
    static const char *const wild[] = {
        "null",
        "true",
        "-1",
        "0",
        "7",
        "2147483647",
        "4294967296",
        "99999999999999999999999",
        "1e999",
        "-0.5",
        "\"\"",
        "\"a\"",
        "\"\\u0000\"",
        "\"\\ud83d\\ude00 \\n\"",
        "[]",
        "{}",
        "[[],[]]",
        "{\"type\":\"Sequence\"}",
        "{\"a\":1}",
        "[\"a\",\"b\"]",
        "\"(a+)+$\"",
        "\"[\"",
        "\"Sequence\"",
        deep,
    };
    enum { N_WILD = sizeof wild / sizeof wild[0], EACH = 6 };
    memset(deep, '[', 100);
    memset(deep + 100, ']', 100);
    for (int file = 0; file < 3; file++) {
        struct jval root;
        assert_int_equal(jdoc_check(&root, whole[file], strlen(whole[file]), "it", NULL), OK);
        n_value = 0;
        list_values(root);
        for (int i = 0; i < n_value * EACH; i++) {
            const struct jval v = value[i / EACH];
            const char *to = wild[mutate_hash((uint32_t)(file * 100000 + i)) % N_WILD];
            struct strbuf text;
            strbuf_init(&text);
            strbuf_put(&text, whole[file], (size_t)(v.p - whole[file]));
            strbuf_puts(&text, to);
            strbuf_puts(&text, v.p + v.n);
            char what[160];
            snprintf(what, sizeof what, "file %d, %s for %.*s", file, to, v.n < 60 ? (int)v.n : 60, v.p);
            try_file(file, text.data, text.len, 10, what);
            strbuf_fini(&text);
        }
        restore(file);
    }
}

static void flipped_bytes_are_refused_or_harmless(void **state)
{
    (void)state;
    uint32_t seed = mutate_seed(17);
    for (int file = 0; file < 3; file++) {
        size_t n = strlen(whole[file]);
        for (int i = 0; i < FLIPS; i++) {
            static char text[8192];
            memcpy(text, whole[file], n);
            for (uint32_t k = 1 + mutate_next(&seed) % 3; k > 0; k--) {
                static const char like[] = "{}[]\",:\\0123456789-eE+.ntf \x01\xC3\xFF";
                uint32_t at = mutate_next(&seed) % (uint32_t)n, how = mutate_next(&seed);
                char now = (char)(text[at] ^ (char)(1 << how / 2 % 8));
                text[at] = how % 2 ? like[how / 2 % (sizeof like - 1)] : now;
            }
            char what[64];
            snprintf(what, sizeof what, "file %d, flip %d", file, i);
            try_file(file, text, n, 10, what);
        }
        restore(file);
    }
}

static int make_dir(void **state)
{
    (void)state;
    tiny_make(dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    tiny_remove(dir);
    print_message("%d files tried, %d tokenizers built and used\n", n_case, n_encoded);
    return n_case < 5000 || n_encoded < 50;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(truncated_files_are_refused),
        cmocka_unit_test(wild_values_are_refused_or_harmless),
        cmocka_unit_test(flipped_bytes_are_refused_or_harmless),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
