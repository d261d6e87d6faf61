/* Laws of the Unicode tables: what PCRE2 is shown, and what is normalised. */
#include "tests/base/growth.h"

#include "server/text/unicode.h"

static void assert_nfc(const char *in, const char *want)
{
    struct strbuf out;
    strbuf_init(&out);
    bool changed = unicode_nfc(in, strlen(in), &out);
    assert_false(strbuf_failed(&out));
    assert_string_equal(changed ? out.data : in, want);
    strbuf_fini(&out);
}

static void text_is_composed(void **state)
{
    (void)state;
    assert_nfc("", "");
    assert_nfc("plain \u00E9", "plain \u00E9");
    assert_nfc("e\u0301", "\u00E9");
    assert_nfc("q\u0307\u0323", "q\u0323\u0307"); /* marks in order of their class */
    assert_nfc("\u1112\u1161\u11AB", "\uD55C");
    assert_nfc("\u212B", "\u00C5");
    assert_nfc("\u0958", "\u0915\u093C"); /* composition exclusion */
    assert_nfc("a\u0315\u0300\u05AE\u0300b", "\u00E0\u05AE\u0300\u0315b");
}

/* What the normaliser's Unicode 9 did not know neither moves nor composes. */
static void late_characters_stay_where_they_are(void **state)
{
    (void)state;
    assert_nfc("x\u0315\u0898", "x\u0315\u0898"); /* Unicode 14: class 220, below 232 */
    assert_nfc("\U00011935\U00011930", "\U00011935\U00011930");
    assert_nfc("x\U0001E08F\u0323", "x\U0001E08F\u0323"); /* Unicode 15 */
    assert_nfc("e\u0301\u0898e\u0301", "\u00E9\u0898\u00E9");
}

enum { MARKS = 400000 };

static void compose_marks(void *arg, int times)
{
    struct strbuf *text = arg, out; /* its head of marks, times 1 or all */
    size_t n = 1 + (text->len - 1) / GROWTH_TIMES * (size_t)times;
    strbuf_init(&out);
    assert_true(unicode_nfc(text->data, n, &out));
    assert_int_equal(out.len, n);
    assert_memory_equal(out.data + 1, "\u0334", 2);
    assert_memory_equal(out.data + out.len - 2, "\u0315", 2);
    strbuf_fini(&out);
}

static void a_long_run_of_marks_takes_no_quadratic_time(void **state)
{
    (void)state;
    struct strbuf text;
    strbuf_init(&text);
    strbuf_putc(&text, 'x');
    for (int i = 0; i < MARKS; i++) strbuf_puts(&text, i % 2 ? "\u0334" : "\u0315");
    assert_linear("a run of marks", compose_marks, &text);
    strbuf_fini(&text);
}

static void new_characters_are_shown_as_old_ones_of_their_length(void **state)
{
    (void)state;
    struct strbuf out;
    strbuf_init(&out);
    assert_false(unicode_alias("old \u00E9 \u4E00 \U0001F44D", 15, &out));
    assert_int_equal(out.len, 0);
    static const char text[] = "a\u1C89b\U00031350\u180E";
    assert_true(unicode_alias(text, sizeof text - 1, &out));
    assert_string_equal(out.data, "a\u1E00b\U00020000\u200B");
    assert_int_equal(out.len, sizeof text - 1);
    strbuf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_composed),
        cmocka_unit_test(late_characters_stay_where_they_are),
        cmocka_unit_test(a_long_run_of_marks_takes_no_quadratic_time),
        cmocka_unit_test(new_characters_are_shown_as_old_ones_of_their_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
