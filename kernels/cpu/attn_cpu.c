/* attn: the portable CPU kernel (attn_bf16.c is the one for processors with bf16 products). A tile is up to
 * TILE_TOK query tokens inside one block, with up to TILE_HEADS query heads of one kv head; it walks its
 * blocks once, and every K and V page it meets is brought to fp32 (K transposed) once for all its rows.
 * Softmax is online, block by block in ascending order, so a row's result depends on the row and its pages
 * alone: not on the tile, the piece or the batch. */
#include <math.h>
#include <string.h>

#include "kernels/attn_blocks.h"
#include "kernels/cpu/internal.h"
#include "kernels/cpu/cpu_math.h"
#include "kernels/cpu/kv_codes.h"
#include "kernels/quant.h"

enum { TILE_TOK = 32, TILE_HEADS = 16, HEAD_MAX = 256, ROW_MAX = TILE_TOK * TILE_HEADS, ROWS = 6 };

/* Per-thread work area. Rows are those of the tile: (token, query head of the group). */
struct tile {
    _Alignas(64) float kt[HEAD_MAX][PAGE_TOK]; /* K page, transposed */
    _Alignas(64) float v[PAGE_TOK][HEAD_MAX];  /* V page, dense rows of K used */
    _Alignas(64) float s[ROWS][PAGE_TOK];      /* scores, then weights, of the rows at work */
    float m[ROW_MAX], l[ROW_MAX];
};

/* What a call of the row kernels works on: R query rows with their sums of values. */
struct row_set {
    const float *q[ROWS];
    float *o[ROWS];
    int n_key[ROWS]; /* keys of the page that each row sees */
    int n_max;       /* keys of the page that are written */
    int K;
    float scale;
};

/* Of codes, for all but the processors that attn_bf16.c is for. */
static void load_codes(struct tile *t, const struct op_ctx *c, const struct attn_args *a, int32_t page, int g,
                       int n_key)
{
    const int K = a->head;
    for (int j = 0; j < PAGE_TOK; j++)
        for (int i = 0; i < K; i++)
            t->kt[i][j] = j < n_key ? kv_number(c, a->pool, page, a->n_kv, g, 0, K, j, i) : 0.0f;
    for (int j = 0; j < n_key; j++)
        for (int i = 0; i < K; i++) t->v[j][i] = kv_number(c, a->pool, page, a->n_kv, g, 1, K, j, i);
}

CPU_CLONES static void load_page(struct tile *t, const void *pool, enum dtype kv, int64_t half, int K,
                                 int n_key)
{
    const float *f = (const float *)pool + half;
    const uint16_t *h = (const uint16_t *)pool + half;
    for (int j = 0; j < PAGE_TOK; j++)
        for (int i = 0; i < K; i++) /* keys that are not written yet count as zero: never NaN */
            t->kt[i][j] = j >= n_key     ? 0.0f
                          : kv == DT_F32 ? f[j * K + i]
                                         : f32_from_bf16(h[kv_at_k(kv, K, j, i)]);
    f += PAGE_TOK * K;
    h += PAGE_TOK * K;
    for (int j = 0; j < n_key; j++)
        for (int i = 0; i < K; i++)
            t->v[j][i] = kv == DT_F32 ? f[j * K + i] : f32_from_bf16(h[kv_at_v(kv, K, j, i)]);
}

/* Online softmax of one row over the page. */
static inline __attribute__((always_inline)) void soften_row(struct tile *t, const struct row_set *r, int k,
                                                             float *m, float *l)
{
    float *s = t->s[k], lane[LANES];
    for (int j = r->n_key[k]; j < PAGE_TOK; j++) s[j] = -INFINITY;
    for (int j = 0; j < LANES; j++) lane[j] = s[j];
    for (int j = LANES; j < PAGE_TOK; j += LANES)
        for (int i = 0; i < LANES; i++) lane[i] = s[j + i] > lane[i] ? s[j + i] : lane[i];
    float max = *m;
    for (int i = 0; i < LANES; i++) max = lane[i] > max ? lane[i] : max;
    float keep = exp_f32(*m - max); /* first page: exp(-inf) = 0; max is finite since a key is visible */
    for (int j = 0; j < PAGE_TOK; j++) s[j] = exp_f32(s[j] - max);
    for (int i = 0; i < LANES; i++) lane[i] = s[i];
    for (int j = LANES; j < PAGE_TOK; j += LANES)
        for (int i = 0; i < LANES; i++) lane[i] += s[j + i];
    *l = *l * keep + fold16(lane);
    *m = max;
    for (int i = 0; i < r->K; i++) r->o[k][i] *= keep;
}

/* One row or ROWS of them over a page: scores, softmax, sums of values. */
typedef void rows_fn(struct tile *, const struct row_set *, float *m, float *l);

#define V_FLOATS   8
#define V_NAME(fn) fn##_8
#define V_TARGET   CPU_CLONES
#include "kernels/cpu/attn_rows.h"

#if CPU_HAS_CLONES
#define V_FLOATS   16
#define V_NAME(fn) fn##_16
#define V_TARGET   __attribute__((target("arch=x86-64-v4")))
#include "kernels/cpu/attn_rows.h"

static bool has_16(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}
static rows_fn *rows_many(void) { return has_16() ? rows_many_16 : rows_many_8; }
static rows_fn *rows_one(void) { return has_16() ? rows_one_16 : rows_one_8; }
#else
static rows_fn *rows_many(void) { return rows_many_8; }
static rows_fn *rows_one(void) { return rows_one_8; }
#endif

static void run_tile(const struct op_ctx *c, const struct attn_args *a, const struct attn_seg *s, int r0,
                     int n, int h0, int n_h)
{
    struct tile t;
    rows_fn *many = rows_many(), *one = rows_one();
    const int K = a->head, g = h0 / (a->n_head / a->n_kv), pos0 = s->pos0 + r0;
    for (int i = 0; i < n * n_h; i++) {
        t.m[i] = -INFINITY;
        t.l[i] = 0;
    }
    for (int r = 0; r < n; r++)
        memset((float *)a->out + (s->row0 + r0 + r) * a->out_stride + h0 * K, 0,
               (size_t)(n_h * K) * sizeof(float));
    struct attn_walk w = attn_walk_begin(s, pos0, h0);
    for (int b = attn_walk_next(&w); b >= 0; b = attn_walk_next(&w)) {
        int seen = pos0 + n - b * PAGE_TOK; /* keys the last row sees */
        const int n_key = seen < PAGE_TOK ? seen : PAGE_TOK;
        if (page_has_codes(s->page[b]))
            load_codes(&t, c, a, s->page[b], g, n_key);
        else
            load_page(&t, a->pool, c->kv, kv_half(s->page[b], a->n_kv, g, 0, K), K, n_key);
        for (int i = 0, step; i < n * n_h; i += step) {
            struct row_set set = {.K = K, .scale = a->scale, .n_max = n_key};
            step = n * n_h - i >= ROWS ? ROWS : 1;
            for (int k = 0; k < step; k++) {
                int r = (i + k) / n_h, h = h0 + (i + k) % n_h, keys = pos0 + r + 1 - b * PAGE_TOK;
                set.q[k] = (const float *)a->q + (s->row0 + r0 + r) * a->q_stride + h * K;
                set.o[k] = (float *)a->out + (s->row0 + r0 + r) * a->out_stride + h * K;
                set.n_key[k] = keys < PAGE_TOK ? keys : PAGE_TOK;
            }
            (step == ROWS ? many : one)(&t, &set, &t.m[i], &t.l[i]);
        }
    }
    for (int r = 0; r < n; r++)
        for (int h = 0; h < n_h; h++) {
            float *o = (float *)a->out + (s->row0 + r0 + r) * a->out_stride + (h0 + h) * K;
            float inv = t.l[r * n_h + h] > 0 ? 1.0f / t.l[r * n_h + h] : 0.0f;
            for (int i = 0; i < K; i++) o[i] *= inv;
        }
}

/* Rows of a tile share their block and, for triangle, their side of dense_from. Returns the tile's rows from
 * r0 on. */
static int tile_rows(const struct attn_seg *s, int r0)
{
    int pos = s->pos0 + r0, end = (pos / TILE_TOK + 1) * TILE_TOK, last = s->pos0 + s->n_row;
    if (s->kind == ATTN_TRIANGLE && pos < s->dense_from && s->dense_from < end) end = s->dense_from;
    return (end < last ? end : last) - pos;
}

/* Lists differ by query head: one head a tile then. Else equal parts of the query heads of a kv head. */
static int heads_of_tile(const struct attn_args *a, const struct attn_seg *s)
{
    const int rep = a->n_head / a->n_kv;
    if (s->kind == ATTN_LIST) return 1;
    int heads = rep < TILE_HEADS ? rep : TILE_HEADS;
    while (rep % heads) heads--;
    return heads;
}

void attn_cpu(struct op_ctx *c, const struct attn_args *a)
{
    if (c->kv == DT_BF16 && attn_bf16(c, a)) return;
    for (int k = 0; k < a->n_seg; k++) {
        const struct attn_seg *s = &a->seg[k];
        const int heads = heads_of_tile(a, s), n_group = a->n_head / heads;
        const int n_tile = (s->pos0 + s->n_row - 1) / TILE_TOK - s->pos0 / TILE_TOK + 1;
#pragma omp parallel for num_threads(c->n_thread) collapse(2) schedule(dynamic)
        for (int i = n_tile - 1; i >= 0; i--)
            for (int g = 0; g < n_group; g++) {
                int r0 = i == 0 ? 0 : (s->pos0 / TILE_TOK + i) * TILE_TOK - s->pos0;
                int r1 = r0 + ((s->pos0 + r0) / TILE_TOK + 1) * TILE_TOK - (s->pos0 + r0);
                r1 = r1 < s->n_row ? r1 : s->n_row;
                while (r0 < r1) {
                    int n = tile_rows(s, r0);
                    run_tile(c, a, s, r0, n, g * heads, heads);
                    r0 += n;
                }
            }
    }
}
