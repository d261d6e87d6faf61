/* log_json: what is one line of text is one JSON object with the same keys, whatever the values hold. */
#include "tests/base/cm.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "base/log_json.h"
#include "base/utf8.h"

static cJSON *object_of(const char *fields, size_t cap)
{
    char out[8192];
    memset(out, 0x55, sizeof out);
    const size_t n = log_json(out, cap, "T", "info", "an \"event\"\n", fields);
    assert_true(n <= cap && out[n - 1] == '\n' && out[n] == 0x55);
    assert_null(memchr(out, '\n', n - 1));
    assert_true(utf8_valid(out, n));
    const char *stop;
    cJSON *o = cJSON_ParseWithLengthOpts(out, n, &stop, false);
    if (!o || stop != out + n - 1) fail_msg("no JSON: %.*s", (int)n, out);
    assert_string_equal(cJSON_GetObjectItem(o, "event")->valuestring, "an \"event\"\n");
    return o;
}

static const char *text(const cJSON *o, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    return cJSON_IsString(v) ? v->valuestring : NULL;
}

static void every_pair_is_a_member(void **st)
{
    (void)st;
    cJSON *o = object_of(
        "id=req_1 n=-12 ms=0.5 zero=0 x=01 y=1e5 z=1. s=\"12\" error=Too many open files last=yes", 4096);
    assert_string_equal(text(o, "id"), "req_1");
    assert_true(cJSON_GetObjectItem(o, "n")->valuedouble == -12 &&
                cJSON_GetObjectItem(o, "ms")->valuedouble == 0.5);
    assert_true(cJSON_IsNumber(cJSON_GetObjectItem(o, "zero")));
    static const char *const string[][2] = {{"x", "01"}, {"y", "1e5"},    {"z", "1."},
                                            {"s", "12"}, {"last", "yes"}, {"error", "Too many open files"}};
    for (size_t i = 0; i < sizeof string / sizeof *string; i++)
        assert_string_equal(text(o, string[i][0]), string[i][1]);
    assert_int_equal(cJSON_GetArraySize(o), 3 + 10);
    cJSON_Delete(o);
}

static void a_quoted_value_ends_at_its_quote(void **st)
{
    (void)st;
    cJSON *o = object_of("model=\"a \"b\" c=d\" layers=2 empty=\"\" none= path=/a\\b", 4096);
    assert_string_equal(text(o, "model"), "a \"b"); /* what no quote can tell apart stays two pairs */
    assert_string_equal(text(o, "empty"), "");
    assert_string_equal(text(o, "none"), "");
    assert_string_equal(text(o, "path"), "/a\\b");
    cJSON_Delete(o);
    o = object_of("says \"hello\" n=1", 4096);
    assert_string_equal(text(o, "text"), "says \"hello\"");
    cJSON_Delete(o);
}

/* All pairs of bytes, well-formed or not, in every kind of value. */
static void no_byte_breaks_the_line(void **st)
{
    (void)st;
    char fields[64];
    for (int a = 1; a < 256; a++)
        for (int b = 1; b < 256; b++) {
            snprintf(fields, sizeof fields, "k=%c%c q=\"%c%c\" l=\xe2\x80\xa8", a, b, a, b);
            cJSON_Delete(object_of(fields, 4096));
        }
    cJSON *o = object_of("k=\xe2\x80\xa8\xc2\x85\xff\x07 u=\xc3\xa9", 4096);
    assert_string_equal(text(o, "k"), "\xe2\x80\xa8\xc2\x85\xef\xbf\xbd\x07");
    assert_string_equal(text(o, "u"), "\xc3\xa9");
    cJSON_Delete(o);
}

static void what_is_too_long_is_cut_and_says_so(void **st)
{
    (void)st;
    char fields[2048];
    static const char *const part[] = {"x", "\"", "\xff", "\xe2\x82\xac", "\x01"};
    for (size_t p = 0; p < sizeof part / sizeof *part; p++) {
        for (int n = 0; n < 300; n++) {
            size_t at = (size_t)snprintf(fields, sizeof fields, "long=\"");
            for (int i = 0; i < n; i++)
                at += (size_t)snprintf(fields + at, sizeof fields - at, "%s", part[p]);
            snprintf(fields + at, sizeof fields - at, "\" more=12345 end=x");
            cJSON *o = object_of(fields, LOG_JSON_LEAST);
            const bool whole = text(o, "end") != NULL;
            assert_int_equal(whole, cJSON_GetObjectItem(o, "cut") == NULL);
            assert_true(text(o, "long") != NULL);
            assert_true(n > 10 || whole);
            cJSON_Delete(o);
        }
    }
}

int main(void)
{
    const struct CMUnitTest test[] = {
        cmocka_unit_test(every_pair_is_a_member),
        cmocka_unit_test(a_quoted_value_ends_at_its_quote),
        cmocka_unit_test(no_byte_breaks_the_line),
        cmocka_unit_test(what_is_too_long_is_cut_and_says_so),
    };
    return cmocka_run_group_tests(test, NULL, NULL);
}
