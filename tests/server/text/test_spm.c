/* spm: vocabularies of sentencepiece, from a GGUF with scores and from every form of tokenizer.json, against
 * `sentencepiece` and `tokenizers` (tests/goldens/make_spm.py), and against broken ones. */
#include "tests/base/cm.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/strbuf.h"
#include "base/utf8.h"
#include "server/text/assets.h"
#include "server/text/tokenizer.h"

#define DIR "tests/goldens/spm/"

static cJSON *golden;

static int open_golden(void **state)
{
    (void)state;
    FILE *f = fopen(DIR "golden.json", "rb");
    assert_non_null(f);
    char *text = calloc(1, 1 << 22);
    assert_non_null(text);
    size_t n = fread(text, 1, (1 << 22) - 1, f);
    fclose(f);
    golden = cJSON_ParseWithLength(text, n);
    free(text);
    return golden ? 0 : -1;
}

static int close_golden(void **state)
{
    (void)state;
    cJSON_Delete(golden);
    return 0;
}

struct form {
    struct text_assets *assets;
    struct tokenizer *t;
};

static struct form open_form(const char *name)
{
    struct form f;
    struct err_note note = {0};
    char path[128];
    snprintf(path, sizeof path, DIR "%s", name);
    if (text_assets_open(&f.assets, path, &note) != OK) fail_msg("%s", note.text);
    const struct tokenizer_src src = text_assets_vocabulary(f.assets);
    if (tokenizer_new(&f.t, &src, &note) != OK) fail_msg("%s", note.text);
    return f;
}

static void close_form(struct form *f)
{
    tokenizer_free(f->t);
    text_assets_close(f->assets);
}

static const cJSON *get(const cJSON *o, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(o, name);
}

/* The text of ids as it is told: bytes, without the space that the tokenizer put before. */
static void decode(const struct tokenizer *t, const struct token_vec *v, struct strbuf *out)
{
    struct strbuf raw;
    strbuf_init(&raw);
    strbuf_clear(out);
    for (size_t i = 0; i < v->n; i++) {
        size_t n;
        const char *p = tokenizer_bytes(t, v->id[i], &n);
        strbuf_put(&raw, p, n);
    }
    const bool skip = tokenizer_strips(t) && raw.len > 0 && raw.data[0] == ' ';
    if (raw.len > skip) utf8_sanitize(raw.data + skip, raw.len - skip, out);
    strbuf_putc(out, '\0');
    strbuf_fini(&raw);
}

static void expect_all(const struct form *f, const char *form, const char *kind, int flags)
{
    const cJSON *want = get(get(get(golden, "ids"), form), kind)->child, *text = get(golden, kind)->child;
    const cJSON *said = flags ? get(get(golden, "text"), form)->child : NULL;
    struct token_vec v = {0};
    struct strbuf back;
    strbuf_init(&back);
    for (; text; text = text->next, want = want->next, said = said ? said->next : NULL) {
        int i = 0;
        v.n = 0;
        assert_int_equal(
            tokenizer_encode(f->t, text->valuestring, strlen(text->valuestring), flags, &v, NULL), OK);
        for (const cJSON *id = want->child; id; id = id->next, i++)
            if ((size_t)i >= v.n || v.id[i] != (int32_t)id->valuedouble)
                fail_msg("%s: id %d of \"%s\" is %d", form, i, text->valuestring,
                         (size_t)i < v.n ? (int)v.id[i] : -1);
        assert_int_equal(v.n, i);
        if (!said) continue;
        decode(f->t, &v, &back);
        if (strcmp(back.data, said->valuestring))
            fail_msg("%s: \"%s\" and \"%s\"", form, back.data, said->valuestring);
    }
    strbuf_fini(&back);
    token_vec_fini(&v);
}

static void scores_merge_as_sentencepiece_does(void **state)
{
    (void)state;
    struct form f = open_form("vocab.gguf");
    assert_int_equal(tokenizer_bos(f.t), 1);
    assert_int_equal(tokenizer_eos(f.t), 2);
    expect_all(&f, "vocab.gguf", "plain", 0);
    close_form(&f);
}

static void every_form_of_the_file_gives_the_packages_ids_and_text(void **state)
{
    (void)state;
    static const char *const form[] = {"prepend", "first", "always", "words", "none"};
    for (size_t i = 0; i < sizeof form / sizeof *form; i++) {
        struct form f = open_form(form[i]);
        expect_all(&f, form[i], "plain", 0);
        expect_all(&f, form[i], "special", TOKENIZE_SPECIAL);
        close_form(&f);
    }
}

/* Between special tokens the first reader of a GGUF puts a space before each part, as Prepend does. */
static void parts_of_a_gguf_are_encoded_as_prepend_does(void **state)
{
    (void)state;
    struct form a = open_form("vocab.gguf"), b = open_form("prepend");
    struct token_vec x = {0}, y = {0};
    for (const cJSON *s = get(golden, "special")->child; s; s = s->next) {
        const size_t n = strlen(s->valuestring);
        x.n = y.n = 0;
        assert_int_equal(tokenizer_encode(a.t, s->valuestring, n, TOKENIZE_SPECIAL | TOKENIZE_ADD, &x, NULL),
                         OK);
        assert_int_equal(tokenizer_encode(b.t, s->valuestring, n, TOKENIZE_SPECIAL | TOKENIZE_ADD, &y, NULL),
                         OK);
        assert_int_equal(x.n, y.n);
        assert_memory_equal(x.id, y.id, x.n * sizeof *x.id);
    }
    token_vec_fini(&x);
    token_vec_fini(&y);
    close_form(&a);
    close_form(&b);
}

/* A part that is not its text's first gets no space where only the first one does. */
static void only_the_first_part_gets_a_space_where_the_file_says_so(void **state)
{
    (void)state;
    struct form f = open_form("first");
    struct token_vec whole = {0}, inside = {0};
    assert_int_equal(tokenizer_encode(f.t, "a", 1, 0, &whole, NULL), OK);
    assert_int_equal(tokenizer_encode(f.t, "a", 1, TOKENIZE_INSIDE, &inside, NULL), OK);
    size_t n;
    const char *p = tokenizer_bytes(f.t, inside.id[0], &n);
    assert_true(n == 1 && p[0] == 'a');
    p = tokenizer_bytes(f.t, whole.id[0], &n);
    assert_true(p[0] == ' ');
    token_vec_fini(&whole);
    token_vec_fini(&inside);
    close_form(&f);
}

/* --- vocabularies that lie */

enum { N_PIECE = 8 };

static enum err make(struct tokenizer **t, const char *const *piece, const uint8_t *kind, const float *score,
                     int32_t unk, struct err_note *note)
{
    size_t len[N_PIECE];
    for (int i = 0; i < N_PIECE; i++) len[i] = strlen(piece[i]);
    const struct tokenizer_src src = {.n_piece = N_PIECE,
                                      .piece = piece,
                                      .piece_len = len,
                                      .kind = kind,
                                      .bos_id = -1,
                                      .eos_id = -1,
                                      .unk_id = unk,
                                      .spm = {.on = true, .fuse_unk = true, .score = score}};
    return tokenizer_new(t, &src, note);
}

static void expect_ids(const struct tokenizer *t, const char *text, const int32_t *want, size_t n)
{
    struct token_vec v = {0};
    assert_int_equal(tokenizer_encode(t, text, strlen(text), 0, &v, NULL), OK);
    assert_int_equal(v.n, n);
    if (n) assert_memory_equal(v.id, want, n * sizeof *want);
    token_vec_fini(&v);
}

/* The leftmost pair goes first among those of equal scores, whatever pieces they make. */
static void equal_scores_merge_from_left_to_right(void **state)
{
    (void)state;
    static const char *const piece[N_PIECE] = {"<unk>", "a", "b", "aa", "ab", "aab", "aaa", "ba"};
    static const uint8_t kind[N_PIECE] = {TOKEN_SPECIAL};
    static const float score[N_PIECE] = {0, 0, 0, -1, -1, -2, -2, -1};
    struct tokenizer *t;
    struct err_note note = {0};
    assert_int_equal(make(&t, piece, kind, score, 0, &note), OK);
    expect_ids(t, "aab", (const int32_t[]){5}, 1);      /* aa b, then aab */
    expect_ids(t, "aba", (const int32_t[]){4, 1}, 2);   /* not a ba */
    expect_ids(t, "baab", (const int32_t[]){7, 4}, 2);  /* ba, ab */
    expect_ids(t, "aaaa", (const int32_t[]){3, 3}, 2);  /* aa aa: nothing makes four */
    expect_ids(t, "aaaaa", (const int32_t[]){3, 6}, 2); /* aa aa a: (aa, aa) is none, (aa, a) is */
    tokenizer_free(t);
}

static void a_character_without_a_piece_is_one_unknown_token(void **state)
{
    (void)state;
    static const char *const piece[N_PIECE] = {"<unk>", "a", "b", "aa", "ab", "aab", "aaa", "ba"};
    static const uint8_t kind[N_PIECE] = {TOKEN_SPECIAL};
    static const float score[N_PIECE] = {0};
    struct tokenizer *t;
    struct err_note note = {0};
    assert_int_equal(make(&t, piece, kind, score, 0, &note), OK);
    expect_ids(t, "\xc3\xbcz", (const int32_t[]){0}, 1);
    expect_ids(t, "za\xe4\xb8\xad", (const int32_t[]){0, 1, 0}, 3);
    tokenizer_free(t);
    assert_int_equal(make(&t, piece, kind, score, -1, &note), OK);
    expect_ids(t, "za", (const int32_t[]){1}, 1);
    expect_ids(t, "z", NULL, 0);
    tokenizer_free(t);
}

static void broken_vocabularies_are_refused_by_name(void **state)
{
    (void)state;
    static char huge[5000];
    memset(huge, 'x', sizeof huge - 1);
    const char *piece[N_PIECE] = {"<unk>", "<0x41>", "b", "aa", "ab", "aab", "aaa", "ba"};
    uint8_t kind[N_PIECE] = {TOKEN_SPECIAL, TOKEN_BYTE};
    float score[N_PIECE] = {0};
    struct tokenizer *t;
    struct err_note note = {0};
    assert_int_equal(make(&t, piece, kind, score, 0, &note), OK);
    tokenizer_free(t);
    score[4] = NAN;
    assert_int_equal(make(&t, piece, kind, score, 0, &note), ERR_MODEL_FILE);
    assert_non_null(strstr(note.text, "token 4"));
    score[4] = INFINITY; /* the highest */
    assert_int_equal(make(&t, piece, kind, score, 0, &note), OK);
    tokenizer_free(t);
    static const char *const no_byte[] = {"<0x4>", "<0xGG>", "", "<0x41>>", "A"};
    for (size_t i = 0; i < sizeof no_byte / sizeof *no_byte; i++) {
        piece[1] = no_byte[i];
        assert_int_equal(make(&t, piece, kind, score, 0, &note), ERR_MODEL_FILE);
        assert_non_null(strstr(note.text, "token 1"));
    }
    piece[1] = "<0x41>";
    piece[5] = huge;
    assert_int_equal(make(&t, piece, kind, score, 0, &note), ERR_MODEL_FILE);
    assert_non_null(strstr(note.text, "token 5"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_merge_as_sentencepiece_does),
        cmocka_unit_test(every_form_of_the_file_gives_the_packages_ids_and_text),
        cmocka_unit_test(parts_of_a_gguf_are_encoded_as_prepend_does),
        cmocka_unit_test(only_the_first_part_gets_a_space_where_the_file_says_so),
        cmocka_unit_test(equal_scores_merge_from_left_to_right),
        cmocka_unit_test(a_character_without_a_piece_is_one_unknown_token),
        cmocka_unit_test(broken_vocabularies_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
