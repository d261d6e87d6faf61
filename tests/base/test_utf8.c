/* Laws of UTF-8 checking and repair. */
#include "tests/base/cm.h"

#include "base/strbuf.h"
#include "base/utf8.h"

static void assert_sanitized(const char *in, size_t n, const char *want)
{
    struct strbuf out;
    strbuf_init(&out);
    utf8_sanitize(in, n, &out);
    strbuf_puts(&out, "");
    assert_string_equal(out.data, want);
    strbuf_fini(&out);
}

static void only_well_formed_text_is_valid(void **state)
{
    (void)state;
    static const char *const good[] = {"",
                                       "a",
                                       "\xC2\x80",
                                       "\xDF\xBF",
                                       "\xE0\xA0\x80",
                                       "\xED\x9F\xBF",
                                       "\xEE\x80\x80",
                                       "\xEF\xBF\xBF",
                                       "\xF0\x90\x80\x80",
                                       "\xF4\x8F\xBF\xBF"};
    static const char *const bad[] = {"\x80",
                                      "\xC0\x80",
                                      "\xC1\xBF",
                                      "\xC2",
                                      "\xC2"
                                      "a",
                                      "\xE0\x9F\xBF",
                                      "\xE2\x82",
                                      "\xED\xA0\x80",
                                      "\xF0\x8F\xBF\xBF",
                                      "\xF4\x90\x80\x80",
                                      "\xF5\x80\x80\x80",
                                      "\xFF",
                                      "a\xF0\x9F\x91"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(utf8_valid(good[i], strlen(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) assert_false(utf8_valid(bad[i], strlen(bad[i])));
    assert_true(utf8_valid("a\0b", 3));
}

static void a_split_character_is_held_back(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t complete;
    } row[] = {
        {"", 0},
        {"ab", 2},
        {"a\xC3", 1},
        {"a\xC3\xA9", 3},
        {"a\xE2", 1},
        {"a\xE2\x82", 1},
        {"a\xE2\x82\xAC", 4},
        {"a\xF0\x9F\x91", 1},
        {"a\xF0\x9F\x91\x8D", 5},
        {"\xF0", 0},
        /* never to be well-formed: nothing to wait for */
        {"a\xC0", 2},
        {"a\xFF", 2},
        {"a\x80", 2},
        {"\x80\x80\x80\x80", 4},
        {"a\xE0\x9F", 3},
        {"a\xED\xA0", 3},
        {"a\xF4\x90", 3},
        {"a\xF5\x80", 3},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        assert_int_equal(utf8_complete(row[i].text, strlen(row[i].text)), row[i].complete);
    }
}

/* The counts of U+FFFD are those of Python's errors="replace". */
static void ill_formed_parts_become_replacement_characters(void **state)
{
    (void)state;
    assert_sanitized("plain \xC3\xA9", 8, "plain \xC3\xA9");
    assert_sanitized("\xFF"
                     "a\xC0\x80",
                     4, "\uFFFDa\uFFFD\uFFFD");
    assert_sanitized("\xE2\x82"
                     "a",
                     3, "\uFFFDa");
    assert_sanitized("\xF0\x9F\x91", 3, "\uFFFD");
    assert_sanitized("\xED\xA0\x80", 3, "\uFFFD\uFFFD\uFFFD");
    assert_sanitized("\xE2\x82\xF0\x9F\x91\x8D\x8D", 7, "\uFFFD\U0001F44D\uFFFD");
    assert_sanitized("", 0, "");
}

/* Whatever the cuts, holding back the tail gives the same text as repairing all at once. */
static void a_stream_in_parts_equals_the_whole(void **state)
{
    (void)state;
    static const uint8_t byte[] = {'a',  0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0,
                                   0xC3, 0xE0, 0xE2, 0xED, 0xEF, 0xF0, 0xF4, 0xFF};
    uint32_t rng = 1;
    for (int round = 0; round < 20000; round++) {
        char text[12];
        for (size_t i = 0; i < sizeof text; i++) {
            rng = rng * 1664525u + 1013904223u;
            text[i] = (char)byte[rng >> 28];
        }
        struct strbuf whole, parts, tail;
        strbuf_init(&whole);
        strbuf_init(&parts);
        strbuf_init(&tail);
        utf8_sanitize(text, sizeof text, &whole);
        for (size_t i = 0; i < sizeof text; i++) { /* byte by byte */
            strbuf_putc(&tail, text[i]);
            size_t n = utf8_complete(tail.data, tail.len);
            utf8_sanitize(tail.data, n, &parts);
            strbuf_drop_front(&tail, n);
            assert_true(tail.len <= 3);
        }
        utf8_sanitize(tail.data, tail.len, &parts);
        assert_int_equal(parts.len, whole.len);
        assert_memory_equal(parts.data, whole.data, whole.len);
        assert_true(utf8_valid(whole.data, whole.len));
        strbuf_fini(&whole);
        strbuf_fini(&parts);
        strbuf_fini(&tail);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_well_formed_text_is_valid),
        cmocka_unit_test(a_split_character_is_held_back),
        cmocka_unit_test(ill_formed_parts_become_replacement_characters),
        cmocka_unit_test(a_stream_in_parts_equals_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
