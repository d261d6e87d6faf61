/* admit: the policy of who comes in next. Pure, like plan.c.
 *
 * Requests wait in order of priority, then of arrival plus predicted time (so each is overtaken only by those that came at
 * most its own time after it). Among them the key that was served least goes first; where the next does not fit, a later one
 * may go, but nobody is overtaken more than pass_most times by those behind it. */
#ifndef FLUXD_SCHEDULER_ADMIT_H
#define FLUXD_SCHEDULER_ADMIT_H

#include "scheduler/plan.h"

enum { ADMIT_WINDOW = 64 /* waiting requests looked at */, ADMIT_KEYS = 64, BALANCE_REACH = 8 };

struct admit_ask { /* one that waits */
    int            priority, n_prompt;
    int            n_tok;  /* it may have at its end, as promised */
    int            pages;  /* promise and what its prefill holds for a while */
    int            passed; /* times it was overtaken */
    unsigned       key;    /* < ADMIT_KEYS */
    const uint8_t *route;
};

struct admit_room {
    int            pages;       /* not promised yet */
    int            prefill_tok; /* prompt tokens that may still be held in prefill; a first prompt always fits */
    bool           prefill_idle;
    const double  *served_ms;   /* [ADMIT_KEYS] */
    const int64_t *layer_pages; /* [L] pages promised per layer, for ROUTE_POLICY_BALANCE */
};

/* Index of the one to admit now, -1: none. Those before it are overtaken by it. */
int admit_pick(const struct plan_limits *lim, const struct admit_room *room, const struct admit_ask *ask, int n);

#endif
