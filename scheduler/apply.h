/* apply: what a step's results mean for the sequences: cursors move, tokens become events, dead pages go
 * back, endings end. Engine thread only. */
#ifndef FLUXD_SCHEDULER_APPLY_H
#define FLUXD_SCHEDULER_APPLY_H

#include "scheduler/plan.h"
#include "scheduler/prefix.h"
#include "scheduler/scheduler.h"

/* What the parts of the scheduler share. */
struct sched_core {
    struct kvpool *pool;
    struct plan_limits lim;
    struct scheduler_stats *stats;
    struct mailbox *outbox;
    struct engine *engine;
    const struct engine_info *info;
    struct prefix *prefix; /* NULL: there is none */
    bool pin;              /* a prompt behind cached pages keeps their route */
    int promised;          /* pages promised to all seqs */
    int64_t now_ns;        /* of this turn */
};

void apply_row(struct sched_core *k, struct seq *s, const struct sample_out *out);
void apply_piece(struct sched_core *k, struct seq *s, const struct plan_piece *q,
                 const struct sample_out *first);

/* The one way a request ends: frees what the seq holds (s may be NULL: it was waiting), counts, writes DONE,
 * announces. */
void apply_end(struct sched_core *k, struct seq *s, struct request *r, enum finish finish, enum err why);

/* Counts a route that is known to its last bit, once a request. */
void apply_count_route(struct sched_core *k, struct request *r);

/* Pages back, slot free, request not ended: preemption. */
void apply_evict(struct sched_core *k, struct seq *s);

#endif
