/* bias: the policy alone. */
#include "scheduler/bias.h"

#include <math.h>

#include "tests/base/cm.h"

static float at(double most, int waiting, int promised)
{
    return bias_of(most, &(struct bias_state){
                             .waiting = waiting, .queue_len = 100, .promised = promised, .n_page = 1000});
}

static void off_is_nothing_and_idle_is_nothing(void **st)
{
    (void)st;
    for (int w = 0; w <= 100; w += 10)
        for (int p = 0; p <= 1000; p += 50) {
            assert_true(at(0, w, p) == 0 && !signbit(at(0, w, p)));
            assert_true(w > 6 || p > 500 || at(4, w, p) == 0);
        }
}

static void it_grows_with_the_pressure_and_has_few_values(void **st)
{
    (void)st;
    for (int w = 0; w <= 100; w++)
        for (int p = 0; p <= 1000; p += 10) {
            float b = at(4, w, p);
            assert_true(b <= 0 && b >= -4 && b * 2 == floorf(b * 2));
            assert_true(w == 0 || b <= at(4, w - 1, p));
            assert_true(p == 0 || b <= at(4, w, p - 10));
        }
}

static void all_of_it_comes_before_anyone_is_refused(void **st)
{
    (void)st;
    assert_true(at(3, 50, 0) == -3);
    assert_true(at(3, 100, 0) == -3);
    assert_true(at(3, 0, 910) == -3);
    assert_true(at(3, 0, 1000) == -3);
    assert_true(at(3, 49, 0) > -3 && at(3, 0, 890) > -3);
    assert_true(bias_of(3, &(struct bias_state){.waiting = 1, .queue_len = 1, .n_page = 1}) == -3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(off_is_nothing_and_idle_is_nothing),
        cmocka_unit_test(it_grows_with_the_pressure_and_has_few_values),
        cmocka_unit_test(all_of_it_comes_before_anyone_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
