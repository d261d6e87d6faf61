/* attn: the portable CPU kernel (attn_bf16.c is the one for processors with bf16 products). A tile is up to TILE_TOK query tokens inside one block, with all query heads of one kv head; it walks its
 * blocks once, and every K and V page it meets is brought to fp32 (K transposed) once for all its rows. Softmax is online,
 * block by block in ascending order, so a row's result depends on the row and its pages alone: not on the tile, the piece
 * or the batch. */
#include <math.h>
#include <string.h>

#include "kernels/attn_blocks.h"
#include "kernels/cpu_int.h"
#include "kernels/cpu_math.h"
#include "kernels/kv_page.h"
#include "kernels/quant.h"

enum { TILE_TOK = 32, HEAD_MAX = 256, ROW_MAX = TILE_TOK * 16 };

/* Per-thread work area. */
struct tile {
    _Alignas(64) float kt[HEAD_MAX][PAGE_TOK]; /* K page, transposed */
    _Alignas(64) float v[PAGE_TOK][HEAD_MAX];  /* V page, dense rows of K used */
    _Alignas(64) float s[PAGE_TOK];            /* scores, then weights, of one row */
    float m[ROW_MAX], l[ROW_MAX];
};

CPU_CLONES static void load_page(struct tile *t, const void *pool, enum dtype kv, int64_t half, int K, int n_key)
{
    const float    *f = (const float *)pool + half;
    const uint16_t *h = (const uint16_t *)pool + half;
    for (int j = 0; j < PAGE_TOK; j++)
        for (int i = 0; i < K; i++) /* keys that are not written yet count as zero: never NaN */
            t->kt[i][j] = j >= n_key ? 0.0f : kv == DT_F32 ? f[j * K + i] : f32_from_bf16(h[kv_at_k(kv, K, j, i)]);
    f += PAGE_TOK * K;
    h += PAGE_TOK * K;
    for (int j = 0; j < n_key; j++)
        for (int i = 0; i < K; i++)
            t->v[j][i] = kv == DT_F32 ? f[j * K + i] : f32_from_bf16(h[kv_at_v(kv, K, j, i)]);
}

/* One row against the loaded page; n_key of its keys are visible. o is the row's running sum of values. */
CPU_CLONES static void row_page(struct tile *t, const float *restrict q, float *restrict o, float *m, float *l, int K,
                                int n_key, float scale)
{
    float *restrict s = t->s;
    memset(s, 0, sizeof t->s);
    for (int i = 0; i < K; i++) {
        float qi = q[i] * scale;
        for (int j = 0; j < PAGE_TOK; j++)
            s[j] += qi * t->kt[i][j];
    }
    float lane[LANES];
    for (int j = n_key; j < PAGE_TOK; j++)
        s[j] = -INFINITY;
    for (int j = 0; j < LANES; j++)
        lane[j] = s[j];
    for (int j = LANES; j < PAGE_TOK; j += LANES)
        for (int k = 0; k < LANES; k++)
            lane[k] = s[j + k] > lane[k] ? s[j + k] : lane[k];
    float max = *m;
    for (int k = 0; k < LANES; k++)
        max = lane[k] > max ? lane[k] : max;
    float keep = exp_f32(*m - max); /* first page: exp(-inf) = 0; max is finite since a key is visible */
    for (int j = 0; j < PAGE_TOK; j++)
        s[j] = exp_f32(s[j] - max);
    for (int k = 0; k < LANES; k++)
        lane[k] = s[k];
    for (int j = LANES; j < PAGE_TOK; j += LANES)
        for (int k = 0; k < LANES; k++)
            lane[k] += s[j + k];
    *l = *l * keep + fold16(lane);
    *m = max;
    for (int i = 0; i < K; i++)
        o[i] *= keep;
    for (int j = 0; j < n_key; j++)
        for (int i = 0; i < K; i++)
            o[i] += s[j] * t->v[j][i];
}

static void run_tile(const struct op_ctx *c, const struct attn_args *a, const struct attn_seg *s, int r0, int n, int h0, int n_h)
{
    struct tile t;
    const int   K = a->head, g = h0 / (a->n_head / a->n_kv), pos0 = s->pos0 + r0;
    for (int i = 0; i < n * n_h; i++) {
        t.m[i] = -INFINITY;
        t.l[i] = 0;
    }
    for (int r = 0; r < n; r++)
        memset((float *)a->out + (s->row0 + r0 + r) * a->out_stride + h0 * K, 0, (size_t)(n_h * K) * sizeof(float));
    struct attn_walk w = attn_walk_begin(s, pos0, h0);
    for (int b = attn_walk_next(&w); b >= 0; b = attn_walk_next(&w)) {
        int seen = pos0 + n - b * PAGE_TOK; /* keys the last row sees */
        load_page(&t, a->pool, c->kv, kv_half(s->page[b], a->n_kv, g, 0, K), K,
                  seen < PAGE_TOK ? seen : PAGE_TOK);
        for (int r = 0; r < n; r++) {
            int keys = pos0 + r + 1 - b * PAGE_TOK;
            for (int h = 0; h < n_h; h++)
                row_page(&t, (const float *)a->q + (s->row0 + r0 + r) * a->q_stride + (h0 + h) * K,
                         (float *)a->out + (s->row0 + r0 + r) * a->out_stride + (h0 + h) * K, &t.m[r * n_h + h],
                         &t.l[r * n_h + h], K, keys < PAGE_TOK ? keys : PAGE_TOK, a->scale);
        }
    }
    for (int r = 0; r < n; r++)
        for (int h = 0; h < n_h; h++) {
            float *o = (float *)a->out + (s->row0 + r0 + r) * a->out_stride + (h0 + h) * K;
            float  inv = t.l[r * n_h + h] > 0 ? 1.0f / t.l[r * n_h + h] : 0.0f;
            for (int i = 0; i < K; i++)
                o[i] *= inv;
        }
}

/* Rows of a tile share their block and, for triangle, their side of dense_from. Returns the tile's rows from r0 on. */
static int tile_rows(const struct attn_seg *s, int r0)
{
    int pos = s->pos0 + r0, end = (pos / TILE_TOK + 1) * TILE_TOK, last = s->pos0 + s->n_row;
    if (s->kind == ATTN_TRIANGLE && pos < s->dense_from && s->dense_from < end)
        end = s->dense_from;
    return (end < last ? end : last) - pos;
}

void attn_cpu(struct op_ctx *c, const struct attn_args *a)
{
    if (c->kv == DT_BF16 && attn_bf16(c, a))
        return;
    for (int k = 0; k < a->n_seg; k++) {
        const struct attn_seg *s = &a->seg[k];
        /* Lists differ by query head: one head a tile then. */
        const int heads = s->kind == ATTN_LIST ? 1 : a->n_head / a->n_kv, n_group = a->n_head / heads;
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
