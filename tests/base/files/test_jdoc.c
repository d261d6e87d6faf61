/* Laws of jdoc: what it refuses, and that what it takes is read back as it stands. */
#include "tests/base/cm.h"

#include <stdio.h>

#include "base/files/jdoc.h"

static struct jval open_text(const char *text)
{
    struct jval v;
    struct err_note note = {0};
    if (jdoc_check(&v, text, strlen(text), "t.json", &note) != OK) fail_msg("%s", note.text);
    return v;
}

static void malformed_text_is_refused(void **state)
{
    (void)state;
    static const char *const bad_text[] = {
        "",
        " ",
        "{",
        "}",
        "[",
        "[1",
        "[1,",
        "[1,]",
        "[,]",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,}",
        "{a:1}",
        "{\"a\" 1}",
        "{\"a\":1 \"b\":2}",
        "[1 2]",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "1e+",
        "+1",
        "0x1",
        "NaN",
        "Infinity",
        "tru",
        "nul",
        "True",
        "'a'",
        "\"",
        "\"\\",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "\"a\nb\"",
        "\"\t\"",
        "\"\xff\"",
        "\"\xc0\x80\"",
        "\"\xed\xa0\x80\"",
        "\"\xf4\x90\x80\x80\"",
        "\"\xe2\x82\"",
        "1 2",
        "{} x",
        "[]]",
        "\xEF\xBB\xBF{}",
        "/* */ 1",
        "[1]//",
        "{\"a\":1,\"a\":2}",
        "{\"a\":1,\"b\":2,\"\\u0061\":3}",
        "[{\"x\":{\"k\":1,\"k\":1}}]",
        "1234567890123456789012345678901234567890123456789012345678901234567890",
        ":::::",
        "{:1}",
        "[:]",
    };
    for (size_t i = 0; i < sizeof bad_text / sizeof *bad_text; i++) {
        struct jval v;
        struct err_note note = {0};
        if (jdoc_check(&v, bad_text[i], strlen(bad_text[i]), "t.json", &note) != ERR_MODEL_FILE)
            fail_msg("taken: %s", bad_text[i]);
        assert_int_equal(jval_kind(v), JKIND_NONE);
        if (!strstr(note.text, "t.json: ")) fail_msg("%s", note.text);
    }
}

static void depth_has_an_end(void **state)
{
    (void)state;
    static char text[100001];
    for (int n = 64; n <= 50000; n += 49936) {
        memset(text, '[', (size_t)n);
        memset(text + n, ']', (size_t)n);
        struct jval v;
        assert_int_equal(jdoc_check(&v, text, (size_t)n * 2, "t", NULL), n == 64 ? OK : ERR_MODEL_FILE);
    }
}

static void values_are_read_as_they_stand(void **state)
{
    (void)state;
    struct jval root = open_text(
        " {\"a\" : [1, -2.5e1 ,\"x\\\"]\" , {\"b\":null}, [] ,{}], \"k\\u00e9y\":true, \"\":false, \"s\":\"\\ud83d\\ude00\\u0000z\\n\" } ");
    assert_int_equal(jval_kind(root), JKIND_OBJECT);
    static const enum jkind kind[] = {JKIND_NUMBER, JKIND_NUMBER, JKIND_STRING,
                                      JKIND_OBJECT, JKIND_ARRAY,  JKIND_OBJECT};
    size_t n = 0;
    for (struct jiter it = jval_iter(jval_get(root, "a")); jiter_next(&it); n++)
        assert_int_equal(jval_kind(it.value), kind[n]);
    assert_int_equal(n, 6);
    bool b = false;
    assert_true(jval_bool(jval_get(root, "k\xC3\xA9y"), &b) && b);
    assert_true(jval_bool(jval_get(root, ""), &b) && !b);
    assert_int_equal(jval_kind(jval_get(root, "none")), JKIND_NONE);
    assert_int_equal(jval_kind(jval_get(jval_get(root, "a"), "a")), JKIND_NONE);
    struct arena mem;
    arena_init(&mem, 0);
    const char *s;
    size_t len;
    assert_true(jval_string(jval_get(root, "s"), &mem, &s, &len));
    assert_int_equal(len, 7);
    assert_memory_equal(s, "\xF0\x9F\x98\x80\0z\n", 8);
    assert_false(jval_string(root, &mem, &s, &len));
    assert_true(jval_is(open_text("\"\\u0061b\""), "ab"));
    assert_false(jval_is(open_text("\"\\u0061b\""), "abc"));
    assert_false(jval_is(open_text("\"ab\\n\""), "ab"));
    assert_false(jval_is(open_text("1"), "1"));
    arena_fini(&mem);
}

static void numbers_are_exact_or_refused(void **state)
{
    (void)state;
    int64_t v;
    double d;
    assert_true(jval_int(open_text("9223372036854775807"), &v) && v == INT64_MAX);
    assert_true(jval_int(open_text("-9223372036854775808"), &v) && v == INT64_MIN);
    assert_false(jval_int(open_text("9223372036854775808"), &v));
    assert_false(jval_int(open_text("-9223372036854775809"), &v));
    assert_false(jval_int(open_text("1.0"), &v));
    assert_false(jval_int(open_text("1e3"), &v));
    assert_false(jval_int(open_text("\"1\""), &v));
    assert_true(jval_int(open_text("-0"), &v) && v == 0);
    assert_true(jval_double(open_text("-1.5e-3"), &d) && d == -1.5e-3);
    assert_false(jval_double(open_text("1e999"), &d));
    assert_false(jval_double(open_text("true"), &d));
}

static void files_are_read_whole_or_refused_by_name(void **state)
{
    (void)state;
    char path[] = "/tmp/fluxd-jdoc-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, "{\"a\":1}\n", 8) == 8 && close(fd) == 0);
    struct jdoc d;
    struct err_note note = {0};
    assert_int_equal(jdoc_open(&d, path, 8, &note), OK);
    int64_t v;
    assert_true(jval_int(jval_get(d.root, "a"), &v) && v == 1);
    jdoc_close(&d);
    assert_int_equal(jdoc_open(&d, path, 7, &note), ERR_MODEL_FILE);
    assert_non_null(strstr(note.text, path));
    assert_null(d.text);
    remove(path);
    assert_int_equal(jdoc_open(&d, path, 8, &note), ERR_IO);
    assert_int_equal(jdoc_open(&d, "/tmp", 8, &note), ERR_MODEL_FILE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_text_is_refused),
        cmocka_unit_test(depth_has_an_end),
        cmocka_unit_test(values_are_read_as_they_stand),
        cmocka_unit_test(numbers_are_exact_or_refused),
        cmocka_unit_test(files_are_read_whole_or_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
