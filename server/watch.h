/* watch: finds a step of the engine that never ends, and takes no stop of the process and no want of
 * processor time for one. Pure; loop thread.
 *
 * It is asked at every tick, and adds up the time between ticks in which the engine gave no sign of life. A
 * tick that comes far too late was held up by a process that stood still (SIGSTOP, a debugger, a frozen
 * container, a starved machine): the measurement starts anew. One that is a little late counts as if it were
 * not. Of the time in which the engine's threads were ready to run, only what they ran counts. So a hang is
 * found within the limit and some ticks after the last time that the process was continued; one in which a
 * thread turns round and round takes longer by as much as that thread is hindered.
 */
#ifndef FLUXD_SERVER_WATCH_H
#define FLUXD_SERVER_WATCH_H

#include <stdbool.h>
#include <stdint.h>

struct watch {
    int64_t limit_ns, tick_ns, late_ns; /* late: between two ticks, from here on the process stood still */
    int64_t last_ns;                    /* the last tick */
    int64_t beat_ns;                    /* the engine's sign of life, as it was then */
    int64_t silent_ns;                  /* counted since then */
};

/* Of the time since it was last asked, the share in which the engine could run (pace_look). */
typedef double watch_share_fn(void *arg, int64_t now_ns);

void watch_init(struct watch *w, int64_t limit_ms); /* 0: it finds nothing */
/* now: a clock that goes on while the process stands still. beat: anything that changes while the engine
 * lives. share: asked while the engine is silent. True: the engine has been silent for the limit. */
bool watch_tick(struct watch *w, int64_t now_ns, int64_t beat_ns, watch_share_fn *share, void *arg);

#endif
