/* aging: the law of ageing, looked at after every turn: from the moment it is overdue, a request waits for at
 * most AGED_EVERY * (n + 1) admissions, n: those that waited when it came. It notes in request.owner what was
 * admitted by then. */
#ifndef FLUXD_TESTS_SCHEDULER_AGING_H
#define FLUXD_TESTS_SCHEDULER_AGING_H

#include "base/check.h"
#include "scheduler/internal.h"

static inline void aging_check(const struct scheduler *s)
{
    LIST_EACH (it, &s->by_age) {
        struct request *r = LIST_ITEM(it, struct request, queue.wait_node);
        if (!plan_overdue(&s->core.lim, r, s->core.now_ns))
            r->ask.owner = NULL;
        else if (!r->ask.owner)
            r->ask.owner = (void *)(uintptr_t)(s->turn + 1);
        CHECK(!r->ask.owner || s->turn + 1 - (uintptr_t)r->ask.owner <=
                                   (uint64_t)AGED_EVERY * (uint64_t)(r->queue.n_before + 1));
    }
}

#endif
