/* deadline: no request waits for ever. Four clocks per request, looked at a few dozen times a second. */
#include <stdio.h>

#include "scheduler/internal.h"

static const int64_t LOOK_NS = 20000000;

static int64_t ms_ns(int64_t ms) { return ms * 1000000; }

/* What is over for r, or NULL. waiting: it has no slot. moved_ns: when it last came forward. */
static const char *what_is_over(const struct scheduler_conf *c, const struct request *r, bool waiting,
                                int64_t moved_ns, int64_t now_ns, int64_t *limit_ms)
{
    int64_t age = now_ns - r->queue.submit_ns;
    bool silent = r->shared.use.n_answer == 0;
    const struct {
        const char *name;
        int64_t limit_ms;
        bool holds;
        int64_t ns;
    } clock[] = {{"queue-timeout-ms", c->queue_timeout_ms, waiting && silent, age},
                 {"first-token-timeout-ms", c->first_token_timeout_ms, silent, age},
                 {"progress-timeout-ms", c->progress_timeout_ms, !waiting || !silent, now_ns - moved_ns},
                 {"request-timeout-ms", c->request_timeout_ms, true, age}};
    for (size_t i = 0; i < sizeof clock / sizeof *clock; i++) {
        *limit_ms = clock[i].limit_ms;
        if (clock[i].holds && clock[i].limit_ms > 0 && clock[i].ns > ms_ns(clock[i].limit_ms))
            return clock[i].name;
    }
    return NULL;
}

static void end_late(struct scheduler *s, struct seq *q, struct request *r, const char *what,
                     int64_t limit_ms)
{
    bool in_queue = !q && r->shared.use.n_answer == 0; /* it cost nothing yet: another server, or later */
    if (!q) queue_drop(s, r);
    err_set(&r->shared.note, in_queue ? ERR_OVERLOAD : ERR_DEADLINE, NULL, "%s of %lld is over", what,
            (long long)limit_ms);
    atomic_fetch_add_explicit(&s->stats.timed_out, 1, memory_order_relaxed);
    apply_end(&s->core, q, r, FINISH_ERROR, r->shared.note.code);
}

void deadline_end_late(struct scheduler *s)
{
    int64_t now = s->core.now_ns, limit_ms;
    if (now - s->look_ns < LOOK_NS) return;
    s->look_ns = now;
    for (int i = 0; i < s->info->max_seqs; i++) {
        struct seq *q = &s->seq[i];
        if (!q->req) continue;
        if (q->phase == SEQ_DECODE && request_room(q->req) == 0)
            q->moved_ns =
                now; /* it is its client that does not read: the server's write stall sees to that */
        const char *what = what_is_over(&s->conf, q->req, false, q->moved_ns, now, &limit_ms);
        if (what) end_late(s, q, q->req, what, limit_ms);
    }
    LIST_EACH_SAFE (it, &s->parked) {
        struct request *r = LIST_ITEM(it, struct request, queue.node);
        if (request_room(r) == 0) r->queue.moved_ns = now; /* likewise */
        const char *what = what_is_over(&s->conf, r, false, r->queue.moved_ns, now, &limit_ms);
        if (what) end_late(s, NULL, r, what, limit_ms);
    }
    LIST_EACH_SAFE (it, &s->waiting) {
        struct request *r = LIST_ITEM(it, struct request, queue.node);
        const char *what = what_is_over(&s->conf, r, true, r->queue.moved_ns, now, &limit_ms);
        if (what) end_late(s, NULL, r, what, limit_ms);
    }
}
