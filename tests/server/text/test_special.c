/* Laws of special token matching. */
#include "tests/base/cm.h"

#include "server/text/special.h"

static const char *const text_of[] = {"<a", "<a>", "<ab>", "", "<a>", "b<c", "<a><"};
static const size_t len_of[] = {2, 3, 4, 0, 3, 3, 4};
static const int32_t id_of[] = {10, 11, 12, 13, 9, 14, 15};

static struct special *open_special(size_t n)
{
    struct special *s;
    assert_int_equal(special_new(&s, n, text_of, len_of, id_of, NULL), OK);
    return s;
}

static void assert_hit(const struct special *s, const char *text, size_t from, size_t at, size_t len,
                       int32_t id)
{
    struct special_hit hit;
    assert_true(special_next(s, text, strlen(text), from, &hit));
    assert_int_equal(hit.at, at);
    assert_int_equal(hit.len, len);
    assert_int_equal(hit.id, id);
}

static void the_leftmost_then_the_longest_wins(void **state)
{
    (void)state;
    struct special *s = open_special(7);
    assert_hit(s, "x<a", 0, 1, 2, 10);
    assert_hit(s, "x<ab", 0, 1, 2, 10);
    assert_hit(s, "x<ab>", 0, 1, 4, 12);
    assert_hit(s, "b<c<a>", 0, 0, 3, 14);
    assert_hit(s, "<a><b", 0, 0, 4, 15);
    assert_hit(s, "<a>", 0, 0, 3, 9); /* of equal texts the lowest id */
    assert_hit(s, "<a> <a>", 1, 4, 3, 9);
    special_free(s);
}

static void no_token_no_hit(void **state)
{
    (void)state;
    struct special *s = open_special(7);
    struct special_hit hit;
    assert_false(special_next(s, "", 0, 0, &hit));
    assert_false(special_next(s, "<", 1, 0, &hit));
    assert_false(special_next(s, "<a", 1, 0, &hit)); /* the text ends before the token does */
    assert_false(special_next(s, "<a", 2, 1, &hit));
    assert_false(special_next(s, "\0<b\xFF", 4, 0, &hit));
    special_free(s);
    s = open_special(0);
    assert_false(special_next(s, "<a>", 3, 0, &hit));
    special_free(s);
    special_free(NULL);
}

static void too_long_a_token_is_refused(void **state)
{
    (void)state;
    static char long_text[SPECIAL_BYTES_MAX + 1];
    memset(long_text, 'x', sizeof long_text);
    const char *text = long_text;
    size_t len = sizeof long_text;
    struct special *s;
    assert_int_equal(special_new(&s, 1, &text, &len, id_of, NULL), ERR_MODEL_FILE);
    assert_null(s);
    len--;
    assert_int_equal(special_new(&s, 1, &text, &len, id_of, NULL), OK);
    special_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_leftmost_then_the_longest_wins),
        cmocka_unit_test(no_token_no_hit),
        cmocka_unit_test(too_long_a_token_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
