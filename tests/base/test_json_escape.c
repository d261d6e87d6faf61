/* json_escape: every escape against a table made by the definition, and what is none. */
#include "tests/base/cm.h"

#include <stdio.h>
#include <string.h>

#include "base/json_escape.h"
#include "base/utf8.h"

static int32_t take(const char *s, size_t n, size_t *taken)
{
    const char *p = s;
    const int32_t c = json_escape(&p, s + n);
    *taken = (size_t)(p - s);
    return c;
}

/* All code units, both cases of digits; a cut of any length is malformed and takes nothing. */
static void every_code_unit_is_read(void **state)
{
    (void)state;
    for (int u = 0; u < 0x10000; u++) {
        char s[8];
        size_t taken;
        snprintf(s, sizeof s, u % 2 ? "\\u%04x" : "\\u%04X", (unsigned)u);
        const int32_t c = take(s, 6, &taken);
        assert_int_equal(c, u >= 0xD800 && u < 0xE000 ? JSON_ESCAPE_HALF : u);
        assert_int_equal(taken, 6);
        assert_int_equal(take(s, (size_t)(1 + u % 5), &taken), JSON_ESCAPE_BAD);
        assert_int_equal(taken, 0);
    }
}

/* Every code point above the first 65536, written as a pair, and as UTF-8 and back. */
static void pairs_are_one_code_point(void **state)
{
    (void)state;
    for (uint32_t want = 0x10000; want <= 0x10FFFF; want += 7) {
        char s[16], utf[4];
        size_t taken;
        uint32_t again;
        snprintf(s, sizeof s, "\\u%04x\\u%04x", 0xD800 + ((want - 0x10000) >> 10), 0xDC00 + (want & 0x3FF));
        assert_int_equal(take(s, 12, &taken), want);
        assert_int_equal(taken, 12);
        const int n = utf8_put(utf, want);
        assert_int_equal(n, utf8_step((const uint8_t *)utf, 4));
        assert_int_equal(utf8_get(utf, utf + n, &again), n);
        assert_int_equal(again, want);
    }
}

static void what_is_no_escape_takes_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *s;
        int32_t c;
        size_t taken;
    } cases[] = {
        {"\\\"", '"', 2},
        {"\\\\", '\\', 2},
        {"\\/", '/', 2},
        {"\\b", '\b', 2},
        {"\\f", '\f', 2},
        {"\\n", '\n', 2},
        {"\\r", '\r', 2},
        {"\\t", '\t', 2},
        {"\\", JSON_ESCAPE_BAD, 0},
        {"\\x41", JSON_ESCAPE_BAD, 0},
        {"\\u00g0", JSON_ESCAPE_BAD, 0},
        {"\\u 123", JSON_ESCAPE_BAD, 0},
        {"\\v", JSON_ESCAPE_BAD, 0},
        {"\\ud83d", JSON_ESCAPE_HALF, 6},
        {"\\ud83dx", JSON_ESCAPE_HALF, 6},
        {"\\ud83d\\n", JSON_ESCAPE_HALF, 6},
        {"\\ud83d\\u0041", JSON_ESCAPE_HALF, 6},
        {"\\ud83d\\ud83d", JSON_ESCAPE_HALF, 6},
        {"\\ude00\\ud83d", JSON_ESCAPE_HALF, 6},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t taken;
        assert_int_equal(take(cases[i].s, strlen(cases[i].s), &taken), cases[i].c);
        assert_int_equal(taken, cases[i].taken);
    }
    size_t taken;
    assert_int_equal(take("\\\0", 2, &taken), JSON_ESCAPE_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_unit_is_read),
        cmocka_unit_test(pairs_are_one_code_point),
        cmocka_unit_test(what_is_no_escape_takes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
