/* admit: the policy of who comes in next. Pure, like plan.c.
 *
 * Requests wait in order of priority, then of arrival plus predicted time (so each is overtaken only by those
 * that came at most its own time after it). Among them the key that was served least goes first; where the
 * next does not fit, a later one may go, but nobody is overtaken more than pass_most times by those behind
 * it.
 *
 * Ageing bounds what priorities and keys may do. A request is overdue when it has waited for aging_ms, since
 * it was submitted or preempted. Of AGED_EVERY admissions one is for the overdue request that waits longest,
 * whatever its priority, key, route and size: if it does not fit yet, nobody else is admitted until it does.
 * So with n requests waiting when it came, it is admitted after at most AGED_EVERY * (n + 1) admissions from
 * the moment it is overdue. Once in, an overdue prompt is the first of every AGED_EVERY-th step with pieces
 * (plan.h), and it is preempted only when all that run were overdue too. */
#ifndef FLUXD_SCHEDULER_ADMIT_H
#define FLUXD_SCHEDULER_ADMIT_H

#include "scheduler/plan.h"

enum {
    ADMIT_WINDOW = 64 /* waiting requests looked at */,
    ADMIT_KEYS = 64,
    BALANCE_REACH = 8,
    AGED_EVERY = 4
};

struct admit_ask { /* one that waits */
    int priority, n_prompt;
    int n_tok;    /* it may have at its end, as promised */
    int pages;    /* promise and what its prefill holds for a while */
    int passed;   /* times it was overtaken */
    unsigned key; /* < ADMIT_KEYS */
    const uint8_t *route;
};

struct admit_room {
    int pages;       /* not promised yet */
    int prefill_tok; /* prompt tokens that may still be held in prefill; a first prompt always fits */
    bool prefill_idle;
    const double *served_ms;    /* [ADMIT_KEYS] */
    const int64_t *layer_pages; /* [L] pages promised per layer, for ROUTE_POLICY_BALANCE */
};

bool admit_fits(const struct admit_room *room, const struct admit_ask *a);

/* Index of the one to admit now, -1: none. Those before it are overtaken by it. */
int admit_pick(const struct plan_limits *lim, const struct admit_room *room, const struct admit_ask *ask,
               int n);

#endif
