/* host: a call's parts on the host's own cores: bits, pages and runs as the layer needs them. */
#include "engine/forward.h"

#include <limits.h>
#include <string.h>

#include "base/check.h"
#include "kernels/quant.h"

static int64_t q_width(const struct spec *s) { return (int64_t)s->n_head * s->head; }

static void *row_of(const struct engine *e, void *buffer, int64_t row, int64_t width)
{
    return (char *)buffer + row * width * quant_type(e->be->act)->block_bytes;
}

static int blocks_of(int tok) { return (tok + PAGE_TOK - 1) / PAGE_TOK; }

static enum err embed(const struct call *c, void *out, const int32_t *id, int n)
{
    for (int i = 0; i < n; i++) CHECK(id[i] >= 0 && id[i] < c->e->spec.n_vocab);
    return forward_embed(c, out, id, n);
}

/* Residual rows [tok0, tok1) of a prompt as they enter a layer. */
static enum err enter_rows(const struct call *c, const struct span *rows, int layer, void *out)
{
    struct engine *e = c->e;
    if (layer == 0) return embed(c, out, rows->seq->tok + rows->pos0, rows->n);
    memory_stream_get(&e->mem, e->be, rows->seq->slot, rows->pos0, rows->pos0 + rows->n, out);
    return OK;
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
        if (c->layer0 > 0) TRY(enter_rows(c, s, c->layer0, row_of(e, e->mem.x, s->row0, e->spec.d)));
    }
    return c->layer0 == 0 ? embed(c, e->mem.x, id, c->n_tok) : OK;
}

/* --- Layer Router */

static enum err pool_rows(const struct engine *e, int row0, int n)
{
    const struct spec *s = &e->spec;
    struct pool_args a = {.sum = e->mem.pooled,
                          .q = row_of(e, e->mem.q_raw, row0, q_width(s)),
                          .q_stride = q_width(s),
                          .n_row = n,
                          .n_head = s->n_head,
                          .head = s->head};
    return e->be->op.pool(e->be->ctx, &a);
}

/* Pools rows [tok0, tok1) of a prompt that are not all in this call: their queries are computed here, as the
 * layer will. */
static enum err pool_apart(const struct call *c, struct batch_seq *seq, int layer, int tok0, int tok1)
{
    struct engine *e = c->e;
    const struct span rows = {.seq = seq, .pos0 = tok0, .n = tok1 - tok0};
    int32_t *pos = e->mem.rpos;
    for (int i = 0; i < rows.n; i++) pos[i] = tok0 + i;
    TRY(enter_rows(c, &rows, layer, e->mem.rx));
    TRY(forward_norm(c, e->mem.h, e->mem.rx, e->w.layer[layer].vec[VEC_ATTN_NORM], rows.n));
    TRY(forward_queries(c, layer, rows.n, pos));
    return pool_rows(e, 0, rows.n);
}

/* The first P rows, clipped to the prompt. Their sum is kept apart: prompts with the same prefix go on from
 * it. */
static enum err pool_head(const struct call *c, const struct span *sp, int layer, int head, bool whole)
{
    struct engine *e = c->e;
    struct batch_seq *seq = sp->seq;
    size_t bytes = (size_t)e->spec.head * sizeof(float);
    float *kept = seq->head_sum ? seq->head_sum + (int64_t)layer * e->spec.head : NULL;
    if (seq->n_cached) {
        memcpy(e->mem.pooled, kept, bytes);
        return OK;
    }
    memset(e->mem.pooled, 0, bytes);
    TRY(whole ? pool_rows(e, sp->row0, head) : pool_apart(c, seq, layer, 0, head));
    if (kept) memcpy(kept, e->mem.pooled, bytes);
    return OK;
}

/* First and last P rows of the prompt, clipped; where they overlap a row counts twice. */
static enum err decide_one(const struct call *c, const struct span *sp, int layer, bool whole)
{
    struct engine *e = c->e;
    struct batch_seq *seq = sp->seq;
    int s = seq->n_prompt, head = forward_pooled_rows(e, seq), tail = s - head;
    float margin = 0;
    CHECK(seq->n_cached == 0 || (seq->head_sum && seq->n_cached >= head && seq->n_cached <= tail));
    TRY(pool_head(c, sp, layer, head, whole));
    TRY(whole ? pool_rows(e, sp->row0 + tail - sp->pos0, head) : pool_apart(c, seq, layer, tail, s));
    struct router_args a = {.sum = e->mem.pooled,
                            .count = (float)(2 * head) * (float)e->spec.n_head,
                            .w = &e->routers.layer[layer],
                            .head = e->spec.head,
                            .bias = seq->route_bias,
                            .margin = &margin};
    TRY(e->be->op.router(e->be->ctx, &a));
    batch_take_margin(seq, e->info.fixed_route, layer, e->spec.n_layer, margin);
    return OK;
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

static const struct kind *kind_of(const struct call *c, const struct span *sp, int layer)
{
    return &c->e->kinds.side[layer][sp->seq->route[layer] == ROUTE_FULL];
}

/* The layer's pages up to the span's last row, as kernels read them. */
static const int32_t *pages_of(const struct call *c, const struct span *sp, int layer)
{
    const struct engine *e = c->e;
    const struct batch_seq *seq = sp->seq;
    const int32_t *page = seq->page + (int64_t)layer * seq->page_stride;
    int32_t *to = (int32_t *)e->mem.codes_page + (int64_t)seq->slot * blocks_of(e->info.max_len);
    if (!e->info.kv_codes || seq->route[layer] != ROUTE_FULL) return page;
    for (int b = 0; b < blocks_of(sp->pos0 + sp->n); b++)
        to[b] = batch_code_page(page, seq->n_cached / PAGE_TOK, b);
    return to;
}

static void write_pages(const struct call *c, int layer)
{
    int32_t *page = c->e->mem.tok_page;
    for (int i = 0; i < c->n_span; i++) {
        const struct span *sp = &c->span[i];
        const int32_t *pages = pages_of(c, sp, layer);
        for (int r = 0; r < sp->n; r++) {
            int32_t id = pages[(sp->pos0 + r) / PAGE_TOK];
            CHECK(page_id(id) < c->e->mem.n_page);
            page[sp->row0 + r] = id;
        }
    }
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

static enum err choose(const struct call *c, const struct span *sp, int layer, const struct kind *k)
{
    struct engine *e = c->e;
    const struct spec *s = &e->spec;
    int end = sp->pos0 + sp->n, words = forward_keep_words(e);
    CHECK(sp->pos0 % PAGE_TOK == 0 &&
          (end % PAGE_TOK == 0 || end == sp->seq->n_prompt)); /* a choice is its query block's alone */
    struct choose_args a = {.q = row_of(e, e->mem.q, sp->row0, q_width(s)),
                            .q_stride = q_width(s),
                            .pool = e->mem.pool,
                            .page = pages_of(c, sp, layer),
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
    return e->be->op.choose(e->be->ctx, &a);
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
                         .page = pages_of(c, sp, layer),
                         .full_head = k->full_head};
    if (a.kind == ATTN_LIST) {
        a.keep = keep_at(e, sp->seq, k->hold, sp->pos0);
        a.keep_head_stride = forward_keep_words(e);
        a.keep_block_stride = (int64_t)e->spec.n_head * a.keep_head_stride;
    }
    return a;
}

static enum err runs(const struct call *c, int layer, const struct attn_seg **seg)
{
    struct engine *e = c->e;
    for (int i = 0; i < c->n_span; i++) {
        const struct kind *k = kind_of(c, &c->span[i], layer);
        bool strayed = c->span[i].seq->strayed; /* its pages are not those that this route would read */
        if (!c->decode && k->rule >= 0 && !strayed) TRY(choose(c, &c->span[i], layer, k));
        e->seg[i] = make_seg(c, &c->span[i], layer);
        if (strayed) e->seg[i].kind = ATTN_NONE;
    }
    *seg = e->seg;
    return OK;
}

static enum err enter(const struct call *c, int layer, struct layer_rows *rows)
{
    const struct memory *m = &c->e->mem;
    const bool skips = forward_skips_attention(c->e, layer);
    *rows = (struct layer_rows){.pos = m->pos, .page = m->tok_page};
    for (int i = 0; i < c->n_span; i++) {
        if (!is_open(c, &c->span[i], layer) || skips) continue;
        if (forward_is_whole(&c->span[i]))
            rows->raw = true;
        else
            TRY(decide_one(c, &c->span[i], layer, false));
    }
    rows->late = rows->raw && c->e->info.kv_codes;
    if (rows->late) rows->page = NULL;
    if (!skips && !rows->late) write_pages(c, layer);
    return OK;
}

static enum err decide(const struct call *c, int layer, struct layer_rows *rows)
{
    for (int i = 0; i < c->n_span; i++)
        if (is_open(c, &c->span[i], layer)) TRY(decide_one(c, &c->span[i], layer, true));
    if (!rows->late) return OK;
    write_pages(c, layer);
    rows->page = c->e->mem.tok_page;
    return OK;
}

/* They were taken as they were decided. */
static enum err take_bits(const struct call *c)
{
    (void)c;
    return OK;
}

static enum err sample_rows(const struct call *c, int n, const int *row, const struct sample_row *sample,
                            struct sample_out *out)
{
    struct engine *e = c->e;
    const struct spec *s = &e->spec;
    for (int at = 0, m; at < n; at += m) {
        int32_t *id = e->mem.tok_row;
        m = n - at < e->logit_tok ? n - at : e->logit_tok;
        for (int i = 0; i < m; i++) id[i] = row[at + i];
        TRY(forward_logits(c, m, id));
        struct sample_args a = {.logits = e->mem.logits,
                                .logits_stride = s->n_vocab,
                                .row = sample + at,
                                .out = out + at,
                                .work = e->mem.work,
                                .n_row = m,
                                .vocab = s->n_vocab};
        TRY(e->be->op.sample(e->be->ctx, &a));
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
                                        .layers = forward_layers,
                                        .take_bits = take_bits,
                                        .sample = sample_rows,
                                        .end = end,
                                        .enter = enter,
                                        .decide = decide,
                                        .runs = runs};
