/* emulate: the host's forward pass with a GPU's roundings: activations to bf16 where an op stores them, and
 * what a test makes of a product's inputs and weights. One engine at a time. */
#ifndef FLUXD_TESTS_ENGINE_EMULATE_H
#define FLUXD_TESTS_ENGINE_EMULATE_H

#include <math.h>

#include "engine/state.h"
#include "kernels/quant.h"
#include "tests/base/cm.h"

enum { EMULATE_ROWS = 256, EMULATE_WIDTH = 384 };

static struct emulation {
    struct backend_ops op; /* the host's own */
    const struct engine *e;
    /* Of a product: a copy of its arguments with other inputs (x has room for all rows) or another weight. */
    void (*around)(const struct engine *e, struct gemm_args *a, float *x);
    float x[EMULATE_ROWS * EMULATE_WIDTH];
    /* Decode's products norm their inputs themselves, but for the first: x times the norm's weights is
     * rounded, the rest of the norm multiplies the sum. */
    bool norms;
    const void *normed; /* the last such x; NULL: none */
    float scale;
} em;

static inline void emulate_round_rows(void *rows, int64_t stride, int n_row, int width)
{
    for (int t = 0; t < n_row; t++)
        for (int i = 0; i < width; i++) {
            float *v = (float *)rows + t * stride + i;
            *v = f32_from_bf16(f32_to_bf16(*v));
        }
}

static inline enum err emulate_embed(struct op_ctx *c, const struct embed_args *a)
{
    const enum err e = em.op.embed(c, a);
    emulate_round_rows(a->out, a->d, a->n_tok, a->d);
    return e;
}

static inline void emulate_half_norm(const struct rmsnorm_args *a)
{
    double square = 0;
    for (int i = 0; i < a->d; i++) square += (double)((const float *)a->x)[i] * ((const float *)a->x)[i];
    for (int i = 0; i < a->d; i++) ((float *)a->out)[i] = ((const float *)a->x)[i] * ((const float *)a->w)[i];
    em.scale = (float)(1 / sqrt(square / a->d + (double)a->eps));
    em.normed = a->out;
}

static inline enum err emulate_rmsnorm(struct op_ctx *c, const struct rmsnorm_args *a)
{
    em.normed = NULL;
    if (em.norms && a->n_tok == 1 && a->w != em.e->w.layer[0].vec[VEC_ATTN_NORM]) {
        assert_null(a->res);
        emulate_half_norm(a);
        emulate_round_rows(a->out, a->d, 1, a->d);
        return OK;
    }
    const enum err e = em.op.rmsnorm(c, a);
    emulate_round_rows(a->out, a->d, a->n_tok, a->d);
    return e;
}

static inline enum err emulate_gemm(struct op_ctx *c, const struct gemm_args *a)
{
    struct gemm_args b = *a;
    assert_true(a->n_tok <= EMULATE_ROWS && a->w->k <= EMULATE_WIDTH);
    em.around(em.e, &b, em.x);
    const enum err e = em.op.gemm(c, &b);
    if (em.normed && a->x == em.normed && a->n_tok == 1) {
        assert_false(a->add || a->bias);
        for (int i = 0; i < a->w->n; i++) ((float *)a->y)[i] *= em.scale;
    }
    if (a->w != &em.e->w.head) emulate_round_rows(a->y, a->y_stride, a->n_tok, a->w->n);
    return e;
}

static inline enum err emulate_qkrope(struct op_ctx *c, const struct qkrope_args *a)
{
    const enum err e = em.op.qkrope(c, a);
    const int64_t one = (int64_t)PAGE_TOK * a->head;
    emulate_round_rows(a->q, (int64_t)a->n_head * a->head, a->n_tok, a->n_head * a->head);
    for (int t = 0; a->page && t < a->n_tok; t++)
        for (int i = 0; i < 2 * a->n_kv; i++)
            emulate_round_rows((float *)a->pool + (a->page[t] * 2 * a->n_kv + i) * one +
                                   a->pos[t] % PAGE_TOK * a->head,
                               a->head, 1, a->head);
    return e;
}

static inline enum err emulate_attn(struct op_ctx *c, const struct attn_args *a)
{
    const enum err e = em.op.attn(c, a);
    for (int i = 0; i < a->n_seg; i++)
        emulate_round_rows((float *)a->out + a->seg[i].row0 * a->out_stride, a->out_stride, a->seg[i].n_row,
                           a->n_head * a->head);
    return e;
}

static inline enum err emulate_swiglu(struct op_ctx *c, const struct swiglu_args *a)
{
    const enum err e = em.op.swiglu(c, a);
    emulate_round_rows(a->out, a->out_stride, a->n_tok, a->f);
    return e;
}

static inline void emulate(struct engine *e,
                           void (*around)(const struct engine *, struct gemm_args *, float *))
{
    em.e = e;
    em.norms = false;
    em.normed = NULL;
    em.op = e->be->op;
    em.around = around;
    e->be->op.embed = emulate_embed;
    e->be->op.rmsnorm = emulate_rmsnorm;
    e->be->op.gemm = emulate_gemm;
    e->be->op.qkrope = emulate_qkrope;
    e->be->op.attn = emulate_attn;
    e->be->op.swiglu = emulate_swiglu;
}

#endif
