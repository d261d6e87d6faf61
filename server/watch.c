/* watch: see watch.h. */
#include "server/watch.h"

#include "base/clock.h"

enum {
    TICKS = 16, /* to a limit, where that is short */
    TICK_MS_LEAST = 5,
    TICKS_LEAST = 4,               /* a limit shorter than these is taken for these */
    TICK_MS_MOST = CLOCK_PULSE_MS, /* the same timer is the clock's pulse */
    LATE_SHARE = 4                 /* of a limit: later than a quarter of it is a standstill */
};

void watch_init(struct watch *w, int64_t limit_ms)
{
    int64_t tick_ms = limit_ms / TICKS;
    if (tick_ms < TICK_MS_LEAST) tick_ms = TICK_MS_LEAST;
    if (tick_ms > TICK_MS_MOST || limit_ms == 0) tick_ms = TICK_MS_MOST;
    *w = (struct watch){.limit_ns = limit_ms * 1000000, .tick_ns = tick_ms * 1000000};
    if (limit_ms > 0 && limit_ms < TICKS_LEAST * tick_ms) w->limit_ns = TICKS_LEAST * w->tick_ns;
    w->late_ns = w->limit_ns / LATE_SHARE > 3 * w->tick_ns ? w->limit_ns / LATE_SHARE : 3 * w->tick_ns;
}

bool watch_tick(struct watch *w, int64_t now_ns, int64_t beat_ns, watch_share_fn *share, void *arg)
{
    const int64_t past = now_ns - w->last_ns;
    const bool first = w->last_ns == 0;
    w->last_ns = now_ns;
    if (first || past > w->late_ns || beat_ns != w->beat_ns) {
        w->beat_ns = beat_ns;
        w->silent_ns = 0;
        return false;
    }
    if (w->limit_ns == 0) return false;
    w->silent_ns += (int64_t)((double)(past < w->tick_ns ? past : w->tick_ns) * share(arg, now_ns));
    return w->silent_ns >= w->limit_ns;
}
