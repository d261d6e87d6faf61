/* cost: see cost.h. Two numbers for prefill (a token through a layer; a key seen), two for decode (the pass, a row). The ratio
 * of a key to a token comes from operation counts, the scale from measurement. */
#include "scheduler/cost.h"

void cost_init(struct cost *c, const struct engine_info *m)
{
    /* Operations of one token in one layer: about 2 * 12 D^2 products; 4 * H * K per key in attention. */
    double products = 24.0 * m->d_model * m->d_model;
    c->attn_share = 4.0 * m->n_head * m->head / products;
    c->tok_layer_ms = 0.03; /* first guess, replaced by the first measured steps */
    c->decode_ms = 10;
    c->decode_row_ms = 1;
}

double cost_piece_ms(const struct cost *c, int tok0, int tok1, int n_layer, double keys)
{
    return c->tok_layer_ms * (tok1 - tok0) * n_layer * (1 + c->attn_share * keys);
}

double cost_decode_ms(const struct cost *c, int n_row)
{
    return n_row ? c->decode_ms + c->decode_row_ms * n_row : 0;
}

/* Moves x an eighth of the way, and never by more than a factor of two, so that one hiccup does not starve prefill. */
static double toward(double x, double target)
{
    double next = x + (target - x) / 8;
    return next > 2 * x ? 2 * x : next < x / 2 ? x / 2 : next;
}

void cost_learn_prefill(struct cost *c, double predicted_ms, double measured_ms)
{
    if (predicted_ms > 0 && measured_ms > 0)
        c->tok_layer_ms = toward(c->tok_layer_ms, c->tok_layer_ms * measured_ms / predicted_ms);
}

void cost_learn_decode(struct cost *c, int n_row, double measured_ms)
{
    double ratio = measured_ms / cost_decode_ms(c, n_row);
    c->decode_ms = toward(c->decode_ms, c->decode_ms * ratio);
    c->decode_row_ms = toward(c->decode_row_ms, c->decode_row_ms * ratio);
}
