/* forward: see forward.h. The host writes runs, tokens, bits and page patches of a call into one pinned
 * block; one copy brings it to the device, one launch makes the work lists, and the layers follow without
 * another word from the host. */
#include "engine/cuda/forward.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "engine/cuda/call.h"
#include "engine/cuda/codes.h"
#include "engine/cuda/codes4.h"
#include "engine/cuda/route.h"
#include "kernels/cuda/choose_gpu.h"

enum { MOST_ROWS = 256 }; /* of one decode call */

static const int bucket_rows[CALL_BUCKETS] = {1, 2, 4, 8, 16, 32, 64, 128, MOST_ROWS};

/* --- open */

static enum err open_lists(struct forward_cuda *f, struct err_note *note)
{
    const struct engine *e = f->e;
    struct backend *b = &f->be->b;
    int64_t n_table = (int64_t)e->info.max_seqs * e->spec.n_layer * f->n_block,
            runs = (int64_t)e->spec.n_layer * f->max_run;
    size_t attn_bytes = attn_gpu_work_bytes(f->max_run, e->spec.n_head, e->spec.n_kv, e->spec.head);
    f->table = b->mem_new(b, n_table * 4);
    f->shadow = calloc((size_t)n_table, 4);
    f->stamp = calloc((size_t)e->info.max_seqs, sizeof *f->stamp);
    f->looked = calloc((size_t)e->info.max_seqs, sizeof *f->looked);
    f->seg = b->mem_new(b, runs * (int64_t)sizeof *f->seg);
    f->page = b->mem_new(b, (int64_t)e->spec.n_layer * e->max_tok * 4);
    f->pos = b->mem_new(b, (int64_t)e->max_tok * 4);
    f->ops.attn.work = b->mem_new(b, (int64_t)attn_bytes);
    f->sum = b->mem_new(b, (int64_t)MOST_ROWS * f->ops.n_sum * 4);
    if (!f->table || !f->shadow || !f->stamp || !f->looked || !f->seg || !f->page || !f->pos ||
        !f->ops.attn.work || !f->sum)
        return cuda_no_room("work lists", note);
    return OK;
}

/* The names of the pages behind the pool's. */
static enum err open_wide(struct forward_cuda *f, struct err_note *note)
{
    const struct memory *m = &f->e->mem;
    struct backend *b = &f->be->b;
    if (!m->n_wide) return OK;
    int32_t *name = calloc((size_t)m->n_wide, sizeof *name);
    f->wide = b->mem_new(b, m->n_wide * 4LL);
    f->from = b->mem_new(b, m->n_wide * 4LL);
    for (int i = 0; name && i < m->n_wide; i++) name[i] = m->n_page + i;
    enum err err = name && f->wide && f->from ? b->copy_in(b, f->wide, name, m->n_wide * 4LL) : ERR_NOMEM;
    free(name);
    return err == OK ? OK : cuda_no_room("work lists", note);
}

/* The table of kinds, as the device reads it. */
static enum err open_kinds(struct forward_cuda *f, struct err_note *note)
{
    const struct engine *e = f->e;
    struct backend *b = &f->be->b;
    const int n_layer = e->spec.n_layer, n_head = e->spec.n_head;
    struct plan_kind(*k)[2] = calloc((size_t)n_layer, sizeof *k);
    f->kind = b->mem_new(b, n_layer * (int64_t)sizeof *k);
    f->fixed = b->mem_new(b, n_layer);
    f->full_head = b->mem_new(b, (int64_t)n_layer * n_head);
    enum err err = k && f->kind && f->fixed && f->full_head ? OK : ERR_NOMEM;
    for (int i = 0; i < 2 * n_layer && err == OK; i++) {
        const struct kind *from = &e->kinds.side[i / 2][i % 2];
        k[i / 2][i % 2] = (struct plan_kind){.prefill = from->prefill,
                                             .decode = from->decode,
                                             .sink_blocks = from->no_sink ? 0 : e->info.sink_blocks,
                                             .hold = from->hold,
                                             .full_head = f->full_head + (int64_t)(i / 2) * n_head};
    }
    if (err == OK) err = b->copy_in(b, f->kind, k, n_layer * (int64_t)sizeof *k);
    if (err == OK) err = b->copy_in(b, f->fixed, e->kinds.fixed, n_layer);
    if (err == OK) err = b->copy_in(b, f->full_head, e->kinds.head, (int64_t)n_layer * n_head);
    free(k);
    return err == OK ? OK : err_set(note, err, NULL, "the kinds of layers could not be copied to the device");
}

static enum err warm_up(struct forward_cuda *f, struct err_note *note);
static bool all_fuse(const struct weights *w);

enum err forward_cuda_takes(const struct spec *s, struct err_note *note)
{
    const int per_kv = s->n_head / s->n_kv;
    if ((s->head != 64 && s->head != 128) || s->n_head % s->n_kv || per_kv > 8)
        return err_set(
            note, ERR_CONFIG, "--device",
            "cuda takes head sizes 64 and 128 and up to 8 query heads for a kv head; this model has %d and %d",
            s->head, per_kv);
    if (s->d % 8 || s->f % 8 || s->d > 16384)
        return err_set(note, ERR_CONFIG, "--device",
                       "cuda takes widths that are multiples of 8, up to 16384; this model has %d and %d",
                       s->d, s->f);
    return OK;
}

enum err forward_cuda_open(struct engine *e, struct err_note *note)
{
    struct forward_cuda *f = e->cuda = calloc(1, sizeof *f);
    if (!f) return err_set(note, ERR_NOMEM, NULL, "out of memory");
    f->e = e;
    f->be = (struct backend_cuda *)e->be;
    f->max_run = e->info.max_seqs > MOST_ROWS ? e->info.max_seqs : MOST_ROWS;
    f->n_block = (e->info.max_len + PAGE_TOK - 1) / PAGE_TOK;
    f->hold_block = e->kinds.n_hold
                        ? e->mem.keep_bytes / 8 / e->kinds.n_hold / (e->spec.n_head * forward_keep_words(e))
                        : 0;
    f->ops = (struct op_ctx){
        .gpu = {.stream = f->be->stream, .n_sm = f->be->n_sm, .act = e->be->act, .kv = e->be->kv},
        .attn = {.stream = f->be->stream,
                 .n_sm = f->be->n_sm,
                 .n_row = e->max_tok,
                 .n_page = e->mem.n_page + e->mem.n_wide,
                 .max_row = f->max_run,
                 .act = e->be->act,
                 .use = f->be->hopper ? ATTN_USE_SM90 : ATTN_USE_MMA},
        .codes = {.code = e->mem.pool, .exp = e->mem.exp},
        .small = {.stream = f->be->stream, .n_sm = f->be->n_sm},
        .numbers = e->mem.numbers,
        .sorted = e->mem.sorted,
        .own_products = f->be->hopper && f->be->hold == DT_BF16,
        .n_sum = gemm_small_tiles(f->be->n_sm, e->spec.d)};
    f->fuses = f->ops.own_products && all_fuse(&e->w);
    e->be->ctx = &f->ops;
    enum err err = e->info.max_seqs <= ATTN_MAX_SEG && e->max_tok >= f->max_run
                       ? OK
                       : err_set(note, ERR_CONFIG, "--max-num-seqs",
                                 "cuda takes at most 256 sequences, and pieces of at least as many tokens");
    if (err == OK) err = gemm_lt_open(&f->ops.lt, f->be->stream, note);
    if (err == OK) err = call_open_blocks(f, note);
    if (err == OK) err = open_lists(f, note);
    if (err == OK) err = open_kinds(f, note);
    if (err == OK) err = open_wide(f, note);
    if (err == OK) err = route_cuda_open(f, note);
    for (int i = 0; i < 3 && err == OK; i++)
        err = cuda_check(cudaEventCreate(i < 2 ? &f->idle.end[i] : &f->idle.begin), "event", note);
    if (err == OK)
        err = draw_cuda_open(&f->draw, &f->ops.gpu, e->logit_tok, e->spec.n_vocab,
                             (int64_t)e->info.max_len + 3LL * e->spec.n_vocab +
                                 (int64_t)e->logit_tok * ((e->spec.n_vocab + 31) / 32),
                             note);
    return err == OK ? warm_up(f, note) : err;
}

void forward_cuda_close(struct engine *e)
{
    struct forward_cuda *f = e->cuda;
    if (!f) return;
    cudaStreamSynchronize(f->be->stream);
    for (int i = 0; i < CALL_BUCKETS; i++)
        if (f->graph[i]) cudaGraphExecDestroy(f->graph[i]);
    for (int i = 0; i < CALL_BLOCKS; i++) {
        if (f->sent[i]) cudaEventDestroy(f->sent[i]);
        if (f->host[i]) cudaFreeHost(f->host[i]);
    }
    route_cuda_close(f);
    draw_cuda_close(f->draw);
    void *const device[] = {f->dev, f->table, f->seg,   f->page,      f->pos,  f->ops.attn.work,
                            f->sum, f->kind,  f->fixed, f->full_head, f->wide, f->from};
    for (size_t i = 0; i < sizeof device / sizeof *device; i++)
        if (device[i]) cudaFree(device[i]);
    cudaEvent_t const event[] = {f->idle.begin, f->idle.end[0], f->idle.end[1]};
    for (size_t i = 0; i < sizeof event / sizeof *event; i++)
        if (event[i]) cudaEventDestroy(event[i]);
    gemm_lt_close(f->ops.lt);
    free(f->shadow);
    free(f->stamp);
    free(f->looked);
    free(f);
    e->cuda = NULL;
    e->be->ctx = NULL;
}

/* --- one layer */

/* Products do what stands between them, but for those of codes of 8 bits, which are made between them, and
 * of codes of 4 bits where x is sorted between them, or gates share records with what they open. */
static bool fuses_with(const struct weight *w, enum layer_matrix mat)
{
    if (w->dt != DT_U4) return w->dt != DT_FP8;
    return !w->s.group && (mat != MAT_GATE_UP || w->n % (2 * INT4_ROWS) == 0);
}
static bool all_fuse(const struct weights *w)
{
    bool all = true;
    for (int l = 0; l < w->n_layer; l++)
        for (enum layer_matrix m = 0; m < MAT_COUNT; m++) all = all && fuses_with(&w->layer[l].mat[m], m);
    return all;
}

/* Algorithms of every product that calls will ask for: nothing is tuned or allocated while requests wait. */
static enum err plan_products(struct forward_cuda *f)
{
    const struct engine *e = f->e;
    for (int decode = 0; decode < 2 - f->ops.own_products; decode++)
        for (int i = 0; i < MAT_COUNT * e->spec.n_layer; i++) {
            struct gemm_args a = forward_product(e, i / MAT_COUNT, i % MAT_COUNT, 1);
            a.decode = decode;
            if (a.w->dt == DT_FP8)
                TRY(codes_plan(f->e, &a));
            else if (a.w->dt == DT_U4)
                TRY(decode ? OK : codes4_plan(&f->ops, &a));
            else
                TRY(gemm_lt_plan(f->ops.lt, &a));
        }
    if (f->ops.own_products) return OK;
    struct gemm_args a = forward_head(e, 1);
    a.decode = true;
    return a.w->dt == DT_FP8 || a.w->dt == DT_U4 ? OK : gemm_lt_plan(f->ops.lt, &a);
}

/* Where a bit is open or a choice depends on it, the kernels look at the kind that the device has settled by
 * then. */
static enum err choose(const struct call *c, const struct span *sp, int i, int layer, int bit)
{
    struct forward_cuda *f = cuda_of(c);
    const struct engine *e = c->e;
    const struct spec *s = &e->spec;
    const struct kind *k = &e->kinds.side[layer][bit], *other = &e->kinds.side[layer][!bit];
    const int words = forward_keep_words(e);
    const int64_t width = (int64_t)s->n_head * s->head, at = k->hold * f->hold_block + call_keep_block(c, i);
    struct choose_args a = {.q = (const char *)e->mem.q + sp->row0 * width * (f->be->hold == DT_F32 ? 4 : 2),
                            .q_stride = width,
                            .pool = e->mem.pool,
                            .page = NULL, /* the run's */
                            .pos0 = sp->pos0,
                            .n_row = sp->n,
                            .n_prompt = sp->seq->n_prompt,
                            .n_head = s->n_head,
                            .n_kv = s->n_kv,
                            .head = s->head,
                            .rule = k->rule,
                            .threshold = forward_threshold(k->rule),
                            .keep = (uint64_t *)e->mem.keep + at * s->n_head * words,
                            .head_stride = words,
                            .block_stride = (int64_t)s->n_head * words,
                            .mean = e->mem.mean,
                            .work = e->mem.choose,
                            .work_stride = e->mem.choose_bytes / 4};
    struct choose_gpu g = {
        .stream = f->be->stream,
        .act = e->be->act,
        .seg = f->seg + (int64_t)layer * f->max_run + i,
        .kind = sp->seq->route[layer] != ROUTE_OPEN || other->rule == k->rule ? -1 : k->prefill};
    return choose_gpu(&a, &g);
}

static enum err choose_all(const struct call *c, int layer)
{
    const struct kind *side = c->e->kinds.side[layer];
    for (int i = 0; i < c->n_span; i++) {
        const int bit = c->span[i].seq->route[layer];
        const int from = bit == ROUTE_OPEN ? side[0].rule >= 0 ? 0 : 1 : bit;
        if (side[from].rule >= 0) TRY(choose(c, &c->span[i], i, layer, from));
    }
    return OK;
}

/* What a prefill layer's runs read of codes, as bf16. */
static enum err widen(const struct call *c)
{
    struct forward_cuda *f = cuda_of(c);
    const struct engine *e = c->e;
    return kv_fp8_widen_sm90(
        &(struct kv_fp8_widen_args){.pool = f->ops.codes,
                                    .from = f->from,
                                    .to = (char *)e->mem.pool + e->mem.n_page * e->mem.page_bytes,
                                    .n = f->now.n_wide,
                                    .n_kv = e->spec.n_kv,
                                    .head = e->spec.head},
        &f->ops.gpu);
}

static enum err runs(const struct call *c, int layer, const struct attn_seg **seg)
{
    const struct forward_cuda *f = cuda_of(c);
    *seg = f->seg + (int64_t)layer * f->max_run;
    if (c->decode) return OK;
    if (f->now.n_wide) TRY(widen(c));
    return choose_all(c, layer);
}

/* The call's prompt i, whose rows are not all in the call: the queries of those that the router pools, the
 * first and the last P, are computed here as the layer will, in the buffers that the call itself needs next.
 * Behind cached pages only the last are. */
static enum err route_apart(const struct call *c, int layer, int i, const struct batch_seq *seq)
{
    struct forward_cuda *f = cuda_of(c);
    struct engine *e = c->e;
    const int p = forward_pooled_rows(e, seq), tok0[2] = {seq->n_prompt - p, 0},
              n_end = seq->n_cached > 0 ? 1 : 2;
    const int32_t *tok = dev_at(f, f->at.row);
    if (layer == 0) TRY(call_send_rows(f, seq->tok + tok0[0], p, seq->tok + tok0[1], n_end > 1 ? p : 0));
    for (int end = 0; end < n_end; end++) {
        if (layer == 0)
            TRY(forward_embed(c, e->mem.rx, tok + end * p, p));
        else
            memory_stream_get(&e->mem, e->be, seq->slot, tok0[end], tok0[end] + p, e->mem.rx);
        TRY(forward_norm(c, memory_row(&e->mem, e->mem.h, (n_end - 1 - end) * p), e->mem.rx,
                         e->w.layer[layer].vec[VEC_ATTN_NORM], p));
    }
    TRY(forward_queries(c, layer, n_end * p, f->pos)); /* positions do not matter to what the router reads */
    return route_cuda_decide(c, layer, i, 1);
}

static struct layer_rows rows_of(const struct call *c, int layer)
{
    const struct forward_cuda *f = cuda_of(c);
    return (struct layer_rows){
        .pos = f->pos, .page = f->page + (int64_t)layer * c->e->max_tok, .raw = f->now.n_whole > 0};
}

/* All bits of a prefill layer are decided. */
static enum err settle(const struct call *c, int layer)
{
    const struct plan_gpu_args a = call_plan_args(c);
    return a.n_wide ? plan_settle_gpu(&a, layer, cuda_of(c)->be->stream) : OK;
}

static enum err enter(const struct call *c, int layer, struct layer_rows *rows)
{
    const struct making *now = &cuda_of(c)->now;
    for (int i = 0, apart = now->n_whole; apart < now->n_whole + now->n_apart; i++)
        if (!forward_is_whole(&c->span[i]) && c->span[i].seq->route[layer] == ROUTE_OPEN)
            TRY(route_apart(c, layer, apart++, c->span[i].seq));
    *rows = rows_of(c, layer);
    rows->late = rows->raw && c->e->info.kv_codes;
    if (rows->late) rows->page = NULL;
    return rows->late ? OK : settle(c, layer);
}

static enum err decide(const struct call *c, int layer, struct layer_rows *rows)
{
    TRY(route_cuda_decide(c, layer, 0, cuda_of(c)->now.n_whole));
    if (rows->late) rows->page = rows_of(c, layer).page;
    return rows->late ? settle(c, layer) : OK;
}

static const void *first_norm(const struct engine *e, int layer)
{
    return e->w.layer[layer].vec[forward_skips_attention(e, layer) ? VEC_FFN_NORM : VEC_ATTN_NORM];
}

/* A layer of decode on Hopper: the products do the norms and what stands between gate, up and down
 * themselves. */
static enum err fused(const struct call *c, int layer)
{
    struct forward_cuda *f = cuda_of(c);
    struct engine *e = c->e;
    const struct layer_weights *w = &e->w.layer[layer];
    const bool last = layer + 1 == e->spec.n_layer;
    const int n = c->n_tok;
    const bool many = n > 16; /* measured on an H200: 32 rows gain 2% where gate and up are of the second
                                 kind, 8 rows 1% where o and down are */
    struct gemm_args qkv = forward_product(e, layer, MAT_QKV, n), o = forward_product(e, layer, MAT_O, n),
                     gu = forward_product(e, layer, MAT_GATE_UP, n),
                     down = forward_product(e, layer, MAT_DOWN, n);
    struct gemm_more normed = {.second = many, .sum_in = f->sum, .eps = e->spec.eps},
                     gated = {.second = many, .sum_in = f->sum, .eps = e->spec.eps, .gated = true},
                     to_ffn = {.second = !many,
                               .sum_out = f->sum,
                               .normed = e->mem.h,
                               .norm = w->vec[VEC_FFN_NORM]},
                     to_next = {.second = !many,
                                .sum_out = f->sum,
                                .normed = last ? e->mem.last_h : e->mem.h,
                                .norm = last ? e->w.norm : first_norm(e, layer + 1)};
    qkv.decode = o.decode = gu.decode = down.decode = true;
    gu.y = e->mem.ff;
    gu.y_stride = e->spec.f;
    if (layer == 0) {
        TRY(forward_norm(c, e->mem.h, e->mem.x, first_norm(e, 0), n));
        normed.sum_in = NULL;
    }
    if (forward_skips_attention(e, layer)) {
        gated.sum_in = normed.sum_in;
    } else {
        const struct layer_rows rows = rows_of(c, layer);
        const struct attn_seg *seg;
        TRY(runs(c, layer, &seg));
        TRY(ops_gemm_small(&f->ops, &qkv, &normed));
        TRY(forward_rope(c, layer, n, &rows));
        TRY(forward_attend(c, seg));
        TRY(ops_gemm_small(&f->ops, &o, &to_ffn));
    }
    TRY(ops_gemm_small(&f->ops, &gu, &gated));
    return ops_gemm_small(&f->ops, &down, &to_next);
}

static bool fuses(const struct call *c) { return c->decode && cuda_of(c)->fuses; }

/* --- drawing */

/* Rows in as many launches as their lists need; nearly always one. */
static enum err draw(struct forward_cuda *f, int n, const struct sample_row *row, struct sample_out *out)
{
    struct engine *e = f->e;
    const int64_t V = e->spec.n_vocab;
    for (int at = 0, m; at < n; at += m) {
        m = draw_cuda_fit(f->draw, row + at, n - at);
        CHECK(m > 0); /* the lists hold a whole context and more */
        TRY(draw_cuda_send(f->draw, (const float *)e->mem.logits + at * V, e->mem.work, (int)V, m, row + at));
        TRY(call_wait(f));
        draw_cuda_take(f->draw, m, out + at);
    }
    return OK;
}

/* --- decode */

static enum err decode_launch(const struct call *c)
{
    struct forward_cuda *f = cuda_of(c);
    const struct engine *e = c->e;
    struct plan_gpu_args a = call_plan_args(c);
    TRY(plan_gpu(&a, f->be->stream));
    TRY(forward_embed(c, e->mem.x, dev_at(f, f->at.tok), c->n_tok));
    TRY(forward_layers(c));
    if (!fuses(c) || !fuses_with(&e->w.head, MAT_COUNT)) return forward_logits(c, c->n_tok, NULL);
    struct gemm_args logits = forward_head(e, c->n_tok);
    logits.decode = true;
    return ops_gemm_small(&f->ops, &logits, &(struct gemm_more){.sum_in = f->sum, .eps = e->spec.eps});
}

/* A bucket's graph is captured when it is first needed; its first run before that loads what kernels load
 * lazily. */
static enum err decode_graph(const struct call *c, int bucket)
{
    struct forward_cuda *f = cuda_of(c);
    cudaGraph_t graph = NULL;
    if (f->graph[bucket])
        return cudaGraphLaunch(f->graph[bucket], f->be->stream) == cudaSuccess ? OK : ERR_DEVICE;
    TRY(decode_launch(c));
    if (cudaStreamBeginCapture(f->be->stream, cudaStreamCaptureModeThreadLocal) != cudaSuccess)
        return ERR_DEVICE;
    enum err err = decode_launch(c);
    if (cudaStreamEndCapture(f->be->stream, &graph) != cudaSuccess || err != OK) return ERR_DEVICE;
    err = cudaGraphInstantiate(&f->graph[bucket], graph, 0) == cudaSuccess ? OK : ERR_DEVICE;
    cudaGraphDestroy(graph);
    return err;
}

/* The call as it is launched: for all rows of its bucket. */
static struct call padded(const struct call *c, int *bucket)
{
    struct call p = *c;
    *bucket = 0;
    while (bucket_rows[*bucket] < c->n_span) ++*bucket;
    p.n_span = p.n_tok = bucket_rows[*bucket];
    return p;
}

static enum err begin_rows(const struct call *c, int n_real)
{
    struct forward_cuda *f = cuda_of(c);
    TRY(call_next_block(f));
    TRY(call_write(c, n_real));
    return call_send(f);
}

/* Before the first request: products' algorithms, and a graph for every bucket that a step may need, captured
 * over rows of nothing. */
static enum err warm_up(struct forward_cuda *f, struct err_note *note)
{
    struct engine *e = f->e;
    enum err err = plan_products(f);
    for (int i = 0; i < CALL_BUCKETS && err == OK; i++) {
        if (i > 0 && bucket_rows[i - 1] >= e->info.max_seqs) break;
        struct call c = {.e = e,
                         .span = e->span,
                         .n_span = bucket_rows[i],
                         .n_tok = bucket_rows[i],
                         .layer1 = e->spec.n_layer,
                         .decode = true};
        if ((err = begin_rows(&c, 0)) == OK) err = decode_graph(&c, i);
    }
    cudaError_t why = err == OK ? cudaSuccess : cudaGetLastError();
    if (why == cudaErrorMemoryAllocation) return cuda_no_room("graphs of decode steps", note);
    if (err != OK)
        return err_set(note, err, NULL, "the device's first steps failed: %s", cudaGetErrorString(why));
    return cuda_check(cudaStreamSynchronize(f->be->stream), "first steps", note);
}

/* --- prompts */

static enum err begin_pieces(const struct call *c)
{
    struct forward_cuda *f = cuda_of(c);
    struct engine *e = c->e;
    TRY(call_next_block(f));
    route_cuda_find(c);
    TRY(call_write(c, c->n_span));
    TRY(call_send(f));
    TRY(route_cuda_send_sums(c));
    struct plan_gpu_args a = call_plan_args(c);
    TRY(plan_gpu(&a, f->be->stream));
    if (c->layer0 == 0) return forward_embed(c, e->mem.x, dev_at(f, f->at.tok), c->n_tok);
    for (int i = 0; i < c->n_span; i++) {
        const struct span *sp = &c->span[i];
        memory_stream_get(&e->mem, e->be, sp->seq->slot, sp->pos0, sp->pos0 + sp->n,
                          memory_row(&e->mem, e->mem.x, sp->row0));
    }
    return OK;
}

/* --- what step.c asks for */

static enum err begin(const struct call *c)
{
    int bucket;
    if (!c->decode) return begin_pieces(c);
    const struct call p = padded(c, &bucket);
    return begin_rows(&p, c->n_span);
}

static enum err layers(const struct call *c)
{
    int bucket;
    if (c->decode) {
        const struct call p = padded(c, &bucket);
        return decode_graph(&p, bucket);
    }
    return forward_layers(c);
}

/* A decode call's graph ends with the logits of its rows; of a prompt's, chosen rows have them. That product
 * is always decode's, so that a row's logits do not depend on how many are asked for. */
static enum err sample_rows(const struct call *c, int n, const int *row, const struct sample_row *sample,
                            struct sample_out *out)
{
    struct forward_cuda *f = cuda_of(c);
    struct call rows = *c;
    rows.decode = true;
    if (c->decode) return draw(f, n, sample, out);
    for (int at = 0, m; at < n; at += m) {
        m = n - at < c->e->logit_tok ? n - at : c->e->logit_tok;
        TRY(call_send_rows(f, row + at, m, NULL, 0));
        TRY(forward_logits(&rows, m, dev_at(f, f->at.row)));
        TRY(draw(f, m, sample + at, out + at));
    }
    return OK;
}

static enum err end(struct engine *e, enum err err, struct step_out *out, struct err_note *note)
{
    struct forward_cuda *f = e->cuda;
    if (err == OK) err = call_wait(f);
    out->idle_ns = (int64_t)(f->idle.ms * 1e6);
    f->idle.ms = 0; /* of the next step */
    return err == OK
               ? OK
               : err_set(note, err, NULL, "the step failed: %s", cudaGetErrorString(cudaGetLastError()));
}

const struct forward forward_on_device = {.decode_rows = MOST_ROWS,
                                          .begin = begin,
                                          .layers = layers,
                                          .take_bits = route_cuda_take,
                                          .sample = sample_rows,
                                          .end = end,
                                          .enter = enter,
                                          .decide = decide,
                                          .runs = runs,
                                          .coded = codes_multiply,
                                          .fuses = fuses,
                                          .fused = fused};
