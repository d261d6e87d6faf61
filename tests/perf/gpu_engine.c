/* gpu_engine: engine steps of 8B shapes on the device with random weights: prefill and decode by length,
 * batch and share of sparse layers. One JSON line per figure on stdout, a readable table on stderr. Needs the
 * tree, gcc and nvcc alone. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "engine/cuda/backend.h"
#include "engine/forward.h"
#include "engine/cuda/forward.h"
#include "engine/step.h"
#include "kernels/cuda/attn_gpu.h"
#include "kernels/bench/fill.h"
#include "kernels/bench/roof.h"

enum { MAX_LEN = 132096, SEQS = 64, CHUNK = 16384, TINY_CHUNK = 128 };

static const struct shape {
    const char *name;
    struct spec spec;
    bool qk_norm;
    const char *plan;   /* kinds of single layers */
    int64_t pool_bytes; /* 0: what is left */
    int seqs;           /* 0: SEQS */
} shapes[] = {
    {"qwen3-8b",
     {.n_layer = 36,
      .d = 4096,
      .n_head = 32,
      .n_kv = 8,
      .head = 128,
      .f = 12288,
      .n_vocab = 151936,
      .eps = 1e-6f,
      .rope_base = 1e6},
     true},
    {"llama-3.1-8b",
     {.n_layer = 32,
      .d = 4096,
      .n_head = 32,
      .n_kv = 8,
      .head = 128,
      .f = 14336,
      .n_vocab = 128256,
      .eps = 1e-5f,
      .rope_base = 5e5},
     false},
    /* every kind in a model that compute-sanitizer can chew */
    {.name = "tiny",
     .spec = {.n_layer = 10,
              .d = 256,
              .n_head = 6,
              .n_kv = 2,
              .head = 64,
              .f = 512,
              .n_vocab = 1000,
              .eps = 1e-5f,
              .rope_base = 1e4},
     .qk_norm = true,
     .plan = "2:xattn,3:flex,4:reuse(3),5:none,6:split(1),7:window,8:triangle,9:retrieval",
     .pool_bytes = 64 << 20,
     .seqs = 4},
};

struct bench {
    struct engine e;
    int stride;
    int32_t *tok, *page; /* page: [SEQS][L][stride] */
    uint8_t *route;
    struct batch_seq seq[SEQS];
};

static void must(enum err e, const struct err_note *note)
{
    if (e == OK) return;
    fprintf(stderr, "%s: %s\n", err_name(e), note->text);
    exit(1);
}

static enum dtype layers_as = DT_BF16; /* or codes: DT_FP8, DT_U4 */
static bool head_fp8;

static uint64_t codes_seed = 1000;

static void new_codes4(struct engine *e, struct weight *w, int n, int k, struct err_note *note)
{
    const struct weight like = {.dt = DT_U4, .n = n, .k = k, .s = {.rows = 1, .cols = 128}};
    CHECK(e->be->holds_codes(e->be, &like));
    must(e->be->codes_new(e->be, w, &like, note), note);
    must(e->be->weight_done(e->be, w, note), note);
    fill_int4((void *)(uintptr_t)w->data, w->impl, exp2f(roundf(log2f(0.13f / sqrtf((float)k)))),
              codes_seed++); /* codes' deviation is 4.6, that of numbers 0.87 / sqrt(k) */
    e->w.bytes += e->be->weight_bytes(w);
}

static void new_codes(struct engine *e, struct weight *w, int n, int k, struct err_note *note)
{
    const struct weight like = {.dt = DT_FP8, .n = n, .k = k, .s = {.rows = 1, .cols = k}};
    float *scale = malloc((size_t)n * sizeof *scale);
    CHECK(scale && e->be->holds_codes(e->be, &like));
    must(e->be->codes_new(e->be, w, &like, note), note);
    fill_fp8((void *)(uintptr_t)w->data, (int64_t)n * k, codes_seed++);
    for (int i = 0; i < n; i++) scale[i] = 1.5f / sqrtf((float)k) / 130; /* codes' deviation */
    CHECK(e->be->copy_in(e->be, (void *)(uintptr_t)w->s.scale, scale, n * (int64_t)sizeof *scale) == OK);
    free(scale);
    e->w.bytes += e->be->weight_bytes(w);
}

static void new_weight(struct engine *e, struct weight *w, int n, int k, struct err_note *note)
{
    static uint64_t seed = 1;
    const enum dtype as = w == &e->w.embed  ? DT_BF16
                          : w != &e->w.head ? layers_as
                          : head_fp8        ? DT_FP8
                                            : DT_BF16;
    if (as != DT_BF16) {
        (as == DT_U4 ? new_codes4 : new_codes)(e, w, n, k, note);
        return;
    }
    must(e->be->weight_new(e->be, w, n, k, DT_BF16, WEIGHT_GEMM, note), note);
    fill_random((void *)(uintptr_t)w->data, (int64_t)n * k, seed++, 0, 1.5f / sqrtf((float)k));
    e->w.bytes += (int64_t)n * k * 2;
}

static void *new_vector(struct engine *e, int n)
{
    void *v = e->be->mem_new(e->be, n * 2);
    CHECK(v);
    fill_random(v, n, 7, 1, 0.1f);
    return v;
}

static void new_weights(struct engine *e, bool qk_norm, struct err_note *note)
{
    const struct spec *s = &e->spec;
    e->w.layer = calloc((size_t)s->n_layer, sizeof *e->w.layer);
    e->w.n_layer = s->n_layer;
    new_weight(e, &e->w.embed, s->n_vocab, s->d, note);
    new_weight(e, &e->w.head, s->n_vocab, s->d, note);
    e->w.norm = new_vector(e, s->d);
    for (int l = 0; l < s->n_layer; l++) {
        struct layer_weights *w = &e->w.layer[l];
        new_weight(e, &w->mat[MAT_QKV], (s->n_head + 2 * s->n_kv) * s->head, s->d, note);
        new_weight(e, &w->mat[MAT_O], s->d, s->n_head * s->head, note);
        new_weight(e, &w->mat[MAT_GATE_UP], 2 * s->f, s->d, note);
        new_weight(e, &w->mat[MAT_DOWN], s->d, s->f, note);
        w->vec[VEC_ATTN_NORM] = new_vector(e, s->d);
        w->vec[VEC_FFN_NORM] = new_vector(e, s->d);
        if (!qk_norm) continue;
        w->vec[VEC_Q_NORM] = new_vector(e, s->head);
        w->vec[VEC_K_NORM] = new_vector(e, s->head);
    }
}

/* Angles as engine.c makes them; their values do not change the time. */
static void new_rope(struct engine *e)
{
    int half = e->spec.head / 2;
    float *rope = malloc((size_t)e->mem.rope_bytes);
    CHECK(rope);
    for (int64_t i = 0; i < (int64_t)MAX_LEN * half; i++) {
        float a = (float)(i / half) *
                  powf((float)e->spec.rope_base, -2.0f * (float)(i % half) / (float)e->spec.head);
        rope[2 * i] = cosf(a);
        rope[2 * i + 1] = sinf(a);
    }
    CHECK(e->be->copy_in(e->be, e->mem.rope, rope, e->mem.rope_bytes) == OK);
    free(rope);
}

static void open_bench(struct bench *b, const struct shape *s, int sparse_kind, bool codes)
{
    struct err_note note = {0};
    struct engine *e = &b->e;
    struct backend_conf conf = {0};
    const int seqs = s->seqs ? s->seqs : SEQS;
    e->spec = s->spec;
    e->info = (struct engine_info){.max_len = MAX_LEN,
                                   .max_seqs = seqs,
                                   .chunk_tok = CHUNK,
                                   .sink_blocks = 1,
                                   .local_blocks = 16,
                                   .kv_codes = codes,
                                   .router_pool_size = 100};
    e->flux = (struct flux_spec){.sparse_kind = sparse_kind,
                                 .sink_size = 128,
                                 .local_window_size = 2048,
                                 .pool_size = 100,
                                 .triangle_n_last = 128};
    e->attn_scale = 1.0f / sqrtf((float)s->spec.head);
    e->max_tok = CHUNK;
    e->logit_tok = SEQS;
    must(backend_cuda_open(&e->be, &conf, &note), &note);
    new_weights(e, s->qk_norm, &note);
    struct kinds_conf kinds = {.n_layer = s->spec.n_layer,
                               .n_head = s->spec.n_head,
                               .n_kv = s->spec.n_kv,
                               .sparse = sparse_kind,
                               .full = ATTN_FULL,
                               .plan = s->plan};
    struct memory_conf m = {.max_tok = CHUNK,
                            .router_tok = 100,
                            .logit_tok = SEQS,
                            .max_len = MAX_LEN,
                            .max_seqs = seqs,
                            .stream_tok = MAX_LEN,
                            .pool_bytes = s->pool_bytes,
                            .codes = codes,
                            .n_wide = codes ? (MAX_LEN + PAGE_TOK - 1) / PAGE_TOK + seqs : 0,
                            .hold_block = CHUNK / PAGE_TOK + seqs + 1,
                            .choose_work =
                                choose_gpu_work((MAX_LEN + PAGE_TOK - 1) / PAGE_TOK, s->spec.n_head)};
    must(kinds_open(&e->kinds, &kinds, &note), &note);
    m.n_hold = e->kinds.n_hold;
    m.code_k = layers_as != DT_FP8 ? head_fp8 ? s->spec.d : 0 : s->spec.f > s->spec.d ? s->spec.f : s->spec.d;
    m.number_elems = layers_as == DT_U4 ? 2 * (int64_t)s->spec.f * s->spec.d : 0;
    if (e->kinds.reuses) m.hold_block = (int64_t)seqs * ((MAX_LEN + PAGE_TOK - 1) / PAGE_TOK);
    must(memory_open(&e->mem, e->be, &e->spec, &m, &note), &note);
    fill_random(e->mem.pool, e->mem.n_page * e->mem.page_bytes / 2, 3, 0, 1);
    if (codes) { /* both as bf16 and as codes they are numbers */
        fill_tame(e->mem.pool, e->mem.n_page * e->mem.page_bytes);
        CHECK(cudaMemset(e->mem.exp, -2 & 0xff, (size_t)(e->mem.n_page * e->mem.exp_bytes)) == cudaSuccess);
    }
    new_rope(e);
    e->span = calloc((size_t)e->max_tok, sizeof *e->span);
    e->row = calloc((size_t)e->max_tok, sizeof *e->row);
    e->sample = calloc((size_t)e->max_tok, sizeof *e->sample);
    e->out = calloc((size_t)e->max_tok, sizeof *e->out);
    e->forward = &forward_on_device;
    must(forward_cuda_open(e, &note), &note);
    b->stride = (MAX_LEN + PAGE_TOK - 1) / PAGE_TOK;
    b->tok = calloc(MAX_LEN, 4);
    b->page = calloc((size_t)(SEQS * s->spec.n_layer * b->stride), 4);
    b->route = calloc((size_t)(SEQS * s->spec.n_layer), 1);
    for (int i = 0; i < MAX_LEN; i++)
        b->tok[i] = (int32_t)((uint32_t)i * 2654435761u % (uint32_t)s->spec.n_vocab);
    for (int i = 0; i < SEQS; i++)
        b->seq[i] = (struct batch_seq){.slot = i,
                                       .tok = b->tok,
                                       .n_prompt = 1,
                                       .page = b->page + (int64_t)i * s->spec.n_layer * b->stride,
                                       .page_stride = b->stride,
                                       .route = b->route + i * s->spec.n_layer};
}

/* Pages have moved. */
static void new_stamps(struct bench *b)
{
    static uint64_t stamp;
    stamp++;
    for (int s = 0; s < SEQS; s++) b->seq[s].page_stamp = stamp;
}

static int64_t common(int64_t a, int64_t b) { return b ? common(b, a % b) : a; }

/* Pages of n_seq sequences of n_tok tokens, shuffled by a stride; routes with `sparse` of every four layers
 * sparse. */
static bool lay_out(struct bench *b, int n_seq, int n_tok, int sparse)
{
    int64_t blocks = (n_tok + PAGE_TOK - 1) / PAGE_TOK, need = (int64_t)n_seq * b->e.spec.n_layer * blocks,
            id = 0, n = b->e.mem.n_page;
    int64_t step = n * 5 / 8 | 1;
    if (need > n) return false;
    while (common(n, step) != 1) step++;
    for (int s = 0; s < n_seq; s++)
        for (int l = 0; l < b->e.spec.n_layer; l++) {
            b->route[s * b->e.spec.n_layer + l] = (l + s) % 4 < sparse ? ROUTE_SPARSE : ROUTE_FULL;
            for (int i = 0; i < blocks; i++)
                b->page[((int64_t)s * b->e.spec.n_layer + l) * b->stride + i] = (int32_t)(id++ * step % n);
        }
    new_stamps(b);
    return true;
}

static struct sample_row greedy(int pos)
{
    return (struct sample_row){.top_p = 1, .repetition = 1, .pos = pos, .force_id = -1};
}

static double run_step(struct bench *b, struct batch *batch)
{
    static struct sample_out row[SEQS], piece[SEQS];
    static uint8_t drew[SEQS];
    struct step_out out = {.row = row, .piece = piece, .drew = drew};
    struct err_note note = {0};
    int64_t t0 = clock_ns();
    must(step_run(&b->e, batch, &out, &note), &note);
    return clock_ms_since(t0);
}

static int cmp(const void *x, const void *y) { return *(const double *)x < *(const double *)y ? -1 : 1; }

static double decode_ms(struct bench *b, int n_seq, int depth, int steps)
{
    double t[64];
    struct batch_row row[SEQS];
    for (int k = -3; k < steps; k++) {
        for (int s = 0; s < n_seq; s++)
            row[s] =
                (struct batch_row){.seq = &b->seq[s], .pos = depth + k + 3, .sample = greedy(depth + k + 4)};
        double ms = run_step(b, &(struct batch){.n_row = n_seq, .row = row});
        if (k >= 0) t[k] = ms;
    }
    qsort(t, (size_t)steps, sizeof *t, cmp);
    return t[steps / 2];
}

/* As the scheduler would cut it: whole where it fits a call, else layer by layer in chunks. */
static double prefill_ms(struct bench *b, int n, int chunk)
{
    double ms = 0;
    const int L = b->e.spec.n_layer;
    struct batch_seq *seq = &b->seq[0];
    seq->n_prompt = n;
    for (int l = 0; l < (n <= chunk ? 1 : L); l++)
        for (int at = 0; at < n; at += chunk) {
            struct batch_piece p = {.seq = seq,
                                    .layer0 = l,
                                    .layer1 = n <= chunk ? L : l + 1,
                                    .tok0 = at,
                                    .tok1 = at + chunk < n ? at + chunk : n,
                                    .sample = greedy(n)};
            ms += run_step(b, &(struct batch){.n_piece = 1, .piece = &p});
        }
    seq->n_prompt = 1;
    memory_stream_drop(&b->e.mem, 0);
    return ms;
}

/* --- rows of random routes: order of rows, and passes split by route */

enum { ROUTE_ROWS = 32, ROUTE_DEPTH = 16384 };

/* A route's place in Gray code's order, as scheduler/plan.c orders rows. */
static uint64_t rank_of(const uint8_t *route, int n_layer)
{
    uint64_t g = 0;
    for (int l = 0; l < n_layer; l++) g = g << 1 | (route[l] == ROUTE_FULL);
    for (int k = 1; k < 64; k *= 2) g ^= g >> k;
    return g;
}

/* n_kind different routes for the rows in turn, a quarter of the layers of each full, drawn by chance. */
static void draw_routes(struct bench *b, int n_kind, uint64_t seed)
{
    const int L = b->e.spec.n_layer;
    for (int s = 0; s < ROUTE_ROWS; s++) {
        uint8_t *r = b->route + s * L;
        if (s >= n_kind) {
            memcpy(r, b->route + s % n_kind * L, (size_t)L);
            continue;
        }
        memset(r, ROUTE_SPARSE, (size_t)L);
        for (int full = 0; full < L / 4;) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            int l = (int)(seed >> 33) % L;
            full += r[l] == ROUTE_SPARSE;
            r[l] = ROUTE_FULL;
        }
    }
}

static void order_routes(struct bench *b)
{
    const int L = b->e.spec.n_layer;
    uint8_t t[256];
    for (int i = 1; i < ROUTE_ROWS; i++)
        for (int j = i; j > 0 && rank_of(b->route + j * L, L) < rank_of(b->route + (j - 1) * L, L); j--) {
            memcpy(t, b->route + j * L, (size_t)L);
            memcpy(b->route + j * L, b->route + (j - 1) * L, (size_t)L);
            memcpy(b->route + (j - 1) * L, t, (size_t)L);
        }
}

static bool is_seen(const struct bench *b, int s, int l, int i, int last)
{
    return b->route[s * b->e.spec.n_layer + l] == ROUTE_FULL || i < b->e.info.sink_blocks ||
           i > last - b->e.info.local_blocks - 1;
}

/* Pages for what is seen alone: with all of them full this many rows would not fit. */
static void lay_out_seen(struct bench *b)
{
    int L = b->e.spec.n_layer, last = ROUTE_DEPTH / PAGE_TOK;
    int64_t id = 0, n = b->e.mem.n_page, step = n * 5 / 8 | 1;
    while (common(n, step) != 1) step++;
    for (int s = 0; s < ROUTE_ROWS; s++)
        for (int l = 0; l < L; l++)
            for (int i = 0; i < b->stride; i++)
                b->page[((int64_t)s * L + l) * b->stride + i] =
                    i <= last && is_seen(b, s, l, i, last) ? (int32_t)(id++ * step % n) : -1;
    CHECK(id <= n);
    new_stamps(b);
}

/* Attention of all layers of one step, in one graph; and the bytes that it must move. */
static double attention_ms(struct bench *b, double *bytes)
{
    struct engine *e = &b->e;
    struct backend_cuda *be = (struct backend_cuda *)e->be;
    const int L = e->spec.n_layer, H = e->spec.n_head, G = e->spec.n_kv, K = e->spec.head,
              n_seg = L * ROUTE_ROWS;
    struct attn_seg *host = calloc((size_t)n_seg, sizeof *host),
                    *seg = e->be->mem_new(e->be, n_seg * (int64_t)sizeof *host);
    int64_t table = (int64_t)n_seg * b->stride * 4, work = (int64_t)attn_gpu_work_bytes(ROUTE_ROWS, H, G, K);
    int32_t *page = e->be->mem_new(e->be, table);
    struct attn_gpu g = {.stream = be->stream,
                         .n_sm = be->n_sm,
                         .n_row = ROUTE_ROWS,
                         .n_page = e->mem.n_page,
                         .max_row = ROUTE_ROWS,
                         .act = DT_BF16,
                         .work = e->be->mem_new(e->be, work)};
    cudaEvent_t begin, end;
    double t[21];
    CHECK(host && seg && page && g.work && cudaEventCreate(&begin) == cudaSuccess &&
          cudaEventCreate(&end) == cudaSuccess);
    *bytes = 0;
    for (int l = 0; l < L; l++)
        for (int s = 0; s < ROUTE_ROWS; s++) {
            bool full = b->route[s * L + l] == ROUTE_FULL;
            host[l * ROUTE_ROWS + s] = (struct attn_seg){.row0 = s,
                                                         .n_row = 1,
                                                         .pos0 = ROUTE_DEPTH - 1,
                                                         .kind = full ? ATTN_FULL : ATTN_STREAMING,
                                                         .sink_blocks = 1,
                                                         .local_blocks = 16,
                                                         .page = page + ((int64_t)s * L + l) * b->stride};
            *bytes += 4.0 * H * K + 4.0 * G * K * (full ? ROUTE_DEPTH : 17 * PAGE_TOK);
        }
    CHECK(e->be->copy_in(e->be, seg, host, n_seg * (int64_t)sizeof *host) == OK &&
          e->be->copy_in(e->be, page, b->page, table) == OK);
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    CHECK(cudaStreamBeginCapture(be->stream, cudaStreamCaptureModeThreadLocal) ==
          cudaSuccess); /* as decode steps run */
    for (int l = 0; l < L; l++) {
        struct attn_args a = {.out = e->mem.att,
                              .q = e->mem.qkv,
                              .out_stride = (int64_t)H * K,
                              .q_stride = (int64_t)H * K,
                              .pool = e->mem.pool,
                              .seg = seg + (int64_t)l * ROUTE_ROWS,
                              .n_seg = ROUTE_ROWS,
                              .n_head = H,
                              .n_kv = G,
                              .head = K,
                              .scale = e->attn_scale,
                              .decode = true};
        CHECK(attn_decode_gpu(&a, &g) == OK);
    }
    CHECK(cudaStreamEndCapture(be->stream, &graph) == cudaSuccess &&
          cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);
    for (int k = -2; k < 21; k++) {
        float ms;
        cudaEventRecord(begin, be->stream);
        CHECK(cudaGraphLaunch(exec, be->stream) == cudaSuccess);
        cudaEventRecord(end, be->stream);
        CHECK(cudaEventSynchronize(end) == cudaSuccess &&
              cudaEventElapsedTime(&ms, begin, end) == cudaSuccess);
        if (k >= 0) t[k] = (double)ms;
    }
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
    qsort(t, 21, sizeof *t, cmp);
    e->be->mem_free(e->be, seg, 0);
    e->be->mem_free(e->be, page, 0);
    e->be->mem_free(e->be, g.work, 0);
    free(host);
    return t[10];
}

/* The rows in passes of one route each. */
static double split_ms(struct bench *b, int n_kind)
{
    const int L = b->e.spec.n_layer;
    struct batch_row row[ROUTE_ROWS];
    double best = 1e9;
    for (int k = 0; k < 4; k++) {
        double sum = 0;
        for (int kind = 0, from = 0; kind < n_kind; kind++) {
            int n = 0;
            for (; from + n < ROUTE_ROWS &&
                   memcmp(b->route + (from + n) * L, b->route + from * L, (size_t)L) == 0;
                 n++)
                row[n] = (struct batch_row){
                    .seq = &b->seq[from + n], .pos = ROUTE_DEPTH - 1, .sample = greedy(ROUTE_DEPTH)};
            sum += run_step(b, &(struct batch){.n_row = n, .row = row});
            from += n;
        }
        best = fmin(best, sum);
    }
    return best;
}

/* Byte times are at what the device gave a kernel that reads and does nothing else, in this run. */
static void bench_routes(struct bench *b, double roof_tbps)
{
    static const int kinds[] = {ROUTE_ROWS, 4};
    for (int i = 0; i < 2; i++)
        for (int ordered = 0; ordered < 2; ordered++) {
            double bytes;
            draw_routes(b, kinds[i], 11);
            if (ordered) order_routes(b);
            lay_out_seen(b);
            double attn = attention_ms(b, &bytes), byte_ms = bytes / (roof_tbps * 1e9),
                   step = decode_ms(b, ROUTE_ROWS, ROUTE_DEPTH - 20, 15),
                   split = ordered ? split_ms(b, kinds[i]) : 0;
            printf(
                "{\"bench\":\"routes\",\"rows\":%d,\"tokens\":%d,\"routes\":%d,\"ordered\":%d,\"attention_ms\":%.3f,\"byte_ms\":%.3f,\"over_percent\":%.1f,\"step_ms\":%.3f,\"split_ms\":%.3f}\n",
                ROUTE_ROWS, ROUTE_DEPTH, kinds[i], ordered, attn, byte_ms, 100 * (attn / byte_ms - 1), step,
                split);
            fflush(stdout);
        }
}

/* What a step cannot do without: bytes of weights and of keys and values, operations of products and of
 * visible pairs (PaLM, appendix B). */
struct need {
    double bytes, product_flop, attention_flop;
};

/* Keys that the token at pos sees in a layer. */
static double keys_of(const struct bench *b, int seq, int layer, int pos)
{
    const int block = pos / PAGE_TOK, sink = b->e.info.sink_blocks, local = b->e.info.local_blocks;
    if (b->route[seq * b->e.spec.n_layer + layer] == ROUTE_FULL || block - local + 1 <= sink) return pos + 1;
    return (double)(sink + local - 1) * PAGE_TOK + pos % PAGE_TOK + 1;
}

/* n_seq sequences with n tokens each before the step; prompt: the step is all of one prompt's n. Only a last
 * token meets the output matrix. */
static struct need need_of(const struct bench *b, int n, int n_seq, bool prompt)
{
    const struct spec *s = &b->e.spec;
    const double head = (double)s->n_vocab * s->d, rows = prompt ? n : n_seq,
                 head_bytes = head * (head_fp8 ? 1 : 2),
                 layer_bytes = (double)b->e.w.bytes - 2 * head - head_bytes,
                 layers = (double)s->n_layer * s->d * ((2 * s->n_head + 2 * s->n_kv) * s->head + 3.0 * s->f);
    struct need x = {.bytes = layer_bytes + head_bytes,
                     .product_flop = 2 * (layers * rows + head * (prompt ? 1 : rows))};
    for (int q = 0; q < n_seq; q++)
        for (int l = 0; l < s->n_layer; l++)
            for (int t = prompt ? 0 : n; t < (prompt ? n : n + 1); t++) {
                const bool codes = b->e.info.kv_codes && b->route[q * s->n_layer + l] == ROUTE_FULL;
                double keys = keys_of(b, q, l, t);
                x.attention_flop += 4.0 * s->n_head * s->head * keys;
                x.bytes +=
                    (codes ? 2.0 * s->n_kv * (s->head + 1) : 4.0 * s->n_kv * s->head) *
                    (prompt ? 1 : keys); /* a prompt's keys and values are written;
                                                                      those read again may stay in L2 */
            }
    return x;
}

static void tell(const struct bench *b, const char *what, int n, int n_seq, int sparse, double ms)
{
    struct need x = need_of(b, n, n_seq, strcmp(what, "prefill") == 0);
    printf(
        "{\"bench\":\"%s\",\"tokens\":%d,\"sequences\":%d,\"sparse_percent\":%d,\"weights\":\"%s\",\"ms\":%.3f,\"bytes\":%.0f,\"product_flop\":%.0f,\"attention_flop\":%.0f}\n",
        what, n, n_seq, sparse,
        layers_as == DT_BF16 ? "bf16"
        : layers_as == DT_U4 ? "int4"
        : head_fp8           ? "fp8, head too"
                             : "fp8",
        ms, x.bytes, x.product_flop, x.attention_flop);
    fprintf(stderr, "%-8s %6d tokens %3d sequences %3d%% sparse %10.3f ms\n", what, n, n_seq, sparse, ms);
    fflush(stdout);
}

static bool asked(int argc, char **argv, const char *word)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], word) == 0) return true;
    return false;
}

/* Prompts whole and in pieces, decode of several rows. */
static int run_tiny(struct bench *b, bool race)
{
    const int more = race ? 140 : 650;
    for (int sparse = race ? 2 : 0; sparse <= 2; sparse += 2) {
        CHECK(lay_out(b, 3, more + 54, sparse));
        tell(b, "prefill", 128, 1, sparse * 25, prefill_ms(b, 128, TINY_CHUNK));
        tell(b, "prefill", more, 1, sparse * 25, prefill_ms(b, more, TINY_CHUNK));
        tell(b, "decode", more, 3, sparse * 25, decode_ms(b, 3, more, 2));
    }
    return 0;
}

/* usage: bench_engine [llama-3.1-8b | tiny [race: the least that racecheck can chew]] [decode | prefill |
 * routes] [fp8 | int4 | head: the layers' weights as codes, the last product's too] [brief: fewer lengths,
 * all full and three of four layers sparse | one: a token at 128, a prompt of 8,192] [xattn: what sparse
 * layers do in prefill] [codes: full layers keep keys and values in 8 bits] */
int main(int argc, char **argv)
{
    static struct bench b;
    const struct shape *s = &shapes[asked(argc, argv, shapes[1].name)   ? 1
                                    : asked(argc, argv, shapes[2].name) ? 2
                                                                        : 0];
    bool routes = asked(argc, argv, "routes"), decode = !routes && !asked(argc, argv, "prefill"),
         prefill = !routes && !asked(argc, argv, "decode");
    head_fp8 = asked(argc, argv, "head");
    layers_as = head_fp8 || asked(argc, argv, "fp8") ? DT_FP8 : asked(argc, argv, "int4") ? DT_U4 : DT_BF16;
    double roof_tbps = routes ? roof_read_tbps() : 0;
    int64_t t0 = clock_ns();
    open_bench(&b, s, asked(argc, argv, "xattn") ? ATTN_LIST : ATTN_STREAMING, asked(argc, argv, "codes"));
    fprintf(stderr, "%s on %s: weights %.1f GB, %d pages of %lld bytes, open in %.1f s\n", s->name,
            b.e.be->device, (double)b.e.w.bytes * 1e-9, b.e.mem.n_page, (long long)b.e.mem.page_bytes,
            clock_ms_since(t0) * 1e-3);
    if (s->plan) return run_tiny(&b, asked(argc, argv, "race"));
    if (routes) {
        printf("{\"bench\":\"roof\",\"read_tbps\":%.3f}\n", roof_tbps);
        bench_routes(&b, roof_tbps);
    }
    const bool brief = asked(argc, argv, "brief");
    const bool one = asked(argc, argv, "one");
    const int step = one     ? 5
                     : brief ? 3
                             : 1,
              dec[][2] = {{1, 128},  {1, 131072 - 128}, {8, 32768}, {64, 1024},
                          {1, 8192}, {1, 32768},        {8, 128},   {32, 8192}},
              pre[] = {8192, 131072, 2048, 32768};
    for (int sparse = 0; decode && sparse <= 4; sparse += step)
        for (int i = 0; i < (one ? 1 : brief ? 4 : 8); i++)
            if (lay_out(&b, dec[i][0], dec[i][1] + 64, sparse))
                tell(&b, "decode", dec[i][1], dec[i][0], sparse * 25,
                     decode_ms(&b, dec[i][0], dec[i][1], 15));
    for (int sparse = 0; prefill && sparse <= 4; sparse += step)
        for (int i = 0; i < (one ? 1 : brief ? 2 : 4); i++)
            if (lay_out(&b, 1, pre[i], sparse)) {
                double best = prefill_ms(&b, pre[i], CHUNK);
                for (int k = 0; k < (pre[i] <= 32768 ? 2 : 0); k++)
                    best = fmin(best, prefill_ms(&b, pre[i], CHUNK));
                tell(&b, "prefill", pre[i], 1, sparse * 25, best);
            }
    return 0;
}
