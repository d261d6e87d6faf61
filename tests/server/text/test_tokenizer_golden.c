/* The tokenizer against the `tokenizers` package on the real vocabulary. tests/goldens/make_tokenizer.py says
 * how texts are drawn; here they are drawn again, and hashes of ids compared. Every vocabulary is read twice:
 * from GGUF, and from a directory with the tokenizer.json that models of its kind have. */
#include "tests/base/growth.h"

#include <stdio.h>

#include "base/strbuf.h"
#include "server/text/assets.h"
#include "server/text/tokenizer.h"

#define MODEL        "models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define GOLDENS      "tests/goldens/tokenizer.txt"
#define TEXT_BYTES   (1u << 20)
#define IDS_PER_HASH 512
#define N_MAX        256

static struct text_assets *assets;
static struct {
    struct strbuf fragment[N_MAX];
    uint32_t range[N_MAX][2];
    uint32_t n_fragment, n_range;
} pool;

/* ---- drawing texts, as the script does ---- */

struct random {
    uint64_t state; /* splitmix64 */
};

static uint32_t below(struct random *r, uint32_t n)
{
    uint64_t z = r->state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (uint32_t)((z ^ z >> 31) % n);
}

static size_t draw_character(struct random *r, char out[4])
{
    const uint32_t *range = pool.range[below(r, pool.n_range)];
    uint32_t c = range[0] + below(r, range[1] - range[0] + 1);
    if (c >= 0xD800 && c <= 0xDFFF) c = ' ';
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint32_t lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = n - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)(lead[n] | c);
    return n;
}

static void put_fragment(struct random *r, struct strbuf *out)
{
    const struct strbuf *f = &pool.fragment[below(r, pool.n_fragment)];
    strbuf_put(out, f->data, f->len);
}

static void put_string(struct random *r, struct strbuf *out)
{
    for (uint32_t k = 1 + below(r, 24); k > 0; k--) {
        uint32_t kind = below(r, 16);
        if (kind == 0) {
            put_fragment(r, out);
            continue;
        }
        char c[4];
        size_t n = draw_character(r, c);
        for (uint32_t times = kind == 1 ? 2 + below(r, 8) : 1; times > 0; times--) strbuf_put(out, c, n);
    }
}

static void put_run(struct random *r, struct strbuf *out, const char *alphabet, uint32_t longest)
{
    uint32_t n_alphabet = (uint32_t)strlen(alphabet);
    for (uint32_t k = 1 + below(r, 1 + below(r, longest)); k > 0; k--)
        strbuf_putc(out, alphabet[below(r, n_alphabet)]);
}

static void put_text(struct random *r, struct strbuf *out)
{
    static const char *const separator[] = {"", " ", " ", "\n"};
    while (out->len < TEXT_BYTES) {
        uint32_t kind = below(r, 16);
        if (kind < 10) {
            put_fragment(r, out);
        } else if (kind == 10) {
            put_run(r, out, "0123456789", 40);
        } else if (kind == 11) {
            put_run(r, out, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", 3000);
        } else if (kind == 12) {
            put_run(r, out, " \t\n\r", 60);
        } else if (kind == 13) {
            put_run(r, out, "eatonrish ", 300);
        } else {
            put_string(r, out);
        }
        strbuf_puts(out, separator[below(r, 4)]);
    }
}

static uint32_t hash_ids(const int32_t *id, size_t n)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < n; i++) {
        for (int shift = 0; shift < 32; shift += 8)
            h = (h ^ ((uint32_t)id[i] >> shift & 0xFF)) * 0x100000001B3u;
    }
    return (uint32_t)(h ^ h >> 32);
}

/* ---- tokenizers and their texts ---- */

static struct tokenizer *open_src(const struct tokenizer_src *src)
{
    struct tokenizer *t;
    struct err_note note = {0};
    if (tokenizer_new(&t, src, &note) != OK) fail_msg("%s: %s", note.param, note.text);
    return t;
}

static struct tokenizer *open_tokenizer(const char *pre)
{
    return open_src(&(struct tokenizer_src){
        .n_piece = assets->n_piece,
        .piece = assets->piece,
        .piece_len = assets->piece_len,
        .kind = assets->kind,
        .n_merge = assets->n_merge,
        .merge = assets->merge,
        .merge_len = assets->merge_len,
        .pre = pre,
        .bos_id = assets->bos_id,
        .eos_id = assets->eos_id,
        .unk_id = assets->unk_id,
    });
}

#define SPLIT_CL100K(digits)                                                                                                           \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n" \
    "\\\\p{L}\\\\p{N}]?\\\\p{L}+|" digits                                                                                              \
    "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},"                                         \
    "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,"            \
    "\"use_regex\":false}]}"
#define WORDS "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true}"

/* What tokenizer.json of these models says beside the vocabulary. */
static const struct json_row {
    const char *pre, *split, *normalizer, *ignore_merges;
} json_row[] = {
    {"smollm",
     "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":true}," WORDS "]}",
     "null", "false"},
    {"gpt-2", WORDS, "null", "false"},
    {"llama-bpe", SPLIT_CL100K("\\\\p{N}{1,3}"), "null", "true"},
    {"qwen2", SPLIT_CL100K("\\\\p{N}"), "{\"type\":\"NFC\"}", "false"},
};

static void put_json_text(FILE *f, const char *p, size_t n)
{
    fputc('"', f);
    for (size_t i = 0; i < n; i++) {
        if ((uint8_t)p[i] < ' ')
            fprintf(f, "\\u%04x", (unsigned)p[i]);
        else if (p[i] == '"' || p[i] == '\\')
            fprintf(f, "\\%c", p[i]);
        else
            fputc(p[i], f);
    }
    fputc('"', f);
}

static void write_json(const char *path, const struct json_row *row)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[");
    const char *comma = "";
    for (int i = 0; i < assets->n_piece; i++) {
        if (assets->kind[i] != TOKEN_SPECIAL && assets->kind[i] != TOKEN_ADDED) continue;
        fprintf(f, "%s{\"id\":%d,\"content\":", comma, i);
        put_json_text(f, assets->piece[i], assets->piece_len[i]);
        fprintf(
            f,
            ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":%s}",
            assets->kind[i] == TOKEN_SPECIAL ? "true" : "false");
        comma = ",";
    }
    fprintf(
        f,
        "],\"normalizer\":%s,\"pre_tokenizer\":%s,\"post_processor\":null,\"decoder\":{\"type\":\"ByteLevel\"},\n\"model\":"
        "{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,\"byte_fallback\":false,\"ignore_merges\":%s,\"vocab\":{",
        row->normalizer, row->split, row->ignore_merges);
    for (int i = 0; i < assets->n_piece; i++) {
        if (i) fputc(',', f);
        put_json_text(f, assets->piece[i], assets->piece_len[i]);
        fprintf(f, ":%d", i);
    }
    fprintf(f, "},\n\"merges\":[");
    for (int i = 0; i < assets->n_merge; i++) { /* both spellings */
        const char *p = assets->merge[i], *space = memchr(p, ' ', assets->merge_len[i]);
        if (i) fputc(',', f);
        if (i % 2) {
            put_json_text(f, p, assets->merge_len[i]);
            continue;
        }
        fputc('[', f);
        put_json_text(f, p, (size_t)(space - p));
        fputc(',', f);
        put_json_text(f, space + 1, assets->merge_len[i] - (size_t)(space - p) - 1);
        fputc(']', f);
    }
    fprintf(f, "]}}\n");
    assert_int_equal(fclose(f), 0);
}

/* The same tokenizer from a directory. */
static struct tokenizer *open_twin(const char *pre)
{
    char dir[] = "/tmp/fluxd-tokenizer-XXXXXX", path[64];
    const struct json_row *row = json_row;
    while (strcmp(row->pre, pre) != 0) row++;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    write_json(path, row);
    struct text_assets *a;
    struct err_note note = {0};
    if (text_assets_open(&a, dir, &note) != OK) fail_msg("%s", note.text);
    struct tokenizer *t = open_src(&(struct tokenizer_src){
        .n_piece = a->n_piece,
        .piece = a->piece,
        .piece_len = a->piece_len,
        .kind = a->kind,
        .trait = a->trait,
        .n_merge = a->n_merge,
        .merge = a->merge,
        .merge_len = a->merge_len,
        .merge_at = a->merge_at,
        .file = a->file,
        .pattern = a->pattern,
        .split = a->split,
        .n_pattern = a->n_pattern,
        .nfc = a->nfc,
        .ignore_merges = a->ignore_merges,
        .bos_id = a->bos_id,
        .eos_id = a->eos_id,
        .unk_id = a->unk_id,
    });
    text_assets_close(a);
    remove(path);
    remove(dir);
    return t;
}

static void encode(const struct tokenizer *t, const struct strbuf *text, int flags, struct token_vec *out)
{
    struct err_note note = {0};
    out->n = 0;
    if (tokenizer_encode(t, text->data, text->len, flags, out, &note) != OK) fail_msg("%s", note.text);
}

static void assert_same_ids(const struct tokenizer *twin, const struct strbuf *text, int flags,
                            const struct token_vec *want)
{
    struct token_vec v = {0};
    encode(twin, text, flags, &v);
    assert_int_equal(v.n, want->n);
    if (v.n) assert_memory_equal(v.id, want->id, v.n * sizeof *v.id);
    token_vec_fini(&v);
}

/* The tokens' bytes are the text less the bytes that have no piece (this vocabulary lacks 21). */
static void assert_decodes_back(const struct tokenizer *t, const struct strbuf *text,
                                const struct token_vec *v)
{
    bool has_piece[256] = {false};
    for (int32_t id = 0; id < tokenizer_n_piece(t); id++) {
        size_t n;
        const char *b = tokenizer_bytes(t, id, &n);
        if (n == 1) has_piece[(uint8_t)b[0]] = true;
    }
    size_t at = 0;
    for (size_t i = 0; i < v->n; i++) {
        size_t n;
        const char *b = tokenizer_bytes(t, v->id[i], &n);
        for (size_t k = 0; k < n; k++) {
            while (at < text->len && !has_piece[(uint8_t)text->data[at]]) at++;
            if (at == text->len || text->data[at] != b[k]) fail_msg("decoded text differs at byte %zu", at);
            at++;
        }
    }
    while (at < text->len && !has_piece[(uint8_t)text->data[at]]) at++;
    assert_int_equal(at, text->len);
}

/* ---- the golden file ---- */

static FILE *golden;
static char line[16384];

static bool next_line(void)
{
    do {
        if (!fgets(line, sizeof line, golden)) return false;
        line[strcspn(line, "\n")] = '\0';
    } while (line[0] == '#');
    return true;
}

static uint32_t next_hash(void)
{
    unsigned h;
    assert_int_equal(fscanf(golden, "%8x", &h), 1);
    return h;
}

static void read_fragment(const char *hex)
{
    struct strbuf *f = &pool.fragment[pool.n_fragment++];
    assert_true(pool.n_fragment <= N_MAX);
    unsigned b;
    for (; sscanf(hex, "%2x", &b) == 1; hex += 2) strbuf_putc(f, (char)b);
}

struct golden_case {
    char what[16], pre[32];
    int flags;
    uint64_t seed;
    size_t n_hash;
};

/* Hashes of all ids of one text, IDS_PER_HASH at a time. */
static void check_text(const struct golden_case *c)
{
    struct tokenizer *t = open_tokenizer(c->pre), *twin = open_twin(c->pre);
    struct strbuf text;
    strbuf_init(&text);
    put_text(&(struct random){c->seed}, &text);
    struct token_vec v = {0};
    encode(t, &text, c->flags, &v);
    assert_same_ids(twin, &text, c->flags, &v);
    assert_int_equal((v.n + IDS_PER_HASH - 1) / IDS_PER_HASH, c->n_hash);
    for (size_t i = 0; i < c->n_hash; i++) {
        size_t from = i * IDS_PER_HASH, n = v.n - from < IDS_PER_HASH ? v.n - from : IDS_PER_HASH;
        if (hash_ids(v.id + from, n) != next_hash()) {
            fail_msg("%s, text %d: ids %zu..%zu differ", c->pre, (int)c->seed, from, from + n);
        }
    }
    if (strcmp(c->pre, "qwen2") != 0) assert_decodes_back(t, &text, &v); /* NFC changes the text */
    token_vec_fini(&v);
    strbuf_fini(&text);
    tokenizer_free(t);
    tokenizer_free(twin);
}

static void check_strings(const struct golden_case *c)
{
    struct tokenizer *t = open_tokenizer(c->pre), *twin = open_twin(c->pre);
    struct strbuf text;
    strbuf_init(&text);
    struct token_vec v = {0};
    struct random r = {c->seed};
    for (size_t i = 0; i < c->n_hash; i++) {
        strbuf_clear(&text);
        put_string(&r, &text);
        encode(t, &text, c->flags, &v);
        assert_same_ids(twin, &text, c->flags, &v);
        if (hash_ids(v.id, v.n) != next_hash())
            fail_msg("%s, seed %d: string %zu differs", c->pre, (int)c->seed, i);
    }
    token_vec_fini(&v);
    strbuf_fini(&text);
    tokenizer_free(t);
    tokenizer_free(twin);
}

static void equals_the_package_on_text_and_random_strings(void **state)
{
    (void)state;
    golden = fopen(GOLDENS, "r");
    assert_non_null(golden);
    int n_text = 0, n_strings = 0;
    while (next_line()) {
        struct golden_case c = {0};
        unsigned lo, hi;
        unsigned long seed;
        if (strncmp(line, "fragment ", 9) == 0) {
            read_fragment(line + 9);
        } else if (sscanf(line, "range %x %x", &lo, &hi) == 2) {
            assert_true(pool.n_range < N_MAX);
            pool.range[pool.n_range][0] = lo;
            pool.range[pool.n_range++][1] = hi;
        } else if (sscanf(line, "%15s %31s %d %lu %zu", c.what, c.pre, &c.flags, &seed, &c.n_hash) == 5) {
            c.seed = seed;
            bool is_text = strcmp(c.what, "text") == 0;
            is_text ? check_text(&c) : check_strings(&c);
            n_text += is_text;
            n_strings += is_text ? 0 : (int)c.n_hash;
        } else {
            assert_string_equal(line, ""); /* the end of the hashes' last line */
        }
    }
    fclose(golden);
    assert_int_equal(n_text, 5);
    assert_int_equal(n_strings, 20000);
}

/* ---- cost ---- */

struct run {
    const struct tokenizer *t;
    struct strbuf text[2];
};

static void encode_run(void *arg, int times)
{
    const struct run *r = arg;
    struct token_vec v = {0};
    encode(r->t, &r->text[times > 1], 0, &v);
    token_vec_fini(&v);
}

static void long_runs_take_n_log_n(void **state)
{
    (void)state;
    struct tokenizer *t = open_tokenizer("smollm");
    static const struct {
        const char *unit; /* empty: random letters */
        uint32_t times;
    } run[] = {{"", 320000},  {"a", 320000},       {"\xE4\xB8\xAD", 320000},
               {"7", 320000}, {"{\"a\":[", 56000}, {" ", 1000000}};
    for (size_t k = 0; k < sizeof run / sizeof run[0]; k++) {
        struct run r = {.t = t};
        for (uint32_t large = 0; large < 2; large++) {
            struct random dice = {k};
            strbuf_init(&r.text[large]);
            for (uint32_t i = 0; i < run[k].times / (large ? 1 : GROWTH_TIMES); i++) {
                if (run[k].unit[0])
                    strbuf_puts(&r.text[large], run[k].unit);
                else
                    strbuf_putc(&r.text[large], (char)('a' + below(&dice, 26)));
            }
        }
        assert_linear(run[k].unit[0] ? run[k].unit : "letters", encode_run, &r);
        struct token_vec v = {0};
        encode(t, &r.text[0], 0, &v);
        assert_decodes_back(t, &r.text[0], &v);
        token_vec_fini(&v);
        strbuf_fini(&r.text[0]);
        strbuf_fini(&r.text[1]);
    }
    tokenizer_free(t);
}

static int setup(void **state)
{
    (void)state;
    struct err_note note = {0};
    if (text_assets_open(&assets, MODEL, &note) == OK) return 0;
    print_error("%s\n", note.text);
    return -1;
}

static int teardown(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < pool.n_fragment; i++) strbuf_fini(&pool.fragment[i]);
    text_assets_close(assets);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_package_on_text_and_random_strings),
        cmocka_unit_test(long_runs_take_n_log_n),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
