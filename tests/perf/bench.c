/* bench: the engine alone, on the model given: prefill and decode by length, batch and share of sparse
 * layers. Sequences that decode together share their prompt's pages, and each goes on with tokens of its own.
 * One JSON line per figure on stdout, a readable table on stderr. usage: bench [MODEL [auto|bf16|f32
 * [prefill|decode [TOKENS [SEQUENCES]]]]]   (that length or depth, so many sequences alone) */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "engine/engine.h"

struct bench {
    struct engine *e;
    const struct engine_info *m;
    int n_seq, stride, chunk;
    int32_t *tok;   /* [SEQS][max_len + 1] random, one after another */
    int32_t *page;  /* [n_seq][L][stride] */
    uint8_t *route; /* [n_seq][L] */
    struct batch_seq *seq;
};

enum { SEQS = 16 };

/* The first `shared` blocks of every sequence are those of the first one. */
static void lay_pages(struct bench *b, int n_seq, int blocks, int shared)
{
    int64_t id = 0;
    for (int s = 0; s < n_seq; s++)
        for (int l = 0; l < b->m->n_layer; l++)
            for (int i = 0; i < b->stride; i++) {
                int32_t *p = &b->page[((int64_t)s * b->m->n_layer + l) * b->stride + i];
                *p = s > 0 && i < shared ? b->page[(int64_t)l * b->stride + i]
                     : i < blocks        ? (int32_t)(id++)
                                         : -1;
            }
    CHECK(id <= b->m->n_page);
}

/* sparse_of_4: how many of every four layers are sparse. */
static void set_routes(struct bench *b, int n_seq, int sparse_of_4)
{
    for (int i = 0; i < n_seq * b->m->n_layer; i++)
        b->route[i] = i % b->m->n_layer % 4 < sparse_of_4 ? ROUTE_SPARSE : ROUTE_FULL;
}

static struct sample_row greedy(const struct batch_seq *s, int n)
{
    return (struct sample_row){
        .top_p = 1, .repetition = 1, .hist = s->tok, .n_hist = n, .n_prompt = n, .pos = n, .force_id = -1};
}

static void step(struct bench *b, struct batch *batch)
{
    static struct sample_out row[64], piece[64];
    static uint8_t drew[64];
    struct step_out out = {.row = row, .piece = piece, .drew = drew};
    struct err_note note;
    if (engine_step(b->e, batch, &out, &note)) {
        fprintf(stderr, "step failed: %s\n", note.text);
        exit(1);
    }
}

static double prefill_ms(struct bench *b, int s, int n)
{
    b->seq[s].n_prompt = n;
    int64_t t0 = clock_ns();
    for (int l = 0; l < b->m->n_layer; l++)
        for (int at = 0; at < n; at += b->chunk) {
            struct batch_piece p = {.seq = &b->seq[s],
                                    .layer0 = l,
                                    .layer1 = l + 1,
                                    .tok0 = at,
                                    .tok1 = at + b->chunk < n ? at + b->chunk : n,
                                    .sample = greedy(&b->seq[s], n)};
            struct batch one = {.n_piece = 1, .piece = &p};
            step(b, &one);
        }
    double ms = clock_ms_since(t0);
    engine_drop(b->e, s);
    return ms;
}

static int cmp(const void *a, const void *b) { return *(const double *)a < *(const double *)b ? -1 : 1; }

static double decode_ms(struct bench *b, int n_seq, int depth, int steps)
{
    static double t[256];
    struct batch_row row[64];
    for (int k = 0; k < steps; k++) {
        for (int s = 0; s < n_seq; s++)
            row[s] = (struct batch_row){
                .seq = &b->seq[s], .pos = depth + k, .sample = greedy(&b->seq[s], depth + k + 1)};
        struct batch one = {.n_row = n_seq, .row = row};
        int64_t t0 = clock_ns();
        step(b, &one);
        t[k] = clock_ms_since(t0);
    }
    qsort(t, (size_t)steps, sizeof *t, cmp);
    return t[steps / 2];
}

static void tell(const char *what, int n, int n_seq, int sparse, double ms, double tok_s)
{
    printf(
        "{\"bench\":\"%s\",\"tokens\":%d,\"sequences\":%d,\"sparse_percent\":%d,\"ms\":%.3f,\"tok_s\":%.1f}\n",
        what, n, n_seq, sparse, ms, tok_s);
    fprintf(stderr, "%-8s %6d tokens %3d sequences %3d%% sparse %10.2f ms %9.1f tok/s\n", what, n, n_seq,
            sparse, ms, tok_s);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct engine_conf c = {.model = argc > 1 ? argv[1] : "models/SmolLM2-135M-Instruct.Q4_1.gguf",
                            .max_seqs = 16,
                            .chunk_tok = 512,
                            .kv_pool_bytes = 3LL << 30,
                            .sparse_kind = -1,
                            .sink_size = 128,
                            .local_window_size = 1024,
                            .triangle_n_last = -1,
                            .router_pool_size = -1,
                            .retrieval_kind = -1,
                            .device = ENGINE_DEVICE_CPU};
    if (argc > 2)
        c.dtype = strcmp(argv[2], "f32") == 0    ? ENGINE_DTYPE_F32
                  : strcmp(argv[2], "bf16") == 0 ? ENGINE_DTYPE_BF16
                                                 : ENGINE_DTYPE_AUTO;
    const bool prefill = argc <= 3 || strcmp(argv[3], "prefill") == 0,
               decode = argc <= 3 || strcmp(argv[3], "decode") == 0;
    const int only = argc > 4 ? atoi(argv[4]) : 0, only_seqs = argc > 5 ? atoi(argv[5]) : 0;
    struct err_note note;
    struct bench b = {0};
    if (engine_open(&b.e, &c, &note)) {
        fprintf(stderr, "%s: %s\n", note.param, note.text);
        return 1;
    }
    b.m = engine_info(b.e);
    b.chunk = c.chunk_tok;
    b.stride = b.m->max_len / PAGE_TOK;
    b.tok = calloc((size_t)(SEQS * (b.m->max_len + 1)), sizeof *b.tok);
    b.page = calloc((size_t)(SEQS * b.m->n_layer * b.stride), sizeof *b.page);
    b.route = calloc((size_t)(SEQS * b.m->n_layer), 1);
    b.seq = calloc(SEQS, sizeof *b.seq);
    fprintf(stderr, "%s, %s weights, %s, weights %.1f MiB, page %lld bytes\n", b.m->name, b.m->weights,
            b.m->device, (double)b.m->weight_bytes / 1048576, (long long)b.m->page_bytes);
    uint32_t r = 1;
    for (int i = 0; i < SEQS * (b.m->max_len + 1); i++) {
        r = r * 1664525u + 1013904223u;
        b.tok[i] = (int32_t)((r >> 8) % (uint32_t)b.m->n_vocab);
    }
    for (int s = 0; s < SEQS; s++)
        b.seq[s] = (struct batch_seq){.slot = s,
                                      .tok = b.tok + s * (b.m->max_len + 1),
                                      .n_prompt = 1,
                                      .page = b.page + (int64_t)s * b.m->n_layer * b.stride,
                                      .page_stride = b.stride,
                                      .route = b.route + s * b.m->n_layer};
    const int len[] = {128, 512, 2048, 4096, 8064}, depth[] = {16, 2048, 4096};
    for (int sparse = 0; prefill && sparse <= 3; sparse += sparse ? 1 : 2)
        for (int i = 0; i < 5; i++) {
            if (only && len[i] != only) continue;
            lay_pages(&b, 1, b.stride, 0);
            set_routes(&b, 1, sparse);
            double best = prefill_ms(&b, 0, len[i]);
            for (int k = 0; k < (len[i] <= 2048 ? 3 : 0); k++) {
                double ms = prefill_ms(&b, 0, len[i]);
                best = ms < best ? ms : best;
            }
            tell("prefill", len[i], 1, sparse * 25, best, len[i] / best * 1e3);
        }
    for (int sparse = 0; decode && sparse <= 3; sparse += sparse ? 1 : 2)
        for (int i = 0; i < 3; i++) {
            if (only && depth[i] != only) continue;
            lay_pages(&b, SEQS, depth[i] / PAGE_TOK + 2, depth[i] / PAGE_TOK);
            set_routes(&b, SEQS, sparse);
            for (int s = 0; s < SEQS;
                 s++) { /* those whose pages are all shared have their prompt from the first */
                memcpy(b.tok + s * (b.m->max_len + 1), b.tok, s > 0 ? (size_t)depth[i] * sizeof *b.tok : 0);
                if (s == 0 || depth[i] % PAGE_TOK > 0) prefill_ms(&b, s, depth[i]);
            }
            for (int n = 1; n <= SEQS; n *= 4) {
                if (only_seqs && n != only_seqs) continue;
                double ms = decode_ms(&b, n, depth[i], 40);
                tell("decode", depth[i], n, sparse * 25, ms, n / ms * 1e3);
            }
        }
    engine_close(b.e);
    return 0;
}
