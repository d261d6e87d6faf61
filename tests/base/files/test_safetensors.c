/* safetensors: the strict reader, and router files that do not fit their model. */
#include "tests/base/cm.h"

#include <stdio.h>

#include "engine/router_load.h"
#include "base/files/safetensors.h"
#include "tests/engine/hash_router.h"

static char path[32];

/* A file of this header (n_head bytes claimed, or its own length when 0) and n_data bytes 0, 1, 2... */
static enum err open_header(struct safetensors **s, const char *header, uint64_t claimed, int n_data,
                            struct err_note *note)
{
    uint64_t n = claimed ? claimed : strlen(header);
    strcpy(path, "/tmp/fluxd-st-XXXXXX");
    FILE *f = fdopen(mkstemp(path), "wb");
    assert_non_null(f);
    fwrite(&n, 8, 1, f);
    fwrite(header, 1, strlen(header), f);
    for (int i = 0; i < n_data; i++) fputc(i, f);
    fclose(f);
    enum err e = safetensors_open(s, path, note);
    remove(path);
    return e;
}

static void good_files_are_read_as_written(void **state)
{
    (void)state;
    struct safetensors *s;
    unsigned char buf[16];
    const char *h =
        " {\"b\" : {\"shape\":[2,4],\"dtype\":\"BF16\",\"data_offsets\":[4,20]},\"\\u00e9\\\"\":{\"dtype\":\"I32\",\"shape\":[],"
        "\"data_offsets\":[0,4]},\"none\":{\"dtype\":\"F32\",\"shape\":[0,3],\"data_offsets\":[4,4]},"
        "\"__metadata__\":{\"pool_size\":\"150.0\",\"x\":\"\xc3\xa9\"}}  ";
    assert_int_equal(open_header(&s, h + 1, 0, 20, NULL), OK);
    assert_int_equal(safetensors_n_tensor(s), 3);
    const struct safetensors_tensor *t = safetensors_find(s, "b");
    assert_true(t && t->dt == DT_BF16 && t->n_dim == 2 && t->shape[0] == 2 && t->shape[1] == 4 &&
                t->n_bytes == 16);
    assert_int_equal(safetensors_read(s, t, 2, 14, buf, NULL), OK);
    assert_true(buf[0] == 6 && buf[13] == 19);
    assert_int_equal(safetensors_read(s, t, 3, 14, buf, NULL), ERR_MODEL_FILE);
    t = safetensors_find(s, "\xc3\xa9\"");
    assert_true(t && t->dt == DT_COUNT && t->n_dim == 0 && t->n_elem == 1);
    assert_string_equal(safetensors_metadata(s, "pool_size"), "150.0");
    assert_string_equal(safetensors_metadata(s, "x"), "\xc3\xa9");
    assert_null(safetensors_metadata(s, "y"));
    assert_null(safetensors_find(s, "c"));
    safetensors_close(s);
}

#define T(name, dtype, shape, offsets)                                                                       \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void malformed_files_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        uint64_t claimed;
        int n_data;
        const char *says;
    } bad[] = {
        {"{}", UINT64_MAX, 0, "header's length"},
        {"{}", 100000001, 0, "header's length"},
        {"{}", 3, 0, "header's length"},
        {"{}", 1, 0, "header's length"},
        {"[]", 0, 0, "begin with {"},
        {" {}", 0, 0, "begin with {"},
        {"{}x", 0, 0, "goes on"},
        {"{}", 0, 1, "after the last tensor"},
        {"{\"a\"", 0, 0, ""},
        {"{\"a", 0, 0, ""},
        {"{\"a\xff\":1}", 0, 0, "UTF-8"},
        {"{\"a\xc0\xaf\":1}", 0, 0, "UTF-8"},
        {"{\"a\xed\xa0\x80\":1}", 0, 0, "UTF-8"},
        {"{\"a\\u0000\":1}", 0, 0, "escape"},
        {"{\"a\\ud800\":1}", 0, 0, "escape"},
        {"{\"a\":[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}", 0, 0, "tensor a"},
        {"{" T("a", "F33", "[1]", "[0,4]") "}", 0, 4, "tensor a"},
        {"{" T("a", "F32", "[2]", "[0,4]") "}", 0, 4, "tensor a"},
        {"{" T("a", "F32", "[1]", "[4,0]") "}", 0, 4, "tensor a"},
        {"{" T("a", "F32", "[1]", "[0,4,8]") "}", 0, 4, "tensor a"},
        {"{" T("a", "F32", "[1.0]", "[0,4]") "}", 0, 4, "tensor a"},
        {"{" T("a", "F32", "[-1]", "[0,4]") "}", 0, 4, "tensor a"},
        {"{" T("a", "F32", "[01]", "[0,4]") "}", 0, 4, "tensor a"},
        {"{" T("a", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 0, 4, "tensor a"},
        {"{" T("a", "F32", "[4611686018427387904]", "[0,0]") "}", 0, 0, "tensor a"},
        {"{" T("a", "F32", "[4294967296,4294967296]", "[0,0]") "}", 0, 0, "tensor a"},
        {"{" T("a", "F32", "[99999999999999999999]", "[0,0]") "}", 0, 0, "tensor a"},
        {"{" T("a", "F32", "[2]", "[0,8]") "}", 0, 4, "tensor a"},
        {"{" T("a", "F32", "[1]", "[4,8]") "}", 0, 8, "hole"},
        {"{" T("a", "F32", "[1]", "[0,4]") "," T("b", "F32", "[1]", "[8,12]") "}", 0, 12, "tensor b"},
        {"{" T("a", "F32", "[2]", "[0,8]") "," T("b", "F32", "[1]", "[4,8]") "}", 0, 8, "overlaps"},
        {"{" T("a", "F32", "[1]", "[0,4]") "," T("a", "F32", "[1]", "[4,8]") "}", 0, 8, "duplicate"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 0, 4, "tensor a"},
        {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 0, 4,
         "tensor a"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"z\":1}}", 0, 4, "tensor a"},
        {"{\"__metadata__\":{\"a\":1}}", 0, 0, ""},
        {"{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, 0, "duplicate"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, 0, "duplicate"},
        {"{" T("a", "F32", "[1]", "[0,4]") ",}", 0, 4, ""},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct safetensors *s = NULL;
        struct err_note note = {0};
        if (open_header(&s, bad[i].header, bad[i].claimed, bad[i].n_data, &note) != ERR_MODEL_FILE)
            fail_msg("file %zu was not refused", i);
        assert_null(s);
        if (!strstr(note.text, bad[i].says) || !strstr(note.text, path))
            fail_msg("file %zu: \"%s\"", i, note.text);
    }
}

/* A good router file of 2 layers, K = 16, read back whole. */
static char *router_bytes(int n_out, const char *meta, size_t *n)
{
    float bias[2] = {0.5f, -0.5f};
    strcpy(path, "/tmp/fluxd-st-XXXXXX");
    close(mkstemp(path));
    hash_router_write(path, 9, 2, n_out, 16, bias, meta);
    FILE *f = fopen(path, "rb");
    char *p = malloc(1 << 20);
    *n = fread(p, 1, 1 << 20, f);
    fclose(f);
    remove(path);
    return p;
}

static enum err load_bytes(struct routers *r, const char *p, size_t n, int head, struct err_note *note)
{
    struct spec spec = {.n_layer = 2, .head = head};
    strcpy(path, "/tmp/fluxd-st-XXXXXX");
    FILE *f = fdopen(mkstemp(path), "wb");
    fwrite(p, 1, n, f);
    fclose(f);
    enum err e = routers_load(r, path, &spec, note);
    remove(path);
    return e;
}

static void router_files_give_weights_and_sizes(void **state)
{
    (void)state;
    struct routers r;
    size_t n;
    char *p = router_bytes(
        2,
        "{\"sink_size\":\"256\",\"local_window_size\":\"512\",\"pool_size\":\"150.0\",\"use_softmax\":\"true\",\"toggle_type\":\"triangle\"}",
        &n);
    assert_int_equal(load_bytes(&r, p, n, 16, NULL), OK);
    assert_int_equal(r.layer[1].n_out, 2);
    assert_true(memcmp(&r.layer[1].b[4][1], &(float){-0.5f}, 4) == 0);
    float want = hash_router_value(9, 16 + 2, 77, (float)(2.0 / sqrt(128.0)));
    assert_memory_equal(&r.layer[1].w[1][77], &want, 4);
    assert_int_equal(r.flux.sink_size, 256);
    assert_int_equal(r.flux.local_window_size, 512);
    assert_int_equal(r.flux.pool_size, 150);
    assert_int_equal(r.flux.sparse_kind, ATTN_TRIANGLE);
    assert_int_equal(r.flux.triangle_n_last, -1);
    routers_free(&r);
    free(p);
}

static void router_files_that_do_not_fit_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        int n_out, head;
        const char *meta, *from, *to, *says; /* from: text in the file replaced by `to` of the same length */
    } bad[] = {
        {2, 32, "{}", NULL, NULL, "cls_feat_extractor.0.weight"},
        {2, 16, "{\"use_softmax\":\"false\"}", NULL, NULL, "use_softmax"},
        {1, 16, "{\"use_softmax\":\"true\"}", NULL, NULL, "use_softmax"},
        {2, 16, "{\"pool_size\":\"0\"}", NULL, NULL, "pool_size"},
        {2, 16, "{\"pool_size\":\"1.5\"}", NULL, NULL, "pool_size"},
        {2, 16, "{\"pool_size\":\"nan\"}", NULL, NULL, "pool_size"},
        {2, 16, "{\"local_window_size\":\"0\"}", NULL, NULL, "local_window_size"},
        {2, 16, "{\"sink_size\":\"1e99\"}", NULL, NULL, "sink_size"},
        {2, 16, "{\"toggle_type\":\"wild\"}", NULL, NULL, "toggle_type"},
        {2, 16, "{}", "layers.1.self_attn.mask_allocator.cls_feat_extractor.2.bias",
         "layers.7.self_attn.mask_allocator.cls_feat_extractor.2.bias",
         "layers.1.self_attn.mask_allocator.cls_feat_extractor.2.bias"},
        {2, 16, "{}", "\"F32\"", "\"I32\"", "cls_feat_extractor.0.weight"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        size_t n;
        struct routers r;
        struct err_note note = {0};
        char *p = router_bytes(bad[i].n_out, bad[i].meta, &n);
        char *at = bad[i].from ? memmem(p, n, bad[i].from, strlen(bad[i].from)) : NULL;
        if (bad[i].from) {
            assert_non_null(at);
            memcpy(at, bad[i].to, strlen(bad[i].to));
        }
        if (load_bytes(&r, p, n, bad[i].head, &note) != ERR_MODEL_FILE)
            fail_msg("router %zu was not refused", i);
        assert_null(r.layer);
        if (!strstr(note.text, bad[i].says) || !strstr(note.text, path))
            fail_msg("router %zu: \"%s\"", i, note.text);
        free(p);
    }
    size_t n;
    struct routers r;
    char *p = router_bytes(2, "{}", &n);
    memset(p + n - 4, 0xff, 4); /* the last bias: NaN */
    assert_int_equal(load_bytes(&r, p, n, 16, NULL), ERR_MODEL_FILE);
    for (size_t cut = 0; cut < n; cut += cut < 3000 ? 61 : 997)
        assert_int_not_equal(load_bytes(&r, p, cut, 16, NULL), OK);
    free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_files_are_read_as_written),
        cmocka_unit_test(malformed_files_are_refused_by_name),
        cmocka_unit_test(router_files_give_weights_and_sizes),
        cmocka_unit_test(router_files_that_do_not_fit_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
