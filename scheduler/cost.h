/* cost: how long prefill pieces and a decode pass will take, in milliseconds. A sum of terms, whose prices
 * start at what operation counts say and are corrected by every measured step. Engine thread only; plan.c
 * reads it as a value, so that planning stays pure. */
#ifndef FLUXD_SCHEDULER_COST_H
#define FLUXD_SCHEDULER_COST_H

#include "engine/engine.h"

/* What a part of a step consists of. */
enum cost_term {
    COST_PASS, /* prefill: layers of pieces; decode: 1, the pass over the weights */
    COST_ROW,  /* prefill: tokens times layers; decode: rows */
    COST_KV,   /* prefill: keys seen by all tokens in all layers; decode: pages read */
    COST_TERMS
};
struct cost_work {
    double x[COST_TERMS];
};

/* Prices of one part, fitted to relative errors, recent steps first. */
struct cost_fit {
    double unit[COST_TERMS];                         /* ms */
    double prior[COST_TERMS];                        /* only the ratios count */
    double a[COST_TERMS][COST_TERMS], b[COST_TERMS]; /* normal equations over prior-weighted terms */
    int n;                                           /* steps seen */
    double error;                                    /* running mean of |measured / predicted - 1| */
};
struct cost {
    struct cost_fit prefill, decode;
};

void cost_init(struct cost *c, const struct engine_info *m);

/* n_tok tokens through n_layer layers, keys seen by the average token. */
struct cost_work cost_piece(int n_tok, int n_layer, double keys);
struct cost_work cost_rows(int n_row, double pages);
void cost_add(struct cost_work *sum, struct cost_work w);

double cost_ms(const struct cost_fit *f, struct cost_work w);

/* What a part of a step took. The first steps move the prices freely (a first touch of memory is forgotten
 * soon); after them one measurement counts for at most a factor of three, so that a hiccup does no harm and a
 * lasting change is followed. */
void cost_learn(struct cost_fit *f, struct cost_work w, double measured_ms);

#endif
