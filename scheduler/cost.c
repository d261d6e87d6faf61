/* cost: see cost.h. Least squares over relative errors, with forgetting, drawn to the operation counts'
 * ratios where the steps seen do not tell the terms apart. */
#include "scheduler/cost.h"

#include <math.h>

enum { WARM_STEPS = 8 };
static const double FORGET_COLD = 0.5, FORGET = 0.98; /* memory of 2 steps, of 50 steps */
static const double PULL = 0.3;                       /* weight of the prior's ratios, in steps */
static const double CLIP = 3,
                    SPREAD = 20; /* factors: of one measurement; of one price from the common scale */

void cost_init(struct cost *c, const struct engine_info *m)
{
    /* Operations of one token in one layer: about 2 * 12 D^2 in products; 4 * H * K per key in attention. The
     * first scale is a guess that the first measured steps replace. */
    double products = 24.0 * m->d_model * m->d_model, tok_ms = 0.03;
    double key_ms = tok_ms * 4.0 * m->n_head * m->head / products;
    *c = (struct cost){.prefill.prior = {0.2, tok_ms, key_ms}, .decode.prior = {10, 1, 0.002}};
    for (int i = 0; i < COST_TERMS; i++) {
        c->prefill.unit[i] = c->prefill.prior[i];
        c->decode.unit[i] = c->decode.prior[i];
    }
}

struct cost_work cost_piece(int n_tok, int n_layer, double keys)
{
    double rows = (double)n_tok * n_layer;
    return (struct cost_work){{n_layer, rows, rows * keys}};
}

struct cost_work cost_rows(int n_row, double pages) { return (struct cost_work){{n_row > 0, n_row, pages}}; }

void cost_add(struct cost_work *sum, struct cost_work w)
{
    for (int i = 0; i < COST_TERMS; i++) sum->x[i] += w.x[i];
}

double cost_ms(const struct cost_fit *f, struct cost_work w)
{
    double ms = 0;
    for (int i = 0; i < COST_TERMS; i++) ms += f->unit[i] * w.x[i];
    return ms;
}

/* a m = b for a small symmetric positive definite a, which is destroyed. */
static void solve(double a[COST_TERMS][COST_TERMS], double *b)
{
    for (int k = 0; k < COST_TERMS; k++)
        for (int i = k + 1; i < COST_TERMS; i++) {
            double f = a[i][k] / a[k][k];
            for (int j = k; j < COST_TERMS; j++) a[i][j] -= f * a[k][j];
            b[i] -= f * b[k];
        }
    for (int i = COST_TERMS - 1; i >= 0; i--) {
        for (int j = i + 1; j < COST_TERMS; j++) b[i] -= a[i][j] * b[j];
        b[i] /= a[i][i];
    }
}

static void refit(struct cost_fit *f)
{
    double sum_a = 0, sum_b = 0;
    for (int i = 0; i < COST_TERMS; i++) {
        sum_b += f->b[i];
        for (int j = 0; j < COST_TERMS; j++) sum_a += f->a[i][j];
    }
    double scale = sum_b / sum_a; /* the one factor on the prior that fits best */
    double a[COST_TERMS][COST_TERMS], m[COST_TERMS], pull = PULL / (scale * scale);
    for (int i = 0; i < COST_TERMS; i++) {
        for (int j = 0; j < COST_TERMS; j++) a[i][j] = f->a[i][j] + (i == j ? pull : 0);
        m[i] = f->b[i] + pull * scale;
    }
    solve(a, m);
    for (int i = 0; i < COST_TERMS; i++)
        f->unit[i] = f->prior[i] * fmin(fmax(m[i], scale / SPREAD), scale * SPREAD);
}

void cost_learn(struct cost_fit *f, struct cost_work w, double measured_ms)
{
    double predicted = cost_ms(f, w), ms = measured_ms;
    if (!(predicted > 0) || !(ms > 0)) return;
    bool warm = f->n >= WARM_STEPS;
    if (f->n > 0) f->error += (fmin(fabs(ms / predicted - 1), 10) - f->error) / 32;
    if (warm) ms = fmin(fmax(ms, predicted / CLIP), predicted * CLIP);
    double keep = warm ? FORGET : FORGET_COLD;
    for (int i = 0; i < COST_TERMS; i++) {
        double z = f->prior[i] * w.x[i] / ms; /* relative: short and long steps count alike */
        f->b[i] = keep * f->b[i] + z;
        for (int j = 0; j < COST_TERMS; j++) f->a[i][j] = keep * f->a[i][j] + z * f->prior[j] * w.x[j] / ms;
    }
    f->n += !warm;
    refit(f);
}
