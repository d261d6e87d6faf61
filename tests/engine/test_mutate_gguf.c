/* GGUF files that lie: a tiny good file is cut at every boundary of its structure, every field of its header
 * gets wild values, and entries are swapped, doubled and made to overlap. Each file is refused by one line
 * that names it, or loads and is then what it says it is; no block of memory is larger than twice the file.
 */
#include "tests/engine/mutate.h"

#include "engine/backend.h"
#include "base/files/gguf.h"
#include "engine/source.h"
#include "engine/spec.h"
#include "server/text/assets.h"
#include "engine/weights.h"
#include "kernels/quant.h"
#include "tests/engine/tiny_gguf.h"

enum { FIELD_MOST = 2048, NAME_MOST = 96, SLACK = 16384, WILD_EACH = 10 };

enum what { F_HEAD, F_LEN, F_BYTES, F_KIND, F_COUNT, F_VALUE, F_N_DIM, F_DIM, F_TYPE, F_OFFSET, F_DATA };

struct field {
    size_t at, size;
    enum what what;
    int tensor; /* index, or -1: not a tensor's */
};

static struct strbuf tiny;
static struct field field[FIELD_MOST];
static int n_field;
static char names[TINY_TENSORS][NAME_MOST];
static struct backend *backend;
static char path[] = "/tmp/fluxd-mutate-XXXXXX";
static int fd;

/* --- where things stand in the good file */

static uint64_t read_at(size_t at, size_t size)
{
    uint64_t v = 0;
    memcpy(&v, tiny.data + at, size);
    return v;
}

/* Notes a field at *at and steps over it; its value. */
static uint64_t note_field(size_t *at, size_t size, enum what what, int tensor)
{
    assert_true(n_field < FIELD_MOST && *at + size <= tiny.len);
    field[n_field++] = (struct field){*at, size, what, tensor};
    uint64_t v = size <= 8 ? read_at(*at, size) : 0;
    *at += size;
    return v;
}

static void note_str(size_t *at, int tensor)
{
    uint64_t n = note_field(at, 8, F_LEN, tensor);
    note_field(at, n, F_BYTES, tensor);
}

static void note_value(size_t *at)
{
    static const uint8_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    uint64_t kind = note_field(at, 4, F_KIND, -1);
    if (kind == TINY_KIND_STR)
        note_str(at, -1);
    else if (kind != TINY_KIND_ARR)
        note_field(at, bytes[kind], F_VALUE, -1);
    else {
        uint64_t item = note_field(at, 4, F_KIND, -1), n = note_field(at, 8, F_COUNT, -1);
        for (uint64_t i = 0; i < n && item == TINY_KIND_STR; i++) note_str(at, -1);
        if (item != TINY_KIND_STR) note_field(at, n * bytes[item], F_BYTES, -1);
    }
}

static void note_fields(void)
{
    size_t at = 0;
    note_field(&at, 4, F_HEAD, -1);
    note_field(&at, 4, F_HEAD, -1);
    uint64_t n_tensor = note_field(&at, 8, F_COUNT, -1), n_kv = note_field(&at, 8, F_COUNT, -1);
    for (uint64_t i = 0; i < n_kv; i++) {
        note_str(&at, -1);
        note_value(&at);
    }
    assert_int_equal(n_tensor, TINY_TENSORS);
    for (int i = 0; i < TINY_TENSORS; i++) {
        size_t name = at + 8;
        note_str(&at, i);
        snprintf(names[i], NAME_MOST, "%.*s", (int)(at - name), tiny.data + name);
        uint64_t n_dim = note_field(&at, 4, F_N_DIM, i);
        for (uint64_t d = 0; d < n_dim; d++) note_field(&at, 8, F_DIM, i);
        note_field(&at, 4, F_TYPE, i);
        note_field(&at, 8, F_OFFSET, i);
    }
    size_t data0 = (at + 31) / 32 * 32;
    for (int i = 0; i < n_field; i++) {
        if (field[i].what != F_OFFSET) continue;
        at = data0 + read_at(field[i].at, 8);
        note_field(&at, 0, F_DATA, field[i].tensor);
    }
}

/* The index-th field of a kind in a tensor's entry. */
static struct field *tensor_field(int tensor, enum what what, int index)
{
    for (int i = 0; i < n_field; i++)
        if (field[i].tensor == tensor && field[i].what == what && index-- == 0) return &field[i];
    fail_msg("no such field");
    return NULL;
}

static int tensor_by_name(const char *name)
{
    for (int i = 0; i < TINY_TENSORS; i++)
        if (strcmp(names[i], name) == 0) return i;
    fail_msg("no tensor %s", name);
    return 0;
}

/* --- reading what may be broken */

/* Tensors lie inside the file, apart from each other, and are as long as shape and type say. */
static void assert_sound(const struct gguf *g, int64_t file_bytes)
{
    for (int i = 0; i < gguf_n_tensor(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        int64_t n = 1;
        for (int d = 0; d < 4; d++) n *= t->dim[d];
        assert_true(n == t->n_elem && t->dim[0] % quant_type(t->dt)->block == 0 &&
                    t->n_bytes == quant_bytes(t->dt, n));
        assert_true(t->offset > 0 && t->offset + t->n_bytes <= file_bytes);
        for (int j = 0; j < i; j++) {
            const struct gguf_tensor *o = gguf_tensor_at(g, j);
            assert_true(strcmp(o->name, t->name) != 0);
            assert_true(o->offset + o->n_bytes <= t->offset || t->offset + t->n_bytes <= o->offset);
        }
    }
}

/* The file as a model: spec and weights, in the file's own types. */
static enum err load_model(struct err_note *note)
{
    struct source *src = NULL;
    struct spec spec;
    struct weights w = {0};
    enum err e = source_open(&src, path, note);
    if (e == OK) e = spec_load(&spec, src, note);
    if (e == OK) {
        struct weights_load l = {.src = src, .spec = &spec, .backend = backend};
        e = weights_load(&w, &l, note);
        weights_free(&w, backend);
    }
    source_close(src);
    return e;
}

enum outcome { REFUSED, READ, LOADED }; /* READ: a good file of another model, or of none */

/* Reads the file in every way. says: what the first refusal must contain, NULL: nothing more than the file's
 * name. */
static enum outcome try_file(int64_t file_bytes, const char *says, const char *what)
{
    struct gguf *g = NULL;
    struct err_note note = {0};
    watch_begin();
    enum err e = gguf_open(&g, path, &note);
    watch_end();
    if (watch.peak > 2 * file_bytes + SLACK)
        fail_msg("%s: %lld bytes in use for a file of %lld", what, (long long)watch.peak,
                 (long long)file_bytes);
    if (e != OK) {
        assert_null(g);
        assert_refusal(&note, path, says, what);
        return REFUSED;
    }
    assert_sound(g, file_bytes);
    gguf_close(g);

    struct text_assets *t = NULL;
    watch_begin();
    e = text_assets_open(&t, path, &note);
    if (e == OK)
        text_assets_close(t);
    else
        assert_refusal(&note, path, NULL, what);
    e = load_model(&note);
    watch_end();
    if (watch.most > 2 * file_bytes + SLACK)
        fail_msg("%s: a block of %lld bytes for a file of %lld", what, (long long)watch.most,
                 (long long)file_bytes);
    if (e != OK) assert_refusal(&note, path, says, what);
    return e == OK ? LOADED : READ;
}

static void put(size_t at, const void *p, size_t n)
{
    if (pwrite(fd, p, n, (off_t)at) != (ssize_t)n) fail_msg("the test's file cannot be written");
}

/* The bytes at `at` replaced for one reading, then put back. */
static enum outcome try_bytes(size_t at, const void *p, size_t n, const char *says, const char *what)
{
    put(at, p, n);
    enum outcome o = try_file((int64_t)tiny.len, says, what);
    put(at, tiny.data + at, n);
    return o;
}

/* --- the tests */

static int good_file(void **state)
{
    (void)state;
    put(0, tiny.data, tiny.len);
    return 0;
}

static void the_good_file_loads(void **state)
{
    (void)state;
    assert_int_equal(try_file((int64_t)tiny.len, NULL, "the good file"), LOADED);
    assert_true(watch.most > 1000); /* the watch sees allocations */
}

static void cuts_at_every_boundary_are_refused(void **state)
{
    (void)state;
    char what[64];
    for (int i = n_field - 1; i >= 0; i--) { /* from the end, so that the file only shrinks */
        const struct field *f = &field[i];
        for (size_t k = 0; k < 2 && (k == 0 || f->size > 1); k++) {
            size_t n = f->at + (k ? 0 : f->size / 2);
            snprintf(what, sizeof what, "cut at %zu of %zu", n, tiny.len);
            if (ftruncate(fd, (off_t)n)) fail_msg("the test's file cannot be cut");
            assert_int_equal(try_file((int64_t)n, NULL, what), REFUSED);
        }
    }
}

/* Values that break sums, products and allocations; v is the good one. */
static uint64_t wild_value(uint64_t v, size_t size, uint32_t pick)
{
    const uint64_t wild[] = {0,
                             1,
                             v + 1,
                             v - 1,
                             v * 2,
                             v + 32,
                             13,
                             255,
                             0x7fffffff,
                             0x80000000,
                             0xffffffff,
                             1ull << 32,
                             1ull << 40,
                             1ull << 60,
                             (1ull << 61) + 1,
                             1ull << 62,
                             INT64_MAX,
                             1ull << 63,
                             UINT64_MAX - 31,
                             UINT64_MAX,
                             tiny.len,
                             tiny.len - 1,
                             tiny.len / 70};
    uint64_t mask = size < 8 ? (1ull << size * 8) - 1 : UINT64_MAX,
             w = wild[pick % (sizeof wild / sizeof *wild)] & mask;
    return w == v ? (v ^ 1) : w;
}

static void wild_values_in_every_field_never_pass_for_good(void **state)
{
    (void)state;
    uint32_t seed = mutate_seed(5);
    int n[3] = {0}, n_str = 0;
    char what[96];
    for (int i = 0; i < n_field; i++) {
        const struct field *f = &field[i];
        if (f->what == F_DATA || f->what == F_BYTES || (f->what == F_LEN && f->tensor < 0 && n_str++ % 16))
            continue; /* not each of 320 pieces */
        uint64_t good = read_at(f->at, f->size);
        for (int k = 0; k < WILD_EACH; k++) {
            uint64_t v = wild_value(good, f->size, mutate_next(&seed));
            bool named = f->tensor >= 0 && (f->what == F_TYPE || f->what == F_OFFSET || f->what == F_DIM);
            snprintf(what, sizeof what, "%zu bytes at %zu: %llx for %llx", f->size, f->at,
                     (unsigned long long)v, (unsigned long long)good);
            enum outcome o = try_bytes(f->at, &v, f->size, named ? "tensor " : NULL, what);
            n[o]++;
            if (f->tensor >= 0 && o == LOADED) fail_msg("%s: a wrong tensor entry was loaded", what);
        }
    }
    printf("%d refused by the reader, %d no such model, %d loaded\n", n[REFUSED], n[READ], n[LOADED]);
    assert_true(n[REFUSED] + n[READ] + n[LOADED] >= 200 && n[REFUSED] > 100);
}

/* Strings with other bytes of the same length: keys and names that are no text, duplicates or others'.
 */
static void random_bytes_in_strings_never_pass_for_good(void **state)
{
    (void)state;
    uint32_t seed = mutate_seed(6);
    char what[64], buf[128];
    for (int i = 0; i < n_field; i++) {
        const struct field *f = &field[i];
        if (f->what != F_BYTES || f->size > sizeof buf || (i % 8 && f->tensor < 0)) continue;
        for (int k = 0; k < 2; k++) {
            memcpy(buf, tiny.data + f->at, f->size);
            for (size_t j = 0; j < f->size; j++)
                if (mutate_next(&seed) % (k ? 1 : f->size) == 0) buf[j] = (char)mutate_next(&seed);
            snprintf(what, sizeof what, "string %d at %zu", k, f->at);
            enum outcome o = try_bytes(f->at, buf, f->size, NULL, what);
            if (k && f->tensor >= 0 && o != REFUSED)
                fail_msg("%s: a name of random bytes was accepted", what);
        }
    }
}

/* Words of the file that go into messages keep them one plain line. */
static void keys_cannot_break_a_message(void **state)
{
    (void)state;
    uint32_t odd_kind = 77;
    for (int i = 0; i + 1 < n_field; i++) {
        if (field[i].what != F_BYTES || field[i + 1].what != F_KIND) continue;
        put(field[i + 1].at, &odd_kind, 4);
        assert_int_equal(try_file((int64_t)tiny.len, NULL, "odd kind"), REFUSED);
        assert_int_equal(try_bytes(field[i].at + 1, "\n", 1, NULL, "line end in a key"), REFUSED);
        put(field[i + 1].at, tiny.data + field[i + 1].at, 4);
    }
}

static void doubled_names_are_refused_by_name(void **state)
{
    (void)state;
    for (int i = 0, n = 0; i < TINY_TENSORS; i++)
        for (int j = i + 1; j < TINY_TENSORS; j++) {
            const struct field *a = tensor_field(i, F_BYTES, 0), *b = tensor_field(j, F_BYTES, 0);
            if (a->size != b->size || n++ % 9) continue;
            assert_int_equal(try_bytes(b->at, tiny.data + a->at, a->size, names[i], names[j]), REFUSED);
        }
}

/* Entries that agree with themselves and with the file's size, but not with each other or the model. */
static void entries_that_overlap_or_lie_together_are_refused_by_name(void **state)
{
    (void)state;
    for (int i = 0; i + 1 < TINY_TENSORS; i++) {
        size_t a = tensor_field(i, F_OFFSET, 0)->at, b = tensor_field(i + 1, F_OFFSET, 0)->at;
        enum outcome o;
        assert_int_equal(try_bytes(b, tiny.data + a, 8, names[i + 1], "same place"), REFUSED);
        uint64_t v = read_at(b, 8) - 32;
        assert_int_equal(try_bytes(b, &v, 8, names[i + 1], "overlap of one step"), REFUSED);
        v = read_at(b, 8) + 32;
        assert_int_equal(try_bytes(b, &v, 8, names[i + 1], "a hole"), REFUSED);
        put(a, tiny.data + b, 8); /* both places swapped */
        o = try_bytes(b, tiny.data + a, 8, names[i], "swapped places");
        put(a, tiny.data + a, 8);
        assert_int_equal(o, REFUSED);
    }
}

/* Shapes of the same size: only the model can tell, and does. */
static void other_shapes_of_the_same_size_are_no_such_model(void **state)
{
    (void)state;
    static const char *const name[] = {"blk.0.attn_k.weight", "blk.1.attn_output.weight",
                                       "blk.2.ffn_down.weight", "token_embd.weight", "blk.5.ffn_up.weight"};
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        int t = tensor_by_name(name[i]);
        size_t at = tensor_field(t, F_DIM, 0)->at;
        uint64_t k = read_at(at, 8), n = read_at(at + 8, 8), dim[3][2] = {{n, k}, {k * 2, n / 2}, {k * n, 1}};
        for (int d = 0; d < 3; d++) {
            if (dim[d][0] == k) continue; /* square */
            enum outcome o = try_bytes(at, dim[d], 16, name[i], name[i]);
            if (o == LOADED) fail_msg("%s as [%d, %d] was loaded", name[i], (int)dim[d][0], (int)dim[d][1]);
        }
    }
}

/* Bits of the data: any bytes are numbers, so the file loads. */
static void damaged_numbers_load(void **state)
{
    (void)state;
    uint32_t seed = mutate_seed(7);
    uint8_t buf[64];
    size_t data0 = field[n_field - TINY_TENSORS].at;
    for (int i = 0; i < 16; i++) {
        for (size_t j = 0; j < sizeof buf; j++) buf[j] = (uint8_t)(i % 4 ? mutate_next(&seed) : 0xff);
        size_t at = data0 + mutate_next(&seed) % (tiny.len - data0 - sizeof buf);
        assert_int_equal(try_bytes(at, buf, sizeof buf, NULL, "damaged numbers"), LOADED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_good_file_loads, good_file),
        cmocka_unit_test_setup(cuts_at_every_boundary_are_refused, good_file),
        cmocka_unit_test_setup(wild_values_in_every_field_never_pass_for_good, good_file),
        cmocka_unit_test_setup(random_bytes_in_strings_never_pass_for_good, good_file),
        cmocka_unit_test_setup(keys_cannot_break_a_message, good_file),
        cmocka_unit_test_setup(doubled_names_are_refused_by_name, good_file),
        cmocka_unit_test_setup(entries_that_overlap_or_lie_together_are_refused_by_name, good_file),
        cmocka_unit_test_setup(other_shapes_of_the_same_size_are_no_such_model, good_file),
        cmocka_unit_test_setup(damaged_numbers_load, good_file),
    };
    struct backend_conf conf = {.n_thread = 1, .max_tok = 1, .max_k = 1024, .max_n = 1024};
    strbuf_init(&tiny);
    tiny_gguf_build(&tiny);
    note_fields();
    if ((fd = mkstemp(path)) < 0 || backend_cpu_open(&backend, &conf, NULL) != OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    remove(path);
    close(fd);
    backend->close(backend);
    strbuf_fini(&tiny);
    return failed;
}
