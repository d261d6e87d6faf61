/* growth: how the cost of a piece of work grows with its size. No bound in seconds: the work is done at a
 * size and at GROWTH_TIMES that size in one run, and their processor times are compared. Other programs on
 * the machine can only make a run longer, so each size's shortest run counts, and the runs are repeated until
 * they agree or the tries are used up. */
#ifndef FLUXD_TESTS_BASE_GROWTH_H
#define FLUXD_TESTS_BASE_GROWTH_H

#include <time.h>

#include "tests/base/cm.h"

enum { GROWTH_TIMES = 8, GROWTH_SLACK = 3, GROWTH_TRIES = 25 };

static inline double growth_run(void (*work)(void *arg, int times), void *arg, int times)
{
    struct timespec a, b;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
    work(arg, times);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
    return (double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec);
}

/* work(arg, 1) and work(arg, GROWTH_TIMES) do the same to inputs whose sizes are as 1 to GROWTH_TIMES. What
 * is linear, or n log n, costs about GROWTH_TIMES as much; what is quadratic costs GROWTH_TIMES squared, of
 * which the bound is less than half. */
static inline void assert_linear(const char *what, void (*work)(void *arg, int times), void *arg)
{
    double small = 1e18, large = 1e18;
    for (int i = 0; i < GROWTH_TRIES; i++) {
        double s = growth_run(work, arg, 1), l = growth_run(work, arg, GROWTH_TIMES);
        small = s < small ? s : small;
        large = l < large ? l : large;
        if (i > 0 && large <= small * GROWTH_TIMES * GROWTH_SLACK) return;
    }
    fail_msg("%s: %d times the size costs %.1f times as much", what, GROWTH_TIMES, large / small);
}

#endif
