/* clock: monotonic time for everything measured, wall time only for what a person reads. */
#ifndef FLUXD_BASE_CLOCK_H
#define FLUXD_BASE_CLOCK_H

#include <stdint.h>

int64_t clock_ns(void);     /* CLOCK_MONOTONIC, nanoseconds */
int64_t clock_wall_s(void); /* seconds since the epoch ("created") */

static inline double clock_ms_since(int64_t t0_ns) { return (double)(clock_ns() - t0_ns) * 1e-6; }

#endif
