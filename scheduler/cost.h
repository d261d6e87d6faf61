/* cost: how long a piece of prefill and a decode pass will take, in milliseconds. Corrected by every measured step.
 * Engine thread only; plan.c reads it as a value, so that planning stays pure. */
#ifndef FLUXD_SCHEDULER_COST_H
#define FLUXD_SCHEDULER_COST_H

#include "engine/engine.h"

struct cost {
    double tok_layer_ms;  /* one prompt token through one layer's products */
    double attn_share;    /* attention per key seen, as a share of tok_layer_ms */
    double decode_ms;     /* a decode pass: this + per row */
    double decode_row_ms;
};

void cost_init(struct cost *c, const struct engine_info *m);

/* Tokens [tok0, tok1) through n_layer layers, keys seen by the average row = keys. */
double cost_piece_ms(const struct cost *c, int tok0, int tok1, int n_layer, double keys);
double cost_decode_ms(const struct cost *c, int n_row);

/* What was predicted for the prefill part of a step and what it took; likewise decode. */
void cost_learn_prefill(struct cost *c, double predicted_ms, double measured_ms);
void cost_learn_decode(struct cost *c, int n_row, double measured_ms);

#endif
