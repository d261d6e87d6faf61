/* forward: norm, qkv, RoPE and pages, attention of the routed kind, projection, norm, gated MLP - and the
 * Layer Router where a prompt begins a layer. Buffers are contiguous rows in memory; a span says which rows
 * are whose. */
#include "engine/forward.h"

#include "base/check.h"

static const struct backend_ops *op_of(const struct call *c) { return &c->e->be->op; }
static struct op_ctx *ctx_of(const struct call *c) { return c->e->be->ctx; }

/* --- ops with the model's shapes */

enum err forward_embed(const struct call *c, void *out, const int32_t *id, int n)
{
    const struct engine *e = c->e;
    return op_of(c)->embed(
        ctx_of(c),
        &(struct embed_args){.out = out, .table = &e->w.embed, .id = id, .n_tok = n, .d = e->spec.d});
}

enum err forward_norm(const struct call *c, void *out, const void *x, const void *w, int n)
{
    const struct spec *s = &c->e->spec;
    return op_of(c)->rmsnorm(
        ctx_of(c), &(struct rmsnorm_args){
                       .out = out, .x = x, .w = w, .x_stride = s->d, .n_tok = n, .d = s->d, .eps = s->eps});
}

static struct qkrope_args rope_args(const struct call *c, int layer, int n, const struct layer_rows *rows)
{
    const struct engine *e = c->e;
    const struct spec *s = &e->spec;
    void *const *vec = e->w.layer[layer].vec;
    return (struct qkrope_args){.qkv = e->mem.qkv,
                                .qkv_stride = (int64_t)(s->n_head + 2 * s->n_kv) * s->head,
                                .q = e->mem.q,
                                .q_raw = rows->raw ? e->mem.q_raw : NULL,
                                .pool = rows->page ? e->mem.pool : NULL,
                                .page = rows->page,
                                .pos = rows->pos,
                                .rope = e->mem.rope,
                                .q_norm = vec[VEC_Q_NORM],
                                .k_norm = vec[VEC_K_NORM],
                                .eps = s->eps,
                                .n_tok = n,
                                .n_head = s->n_head,
                                .n_kv = s->n_kv,
                                .head = s->head};
}

enum err forward_rope(const struct call *c, int layer, int n, const struct layer_rows *rows)
{
    const struct qkrope_args a = rope_args(c, layer, n, rows);
    return op_of(c)->qkrope(ctx_of(c), &a);
}

enum err forward_pages(const struct call *c, int layer, int n, const struct layer_rows *rows)
{
    struct qkrope_args a = rope_args(c, layer, n, rows);
    a.q = a.q_raw = NULL;
    return op_of(c)->qkrope(ctx_of(c), &a);
}

enum err forward_attend(const struct call *c, const struct attn_seg *seg)
{
    const struct engine *e = c->e;
    const struct spec *s = &e->spec;
    const int64_t width = (int64_t)s->n_head * s->head;
    return op_of(c)->attn(ctx_of(c), &(struct attn_args){.out = e->mem.att,
                                                         .q = e->mem.q,
                                                         .out_stride = width,
                                                         .q_stride = width,
                                                         .pool = e->mem.pool,
                                                         .seg = seg,
                                                         .n_seg = c->n_span,
                                                         .n_head = s->n_head,
                                                         .n_kv = s->n_kv,
                                                         .head = s->head,
                                                         .scale = e->attn_scale,
                                                         .decode = c->decode});
}

static enum err swiglu(const struct call *c)
{
    const struct engine *e = c->e;
    return op_of(c)->swiglu(ctx_of(c), &(struct swiglu_args){.out = e->mem.ff,
                                                             .gu = e->mem.gu,
                                                             .gu_stride = 2 * (int64_t)e->spec.f,
                                                             .out_stride = e->spec.f,
                                                             .n_tok = c->n_tok,
                                                             .f = e->spec.f});
}

/* The MLP bears coarser inputs than attention and logits do (kernels/cpu/gemm_quant.h has the figures). */
struct gemm_args forward_product(const struct engine *e, int layer, enum layer_matrix mat, int n)
{
    const struct layer_weights *w = &e->w.layer[layer];
    const struct memory *m = &e->mem;
    const struct {
        void *y;
        const void *x, *bias;
        bool add, coarse;
    } of[MAT_COUNT] = {
        [MAT_QKV] = {.y = m->qkv, .x = m->h, .bias = w->vec[VEC_QKV_BIAS]},
        [MAT_O] = {.y = m->x, .x = m->att, .bias = w->vec[VEC_O_BIAS], .add = true},
        [MAT_GATE_UP] = {.y = m->gu, .x = m->h, .bias = w->vec[VEC_GATE_UP_BIAS], .coarse = true},
        [MAT_DOWN] = {.y = m->x, .x = m->ff, .bias = w->vec[VEC_DOWN_BIAS], .add = true, .coarse = true},
    };
    return (struct gemm_args){.y = of[mat].y,
                              .x = of[mat].x,
                              .w = &w->mat[mat],
                              .bias = of[mat].bias,
                              .x_stride = w->mat[mat].k,
                              .y_stride = w->mat[mat].n,
                              .n_tok = n,
                              .add = of[mat].add,
                              .coarse = of[mat].coarse};
}

struct gemm_args forward_head(const struct engine *e, int n)
{
    return (struct gemm_args){.y = e->mem.logits,
                              .x = e->mem.last_h,
                              .w = &e->w.head,
                              .x_stride = e->w.head.k,
                              .y_stride = e->w.head.n,
                              .n_tok = n,
                              .y_f32 = true};
}

static enum err multiply(const struct call *c, struct gemm_args *a, const struct around *around)
{
    a->decode = c->decode;
    return a->w->dt == DT_FP8 ? c->e->forward->coded(c, a, around) : op_of(c)->gemm(ctx_of(c), a);
}

static enum err product(const struct call *c, int layer, enum layer_matrix mat, int n)
{
    struct gemm_args a = forward_product(c->e, layer, mat, n);
    return multiply(c, &a, &(struct around){0});
}

/* The product of memory.x's norm, which one with codes makes itself. */
static enum err normed_product(const struct call *c, int layer, enum layer_matrix mat, const void *norm,
                               struct around around)
{
    struct engine *e = c->e;
    struct gemm_args a = forward_product(e, layer, mat, c->n_tok);
    if (a.w->dt == DT_FP8) {
        a.x = e->mem.x;
        around.norm = norm;
    } else
        TRY(forward_norm(c, e->mem.h, e->mem.x, norm, c->n_tok));
    if (around.opens) {
        a.y = e->mem.ff;
        a.y_stride = e->spec.f;
    }
    return multiply(c, &a, &around);
}

enum err forward_queries(const struct call *c, int layer, int n, const int32_t *pos)
{
    TRY(product(c, layer, MAT_QKV, n));
    return forward_rope(c, layer, n, &(struct layer_rows){.pos = pos, .raw = true});
}

/* --- a layer's stages */

static enum err attention(const struct call *c, int layer)
{
    struct engine *e = c->e;
    struct layer_rows rows = {0};
    const struct attn_seg *seg = NULL;
    TRY(e->forward->enter(c, layer, &rows));
    if (forward_skips_attention(e, layer)) return OK;
    TRY(normed_product(c, layer, MAT_QKV, e->w.layer[layer].vec[VEC_ATTN_NORM], (struct around){0}));
    TRY(forward_rope(c, layer, c->n_tok, &rows));
    if (rows.raw) TRY(e->forward->decide(c, layer, &rows));
    if (rows.late) TRY(forward_pages(c, layer, c->n_tok, &rows));
    TRY(e->forward->runs(c, layer, &seg));
    TRY(forward_attend(c, seg));
    return product(c, layer, MAT_O, c->n_tok);
}

/* With codes gates are opened by a product: in decode by the one that makes them, else by the one that reads
 * them. */
static enum err mlp(const struct call *c, int layer)
{
    struct engine *e = c->e;
    const struct layer_weights *w = &e->w.layer[layer];
    const bool opens = c->decode && w->mat[MAT_GATE_UP].dt == DT_FP8,
               gates = !opens && w->mat[MAT_DOWN].dt == DT_FP8;
    struct gemm_args down = forward_product(e, layer, MAT_DOWN, c->n_tok);
    TRY(normed_product(c, layer, MAT_GATE_UP, w->vec[VEC_FFN_NORM], (struct around){.opens = opens}));
    if (!opens && !gates) TRY(swiglu(c));
    if (gates) {
        down.x = e->mem.gu;
        down.x_stride = 2 * (int64_t)e->spec.f;
    }
    return multiply(c, &down, &(struct around){.gates = gates});
}

enum err forward_layers(const struct call *c)
{
    const struct forward *f = c->e->forward;
    const bool fused = f->fuses && f->fuses(c);
    for (int l = c->layer0; l < c->layer1; l++) {
        if (fused) {
            TRY(f->fused(c, l));
            continue;
        }
        TRY(attention(c, l));
        TRY(mlp(c, l));
    }
    return OK;
}

enum err forward_logits(const struct call *c, int n, const int32_t *row)
{
    struct engine *e = c->e;
    const int d = e->spec.d;
    const void *x = e->mem.x;
    if (row) {
        x = e->mem.last;
        TRY(op_of(c)->gather(
            ctx_of(c),
            &(struct gather_args){
                .out = e->mem.last, .x = e->mem.x, .row = row, .x_stride = d, .n_row = n, .d = d}));
    }
    struct gemm_args a = forward_head(e, n);
    struct around around = {0};
    if (a.w->dt == DT_FP8) {
        a.x = x;
        around.norm = e->w.norm;
    } else
        TRY(forward_norm(c, e->mem.last_h, x, e->w.norm, n));
    return multiply(c, &a, &around);
}
