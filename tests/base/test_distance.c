/* distance: the laws of a metric, and known pairs. */
#include "tests/base/cm.h"

#include <string.h>

#include "base/distance.h"

static int between(const char *a, const char *b) { return distance(a, strlen(a), b, strlen(b)); }

static void known_pairs(void **state)
{
    (void)state;
    assert_int_equal(between("kitten", "sitting"), 3);
    assert_int_equal(between("", "abc"), 3);
    assert_int_equal(between("/heath", "/health"), 1);
    assert_int_equal(between("same", "same"), 0);
}

/* All words of up to three letters of {a, b}, in threes. */
static void it_is_a_metric(void **state)
{
    static const char *const word[] = {"",    "a",   "b",   "aa",  "ab",  "ba",  "bb", "aaa",
                                       "aab", "aba", "abb", "baa", "bab", "bba", "bbb"};
    enum { N = sizeof word / sizeof *word };
    (void)state;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            assert_int_equal(between(word[i], word[j]), between(word[j], word[i]));
            assert_int_equal(between(word[i], word[j]) == 0, i == j);
            for (int k = 0; k < N; k++)
                assert_true(between(word[i], word[k]) <=
                            between(word[i], word[j]) + between(word[j], word[k]));
        }
}

static void long_words_are_far(void **state)
{
    char a[DISTANCE_BYTES + 1];
    (void)state;
    memset(a, 'a', sizeof a);
    assert_int_equal(distance(a, DISTANCE_BYTES, a, DISTANCE_BYTES), 0);
    assert_int_equal(distance(a, DISTANCE_BYTES + 1, a, 1), DISTANCE_FAR);
    assert_int_equal(distance(a, 1, a, DISTANCE_BYTES + 1), DISTANCE_FAR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_pairs),
        cmocka_unit_test(it_is_a_metric),
        cmocka_unit_test(long_words_are_far),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
