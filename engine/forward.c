/* forward: norm, qkv, RoPE and pages, attention of the routed kind, projection, norm, gated MLP - and the
 * Layer Router where a prompt begins a layer. Buffers are contiguous rows in memory; a span says which rows
 * are whose. */
#include "engine/forward.h"

#include <limits.h>
#include <string.h>

#include "base/check.h"
#include "kernels/quant.h"

static int64_t q_width(const struct spec *s) { return (int64_t)s->n_head * s->head; }
static int64_t qkv_width(const struct spec *s) { return (int64_t)(s->n_head + 2 * s->n_kv) * s->head; }

static void *row_of(const struct engine *e, void *buffer, int64_t row, int64_t width)
{
    return (char *)buffer + row * width * quant_type(e->be->act)->block_bytes;
}

static int blocks_of(int tok) { return (tok + PAGE_TOK - 1) / PAGE_TOK; }

static void rmsnorm(const struct engine *e, void *out, const void *x, const void *w, int n_tok)
{
    const struct spec *s = &e->spec;
    e->be->op.rmsnorm(
        e->be->ctx,
        &(struct rmsnorm_args){
            .out = out, .x = x, .w = w, .x_stride = s->d, .n_tok = n_tok, .d = s->d, .eps = s->eps});
}

static void gemm(const struct call *c, void *y, const void *x, const struct weight *w, const void *bias,
                 bool add)
{
    struct gemm_args a = {.y = y,
                          .x = x,
                          .w = w,
                          .bias = bias,
                          .x_stride = w->k,
                          .y_stride = w->n,
                          .n_tok = c->n_tok,
                          .add = add,
                          .decode = c->decode};
    c->e->be->op.gemm(c->e->be->ctx, &a);
}

/* A product of the MLP, which bears coarser inputs than attention and logits do (kernels/cpu/gemm_quant.h has
 * the figures). */
static void gemm_mlp(const struct call *c, void *y, const void *x, const struct weight *w, bool add)
{
    struct gemm_args a = {.y = y,
                          .x = x,
                          .w = w,
                          .x_stride = w->k,
                          .y_stride = w->n,
                          .n_tok = c->n_tok,
                          .add = add,
                          .decode = c->decode,
                          .coarse = true};
    c->e->be->op.gemm(c->e->be->ctx, &a);
}

static void embed(const struct engine *e, void *out, const int32_t *id, int n)
{
    for (int i = 0; i < n; i++) CHECK(id[i] >= 0 && id[i] < e->spec.n_vocab);
    e->be->op.embed(e->be->ctx, &(struct embed_args){
                                    .out = out, .table = &e->w.embed, .id = id, .n_tok = n, .d = e->spec.d});
}

/* Residual rows [tok0, tok1) of a prompt as they enter a layer. */
static void enter_layer(struct engine *e, const struct batch_seq *seq, int layer, int tok0, int tok1,
                        void *out)
{
    if (layer == 0)
        embed(e, out, seq->tok + tok0, tok1 - tok0);
    else
        memory_stream_get(&e->mem, e->be, seq->slot, tok0, tok1, out);
}

static enum err begin(const struct call *c)
{
    struct engine *e = c->e;
    int32_t *id = e->mem.id, *pos = e->mem.pos;
    CHECK(c->n_tok <= e->max_tok);
    for (int i = 0; i < c->n_span; i++) {
        const struct span *s = &c->span[i];
        CHECK(s->pos0 >= 0 && s->pos0 + s->n <= e->info.max_len);
        for (int r = 0; r < s->n; r++) {
            id[s->row0 + r] = s->seq->tok[s->pos0 + r];
            pos[s->row0 + r] = s->pos0 + r;
        }
        if (c->layer0 > 0)
            enter_layer(e, s->seq, c->layer0, s->pos0, s->pos0 + s->n,
                        row_of(e, e->mem.x, s->row0, e->spec.d));
    }
    if (c->layer0 == 0) embed(e, e->mem.x, id, c->n_tok);
    return OK;
}

/* --- Layer Router */

static void pool_rows(const struct engine *e, int row0, int n)
{
    const struct spec *s = &e->spec;
    struct pool_args a = {.sum = e->mem.pooled,
                          .q = row_of(e, e->mem.q_raw, row0, q_width(s)),
                          .q_stride = q_width(s),
                          .n_row = n,
                          .n_head = s->n_head,
                          .head = s->head};
    e->be->op.pool(e->be->ctx, &a);
}

/* Splits qkv into q and, unless pages is NULL, the KV pool; raw: also q before RoPE. */
static void qkrope(const struct engine *e, int layer, int n_tok, const int32_t *pos, const int32_t *pages,
                   bool raw)
{
    const struct spec *s = &e->spec;
    void *const *vec = e->w.layer[layer].vec;
    struct qkrope_args a = {.qkv = e->mem.qkv,
                            .qkv_stride = qkv_width(s),
                            .q = e->mem.q,
                            .q_raw = raw ? e->mem.q_raw : NULL,
                            .pool = pages ? e->mem.pool : NULL,
                            .page = pages,
                            .pos = pos,
                            .rope = e->mem.rope,
                            .q_norm = vec[VEC_Q_NORM],
                            .k_norm = vec[VEC_K_NORM],
                            .eps = s->eps,
                            .n_tok = n_tok,
                            .n_head = s->n_head,
                            .n_kv = s->n_kv,
                            .head = s->head};
    e->be->op.qkrope(e->be->ctx, &a);
}

/* Pools rows [tok0, tok1) of a prompt that are not all in this call: their queries are computed here, as the
 * layer will. */
static void pool_apart(const struct call *c, const struct batch_seq *seq, int layer, int tok0, int tok1)
{
    struct engine *e = c->e;
    const struct layer_weights *w = &e->w.layer[layer];
    struct call part = {.e = e, .n_tok = tok1 - tok0};
    int32_t *pos = e->mem.rpos;
    for (int i = 0; i < part.n_tok; i++) pos[i] = tok0 + i;
    enter_layer(e, seq, layer, tok0, tok1, e->mem.rx);
    rmsnorm(e, e->mem.h, e->mem.rx, w->vec[VEC_ATTN_NORM], part.n_tok);
    gemm(&part, e->mem.qkv, e->mem.h, &w->mat[MAT_QKV], w->vec[VEC_QKV_BIAS], false);
    qkrope(e, layer, part.n_tok, pos, NULL, true);
    pool_rows(e, 0, part.n_tok);
}

/* The first P rows, clipped to the prompt. Their sum is kept apart: prompts with the same prefix go on from
 * it. */
static void pool_head(const struct call *c, const struct span *sp, int layer, int head, bool whole)
{
    struct engine *e = c->e;
    struct batch_seq *seq = sp->seq;
    size_t bytes = (size_t)e->spec.head * sizeof(float);
    float *kept = seq->head_sum ? seq->head_sum + (int64_t)layer * e->spec.head : NULL;
    if (seq->n_cached) {
        memcpy(e->mem.pooled, kept, bytes);
        return;
    }
    memset(e->mem.pooled, 0, bytes);
    if (whole)
        pool_rows(e, sp->row0, head);
    else
        pool_apart(c, seq, layer, 0, head);
    if (kept) memcpy(kept, e->mem.pooled, bytes);
}

/* First and last P rows of the prompt, clipped; where they overlap a row counts twice. */
static void decide(const struct call *c, const struct span *sp, int layer, bool whole)
{
    struct engine *e = c->e;
    struct batch_seq *seq = sp->seq;
    int s = seq->n_prompt, head = forward_pooled_rows(e, seq), tail = s - head;
    float margin = 0;
    CHECK(seq->n_cached == 0 || (seq->head_sum && seq->n_cached >= head && seq->n_cached <= tail));
    pool_head(c, sp, layer, head, whole);
    if (whole)
        pool_rows(e, sp->row0 + tail - sp->pos0, head);
    else
        pool_apart(c, seq, layer, tail, s);
    struct router_args a = {.sum = e->mem.pooled,
                            .count = (float)(2 * head) * (float)e->spec.n_head,
                            .w = &e->routers.layer[layer],
                            .head = e->spec.head,
                            .bias = seq->route_bias,
                            .margin = &margin};
    e->be->op.router(e->be->ctx, &a);
    batch_take_margin(seq, e->info.fixed_route, layer, e->spec.n_layer, margin);
}

/* Whether this span must decide its layer's bit now. */
static bool is_open(const struct call *c, const struct span *sp, int layer)
{
    if (sp->seq->route[layer] != ROUTE_OPEN || sp->seq->strayed) return false;
    CHECK(!c->decode &&
          sp->pos0 == sp->seq->n_cached); /* a bit is decided when its prompt begins the layer */
    return batch_stays_open(sp->seq, layer, c->e->kinds.fixed[layer], c->e->routers.layer != NULL);
}

/* --- one layer */

static void write_pages(const struct call *c, int layer)
{
    int32_t *page = c->e->mem.tok_page;
    for (int i = 0; i < c->n_span; i++) {
        const struct span *sp = &c->span[i];
        const int32_t *pages = sp->seq->page + (int64_t)layer * sp->seq->page_stride;
        for (int r = 0; r < sp->n; r++) {
            int32_t id = pages[(sp->pos0 + r) / PAGE_TOK];
            CHECK(id < c->e->mem.n_page);
            page[sp->row0 + r] = id;
        }
    }
}

static const struct kind *kind_of(const struct call *c, const struct span *sp, int layer)
{
    return &c->e->kinds.side[layer][sp->seq->route[layer] == ROUTE_FULL];
}

/* Where the choice of a prompt's query blocks from pos0 on stands: [block][H][words], for each slot and each
 * choice that it has at once. */
static uint64_t *keep_at(const struct engine *e, const struct batch_seq *seq, int hold, int pos0)
{
    int64_t block =
        ((int64_t)hold * e->info.max_seqs + seq->slot) * blocks_of(e->info.max_len) + pos0 / PAGE_TOK;
    CHECK(hold >= 0 && hold < e->kinds.n_hold && seq->slot >= 0 && seq->slot < e->info.max_seqs);
    return (uint64_t *)e->mem.keep + block * e->spec.n_head * forward_keep_words(e);
}

static void choose(const struct call *c, const struct span *sp, int layer, const struct kind *k)
{
    struct engine *e = c->e;
    const struct spec *s = &e->spec;
    int end = sp->pos0 + sp->n, words = forward_keep_words(e);
    CHECK(sp->pos0 % PAGE_TOK == 0 &&
          (end % PAGE_TOK == 0 || end == sp->seq->n_prompt)); /* a choice is its query block's alone */
    struct choose_args a = {.q = row_of(e, e->mem.q, sp->row0, q_width(s)),
                            .q_stride = q_width(s),
                            .pool = e->mem.pool,
                            .page = sp->seq->page + (int64_t)layer * sp->seq->page_stride,
                            .pos0 = sp->pos0,
                            .n_row = sp->n,
                            .n_prompt = sp->seq->n_prompt,
                            .n_head = s->n_head,
                            .n_kv = s->n_kv,
                            .head = s->head,
                            .rule = k->rule,
                            .threshold = forward_threshold(k->rule),
                            .keep = keep_at(e, sp->seq, k->hold, sp->pos0),
                            .head_stride = words,
                            .block_stride = (int64_t)s->n_head * words,
                            .mean = e->mem.mean,
                            .work = e->mem.choose,
                            .work_stride = choose_work(blocks_of(e->info.max_len), s->head)};
    e->be->op.choose(e->be->ctx, &a);
}

static struct attn_seg make_seg(const struct call *c, const struct span *sp, int layer)
{
    const struct engine *e = c->e;
    const struct kind *k = kind_of(c, sp, layer);
    struct attn_seg a = {.row0 = sp->row0,
                         .n_row = sp->n,
                         .pos0 = sp->pos0,
                         .kind = c->decode ? k->decode : k->prefill,
                         .sink_blocks = k->no_sink ? 0 : e->info.sink_blocks,
                         .local_blocks = e->info.local_blocks,
                         .dense_from = forward_dense_from(e, sp->seq),
                         .page = sp->seq->page + (int64_t)layer * sp->seq->page_stride,
                         .full_head = k->full_head};
    if (a.kind == ATTN_LIST) {
        a.keep = keep_at(e, sp->seq, k->hold, sp->pos0);
        a.keep_head_stride = forward_keep_words(e);
        a.keep_block_stride = (int64_t)e->spec.n_head * a.keep_head_stride;
    }
    return a;
}

static void attention(const struct call *c, int layer)
{
    struct engine *e = c->e;
    const struct spec *s = &e->spec;
    for (int i = 0; i < c->n_span; i++) {
        const struct kind *k = kind_of(c, &c->span[i], layer);
        bool strayed = c->span[i].seq->strayed; /* its pages are not those that this route would read */
        if (!c->decode && k->rule >= 0 && !strayed) choose(c, &c->span[i], layer, k);
        e->seg[i] = make_seg(c, &c->span[i], layer);
        if (strayed) e->seg[i].kind = ATTN_NONE;
    }
    struct attn_args a = {.out = e->mem.att,
                          .q = e->mem.q,
                          .out_stride = q_width(s),
                          .q_stride = q_width(s),
                          .pool = e->mem.pool,
                          .seg = e->seg,
                          .n_seg = c->n_span,
                          .n_head = s->n_head,
                          .n_kv = s->n_kv,
                          .head = s->head,
                          .scale = e->attn_scale,
                          .decode = c->decode};
    e->be->op.attn(e->be->ctx, &a);
}

static void mlp(const struct call *c, int layer)
{
    struct engine *e = c->e;
    const struct layer_weights *w = &e->w.layer[layer];
    rmsnorm(e, e->mem.h, e->mem.x, w->vec[VEC_FFN_NORM], c->n_tok);
    gemm_mlp(c, e->mem.gu, e->mem.h, &w->mat[MAT_GATE_UP], false);
    struct swiglu_args a = {.out = e->mem.ff,
                            .gu = e->mem.gu,
                            .gu_stride = 2 * (int64_t)e->spec.f,
                            .out_stride = e->spec.f,
                            .n_tok = c->n_tok,
                            .f = e->spec.f};
    e->be->op.swiglu(e->be->ctx, &a);
    gemm_mlp(c, e->mem.x, e->mem.ff, &w->mat[MAT_DOWN], true);
}

/* Norm, q, k and v, the pages, the routers' decisions, attention, its projection into the residual stream. */
static void attend(const struct call *c, int layer)
{
    struct engine *e = c->e;
    const struct layer_weights *w = &e->w.layer[layer];
    bool raw = false;
    for (int i = 0; i < c->n_span; i++) { /* these use the buffers that the call itself needs next */
        if (!is_open(c, &c->span[i], layer)) continue;
        if (forward_is_whole(&c->span[i]))
            raw = true;
        else
            decide(c, &c->span[i], layer, false);
    }
    rmsnorm(e, e->mem.h, e->mem.x, w->vec[VEC_ATTN_NORM], c->n_tok);
    gemm(c, e->mem.qkv, e->mem.h, &w->mat[MAT_QKV], w->vec[VEC_QKV_BIAS], false);
    write_pages(c, layer);
    qkrope(e, layer, c->n_tok, e->mem.pos, e->mem.tok_page, raw);
    for (int i = 0; i < c->n_span && raw; i++)
        if (is_open(c, &c->span[i], layer)) decide(c, &c->span[i], layer, true);
    attention(c, layer);
    gemm(c, e->mem.x, e->mem.att, &w->mat[MAT_O], NULL, true);
}

static void run_layer(const struct call *c, int layer)
{
    bool none = c->e->kinds.side[layer][0].prefill ==
                ATTN_NONE; /* a plan's word: for every sequence, for prompts and decode */
    for (int i = 0; i < c->n_span && none; i++) is_open(c, &c->span[i], layer);
    if (!none) attend(c, layer);
    mlp(c, layer);
}

static enum err layers(const struct call *c)
{
    for (int l = c->layer0; l < c->layer1; l++) run_layer(c, l);
    return OK;
}

/* They were taken as they were decided. */
static enum err take_bits(const struct call *c)
{
    (void)c;
    return OK;
}

/* --- logits */

static enum err sample_rows(const struct call *c, int n, const int *row, const struct sample_row *sample,
                            struct sample_out *out)
{
    struct engine *e = c->e;
    const struct spec *s = &e->spec;
    for (int at = 0, m; at < n; at += m) {
        int32_t *id = e->mem.tok_row;
        m = n - at < e->logit_tok ? n - at : e->logit_tok;
        for (int i = 0; i < m; i++) id[i] = row[at + i];
        struct gather_args g = {
            .out = e->mem.last, .x = e->mem.x, .row = id, .x_stride = s->d, .n_row = m, .d = s->d};
        e->be->op.gather(e->be->ctx, &g);
        rmsnorm(e, e->mem.last_h, e->mem.last, e->w.norm, m);
        struct call part = {.e = e, .n_tok = m, .decode = c->decode};
        gemm(&part, e->mem.logits, e->mem.last_h, &e->w.head, NULL, false);
        struct sample_args a = {.logits = e->mem.logits,
                                .logits_stride = s->n_vocab,
                                .row = sample + at,
                                .out = out + at,
                                .work = e->mem.work,
                                .n_row = m,
                                .vocab = s->n_vocab};
        e->be->op.sample(e->be->ctx, &a);
    }
    return OK;
}

static enum err end(struct engine *e, enum err err, struct step_out *out, struct err_note *note)
{
    (void)e;
    (void)note;
    out->idle_ns = -1;
    return err;
}

const struct forward forward_on_host = {.decode_rows = INT_MAX,
                                        .begin = begin,
                                        .layers = layers,
                                        .take_bits = take_bits,
                                        .sample = sample_rows,
                                        .end = end};
