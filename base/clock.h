/* clock: the time in which this process runs, for everything measured; wall time only for what a person
 * reads. Any thread.
 *
 * A process may stand still: SIGSTOP, a debugger, a frozen container. A deadline that passed meanwhile would
 * be nobody's fault, so that time does not count. It is known by the pulse: one thread reads the clock all
 * the time, and where nobody has read it for much longer than that, nobody ran. Without a pulse the clock is
 * CLOCK_MONOTONIC. */
#ifndef FLUXD_BASE_CLOCK_H
#define FLUXD_BASE_CLOCK_H

#include <stdint.h>

enum {
    CLOCK_PULSE_MS = 100, /* the pulse comes at least that often; all that counts of a standstill */
    CLOCK_STILL_MS = 300  /* nobody has read the clock for longer than that: the process stood still */
};

int64_t clock_ns(void); /* nanoseconds, never back; not of CLOCK_MONOTONIC once there is a pulse */
void clock_pulse(
    void); /* from the first call on a standstill does not count; one thread calls it every CLOCK_PULSE_MS */
int64_t clock_wall_s(void); /* seconds since the epoch ("created") */

static inline double clock_ms_since(int64_t t0_ns) { return (double)(clock_ns() - t0_ns) * 1e-6; }

#endif
