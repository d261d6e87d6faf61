/* crowd: a step to plan with many streams of a 36-layer model, a route each, and long prompts beside them. */
#ifndef FLUXD_TESTS_SCHEDULER_CROWD_H
#define FLUXD_TESTS_SCHEDULER_CROWD_H

#include "base/check.h"
#include "scheduler/plan.h"

enum { CROWD_LAYERS = 36, CROWD_ROWS = 256, CROWD_MOST = CROWD_ROWS + 8 };

struct crowd {
    int n_row, n_prompt;
    struct plan_limits lim;
    struct cost cost;
    struct plan p;
    struct seq seq[CROWD_MOST];
    struct request req[CROWD_MOST];
    struct seq *slot[CROWD_MOST];
    uint8_t route[CROWD_MOST][CROWD_LAYERS];
    struct plan_row row[CROWD_MOST];
    struct plan_piece piece[CROWD_MOST];
    struct plan_pick pick[CROWD_MOST];
};

/* c is zero. Free with crowd_fini. */
static inline void crowd_init(struct crowd *c, int n_row, int n_prompt)
{
    uint32_t x = 7;
    c->n_row = n_row;
    c->n_prompt = n_prompt;
    c->lim = (struct plan_limits){.n_layer = CROWD_LAYERS,
                                  .chunk_tok = 8192,
                                  .n_page = 1 << 20,
                                  .sink_blocks = 1,
                                  .local_blocks = 8,
                                  .sparse_streams = true,
                                  .alone_ms = 60,
                                  .stretch = 2,
                                  .age = 1,
                                  .pass_most = 32,
                                  .route_policy = ROUTE_POLICY_ORDER};
    c->cost = (struct cost){.prefill.unit = {0.1, 0.002, 0.0000002}, .decode.unit = {8, 0.1, 0.001}};
    c->p = (struct plan){.row = c->row, .piece = c->piece, .pick = c->pick, .max_piece = CROWD_MOST};
    for (int i = 0; i < n_row + n_prompt; i++) {
        c->slot[i] = &c->seq[i];
        c->req[i] = (struct request){.ask.n_prompt = 16000 + 100 * (i % 50)};
        for (int l = 0; l < CROWD_LAYERS; l++)
            c->route[i][l] = ((x = x * 1664525u + 1013904223u) >> 24) % 4 ? ROUTE_SPARSE : ROUTE_FULL;
        CHECK(kvmap_init(&c->seq[i].map, CROWD_LAYERS, 160));
        c->seq[i].req = &c->req[i];
        c->seq[i].phase = i < n_row ? SEQ_DECODE : SEQ_PREFILL;
        c->seq[i].view.route = c->route[i];
    }
}

/* new_page: all rows need one. */
static inline void crowd_plan(struct crowd *c, bool new_page)
{
    for (int i = 0; i < c->n_row; i++) c->seq[i].pos = 126 * PAGE_TOK + !new_page;
    plan_step(&c->p, &c->lim, &c->cost, c->slot, c->n_row + c->n_prompt, 1 << 20, 0);
}

static inline void crowd_fini(struct crowd *c)
{
    for (int i = 0; i < c->n_row + c->n_prompt; i++) kvmap_fini(&c->seq[i].map);
}

#endif
