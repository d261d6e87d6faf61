#include "tests/base/growth.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>

#include "base/strbuf.h"
#include "server/json/keys.h"
#include "server/json/scan.h"

/* Scans a copy whose end is the end of its memory, so that the sanitizer sees a read past it. */
static enum err scan_copy(const char *s, size_t n, const struct json_limits *lim, struct err_note *note,
                          struct json_scan *keep)
{
    struct json_scan scan;
    char *copy = malloc(n + (n == 0));
    assert_non_null(copy);
    memcpy(copy, s, n);
    memset(note, 0, sizeof *note);
    enum err e = json_scan(&scan, copy, n, lim, note);
    assert_int_equal(note->code, e);
    if (e != OK) {
        assert_null(scan.field);
        assert_null(scan.names.data);
    }
    if (keep)
        *keep = scan;
    else
        json_scan_fini(&scan);
    free(copy);
    return e;
}

struct doc {
    const char *s;
    size_t n;
    enum err e;
    const char *param; /* NULL: not looked at */
};
#define D(text) .s = (text), .n = sizeof(text) - 1

static void expect_all(const struct doc *d, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct err_note note;
        enum err e = scan_copy(d[i].s, d[i].n, NULL, &note, NULL);
        if (e != d[i].e || (d[i].param && strcmp(note.param, d[i].param) != 0)) {
            fail_msg("%s: %s, not %s; param '%s', text '%s'", d[i].s, err_name(e), err_name(d[i].e),
                     note.param, note.text);
        }
    }
}
#define EXPECT_ALL(table) expect_all(table, sizeof(table) / sizeof(table)[0])

static void every_rfc_8259_text_is_accepted(void **state)
{
    (void)state;
    static const struct doc yes[] = {
        {D("null")},
        {D("true")},
        {D("false")},
        {D("0")},
        {D("-0")},
        {D("\"\"")},
        {D("{}")},
        {D("[]")},
        {D(" \t\r\n{ } \n")},
        {D("[ ]")},
        {D("[[]]")},
        {D("[[],{}]")},
        {D("[null,1,\"1\",{}]")},
        {D("{\"\":0}")},
        {D("{\"a\":1,\"b\":2}")},
        {D("{\"a\":{\"a\":{\"a\":[]}}}")},
        {D("[{\"a\":1},{\"a\":1}]")},
        {D("{ \"a\" : [ 1 , 2 ] , \"b\" : { } }")},
        {D("[123.456e78]")},
        {D("[0e+1]")},
        {D("[0e1]")},
        {D("[0.0]")},
        {D("[-0.1]")},
        {D("[1E22]")},
        {D("[1E-2]")},
        {D("[1E+2]")},
        {D("[123e65]")},
        {D("[20e1]")},
        {D("[-123]")},
        {D("[-1]")},
        {D("[1e-999]")},
        {D("[0e999999999999]")},
        {D("[1.7976931348623157e308]")},
        {D("[-1.7976931348623158E+308]")},
        {D("[5e-324]")},
        {D("[0.00000000000000000000000000000000000000000000000000001e361]")},
        {D("[123456789012345678901234567890123456789012345678901234567890123]")}, /* 63 digits */
        {D("[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]")},
        {D("[\"\\u0060\\u012a\\u12AB\"]")},
        {D("[\"\\uD801\\udc37\"]")},
        {D("[\"\\ud83d\\ude39\\ud83d\\udc8d\"]")},
        {D("[\"\\uFFFF\\uFFFE\\uFDD0\"]")},
        {D("[\"\\u0001\\u001f\\u007f\"]")},
        {D("[\"\\uDBFF\\uDFFE\"]")},
        {D("[\"\\\\u0000\"]")},
        {D("[\"\x7f\"]")},
        {D("[\"a/*b*/c//\"]")},
        {D("[\" \"]")},
        {D("[\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\xb9\"]")},
        {D("[\"\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\"]")},
        {D("[\"\xf4\x8f\xbf\xbf\xf0\x90\x80\x80\xe0\xa0\x80\xc2\x80\"]")},
        {D("[\"\xe2\x80\xa8\xe2\x80\xa9\xef\xbb\xbf\"]")},
        {D("{\"\xc3\xa9\":1,\"e\":2,\"\\u00e8\":3}")},
        {D("{\"a\\\"b\":1}")},
    };
    EXPECT_ALL(yes);
}

static void everything_else_is_refused(void **state)
{
    (void)state;
    static const struct doc no[] = {
        /* nothing, or something behind the end (B02) */
        {D(""), ERR_INVALID_JSON},
        {D(" "), ERR_INVALID_JSON},
        {D("\n\t\r "), ERR_INVALID_JSON},
        {D("{}xyz"), ERR_INVALID_JSON},
        {D("{}{}"), ERR_INVALID_JSON},
        {D("nullx"), ERR_INVALID_JSON},
        {D("1 2"), ERR_INVALID_JSON},
        {D("[1],"), ERR_INVALID_JSON},
        {D("[1]]"), ERR_INVALID_JSON},
        {D("{}}"), ERR_INVALID_JSON},
        {D("{}\0"), ERR_INVALID_JSON},
        {D("\"\"\""), ERR_INVALID_JSON},
        {D("{}#"), ERR_INVALID_JSON},
        {D("{}/**/"), ERR_INVALID_JSON},
        {D("/**/{}"), ERR_INVALID_JSON},
        {D("\0"), ERR_INVALID_JSON},
        {D("{}\f"), ERR_INVALID_JSON},
        {D("\v{}"), ERR_INVALID_JSON},
        /* structure */
        {D("["), ERR_INVALID_JSON},
        {D("{"), ERR_INVALID_JSON},
        {D("]"), ERR_INVALID_JSON},
        {D("}"), ERR_INVALID_JSON},
        {D("[1"), ERR_INVALID_JSON},
        {D("[1,"), ERR_INVALID_JSON},
        {D("[1,]"), ERR_INVALID_JSON},
        {D("[,1]"), ERR_INVALID_JSON},
        {D("[1,,2]"), ERR_INVALID_JSON},
        {D("[1 2]"), ERR_INVALID_JSON},
        {D("[1:2]"), ERR_INVALID_JSON},
        {D("[}"), ERR_INVALID_JSON},
        {D("{]"), ERR_INVALID_JSON},
        {D("[[]"), ERR_INVALID_JSON},
        {D("[{}"), ERR_INVALID_JSON},
        {D("[\"a\""), ERR_INVALID_JSON},
        {D("{\"a\":[}"), ERR_INVALID_JSON},
        {D("{\"a\"}"), ERR_INVALID_JSON},
        {D("{\"a\":}"), ERR_INVALID_JSON, "a"},
        {D("{\"a\" 1}"), ERR_INVALID_JSON},
        {D("{\"a\"::1}"), ERR_INVALID_JSON},
        {D("{:1}"), ERR_INVALID_JSON},
        {D("{1:1}"), ERR_INVALID_JSON},
        {D("{a:1}"), ERR_INVALID_JSON},
        {D("{'a':1}"), ERR_INVALID_JSON},
        {D("{\"a\":1,}"), ERR_INVALID_JSON},
        {D("{,\"a\":1}"), ERR_INVALID_JSON},
        {D("{\"a\":1,,\"b\":2}"), ERR_INVALID_JSON},
        {D("{\"a\":1 \"b\":2}"), ERR_INVALID_JSON},
        {D("{\"a\":1,\"b\"}"), ERR_INVALID_JSON},
        {D("{\"a\",\"b\"}"), ERR_INVALID_JSON},
        {D("{null:1}"), ERR_INVALID_JSON},
        {D("{[]:1}"), ERR_INVALID_JSON},
        {D("{\"a\":1]"), ERR_INVALID_JSON},
        {D("[\"a\":1]"), ERR_INVALID_JSON},
        /* words */
        {D("nul"), ERR_INVALID_JSON},
        {D("tru"), ERR_INVALID_JSON},
        {D("fals"), ERR_INVALID_JSON},
        {D("True"), ERR_INVALID_JSON},
        {D("NULL"), ERR_INVALID_JSON},
        {D("truefalse"), ERR_INVALID_JSON},
        {D("NaN"), ERR_INVALID_JSON},
        {D("Infinity"), ERR_INVALID_JSON},
        {D("-Infinity"), ERR_INVALID_JSON},
        {D("inf"), ERR_INVALID_JSON},
        {D("undefined"), ERR_INVALID_JSON},
        {D("nul\0"), ERR_INVALID_JSON},
        /* numbers */
        {D("007"), ERR_INVALID_JSON},
        {D("00"), ERR_INVALID_JSON},
        {D("-00"), ERR_INVALID_JSON},
        {D("-01"), ERR_INVALID_JSON},
        {D("-"), ERR_INVALID_JSON},
        {D("--1"), ERR_INVALID_JSON},
        {D("+1"), ERR_INVALID_JSON},
        {D("- 1"), ERR_INVALID_JSON},
        {D(".5"), ERR_INVALID_JSON},
        {D("-.5"), ERR_INVALID_JSON},
        {D("5."), ERR_INVALID_JSON},
        {D("5.e1"), ERR_INVALID_JSON},
        {D("1e"), ERR_INVALID_JSON},
        {D("1e+"), ERR_INVALID_JSON},
        {D("1e-"), ERR_INVALID_JSON},
        {D("1e1.5"), ERR_INVALID_JSON},
        {D("1ee1"), ERR_INVALID_JSON},
        {D("1e+-1"), ERR_INVALID_JSON},
        {D("1.2.3"), ERR_INVALID_JSON},
        {D("0x10"), ERR_INVALID_JSON},
        {D("1_000"), ERR_INVALID_JSON},
        {D("1a"), ERR_INVALID_JSON},
        {D("0e"), ERR_INVALID_JSON},
        {D("1\0"), ERR_INVALID_JSON},
        {D("\xef\xbc\x91"), ERR_INVALID_JSON}, /* a full-width 1 */
        /* strings */
        {D("\""), ERR_INVALID_JSON},
        {D("\"a"), ERR_INVALID_JSON},
        {D("\"\\"), ERR_INVALID_JSON},
        {D("\"\\\""), ERR_INVALID_JSON},
        {D("'a'"), ERR_INVALID_JSON},
        {D("a"), ERR_INVALID_JSON},
        {D("\"\\a\""), ERR_INVALID_JSON},
        {D("\"\\x41\""), ERR_INVALID_JSON},
        {D("\"\\'\""), ERR_INVALID_JSON},
        {D("\"\\0\""), ERR_INVALID_JSON},
        {D("\"\\\0\""), ERR_INVALID_JSON},
        {D("\"\\U0041\""), ERR_INVALID_JSON},
        {D("\"\\u\""), ERR_INVALID_JSON},
        {D("\"\\u00\""), ERR_INVALID_JSON},
        {D("\"\\u004\""), ERR_INVALID_JSON},
        {D("\"\\u004g\""), ERR_INVALID_JSON},
        {D("\"\\u+041\""), ERR_INVALID_JSON},
        {D("\"\\u 041\""), ERR_INVALID_JSON},
        {D("\"\\u004"), ERR_INVALID_JSON},
        {D("\"\n\""), ERR_INVALID_JSON},
        {D("\"\t\""), ERR_INVALID_JSON},
        {D("\"\x1f\""), ERR_INVALID_JSON},
        {D("\"\0\""), ERR_INVALID_JSON},
        {D("\"12345678\x01\""), ERR_INVALID_JSON},
        {D("{\"k\":\"a\nb\"}"), ERR_INVALID_JSON, "k"},
        {D("\"\\ud83d\\u\""), ERR_INVALID_UTF8},
        {D("\"\\\xc3\xa9\""), ERR_INVALID_JSON},
        /* a byte order mark */
        {D("\xef\xbb\xbf{}"), ERR_INVALID_JSON},
        {D("\xef\xbb\xbf"), ERR_INVALID_JSON},
        {D("\xef\xbb"), ERR_INVALID_UTF8},
        {D("\xfe\xff\0{\0}"), ERR_INVALID_UTF8},
        {D("{\0}\0"), ERR_INVALID_JSON},
    };
    EXPECT_ALL(no);
}

static void only_well_formed_utf8_passes(void **state)
{
    (void)state;
    static const struct doc no[] = {
        /* B10 and the borders of table 3-7 */
        {D("\xff\xfe"), ERR_INVALID_UTF8},
        {D("\"\xff\xfe\""), ERR_INVALID_UTF8},
        {D("\"\xc0\xaf\""), ERR_INVALID_UTF8},
        {D("\"\xed\xa0\x80\""), ERR_INVALID_UTF8},
        {D("\"\xf0\x9f\""), ERR_INVALID_UTF8},
        {D("\"\x80\""), ERR_INVALID_UTF8},
        {D("\"\xc1\xbf\""), ERR_INVALID_UTF8},
        {D("\"\xc2\""), ERR_INVALID_UTF8},
        {D("\"\xe0\x9f\xbf\""), ERR_INVALID_UTF8},
        {D("\"\xf0\x8f\xbf\xbf\""), ERR_INVALID_UTF8},
        {D("\"\xf4\x90\x80\x80\""), ERR_INVALID_UTF8},
        {D("\"\xf5\x80\x80\x80\""), ERR_INVALID_UTF8},
        {D("\"\xf8\x88\x80\x80\x80\""), ERR_INVALID_UTF8},
        {D("\"\xed\xbf\xbf\""), ERR_INVALID_UTF8},
        {D("\"\xe2\x82\""), ERR_INVALID_UTF8},
        {D("\"\xe2\x28\xa1\""), ERR_INVALID_UTF8},
        {D("\"12345678\xa0\""), ERR_INVALID_UTF8},
        {D("\"\xf0\x9f\x98"), ERR_INVALID_UTF8},
        {D("{\"\xff\":1}"), ERR_INVALID_UTF8},
        {D("{\"x\":\"\xc0\xaf\"}"), ERR_INVALID_UTF8, "x"},
        {D("[\xe5]"), ERR_INVALID_UTF8},
        /* half a surrogate pair */
        {D("\"\\ud800\""), ERR_INVALID_UTF8},
        {D("\"\\udc00\""), ERR_INVALID_UTF8},
        {D("\"\\udc00\\ud800\""), ERR_INVALID_UTF8},
        {D("\"\\ud800\\ud800\""), ERR_INVALID_UTF8},
        {D("\"\\ud800x\""), ERR_INVALID_UTF8},
        {D("\"\\ud800\\n\""), ERR_INVALID_UTF8},
        {D("\"\\ud800\\u0041\""), ERR_INVALID_UTF8},
        {D("\"\\uD888\\u1234\""), ERR_INVALID_UTF8},
        {D("\"\\ud800"), ERR_INVALID_UTF8},
        {D("{\"\\udfff\":1}"), ERR_INVALID_UTF8},
        {D("{\"m\":[{\"a\":\"\\ud83d\"}]}"), ERR_INVALID_UTF8, "m"},
    };
    EXPECT_ALL(no);
}

static void every_byte_is_judged_wherever_it_stands(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        for (size_t at = 1; at <= 20; at++) { /* in a whole word of the fast path, and in what is left over */
            struct err_note note;
            char s[22];
            memset(s, 'x', sizeof s);
            s[0] = s[sizeof s - 1] = '"';
            s[at] = (char)c;
            enum err want = c >= 0x80                           ? ERR_INVALID_UTF8
                            : c < 0x20 || c == '"' || c == '\\' ? ERR_INVALID_JSON
                                                                : OK;
            if (scan_copy(s, sizeof s, NULL, &note, NULL) != want)
                fail_msg("byte 0x%02x at %zu: %s", c, at, note.text);
        }
    }
}

static void what_would_be_cut_or_lost_is_refused_by_name(void **state)
{
    (void)state;
    static const struct doc no[] = {
        /* B08 */
        {D("{\"prompt\":\"a\\u0000b\"}"), ERR_INVALID_VALUE, "prompt"},
        {D("{\"stop\":[\"x\",\"\\u0000\"]}"), ERR_INVALID_VALUE, "stop"},
        {D("{\"messages\":[{\"content\":\"\\u0000\"}]}"), ERR_INVALID_VALUE, "messages"},
        {D("{\"a\\u0000b\":1}"), ERR_INVALID_VALUE, ""},
        {D("{\"t\":{\"\\u0000\":1}}"), ERR_INVALID_VALUE, "t"},
        {D("\"\\u0000\""), ERR_INVALID_VALUE, ""},
        {D("\"\\\\\\u0000\""), ERR_INVALID_VALUE},
        /* B12 */
        {D("{\"temperature\":1e999}"), ERR_INVALID_VALUE, "temperature"},
        {D("{\"temperature\":-1e999}"), ERR_INVALID_VALUE, "temperature"},
        {D("[1.7976931348623159e308]"), ERR_INVALID_VALUE},
        {D("[1e309]"), ERR_INVALID_VALUE},
        {D("[10E+308]"), ERR_INVALID_VALUE},
        {D("[0.1e310]"), ERR_INVALID_VALUE},
        {D("[1e99999999999999999999]"), ERR_INVALID_VALUE},
        {D("[0.00000000000000000000000000000000000000000000000000001e362]"), ERR_INVALID_VALUE},
        {D("[1234567890123456789012345678901234567890123456789012345678901234]"),
         ERR_INVALID_VALUE}, /* 64 digits */
        {D("{\"seed\":0.000000000000000000000000000000000000000000000000000000000000001}"), ERR_INVALID_VALUE,
         "seed"},
        /* B06 */
        {D("{\"model\":1,\"model\":1}"), ERR_DUPLICATE_KEY, "model"},
        {D("{\"stream\":true,\"a\":{},\"stream\":false}"), ERR_DUPLICATE_KEY, "stream"},
        {D("{\"mod\\u0065l\":1,\"model\":1}"), ERR_DUPLICATE_KEY, "model"},
        {D("{\"model\":1,\"m\\u006fdel\":1}"), ERR_DUPLICATE_KEY, "model"},
        {D("{\"x\":[{\"k\":1,\"k\":2}]}"), ERR_DUPLICATE_KEY, "x"},
        {D("{\"\":1,\"\":2}"), ERR_DUPLICATE_KEY, ""},
        {D("{\"a/b\":1,\"a\\/b\":2}"), ERR_DUPLICATE_KEY, "a/b"},
        {D("{\"\\ud83d\\ude39\":1,\"\xf0\x9f\x98\xb9\":2}"), ERR_DUPLICATE_KEY},
        {D("{\"\\u00e9\":1,\"\xc3\xa9\":2}"), ERR_DUPLICATE_KEY, "\xc3\xa9"},
        {D("{\"\\n\":1,\"\\u000a\":2}"), ERR_DUPLICATE_KEY, "\n"},
        {D("{\"a\":{\"a\":1},\"a\":1}"), ERR_DUPLICATE_KEY, "a"},
        {D("[{\"a\":{\"b\":1},\"c\":[{\"d\":1}],\"a\":1}]"), ERR_DUPLICATE_KEY},
    };
    EXPECT_ALL(no);
    static const struct doc yes[] = {
        {D("{\"model\":1,\"Model\":2}")},
        {D("{\"a\":{\"a\":{\"a\":1},\"b\":{\"a\":1}},\"b\":1}")},
        {D("[{\"k\":1},{\"k\":1},[{\"k\":1}]]")},
        {D("{\"a\":1,\"\\\\u0061\":2}")}, /* the second is the six characters backslash u0061 */
    };
    EXPECT_ALL(yes);
}

static void notes_name_the_byte(void **state)
{
    (void)state;
    static const struct {
        const char *s, *says;
    } t[] = {
        {"{}xyz", "(at byte 2)"},
        {"[1,2,\"a\nb\"]", "raw control character in a string (at byte 7)"},
        {"[1", "the JSON ends where"},
        {"{\"a\":1,\"a\":2}", "duplicate key \"a\" in one object (at byte 7)"},
        {"[1e999]", "1e999 is too large (at byte 1)"},
        {"\xef\xbb\xbf{}", "byte order mark (at byte 0)"},
        {"[\"\\q\"]", "malformed escape in a string (at byte 2)"},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct err_note note;
        assert_true(scan_copy(t[i].s, strlen(t[i].s), NULL, &note, NULL) != OK);
        if (!strstr(note.text, t[i].says)) fail_msg("%s: %s", t[i].s, note.text);
    }
}

static void infinity_is_where_strtod_says(void **state)
{
    (void)state;
    unsigned seed = 7;
    int n_inf = 0, n_finite = 0;
    for (int i = 0; i < 20000; i++) {
        static const char edge[] = "17976931348623158079372897140530341507993413271003782693617377";
        char s[96], a[48];
        int digits = 1 + rand_r(&seed) % 40, shared = rand_r(&seed) % (digits + 1);
        for (int k = 0; k < digits; k++) a[k] = (char)(k < shared ? edge[k] : '0' + rand_r(&seed) % 10);
        a[digits] = '\0';
        if (a[0] == '0') a[0] = '1';
        int power = 308 - (digits - 1) + rand_r(&seed) % 3 - 1; /* of the last digit */
        switch (rand_r(&seed) % 3) {
        case 0:
            snprintf(s, sizeof s, "%s%se%d", i % 2 ? "-" : "", a, power);
            break;
        case 1:
            snprintf(s, sizeof s, "%c.%sE+%d", a[0], digits > 1 ? a + 1 : "0", power + digits - 1);
            break;
        default:
            snprintf(s, sizeof s, "0.00%se+%d", a, power + digits + 2);
            break;
        }
        bool finite = isfinite(strtod(s, NULL));
        struct err_note note;
        enum err e = scan_copy(s, strlen(s), NULL, &note, NULL);
        if (e != (finite ? OK : ERR_INVALID_VALUE)) fail_msg("%s: %s", s, note.text);
        n_inf += !finite;
        n_finite += finite;
    }
    assert_true(n_inf > 5000 && n_finite > 5000);
}

/* ---- limits (B04, B14) ---- */

static char *repeat(const char *unit, size_t times, size_t *n)
{
    size_t len = strlen(unit);
    char *s = malloc(len * times + 1);
    assert_non_null(s);
    for (size_t i = 0; i < times; i++) memcpy(s + i * len, unit, len);
    *n = len * times;
    s[*n] = '\0';
    return s;
}

static enum err nested(int depth, const char *open, const char *close, const struct json_limits *lim)
{
    struct strbuf b;
    struct err_note note;
    strbuf_init(&b);
    for (int i = 0; i < depth; i++) strbuf_puts(&b, open);
    strbuf_puts(&b, "1");
    for (int i = 0; i < depth; i++) strbuf_puts(&b, close);
    enum err e = scan_copy(b.data, b.len, lim, &note, NULL);
    strbuf_fini(&b);
    return e;
}

static void depth_ends_at_the_limit(void **state)
{
    (void)state;
    const struct json_limits lim = {
        .bytes = 1 << 20, .bytes_with_ids = 1 << 20, .depth = JSON_DEPTH_CAP, .nodes = 1000};
    assert_int_equal(nested(64, "[", "]", NULL), OK);
    assert_int_equal(nested(65, "[", "]", NULL), ERR_INVALID_VALUE);
    assert_int_equal(nested(64, "{\"a\":", "}", NULL), OK);
    assert_int_equal(nested(65, "{\"a\":", "}", NULL), ERR_INVALID_VALUE);
    assert_int_equal(nested(1000, "[", "]", NULL), ERR_INVALID_VALUE);
    assert_int_equal(nested(1000000, "[", "]", NULL), ERR_INVALID_VALUE);
    assert_int_equal(nested(JSON_DEPTH_CAP / 2, "[{\"a\":", "}]", &lim), OK);
    assert_int_equal(nested(JSON_DEPTH_CAP, "{\"a\":", "}", &lim), OK);
    assert_int_equal(nested(JSON_DEPTH_CAP + 1, "{\"a\":", "}", &lim), ERR_INVALID_VALUE);
    assert_int_equal(nested(64, "[", "}", NULL), ERR_INVALID_JSON);
}

static void *scan_deep(void *arg)
{
    const struct json_limits lim = {
        .bytes = 8 << 20, .bytes_with_ids = 8 << 20, .depth = JSON_DEPTH_CAP, .nodes = 10000000};
    size_t n;
    char *s = repeat("{\"a\":[", 1000000, &n);
    struct json_scan scan;
    *(enum err *)arg = json_scan(&scan, s, n, &lim, NULL);
    free(s);
    return NULL;
}

static void the_c_stack_does_not_grow_with_the_body(void **state)
{
    (void)state;
    pthread_attr_t attr;
    pthread_t t;
    enum err e = OK;
    assert_int_equal(pthread_attr_init(&attr), 0);
    assert_int_equal(pthread_attr_setstacksize(&attr, 64 << 10), 0);
    assert_int_equal(pthread_create(&t, &attr, scan_deep, &e), 0);
    assert_int_equal(pthread_join(t, NULL), 0);
    pthread_attr_destroy(&attr);
    assert_int_equal(e, ERR_INVALID_VALUE);
}

static void nodes_end_at_the_limit(void **state)
{
    (void)state;
    const struct json_limits lim = {.bytes = 1000, .bytes_with_ids = 1000, .depth = 8, .nodes = 4};
    struct err_note note;
    assert_int_equal(scan_copy("[1,[2]]", 7, &lim, &note, NULL), OK);
    assert_int_equal(scan_copy("[1,[2,3]]", 9, &lim, &note, NULL), ERR_INVALID_VALUE);
    assert_int_equal(scan_copy("{\"a\":1,\"b\":2,\"c\":3}", 19, &lim, &note, NULL), OK);
    assert_int_equal(scan_copy("{\"a\":1,\"b\":2,\"c\":[3]}", 21, &lim, &note, NULL), ERR_INVALID_VALUE);
    assert_string_equal(note.param, "c");

    size_t n;
    char *s = repeat(",1", 8 << 20, &n); /* 16 MiB, which cJSON alone would turn into 658 MB */
    s[0] = '[';
    assert_int_equal(scan_copy(s, n, NULL, &note, NULL), ERR_INVALID_VALUE);
    assert_non_null(strstr(note.text, "more than 1000000 values (at byte 1999"));
    free(s);
}

static void bytes_end_at_the_limit(void **state)
{
    (void)state;
    const struct json_limits lim = {.bytes = 20, .bytes_with_ids = 40, .depth = 8, .nodes = 100};
    struct err_note note;
    static const struct doc t[] = {
        {D("{\"a\":\"0123456789012\"}"), ERR_TOO_LARGE},
        {D("{\"a\":\"012345678901\"}"), OK},
        {D("{\"a\":[1,2,3,4,5,6,7,8,9,10,11,12]}"), OK}, /* ids do not count to .bytes ... */
        {D("{\"a\":[[1,2,3],[4,5,6],[7],[8,9]]}"), OK},
        {D("{\"a\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15]}"), ERR_TOO_LARGE}, /* ... but to .bytes_with_ids */
        {D("{\"a\":[1,2,3,4,5,6,7,8,\"9\"]}"), ERR_TOO_LARGE},
        {D("{\"a\":{\"b\":[1,2,3,4,5,6]}}"), ERR_TOO_LARGE},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        if (scan_copy(t[i].s, t[i].n, &lim, &note, NULL) != t[i].e) fail_msg("%s: %s", t[i].s, note.text);
    }
}

static void top_level_fields_and_keys_end_at_their_limits(void **state)
{
    (void)state;
    for (int extra = 0; extra < 2; extra++) {
        struct err_note note;
        struct strbuf b;
        strbuf_init(&b);
        for (int i = 0; i < JSON_FIELDS_MAX + extra; i++) strbuf_printf(&b, "%s\"k%d\":1", i ? "," : "{", i);
        strbuf_puts(&b, "}");
        assert_int_equal(scan_copy(b.data, b.len, NULL, &note, NULL), extra ? ERR_INVALID_VALUE : OK);
        strbuf_clear(&b);
        strbuf_puts(&b, "{\"logit_bias\":{");
        for (int i = 1; i < JSON_KEYS_MAX + extra; i++) strbuf_printf(&b, "%s\"%d\":1", i > 1 ? "," : "", i);
        strbuf_puts(&b, "}}");
        assert_int_equal(scan_copy(b.data, b.len, NULL, &note, NULL), extra ? ERR_INVALID_VALUE : OK);
        assert_string_equal(note.param, extra ? "logit_bias" : "");
        strbuf_fini(&b);
    }
}

struct large_body {
    const char *head, *unit, *tail;
    size_t times; /* of unit, in the large one */
    enum err e;
    struct strbuf text[2];
};

static void scan_body(void *arg, int times)
{
    const struct large_body *b = arg;
    const struct strbuf *text = &b->text[times > 1];
    struct json_scan scan;
    assert_int_equal(json_scan(&scan, text->data, text->len, NULL, NULL), b->e);
    json_scan_fini(&scan);
}

static void large_bodies_take_linear_time(void **state)
{
    (void)state;
    struct large_body t[] = {
        {.head = "{\"prompt\":\"", .unit = "sixteen letters ", .tail = "\"}", .times = 520000, .e = OK},
        {.head = "{\"prompt\":\"",
         .unit = "\xe4\xb8\xad\xe6\x96\x87",
         .tail = "\"}",
         .times = 1390000,
         .e = OK},
        {.head = "{\"prompt\":\"", .unit = "\\n\\\"", .tail = "\"}", .times = 2080000, .e = OK},
        {.head = "{\"prompt\":\"", .unit = "\\ud83d\\ude39", .tail = "\"}", .times = 690000, .e = OK},
        {.head = "{\"prompt\":[", .unit = "12345,", .tail = "1]}", .times = 999000, .e = OK},
        {.head = "{\"prompt\":", .unit = "99999999", .tail = "}", .times = 1040000, .e = ERR_INVALID_VALUE},
        {.head = "[", .unit = "1e308,", .tail = "1]", .times = 999000, .e = OK},
        {.head = "[", .unit = "{},", .tail = "{}]", .times = 999000, .e = OK},
        {.head = "[", .unit = "[", .tail = "", .times = 8000000, .e = ERR_INVALID_VALUE},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        for (size_t k = 0; k < 2; k++) {
            size_t n;
            char *unit = repeat(t[i].unit, t[i].times / (k ? 1 : GROWTH_TIMES), &n);
            strbuf_init(&t[i].text[k]);
            strbuf_puts(&t[i].text[k], t[i].head);
            strbuf_put(&t[i].text[k], unit, n);
            strbuf_puts(&t[i].text[k], t[i].tail);
            free(unit);
        }
        assert_linear(t[i].unit, scan_body, &t[i]);
        strbuf_fini(&t[i].text[0]);
        strbuf_fini(&t[i].text[1]);
    }
}

/* ---- what the scan tells ---- */

static void fields_have_their_raw_text_and_shape(void **state)
{
    (void)state;
    static const char body[] =
        " { \"a\" : 1.50 ,\"b\":\"x\\ny\", \"c\":[1, 2 ,-3e0] ,\"d\":[[1],[ ],[2,3]],\"e\":[],\"f\":[1,null],"
        "\"g\":[[1],2],\"h\":[[[1]]],\"i\":{\"z\":[1]},\"j\":null,\"k\\u006b\":true,\"l\":[[]],\"m\":[[1],[\"x\"]],"
        "\"n\":[null,1],\"o\":[{},[1]],\"p\":[1,[]],\"q\":[[1],[[]]],\"r\":[true] } ";
    static const struct {
        const char *name, *raw;
        enum json_kind kind;
        enum json_shape shape;
        size_t n_item, n_number;
    } want[] = {
        {"a", "1.50", JSON_KIND_NUMBER, JSON_SHAPE_OTHER, 0, 0},
        {"b", "\"x\\ny\"", JSON_KIND_STRING, JSON_SHAPE_OTHER, 0, 0},
        {"c", "[1, 2 ,-3e0]", JSON_KIND_ARRAY, JSON_SHAPE_NUMBERS, 3, 3},
        {"d", "[[1],[ ],[2,3]]", JSON_KIND_ARRAY, JSON_SHAPE_NUMBER_LISTS, 3, 3},
        {"e", "[]", JSON_KIND_ARRAY, JSON_SHAPE_OTHER, 0, 0},
        {"f", "[1,null]", JSON_KIND_ARRAY, JSON_SHAPE_OTHER, 0, 0},
        {"g", "[[1],2]", JSON_KIND_ARRAY, JSON_SHAPE_OTHER, 0, 0},
        {"h", "[[[1]]]", JSON_KIND_ARRAY, JSON_SHAPE_OTHER, 0, 0},
        {"i", "{\"z\":[1]}", JSON_KIND_OBJECT, JSON_SHAPE_OTHER, 0, 0},
        {"j", "null", JSON_KIND_NULL, JSON_SHAPE_OTHER, 0, 0},
        {"kk", "true", JSON_KIND_BOOL, JSON_SHAPE_OTHER, 0, 0},
        {"l", "[[]]", JSON_KIND_ARRAY, JSON_SHAPE_NUMBER_LISTS, 1, 0},
        {"m", "[[1],[\"x\"]]", JSON_KIND_ARRAY, JSON_SHAPE_OTHER, 0, 0},
        {"n", "[null,1]", JSON_KIND_ARRAY, JSON_SHAPE_OTHER, 0, 0},
        {"o", "[{},[1]]", JSON_KIND_ARRAY, JSON_SHAPE_OTHER, 0, 0},
        {"p", "[1,[]]", JSON_KIND_ARRAY, JSON_SHAPE_OTHER, 0, 0},
        {"q", "[[1],[[]]]", JSON_KIND_ARRAY, JSON_SHAPE_OTHER, 0, 0},
        {"r", "[true]", JSON_KIND_ARRAY, JSON_SHAPE_OTHER, 0, 0},
    };
    struct err_note note;
    struct json_scan scan;
    assert_int_equal(scan_copy(body, sizeof body - 1, NULL, &note, &scan), OK);
    assert_int_equal(scan.n_field, sizeof want / sizeof want[0]);
    assert_int_equal(scan.kind, JSON_KIND_OBJECT);
    for (size_t i = 0; i < scan.n_field; i++) {
        const struct json_field *f = &scan.field[i];
        assert_string_equal(json_field_name(&scan, f), want[i].name);
        assert_ptr_equal(json_scan_find(&scan, want[i].name), f);
        assert_int_equal(f->value.end - f->value.begin, strlen(want[i].raw));
        assert_memory_equal(body + f->value.begin, want[i].raw, strlen(want[i].raw));
        assert_int_equal(f->kind, want[i].kind);
        assert_int_equal(f->shape, want[i].shape);
        if (f->shape != JSON_SHAPE_OTHER) {
            assert_int_equal(f->n_item, want[i].n_item);
            assert_int_equal(f->n_number, want[i].n_number);
        }
    }
    assert_null(json_scan_find(&scan, "A"));
    assert_null(json_scan_find(&scan, "z"));
    json_scan_fini(&scan);

    assert_int_equal(scan_copy("[{\"a\":1},2]", 11, NULL, &note, &scan), OK);
    assert_int_equal(scan.n_field, 0);
    assert_int_equal(scan.kind, JSON_KIND_ARRAY);
    assert_int_equal(scan.n_node, 4);
    json_scan_fini(&scan);
}

/* ---- laws over many bodies ---- */

static const char whole[] =
    "{\"model\":\"m\\u00e9\\ud83d\\ude39\",\"prompt\":[[1,-2.5e3],[]],\"stop\":[\"\xe2\x82\xac\",null,true,false],"
    "\"o\":{\"a\":{},\"b\":[{\"c\":0.125}]},\"n\" : 12}";

static void no_part_of_a_body_passes_for_it(void **state)
{
    (void)state;
    struct err_note note;
    assert_int_equal(scan_copy(whole, sizeof whole - 1, NULL, &note, NULL), OK);
    for (size_t n = 0; n + 1 < sizeof whole; n++) {
        assert_true(scan_copy(whole, n, NULL, &note, NULL) != OK);
        if (n > 0)
            assert_true(scan_copy(whole + n, sizeof whole - 1 - n, NULL, &note, NULL) != OK ||
                        whole[n] == '{');
    }
}

/* Everything that may end a scan early leaves nothing behind (the leak checker looks), and whatever passes is
 * read by cJSON to its end and has the number of values that the scan counted. */
static size_t count_nodes(const cJSON *c)
{
    size_t n = 0;
    for (; c; c = c->next) n += 1 + count_nodes(c->child);
    return n;
}

static void what_passes_is_what_the_tree_holds(void **state)
{
    (void)state;
    unsigned seed = 42;
    int n_pass = 0;
    for (int i = 0; i < 30000; i++) {
        static const char alphabet[] =
            "{}[]\",:0123456789.eE+-\\u/bdntfalsr \n\t\xe2\x82\xac\xf0\x9f\xed\xa0\x80\x01";
        char s[sizeof whole];
        size_t n = sizeof whole - 1;
        memcpy(s, whole, sizeof whole);
        for (int k = 1 + rand_r(&seed) % 3; k > 0 && n > 0; k--) {
            size_t at = (size_t)rand_r(&seed) % n;
            switch (rand_r(&seed) % 3) {
            case 0:
                s[at] = alphabet[(size_t)rand_r(&seed) % (sizeof alphabet - 1)];
                break;
            case 1:
                memmove(s + at, s + at + 1, n - at - 1), n--;
                break;
            default:
                s[at] = s[(size_t)rand_r(&seed) % n];
                break;
            }
        }
        struct err_note note;
        struct json_scan scan;
        if (scan_copy(s, n, NULL, &note, &scan) != OK) continue;
        n_pass++;
        const char *end = NULL;
        cJSON *tree = cJSON_ParseWithLengthOpts(s, n, &end, 0);
        if (!tree) fail_msg("cJSON does not read %.*s", (int)n, s);
        while (end < s + n && strchr(" \n\t\r", *end)) end++;
        assert_ptr_equal(end, s + n);
        assert_int_equal(count_nodes(tree), scan.n_node);
        cJSON_Delete(tree);
        json_scan_fini(&scan);
    }
    assert_in_range(n_pass, 2000, 28000);
}

/* Objects of random sizes and depths: all keys of one object differ, keys of different objects repeat. The
 * key at which `countdown` comes to 0 repeats one of its object, unless it is the first: then *made stays
 * false. */
static void put_object(struct strbuf *b, unsigned *seed, int depth, int *countdown, bool *made)
{
    int n = rand_r(seed) % 8 == 0 ? rand_r(seed) % 400 >> depth : rand_r(seed) % 6;
    strbuf_putc(b, '{');
    for (int i = 0; i < n; i++) {
        bool twice = --*countdown == 0 && i > 0;
        int key = twice ? rand_r(seed) % i : i;
        *made = *made || twice;
        strbuf_printf(b, i % 3 ? "%s\"k%x\":" : "%s\"\\u006b%x\":", i ? "," : "", (unsigned)key);
        if (depth < 5 && rand_r(seed) % 4 == 0)
            put_object(b, seed, depth + 1, countdown, made);
        else
            strbuf_putc(b, '1');
    }
    strbuf_putc(b, '}');
}

static void a_key_is_told_twice_exactly_when_it_is(void **state)
{
    (void)state;
    unsigned seed = 3;
    int n_twice = 0;
    for (int i = 0; i < 1000; i++) {
        struct strbuf b;
        struct err_note note;
        bool made = false;
        int countdown = i % 2 ? -1 : 1 + rand_r(&seed) % 30;
        strbuf_init(&b);
        strbuf_puts(
            &b,
            "{\"top\":["); /* inside an array, so that objects follow each other and no field limit counts */
        for (int k = 0; k < 3; k++) {
            put_object(&b, &seed, 0, &countdown, &made);
            strbuf_puts(&b, k < 2 ? "," : "]}");
        }
        enum err e = scan_copy(b.data, b.len, NULL, &note, NULL);
        if (e != (made ? ERR_DUPLICATE_KEY : OK)) fail_msg("%s: %s", note.text, b.data);
        n_twice += made;
        strbuf_fini(&b);
    }
    assert_in_range(n_twice, 100, 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rfc_8259_text_is_accepted),
        cmocka_unit_test(everything_else_is_refused),
        cmocka_unit_test(only_well_formed_utf8_passes),
        cmocka_unit_test(every_byte_is_judged_wherever_it_stands),
        cmocka_unit_test(what_would_be_cut_or_lost_is_refused_by_name),
        cmocka_unit_test(notes_name_the_byte),
        cmocka_unit_test(infinity_is_where_strtod_says),
        cmocka_unit_test(depth_ends_at_the_limit),
        cmocka_unit_test(the_c_stack_does_not_grow_with_the_body),
        cmocka_unit_test(nodes_end_at_the_limit),
        cmocka_unit_test(bytes_end_at_the_limit),
        cmocka_unit_test(top_level_fields_and_keys_end_at_their_limits),
        cmocka_unit_test(large_bodies_take_linear_time),
        cmocka_unit_test(fields_have_their_raw_text_and_shape),
        cmocka_unit_test(no_part_of_a_body_passes_for_it),
        cmocka_unit_test(what_passes_is_what_the_tree_holds),
        cmocka_unit_test(a_key_is_told_twice_exactly_when_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
