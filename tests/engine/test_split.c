/* gguf_parts: a model in several files is the model, and what is no part of it is refused by its name. */
#include "tests/base/cm.h"

#include "engine/source.h"
#include "engine/spec.h"
#include "tests/engine/tiny_gguf.h"

enum { N_PART = 3 };

static char root[] = "/tmp/fluxd-split-XXXXXX";

static const char *part_path(int i)
{
    static char path[4][96];
    snprintf(path[i], sizeof *path, "%s/m-%05d-of-%05d.gguf", root, i + 1, N_PART);
    return path[i];
}

static void write_file(const char *path, const struct strbuf *b)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(b->data, 1, b->len, f), b->len);
    fclose(f);
}

struct says {
    uint32_t no, count, tensors;
};

/* Tensors [from, to) of the tiny model; the first part has its metadata. */
static void write_part(int i, int from, int to, struct says says)
{
    struct tiny_tensor t[TINY_TENSORS];
    struct strbuf whole, b;
    static const char name[] = "\x11\0\0\0\0\0\0\0token_embd.weight";
    tiny_tensors(t);
    strbuf_init(&whole);
    strbuf_init(&b);
    tiny_gguf_build(&whole);
    const char *end = memmem(whole.data, whole.len, name, sizeof name - 1);
    assert_non_null(end);
    strbuf_puts(&b, "GGUF");
    tiny_u32(&b, 3);
    tiny_u64(&b, (uint64_t)(to - from));
    tiny_u64(&b, 3 + (i == 0 ? TINY_KEYS : 0));
    if (i == 0) strbuf_put(&b, whole.data + 24, (size_t)(end - whole.data) - 24);
    tiny_key_u32(&b, "split.no", says.no);
    tiny_key_u32(&b, "split.count", says.count);
    tiny_key_u32(&b, "split.tensors.count", says.tensors);
    tiny_entries(&b, t + from, to - from);
    tiny_pad(&b);
    for (int k = from; k < to; k++) tiny_data(&b, &t[k], (uint32_t)k * 0x9E3779B1u);
    write_file(part_path(i), &b);
    strbuf_fini(&whole);
    strbuf_fini(&b);
}

static void write_good(void)
{
    const int cut[] = {0, 0, 20, TINY_TENSORS}; /* the first may have no tensors */
    for (int i = 0; i < N_PART; i++)
        write_part(i, cut[i], cut[i + 1], (struct says){(uint32_t)i, N_PART, TINY_TENSORS});
}

static void expect_refusal(const char *path, enum err code, const char *names, const char *says)
{
    struct source *s = NULL;
    struct err_note note = {0};
    assert_int_equal(source_open(&s, path, &note), code);
    if (!strstr(note.text, names) || !strstr(note.text, says))
        fail_msg("\"%s\" does not name %s and %s", note.text, names, says);
}

static void a_split_model_is_the_whole_one(void **state)
{
    (void)state;
    struct strbuf b;
    struct source *whole, *split;
    struct tiny_tensor t[TINY_TENSORS];
    struct spec x, y;
    struct err_note note = {0};
    char path[96];
    write_good();
    strbuf_init(&b);
    tiny_gguf_build(&b);
    snprintf(path, sizeof path, "%s/whole.gguf", root);
    write_file(path, &b);
    assert_int_equal(source_open(&whole, path, &note), OK);
    if (source_open(&split, part_path(0), &note) != OK) fail_msg("%s", note.text);
    assert_int_equal(spec_load(&x, whole, &note), OK);
    assert_int_equal(spec_load(&y, split, &note), OK);
    assert_memory_equal(&x, &y, sizeof x);
    tiny_tensors(t);
    for (int i = 0; i < TINY_TENSORS; i++) {
        static char p[1 << 16], q[1 << 16];
        struct source_tensor a, c;
        assert_true(source_find(whole, t[i].name, &a) && source_find(split, t[i].name, &c));
        assert_true(a.n_bytes == c.n_bytes && a.n_bytes <= (int64_t)sizeof p);
        assert_string_equal(c.path, part_path(i < 20 ? 1 : 2));
        assert_int_equal(source_read(whole, &a, 0, a.n_bytes, p, &note), OK);
        assert_int_equal(source_read(split, &c, 0, c.n_bytes, q, &note), OK);
        assert_memory_equal(p, q, (size_t)a.n_bytes);
    }
    int at = 0;
    struct source_name unused;
    assert_false(source_unused(split, &at, &unused));
    source_close(whole);
    source_close(split);
    strbuf_fini(&b);
    remove(path);
}

static void what_is_no_part_of_it_is_refused_by_name(void **state)
{
    (void)state;
    write_good();
    expect_refusal(part_path(1), ERR_MODEL_FILE, part_path(1), "first part");
    remove(part_path(2));
    expect_refusal(part_path(0), ERR_IO, part_path(2), "No such file");
    write_part(2, 20, TINY_TENSORS, (struct says){1, N_PART, TINY_TENSORS});
    expect_refusal(part_path(0), ERR_MODEL_FILE, part_path(2), "is part 2 of 3");
    write_part(2, 20, TINY_TENSORS, (struct says){2, 4, TINY_TENSORS});
    expect_refusal(part_path(0), ERR_MODEL_FILE, part_path(2), "is part 3 of 4");
    write_part(2, 19, TINY_TENSORS, (struct says){2, N_PART, TINY_TENSORS + 1});
    expect_refusal(part_path(0), ERR_MODEL_FILE, part_path(2), "stands in");
    write_part(2, 21, TINY_TENSORS, (struct says){2, N_PART, TINY_TENSORS});
    expect_refusal(part_path(0), ERR_MODEL_FILE, part_path(0), "split.tensors.count");
    write_good();
    for (uint32_t n = 0; n < 2; n++) {
        write_part(0, 0, 0, (struct says){0, n ? 1000000 : 0, TINY_TENSORS});
        expect_refusal(part_path(0), ERR_MODEL_FILE, part_path(0), "split.count");
    }
    write_good();
    char other[96];
    snprintf(other, sizeof other, "%s/other.gguf", root);
    assert_int_equal(rename(part_path(0), other), 0);
    expect_refusal(other, ERR_MODEL_FILE, other, "-00001-of-00003.gguf");
    remove(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_split_model_is_the_whole_one),
        cmocka_unit_test(what_is_no_part_of_it_is_refused_by_name),
    };
    if (!mkdtemp(root)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (int i = 0; i < N_PART; i++) remove(part_path(i));
    rmdir(root);
    return failed;
}
