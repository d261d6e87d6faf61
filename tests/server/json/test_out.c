#include "tests/base/cm.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>

#include "server/json/out.h"
#include "server/json/scan.h"
#include "base/utf8.h"

static void expect_text(struct strbuf *b, const char *want)
{
    assert_false(strbuf_failed(b));
    assert_string_equal(b->data, want);
    strbuf_clear(b);
}

static void commas_and_nesting_are_the_writers(void **state)
{
    (void)state;
    struct strbuf b;
    struct json_out o;
    strbuf_init(&b);
    json_out_init(&o, &b);
    json_out_object(&o, NULL);
    json_out_text(&o, "a", "x");
    json_out_array(&o, "b");
    json_out_int(&o, NULL, INT64_MIN);
    json_out_uint(&o, NULL, UINT64_MAX);
    json_out_object(&o, NULL);
    json_out_end(&o);
    json_out_array(&o, NULL);
    json_out_bool(&o, NULL, true);
    json_out_end(&o);
    json_out_null(&o, NULL);
    json_out_end(&o);
    json_out_bool(&o, "c", false);
    json_out_text(&o, "d", NULL);
    json_out_raw(&o, "e", "{\"x\":[1]}!", 9);
    json_out_string(&o, "f\"\n", "", 0);
    json_out_end(&o);
    expect_text(
        &b,
        "{\"a\":\"x\",\"b\":[-9223372036854775808,18446744073709551615,{},[true],null],\"c\":false,\"d\":null,"
        "\"e\":{\"x\":[1]},\"f\\\"\\n\":\"\"}");
    json_out_init(&o, &b);
    json_out_text(&o, NULL, "alone");
    expect_text(&b, "\"alone\"");
    strbuf_fini(&b);
}

static void every_depth_up_to_the_limit_closes_as_it_opened(void **state)
{
    (void)state;
    struct strbuf b;
    struct json_out o;
    struct json_scan scan;
    strbuf_init(&b);
    json_out_init(&o, &b);
    for (int i = 0; i < JSON_OUT_DEPTH_MAX; i++) {
        const char *key =
            i > 0 && (i - 1) % 3 == 0 ? "k" : NULL; /* depth i - 1 is an object when divisible by 3 */
        if (i % 3 == 0)
            json_out_object(&o, key);
        else
            json_out_array(&o, key);
    }
    for (int i = JSON_OUT_DEPTH_MAX - 1; i >= 0; i--) {
        json_out_int(&o, i % 3 == 0 ? "z" : NULL, i);
        json_out_end(&o);
    }
    assert_int_equal(json_scan(&scan, b.data, b.len, NULL, NULL), OK);
    assert_int_equal(scan.n_node, 2 * JSON_OUT_DEPTH_MAX);
    json_scan_fini(&scan);
    strbuf_fini(&b);
}

static struct strbuf bug_buf;
static struct json_out bug_out;
static void key_in_array(void) { json_out_array(&bug_out, NULL), json_out_int(&bug_out, "k", 1); }
static void no_key_in_object(void) { json_out_object(&bug_out, NULL), json_out_int(&bug_out, NULL, 1); }
static void end_too_often(void) { json_out_end(&bug_out); }
static void write_nan(void) { json_out_float(&bug_out, NULL, NAN); }
static void write_inf(void) { json_out_double(&bug_out, NULL, -INFINITY); }
static void too_deep(void)
{
    for (int i = 0; i <= JSON_OUT_DEPTH_MAX; i++) json_out_array(&bug_out, NULL);
}

static void misuse_is_a_bug(void **state)
{
    (void)state;
    strbuf_init(&bug_buf);
    json_out_init(&bug_out, &bug_buf);
    assert_check_fails(key_in_array, "key");
    assert_check_fails(no_key_in_object, "key");
    assert_check_fails(end_too_often, "depth");
    assert_check_fails(too_deep, "JSON_OUT_DEPTH_MAX");
    assert_check_fails(write_nan, "isfinite");
    assert_check_fails(write_inf, "isfinite");
}

static void what_json_forbids_in_strings_is_escaped(void **state)
{
    (void)state;
    static const struct {
        const char *s;
        size_t n;
        const char *want;
    } t[] = {
#define S(text) text, sizeof(text) - 1
        {S("a\"b\\c/d"), "\"a\\\"b\\\\c/d\""},
        {S("\b\f\n\r\t"), "\"\\b\\f\\n\\r\\t\""},
        {S("a\0b\x01\x1f\x7f"), "\"a\\u0000b\\u0001\\u001f\x7f\""},
        {S("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\xb9"), "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\xb9\""},
        {S("data: x\n\ndata"), "\"data: x\\n\\ndata\""},
        /* the examples of the Unicode standard, tables 3-8 to 3-11 */
        {S("\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41"),
         "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\x41\""},
        {S("\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41"),
         "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\x41\""},
        {S("\xf4\x91\x92\x93\xff\x41\x80\xbf\x42"),
         "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\x41\xef\xbf\xbd\xef\xbf\xbd\x42\""},
        {S("\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41"),
         "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\x41\""},
        /* ends of a line for some readers, and their neighbours */
        {S("\xe2\x80\xa8\xe2\x80\xa9\xc2\x85"), "\"\\u2028\\u2029\\u0085\""},
        {S("\xe2\x80\xa7\xe2\x80\xaa\xc2\x84\xc2\x86\xe2\x81\xa8"),
         "\"\xe2\x80\xa7\xe2\x80\xaa\xc2\x84\xc2\x86\xe2\x81\xa8\""},
        {S("\xf0\x9f\x98"), "\"\xef\xbf\xbd\""},
        {S("\"\xff\""), "\"\\\"\xef\xbf\xbd\\\"\""},
#undef S
    };
    struct strbuf b;
    strbuf_init(&b);
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        char *exact = malloc(t[i].n); /* so that the sanitizer sees a read past the end */
        memcpy(exact, t[i].s, t[i].n);
        json_out_quote(&b, exact, t[i].n);
        free(exact);
        expect_text(&b, t[i].want);
    }
    strbuf_fini(&b);
}

static void any_bytes_make_valid_json_that_reads_back(void **state)
{
    (void)state;
    static const char alphabet[] = "ab\"\\\n\t\x01\x1f/\xe2\x82\xac\xf0\x9f\x98\xb9\xc3\xa9\xed\xa0\x80\xff";
    unsigned seed = 11;
    struct strbuf b, clean;
    strbuf_init(&b);
    strbuf_init(&clean);
    for (int i = 0; i < 20000; i++) {
        char s[40];
        size_t n = (size_t)rand_r(&seed) % sizeof s;
        for (size_t k = 0; k < n; k++) s[k] = alphabet[(size_t)rand_r(&seed) % (sizeof alphabet - 1)];
        json_out_quote(&b, s, n);
        struct json_scan scan;
        assert_int_equal(json_scan(&scan, b.data, b.len, NULL, NULL), OK);
        json_scan_fini(&scan);
        cJSON *back = cJSON_ParseWithLength(b.data, b.len);
        assert_non_null(back);
        utf8_sanitize(s, n, &clean);
        assert_string_equal(back->valuestring, n > 0 ? clean.data : "");
        cJSON_Delete(back);
        strbuf_clear(&b);
        strbuf_clear(&clean);
    }
    strbuf_fini(&b);
    strbuf_fini(&clean);
}

static void floats_read_back_equal(void **state)
{
    (void)state;
    static const struct {
        float v;
        const char *want;
    } t[] = {{0, "0"},         {-0.5f, "-0.5"}, {-9999.0f, "-9999"}, {0.1f, "0.100000001"},
             {1e10f, "1e+10"}, {-1, "-1"}};
    struct strbuf b;
    struct json_out o;
    unsigned seed = 5;
    strbuf_init(&b);
    json_out_init(&o, &b);
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        json_out_float(&o, NULL, t[i].v);
        expect_text(&b, t[i].want);
    }
    for (int i = 0; i < 100000; i++) {
        uint32_t bits = (uint32_t)rand_r(&seed) << 16 ^ (uint32_t)rand_r(&seed);
        float v, back;
        memcpy(&v, &bits, sizeof v);
        if (!isfinite(v)) continue;
        json_out_float(&o, NULL, v);
        back = strtof(b.data, NULL);
        assert_memory_equal(&v, &back, sizeof v);
        struct json_scan scan;
        assert_int_equal(json_scan(&scan, b.data, b.len, NULL, NULL), OK);
        assert_int_equal(scan.kind, JSON_KIND_NUMBER);
        json_scan_fini(&scan);
        strbuf_clear(&b);
    }
    strbuf_fini(&b);
}

static void doubles_are_short_and_read_back_equal(void **state)
{
    (void)state;
    static const struct {
        double v;
        const char *want;
    } t[] = {{0, "0"},
             {0.1, "0.1"},
             {0.1 + 0.2, "0.30000000000000004"},
             {1.0 / 3, "0.3333333333333333"},
             {123456.75, "123456.75"},
             {1e300, "1e+300"}};
    struct strbuf b;
    struct json_out o;
    unsigned seed = 5;
    strbuf_init(&b);
    json_out_init(&o, &b);
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        json_out_double(&o, NULL, t[i].v);
        expect_text(&b, t[i].want);
    }
    for (int i = 0; i < 50000; i++) {
        uint64_t bits =
            (uint64_t)rand_r(&seed) << 42 ^ (uint64_t)rand_r(&seed) << 21 ^ (uint64_t)rand_r(&seed);
        double v, back;
        memcpy(&v, &bits, sizeof v);
        if (!isfinite(v)) continue;
        json_out_double(&o, NULL, v);
        back = strtod(b.data, NULL);
        assert_memory_equal(&v, &back, sizeof v);
        strbuf_clear(&b);
    }
    strbuf_fini(&b);
}

static void an_error_has_all_four_keys(void **state)
{
    (void)state;
    struct strbuf b;
    struct err_note note;
    strbuf_init(&b);
    err_set(&note, ERR_INVALID_VALUE, "stop[1]", "%s", "a \"quoted\" text");
    json_out_error(&b, &note);
    expect_text(
        &b,
        "{\"error\":{\"message\":\"a \\\"quoted\\\" text\",\"type\":\"invalid_request_error\",\"param\":\"stop[1]\","
        "\"code\":\"invalid_value\"}}");
    note = (struct err_note){.code = ERR_QUEUE_FULL};
    json_out_error(&b, &note);
    expect_text(
        &b,
        "{\"error\":{\"message\":\"the queue is full, try again later\",\"type\":\"rate_limit_error\",\"param\":null,"
        "\"code\":\"queue_full\"}}");
    strbuf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commas_and_nesting_are_the_writers),
        cmocka_unit_test(every_depth_up_to_the_limit_closes_as_it_opened),
        cmocka_unit_test(misuse_is_a_bug),
        cmocka_unit_test(what_json_forbids_in_strings_is_escaped),
        cmocka_unit_test(any_bytes_make_valid_json_that_reads_back),
        cmocka_unit_test(floats_read_back_equal),
        cmocka_unit_test(doubles_are_short_and_read_back_equal),
        cmocka_unit_test(an_error_has_all_four_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
