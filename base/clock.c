/* clock: both clocks come from the vDSO, so reading them costs no system call. Any thread, without a lock:
 * `stood` grows by one compare-and-swap, so that of all threads that see the same standstill one takes it
 * away. */
#include "base/clock.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define NS_PER_MS INT64_C(1000000)

static _Atomic int64_t stood_ns; /* what clock_ns is behind CLOCK_MONOTONIC */
static _Atomic int64_t last_ns;  /* the latest moment that clock_ns has told; 0: no pulse */

/* Not CHECK: its words go through the log, which asks the time itself. */
static struct timespec now_by(clockid_t clock)
{
    struct timespec ts;
    if (clock_gettime(clock, &ts) != 0) abort();
    return ts;
}

static int64_t monotonic_ns(void)
{
    const struct timespec ts = now_by(CLOCK_MONOTONIC);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Moves last on to now; the later of the two. */
static int64_t tell(int64_t last, int64_t now)
{
    while (now > last)
        if (atomic_compare_exchange_weak(&last_ns, &last, now)) return now;
    return last;
}

int64_t clock_ns(void)
{
    for (;;) {
        /* in this order: a thread that stood still between two of these lines has an old `stood`, and tries
         * again */
        int64_t stood = atomic_load(&stood_ns);
        const int64_t raw = monotonic_ns(), last = atomic_load(&last_ns);
        if (last == 0 || raw - stood - last <= CLOCK_STILL_MS * NS_PER_MS)
            return last == 0 ? raw : tell(last, raw - stood);
        atomic_compare_exchange_strong(&stood_ns, &stood, raw - last - CLOCK_PULSE_MS * NS_PER_MS);
    }
}

void clock_pulse(void)
{
    int64_t none = 0;
    if (!atomic_compare_exchange_strong(&last_ns, &none, monotonic_ns())) clock_ns();
}

int64_t clock_wall_s(void) { return (int64_t)now_by(CLOCK_REALTIME).tv_sec; }
