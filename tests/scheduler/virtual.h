/* virtual: the scheduler over the fake engine in virtual time and one thread: a turn takes as long as a test
 * says. Takes the place of base/clock in the link. */
#ifndef FLUXD_TESTS_SCHEDULER_VIRTUAL_H
#define FLUXD_TESTS_SCHEDULER_VIRTUAL_H

#include <stdlib.h>

#include "base/clock.h"
#include "scheduler/internal.h"
#include "tests/base/cm.h"
#include "tests/fake_engine.h"
#include "tests/scheduler/aging.h"

static int64_t virtual_ns = 1;
int64_t clock_ns(void) { return virtual_ns; }
int64_t clock_wall_s(void) { return virtual_ns / 1000000000; }

/* A request and what became of it. */
struct guest {
    struct request r;
    int n_got;
    bool here, done; /* with the scheduler; ended */
    enum finish finish;
    uint64_t in_turn; /* admissions when it was first seen admitted; 0: never */
};

static inline struct guest *guest_new(uint32_t *seed, int n_prompt, int n_new)
{
    struct guest *g = calloc(1, sizeof *g);
    assert_non_null(g);
    g->r.ask.prompt = calloc((size_t)(n_prompt + n_new + 1), sizeof *g->r.ask.prompt);
    g->r.shared.use.route = calloc(5, 1);
    assert_true(g->r.ask.prompt && g->r.shared.use.route);
    for (int i = 0; i < n_prompt; i++)
        g->r.ask.prompt[i] = (int32_t)((*seed = *seed * 1664525u + 1013904223u) >> 8) % 1000;
    g->r.ask.n_prompt = n_prompt;
    g->r.ask.max_new = n_new;
    g->r.ask.max_new_given = true;
    return g;
}

static inline void guest_free(struct guest *g)
{
    free(g->r.ask.prompt);
    free(g->r.shared.use.route);
    free(g);
}

static inline void guest_submit(struct scheduler *s, struct guest *g)
{
    struct err_note note;
    assert_int_equal(scheduler_submit(s, &g->r, &note), OK);
    g->here = true;
}

static inline void guest_read(struct guest *g)
{
    struct event e;
    while (g->here && request_next_event(&g->r, &e)) {
        if (e.kind == EVENT_TOKEN) {
            assert_int_equal(e.token.id, fake_token(g->r.ask.prompt, g->r.ask.n_prompt + g->n_got++));
            continue;
        }
        g->finish = e.finish;
        g->done = true;
        g->here = false;
    }
}

/* One turn of ms, with its laws; what it has to tell is left in the requests. */
static inline void virtual_turn(struct scheduler *s, double ms)
{
    struct request *ready[64];
    enum err err = OK;
    assert_int_not_equal(scheduler_turn(s, NULL, &err), TURN_OVER);
    virtual_ns += (int64_t)(ms * 1e6);
    while (scheduler_poll(s, ready, 64) > 0) {
    }
    accounting_check(s);
    aging_check(s);
}

#endif
