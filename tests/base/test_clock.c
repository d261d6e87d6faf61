#include "tests/base/cm.h"

#include <time.h>

#include "base/clock.h"

static void time_never_goes_back(void **state)
{
    (void)state;
    int64_t t = clock_ns();
    assert_true(t > 0);
    for (int i = 0; i < 10000; i++) {
        int64_t u = clock_ns();
        assert_true(u >= t);
        t = u;
    }
}

static void the_unit_is_what_the_name_says(void **state)
{
    (void)state;
    int64_t t0 = clock_ns();
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    int64_t before = clock_ns() - t0;
    double  ms = clock_ms_since(t0);
    int64_t after = clock_ns() - t0;
    assert_true(before >= 20000000); /* a sleep is never shorter */
    assert_true(ms >= (double)before * 1e-6 && ms <= (double)after * 1e-6);
}

static void wall_time_is_the_epochs(void **state)
{
    (void)state;
    int64_t before = (int64_t)time(NULL), now = clock_wall_s(), after = (int64_t)time(NULL);
    /* time() reads the coarse clock, which lags by up to a tick */
    assert_in_range((uintmax_t)now, (uintmax_t)before, (uintmax_t)after + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_never_goes_back),
        cmocka_unit_test(the_unit_is_what_the_name_says),
        cmocka_unit_test(wall_time_is_the_epochs),
    };
    return cmocka_run_group_tests_name("base/clock", tests, NULL, NULL);
}
