/* plan: the policy. Pure: what the sequences and the pool look like goes in, the work of one step comes out.
 * No clock, no device, no allocation, so that it is proved by simulation.
 *
 * The rule: every sequence that can take a token decodes, all in one pass, ordered by route; then prompts get
 * pieces, those first that have least left to do (less what they have waited, so that long ones are not
 * starved), up to the time that is left. So a prompt is overtaken only by those that came at most its own
 * remaining time after it, or have a higher priority; and in an aged turn, one of AGED_EVERY with pieces, the
 * overdue prompt that has waited longest goes first.
 *
 * That time follows seniority. A stream is senior to a prompt if it was told its first token before the
 * prompt came (by burst_ms: what a burst needs to arrive), or has a higher priority: its gaps are stretched
 * by little. A prompt none of the rows is senior to came together with them, as one of a burst, and waits for
 * its own first token: a step may last burst_ms for it. */
#ifndef FLUXD_SCHEDULER_PLAN_H
#define FLUXD_SCHEDULER_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "scheduler/cost.h"
#include "scheduler/scheduler.h"
#include "scheduler/seq.h"

struct plan_limits {
    int n_layer, chunk_tok, n_page;
    bool codes; /* a page holds two blocks of a full layer */
    int sink_blocks, local_blocks;
    bool sparse_streams;
    double itl_target_ms; /* a step with rows, at most; 0: as stretch says */
    double stretch;       /* a step with rows, over its decode pass */
    double burst_ms; /* a step none of whose rows is senior to the prompt, at most, where that is more; 0: as
                        stretch says */
    double alone_ms; /* prefill time of a step in which nobody decodes */
    enum route_policy route_policy;
    double age;       /* ms of remaining time that a ms of waiting is worth; 0: none, 1 in service */
    int pass_most;    /* times a waiting request may be overtaken at admission */
    int64_t aging_ns; /* after which one that waits, or whose prompt is not computed, is overdue; 0: never */
};

struct plan_row {
    int seq; /* index */
};
struct plan_piece {
    int seq, layer0, layer1, tok0, tok1;
};
struct plan_pick {
    uint64_t key;
    int seq;
};
struct plan {
    int n_row, n_piece;
    struct plan_row *row;     /* [n_seq] caller's memory */
    struct plan_piece *piece; /* [max_piece] caller's memory */
    struct plan_pick *pick;   /* [n_seq] caller's memory, scratch */
    int max_piece;
    bool aged_turn;    /* in: the overdue prompt that has waited longest goes first */
    double prefill_ms; /* predicted for the pieces */
    struct cost_work prefill_work, decode_work; /* what was predicted from */
};

bool plan_overdue(const struct plan_limits *lim, const struct request *r, int64_t now_ns);

/* seq[n]: slots, free ones have req == NULL. n_free: free pages of the pool. now_ns for ageing only. */
void plan_step(struct plan *p, const struct plan_limits *lim, const struct cost *cost, struct seq *const *seq,
               int n, int n_free, int64_t now_ns);

static inline bool plan_codes(const struct plan_limits *lim, uint8_t bit)
{
    return lim->codes && bit == ROUTE_FULL;
}

/* Pages that a layer with this bit holds of so many tokens; open: the most that it may come to. */
int plan_layer_pages(const struct plan_limits *lim, uint8_t bit, int n_tok);

/* Pages that a piece takes. */
int plan_piece_pages(const struct plan_limits *lim, struct seq *const *seq, const struct plan_piece *q);

/* Pages a sequence may hold at its end, given the bits known so far. */
int plan_promise(const struct plan_limits *lim, const uint8_t *route, int n_tok);

/* Pages that a smallest piece of a prompt may hold beyond that promise, for the time of the step. */
int plan_transient(const struct plan_limits *lim, int n_prompt);

/* Predicted time of all the layers' prefill of a prompt. */
double plan_prompt_ms(const struct plan_limits *lim, const struct cost *c, const uint8_t *route,
                      int n_prompt);

double plan_full_prompt_ms(const struct plan_limits *lim, const struct cost *c,
                           int n_prompt); /* with every layer full */

/* Place of a route in an order in which neighbours differ in few layers, the low layers least often: the
 * reflected Gray code of the first 64 layers. */
uint64_t plan_route_rank(const uint8_t *route, int n_layer);

#endif
