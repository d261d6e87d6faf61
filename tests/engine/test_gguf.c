/* gguf: what a good file says is read exactly; what a bad file says is refused by name, never believed. */
#include "tests/engine/drive.h"

#include <errno.h>
#include <math.h>
#include <sys/stat.h>

#include "base/files/gguf.h"
#include "engine/source.h"
#include "engine/spec.h"
#include "server/text/assets.h"
#include "kernels/quant.h"
#include "tests/engine/tiny_gguf.h"

static struct strbuf tiny;

static char *write_file(const void *p, size_t n)
{
    static char path[32];
    strcpy(path, "/tmp/fluxd-gguf-XXXXXX");
    tiny_write(path, p, n);
    return path;
}

static enum err open_bytes(struct gguf **g, const void *p, size_t n, struct err_note *note)
{
    char *path = write_file(p, n);
    enum err e = gguf_open(g, path, note);
    remove(path);
    return e;
}

static void metadata_and_tensors_are_read_as_written(void **state)
{
    (void)state;
    struct gguf *g;
    struct gguf_str s, piece[TINY_V];
    int64_t v, kind[TINY_V];
    double f;
    bool b;
    assert_int_equal(open_bytes(&g, tiny.data, tiny.len, NULL), OK);
    assert_true(gguf_get_str(g, "general.architecture", &s) && s.n == 5 && memcmp(s.p, "llama", 5) == 0);
    assert_true(gguf_get_int(g, "llama.block_count", &v) && v == TINY_L);
    assert_true(gguf_get_float(g, "llama.rope.freq_base", &f) && fabs(f - 10000) < 1e-9);
    assert_true(gguf_get_bool(g, "tokenizer.ggml.add_bos_token", &b) && b);
    assert_false(gguf_get_int(g, "general.architecture", &v));
    assert_false(gguf_get_str(g, "llama.block_count", &s));
    assert_false(gguf_has(g, "llama.block_coun"));
    assert_int_equal(gguf_n_strs(g, "tokenizer.ggml.tokens"), TINY_V);
    assert_int_equal(gguf_n_strs(g, "tokenizer.ggml.token_type"), -1);
    gguf_get_strs(g, "tokenizer.ggml.tokens", piece);
    assert_true(piece[319].n == 4 && memcmp(piece[319].p, "p319", 4) == 0);
    assert_int_equal(gguf_n_ints(g, "tokenizer.ggml.token_type"), TINY_V);
    gguf_get_ints(g, "tokenizer.ggml.token_type", kind);
    assert_int_equal(kind[2], 3);
    assert_int_equal(kind[319], 1);

    struct tiny_tensor want[TINY_TENSORS];
    assert_int_equal(gguf_n_tensor(g), tiny_tensors(want));
    for (int i = 0; i < TINY_TENSORS; i++) {
        const struct gguf_tensor *t = gguf_find(g, want[i].name);
        assert_ptr_equal(t, gguf_tensor_at(g, i));
        assert_int_equal(t->dim[0], want[i].k);
        assert_int_equal(t->dim[1], want[i].n ? want[i].n : 1);
        assert_int_equal(t->n_bytes, tiny_bytes(&want[i]));
        char *bytes = malloc((size_t)t->n_bytes);
        assert_int_equal(gguf_read(g, t, 0, t->n_bytes, bytes, NULL), OK);
        assert_memory_equal(bytes, tiny.data + t->offset, (size_t)t->n_bytes);
        free(bytes);
        assert_int_equal(gguf_read(g, t, 1, t->n_bytes, NULL, NULL), ERR_MODEL_FILE);
    }
    assert_null(gguf_find(g, "blk.0.attn_q"));
    gguf_close(g);
}

static void text_assets_follow_the_token_types(void **state)
{
    (void)state;
    struct text_assets *t;
    char *path = write_file(tiny.data, tiny.len);
    assert_int_equal(text_assets_open(&t, path, NULL), OK);
    remove(path);
    assert_int_equal(t->n_piece, TINY_V);
    assert_int_equal(t->n_merge, 2);
    assert_int_equal(t->kind[0], 1);
    assert_int_equal(t->kind[3], 2);
    assert_int_equal(t->kind[4], 3);
    assert_int_equal(t->kind[5], 0);
    assert_int_equal(t->eos_id, 2);
    assert_int_equal(t->bos_id, -1);
    assert_string_equal(t->pre, "smollm");
    assert_true(t->add_bos && !t->add_eos && !t->chat_template);
    assert_true(t->merge_len[1] == 3 && memcmp(t->merge[1], "p 2", 3) == 0);
    text_assets_close(t);
}

/* Every cut is refused: the file ends with its last tensor, so nothing can be missing. */
static void every_truncation_is_refused(void **state)
{
    (void)state;
    for (size_t n = 0, step; n < tiny.len; n += step) {
        struct gguf *g = NULL;
        struct err_note note = {0};
        assert_int_not_equal(open_bytes(&g, tiny.data, n, &note), OK);
        assert_null(g);
        assert_true(note.text[0]);
        step = n < 64 ? 1 : n < 12000 ? 37 : 4099; /* the header closely, the data now and then */
    }
    for (size_t n = tiny.len - 40; n < tiny.len; n++) { /* the last tensor is not padded */
        struct gguf *g = NULL;
        assert_int_not_equal(open_bytes(&g, tiny.data, n, NULL), OK);
    }
}

/* Offset in the file of the value that follows a key, or of a tensor's entry after its name. */
static size_t after(const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 8; i + n < tiny.len; i++) {
        uint64_t len;
        memcpy(&len, tiny.data + i - 8, 8);
        if (len == n && memcmp(tiny.data + i, name, n) == 0) return i + n;
    }
    fail_msg("%s not in the file", name);
    return 0;
}

struct mutation {
    const char *name; /* key or tensor whose entry is changed; NULL: the file's beginning */
    int at, size;     /* bytes after the name; width of the new value */
    uint64_t value;
    const char *says; /* what the refusal must contain */
};

/* Entry of a 2-d tensor: u32 n_dim, u64 k, u64 n, u32 type, u64 offset. Of a key: u32 type, value (array:
 * u32, u64, items). */
static const struct mutation mutations[] = {
    {NULL, 0, 4, 0x47475546, "not a GGUF"},
    {NULL, 4, 4, 2, "version 3"},
    {NULL, 8, 8, UINT64_MAX, "more tensors"},
    {NULL, 8, 8, 1 << 19, "more tensors"},
    {NULL, 8, 8, TINY_TENSORS + 1, ""},
    {NULL, 8, 8, TINY_TENSORS - 1, ""},
    {NULL, 16, 8, UINT64_MAX / 2, "more tensors"},
    {NULL, 16, 8, TINY_KEYS + 1, ""},
    {NULL, 16, 8, TINY_KEYS - 1, ""},
    {NULL, 24, 8, UINT64_MAX, "a string runs past"},
    {NULL, 24, 8, 0, ""},
    {"general.architecture", 0, 4, 13, "general.architecture"},
    {"general.architecture", 4, 8, 1ull << 62, "a string runs past"},
    {"tokenizer.ggml.tokens", 4, 4, 9, "tokenizer.ggml.tokens"},
    {"tokenizer.ggml.tokens", 4, 4, 200, "tokenizer.ggml.tokens"},
    {"tokenizer.ggml.tokens", 8, 8, UINT64_MAX, "tokenizer.ggml.tokens"},
    {"tokenizer.ggml.tokens", 8, 8, 1ull << 61, "tokenizer.ggml.tokens"},
    {"tokenizer.ggml.tokens", 16, 8, UINT64_MAX - 7, "a string runs past"},
    {"tokenizer.ggml.token_type", 8, 8, 1ull << 62, "tokenizer.ggml.token_type"},
    {"tokenizer.ggml.add_bos_token", 4, 1, 2, "tokenizer.ggml.add_bos_token"},
    {"blk.0.attn_q.weight", 0, 4, 0, "blk.0.attn_q.weight"},
    {"blk.0.attn_q.weight", 0, 4, 5, "blk.0.attn_q.weight"},
    {"blk.0.attn_q.weight", 4, 8, 0, "blk.0.attn_q.weight"},
    {"blk.0.attn_q.weight", 4, 8, 65, "blk.0.attn_q.weight"},
    {"blk.0.attn_q.weight", 4, 8, 128, "blk.0.attn_k.weight"},
    {"blk.0.attn_q.weight", 4, 8, 1ull << 32, "blk.0.attn_q.weight"},
    {"blk.0.attn_q.weight", 4, 8, UINT64_MAX, "blk.0.attn_q.weight"},
    {"blk.0.attn_q.weight", 12, 8, INT32_MAX, "blk.0.attn_q.weight"},
    {"blk.0.attn_q.weight", 20, 4, 99, "blk.0.attn_q.weight"},
    {"blk.0.attn_q.weight", 20, 4, 4, "blk.0.attn_q.weight"},
    {"blk.0.attn_q.weight", 20, 4, 0, "blk.0.attn_k.weight"},
    {"blk.0.attn_q.weight", 24, 8, 0, "blk.0.attn_q.weight"},
    {"blk.0.attn_q.weight", 24, 8, 1, "blk.0.attn_q.weight"},
    {"blk.0.attn_q.weight", 24, 8, UINT64_MAX, "blk.0.attn_q.weight"},
    {"blk.5.ffn_down.weight", 24, 8, 1 << 20, "blk.5.ffn_down.weight"},
};

static void mutations_are_refused_by_name(void **state)
{
    (void)state;
    char *copy = malloc(tiny.len);
    for (size_t i = 0; i < sizeof mutations / sizeof *mutations; i++) {
        const struct mutation *m = &mutations[i];
        struct gguf *g = NULL;
        struct err_note note = {0};
        memcpy(copy, tiny.data, tiny.len);
        memcpy(copy + (m->name ? after(m->name) : 0) + m->at, &m->value, (size_t)m->size);
        if (open_bytes(&g, copy, tiny.len, &note) == OK) fail_msg("mutation %zu was accepted", i);
        if (!strstr(note.text, m->says))
            fail_msg("mutation %zu: \"%s\" does not say \"%s\"", i, note.text, m->says);
        assert_non_null(strstr(note.text, "/tmp/fluxd-gguf-")); /* names the file */
        assert_null(strchr(note.text, '\n'));
    }
    free(copy);
}

static void trailing_bytes_are_refused(void **state)
{
    (void)state;
    char *copy = calloc(1, tiny.len + 100);
    struct gguf *g = NULL;
    memcpy(copy, tiny.data, tiny.len);
    assert_int_equal(open_bytes(&g, copy, tiny.len + 100, NULL), ERR_MODEL_FILE);
    free(copy);
}

static void names_and_keys_stand_once(void **state)
{
    (void)state;
    static const char *const twice[][2] = {{"blk.0.attn_k.weight", "blk.0.attn_v.weight"},
                                           {"llama.block_count", NULL}};
    char *copy = malloc(tiny.len);
    struct gguf *g = NULL;
    struct err_note note = {0};
    memcpy(copy, tiny.data, tiny.len);
    copy[after(twice[0][1]) - strlen(".weight") - 1] = 'k';
    assert_int_equal(open_bytes(&g, copy, tiny.len, &note), ERR_MODEL_FILE);
    assert_non_null(strstr(note.text, "blk.0.attn_k.weight"));

    memcpy(copy, tiny.data, tiny.len);
    memcpy(copy + after("general.name") - strlen("general.name"), "general.type",
           strlen("general.name")); /* still once */
    assert_int_equal(open_bytes(&g, copy, tiny.len, &note), OK);
    gguf_close(g);
    g = NULL;
    memcpy(copy, tiny.data, tiny.len);
    memcpy(copy + after("tokenizer.ggml.tokens") - strlen("tokenizer.ggml.tokens"), "tokenizer.ggml.merges",
           strlen("tokenizer.ggml.merges"));
    assert_int_equal(open_bytes(&g, copy, tiny.len, &note), ERR_MODEL_FILE);
    assert_non_null(strstr(note.text, "tokenizer.ggml.merges"));
    free(copy);
}

/* Random damage anywhere in the header: a refusal, or an engine that opens; never a crash (the sanitizers
 * watch). */
static void random_damage_never_crashes_the_engine(void **state)
{
    (void)state;
    char *copy = malloc(tiny.len);
    uint32_t r = 12345;
    int refused = 0, opened = 0;
    size_t header = after("output_norm.weight") + 32;
    for (int i = 0; i < 300; i++) {
        memcpy(copy, tiny.data, tiny.len);
        for (int k = 0; k <= i % 3; k++) {
            r = tiny_hash(r + 1);
            size_t at = r % header;
            r = tiny_hash(r + 1);
            copy[at] = (char)(i % 2 ? r : (uint32_t)copy[at] ^ 1u << r % 8);
        }
        char *path = write_file(copy, tiny.len);
        struct engine_conf c = drive_conf(path, ENGINE_DTYPE_AUTO, 64);
        struct engine *e = NULL;
        struct err_note note = {0};
        c.max_model_len = 0;
        c.kv_pool_bytes = 1 << 24;
        if (engine_open(&e, &c, &note) == OK)
            opened++;
        else
            refused++;
        assert_true(e || note.text[0]);
        engine_close(e);
        struct text_assets *t = NULL;
        if (text_assets_open(&t, path, &note) == OK) text_assets_close(t);
        remove(path);
    }
    printf("%d refused, %d opened\n", refused, opened);
    assert_true(refused > 20 && opened > 20); /* both outcomes were met */
    free(copy);
}

/* Shapes, types and keys that the format allows and the model does not. */
static void files_that_are_no_such_model_are_refused_by_name(void **state)
{
    (void)state;
    static const struct mutation models[] = {
        {"general.architecture", 12, 1, 'x', "general.architecture"},
        {"llama.block_count", 4, 4, 7, "blk.6.attn_norm.weight"},
        {"llama.block_count", 4, 4, 0, "llama.block_count"},
        {"llama.block_count", 4, 4, 0x7fffffff, "llama.block_count"},
        {"llama.embedding_length", 4, 4, 128, "shape"},
        {"llama.feed_forward_length", 4, 4, 104, "ffn"},
        {"llama.attention.head_count", 4, 4, 3, "llama.attention.head_count"},
        {"llama.attention.head_count_kv", 4, 4, 3, "llama.attention.head_count_kv"},
        {"llama.attention.head_count_kv", 4, 4, 4, "blk.0.attn_k.weight"},
        {"llama.attention.layer_norm_rms_epsilon", 4, 4, 0, "llama.attention.layer_norm_rms_epsilon"},
        {"llama.attention.layer_norm_rms_epsilon", 4, 4, 0x7fc00000,
         "llama.attention.layer_norm_rms_epsilon"},
        {"llama.rope.freq_base", 4, 4, 0, "llama.rope.freq_base"},
        {"llama.context_length", 4, 4, 0, "llama.context_length"},
        {"tokenizer.ggml.eos_token_id", 4, 4, TINY_V, "tokenizer.ggml.eos_token_id"},
    };
    char *copy = malloc(tiny.len);
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        const struct mutation *m = &models[i];
        struct engine *e = NULL;
        struct err_note note = {0};
        memcpy(copy, tiny.data, tiny.len);
        memcpy(copy + after(m->name) + m->at, &m->value, (size_t)m->size);
        char *path = write_file(copy, tiny.len);
        struct engine_conf c = drive_conf(path, ENGINE_DTYPE_F32, 64);
        c.max_model_len = 0;
        if (engine_open(&e, &c, &note) != ERR_MODEL_FILE)
            fail_msg("model %zu was not refused: %s", i, note.text);
        remove(path);
        if (!strstr(note.text, m->says))
            fail_msg("model %zu: \"%s\" does not say \"%s\"", i, note.text, m->says);
    }
    free(copy);
}

static enum err read_texts(const char *p, size_t n, struct err_note *note)
{
    struct text_assets *t = NULL;
    char *path = write_file(p, n);
    enum err e = text_assets_open(&t, path, note);
    remove(path);
    if (e == OK) text_assets_close(t);
    return e;
}

static void flags_of_another_type_are_refused_by_name(void **state)
{
    (void)state;
    size_t at = after("tokenizer.ggml.add_bos_token");
    char was = tiny.data[at];
    struct err_note note = {0};
    tiny.data[at] = 0; /* an integer of the same size */
    assert_int_equal(read_texts(tiny.data, tiny.len, &note), ERR_MODEL_FILE);
    assert_non_null(strstr(note.text, "tokenizer.ggml.add_bos_token"));
    tiny.data[at] = was;
    assert_int_equal(read_texts(tiny.data, tiny.len, &note), OK);
}

/* The small file with more keys, which are a multiple of its alignment, before all others. */
static enum err spec_with(const struct strbuf *keys, int n_key, struct spec *s, struct err_note *note)
{
    struct strbuf b;
    struct source *src = NULL;
    assert_int_equal(keys->len % 32, 0);
    strbuf_init(&b);
    strbuf_put(&b, tiny.data, 24);
    b.data[16] = (char)(b.data[16] + n_key);
    strbuf_put(&b, keys->data, keys->len);
    strbuf_put(&b, tiny.data + 24, tiny.len - 24);
    char *path = write_file(b.data, b.len);
    enum err e = source_open(&src, path, note);
    if (e == OK) e = spec_load(s, src, note);
    source_close(src);
    remove(path);
    strbuf_fini(&b);
    return e;
}

static void rope_scaling_is_linear_where_only_a_factor_stands(void **state)
{
    (void)state;
    static const struct {
        const char *factor, *type; /* keys behind "llama."; type is a word's */
        float v;
        const char *word;
        int kind; /* enum rope_kind; -1: refused */
    } row[] = {
        {"rope.scaling.factor", NULL, 4, NULL, ROPE_LINEAR},
        {"rope.scale_linear", NULL, 4, NULL, ROPE_LINEAR},
        {"rope.scaling.factor", NULL, 0, NULL, ROPE_DEFAULT},
        {"rope.scaling.factor", NULL, 0.5f, NULL, -1},
        {"rope.scaling.factor", "rope.scaling.type", 4, "linear", ROPE_LINEAR},
        {"rope.scaling.factor", "rope.scaling.type", 4, "none", ROPE_DEFAULT},
        {"rope.scaling.factor", "rope.scaling.type", 4, "yarn", -1},
        {"rope.scaling.factor", "rope.scaling.type", 4, NULL, -1}, /* a number where a word should be */
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct strbuf keys;
        struct spec s;
        struct err_note note = {0};
        char key[64];
        strbuf_init(&keys);
        snprintf(key, sizeof key, "llama.%s", row[i].factor);
        tiny_key_f32(&keys, key, row[i].v);
        if (row[i].type) snprintf(key, sizeof key, "llama.%s", row[i].type);
        if (row[i].type && row[i].word)
            tiny_key_str(&keys, key, row[i].word);
        else if (row[i].type)
            tiny_key_u32(&keys, key, 1);
        size_t fill =
            (32 - (keys.len + 8 + 4 + 8) % 32) % 32; /* a string of this length fills up to the alignment */
        fill += fill ? 0 : 32;
        snprintf(key, sizeof key, "%.*s", (int)fill, "general.filler.of.this.file.here");
        tiny_key_str(&keys, key, "");
        enum err e = spec_with(&keys, 2 + (row[i].type != NULL), &s, &note);
        strbuf_fini(&keys);
        if (row[i].kind < 0) {
            assert_int_equal(e, ERR_MODEL_FILE);
            assert_non_null(strstr(note.text, row[i].type ? row[i].type : row[i].factor));
            continue;
        }
        if (e != OK) fail_msg("row %zu: %s", i, note.text);
        assert_int_equal(s.rope.kind, row[i].kind);
        assert_true(fabs(s.rope.factor - (row[i].kind == ROPE_LINEAR ? 4 : 1)) < 1e-9);
    }
}

static void a_pipe_is_refused_and_not_waited_for(void **state)
{
    (void)state;
    struct gguf *g = NULL;
    struct err_note note = {0};
    char *path = write_file("", 0);
    remove(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(gguf_open(&g, path, &note), ERR_MODEL_FILE);
    assert_non_null(strstr(note.text, path));
    remove(path);
}

static void a_file_that_shrinks_is_an_error_and_no_signal(void **state)
{
    (void)state;
    struct gguf *g;
    char *path = write_file(tiny.data, tiny.len), buf[64];
    assert_int_equal(gguf_open(&g, path, NULL), OK);
    assert_int_equal(truncate(path, 9000), 0);
    struct err_note note = {0};
    assert_int_equal(gguf_read(g, gguf_find(g, "output_norm.weight"), 0, 64, buf, &note), ERR_MODEL_FILE);
    assert_non_null(strstr(note.text, "output_norm.weight"));
    remove(path);
    gguf_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metadata_and_tensors_are_read_as_written),
        cmocka_unit_test(text_assets_follow_the_token_types),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(mutations_are_refused_by_name),
        cmocka_unit_test(trailing_bytes_are_refused),
        cmocka_unit_test(names_and_keys_stand_once),
        cmocka_unit_test(random_damage_never_crashes_the_engine),
        cmocka_unit_test(files_that_are_no_such_model_are_refused_by_name),
        cmocka_unit_test(flags_of_another_type_are_refused_by_name),
        cmocka_unit_test(rope_scaling_is_linear_where_only_a_factor_stands),
        cmocka_unit_test(a_pipe_is_refused_and_not_waited_for),
        cmocka_unit_test(a_file_that_shrinks_is_an_error_and_no_signal),
    };
    strbuf_init(&tiny);
    tiny_gguf_build(&tiny);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    strbuf_fini(&tiny);
    return failed;
}
