/* choose: the CPU's. The antidiagonal sum of two groups of 16 rows is one product of 16 K numbers, since the
 * keys of a group stand side by side in a page: a query block is eight such vectors, in the page's order,
 * that meet every key group once. The order of sums is fixed by the vectors' length alone, so that a choice
 * does not depend on the piece. */
#include <omp.h>
#include <math.h>
#include <string.h>

#include "kernels/cpu/choose_pick.h"
#include "kernels/cpu/cpu_math.h"
#include "kernels/cpu/kv_codes.h"
#include "kernels/quant.h"

enum { HEAD_MAX = 512 };

typedef float v16 __attribute__((vector_size(64), aligned(4)));

/* Per-thread room, cut from work. */
struct room {
    float *score; /* [n_block] */
    float *query; /* [8][16 K] */
    float *key;   /* [16 K] */
    float *group; /* [8][groups of keys] */
};

static struct room room_of(const struct choose_args *a, int thread, int n_block)
{
    const int64_t wide = CHOOSE_GROUP * (int64_t)a->head;
    float *p = a->work + thread * a->work_stride;
    return (struct room){
        .score = p, .query = p + n_block, .key = p + n_block + 8 * wide, .group = p + n_block + 9 * wide};
}

/* Place of number i of row t (0..15) inside a group, as pages have it. */
static int place(enum dtype kv, int K, int t, int i) { return kv_at_k(kv, K, t, i); }

/* Row r of the groups is turned around: its last query meets the first key. */
static void load_queries(const struct op_ctx *c, const struct choose_args *a, int h, int qb, float *out,
                         int n_group)
{
    const int K = a->head;
    for (int r = 0; r < n_group; r++)
        for (int t = 0; t < CHOOSE_GROUP; t++) {
            int pos = qb * PAGE_TOK + r * CHOOSE_GROUP + CHOOSE_GROUP - 1 - t;
            const float *q = (const float *)a->q + (pos - a->pos0) * a->q_stride + h * K;
            for (int i = 0; i < K; i++)
                out[r * CHOOSE_GROUP * K + place(c->kv, K, t, i)] = pos < a->n_prompt ? q[i] : 0.0f;
        }
}

/* Key group k; rows that the prompt has not are zero. */
CPU_CLONES static const float *load_keys(const struct op_ctx *c, const struct choose_args *a, int g, int k,
                                         float *out)
{
    const int K = a->head, wide = CHOOSE_GROUP * K, n = a->n_prompt - k * CHOOSE_GROUP;
    const int32_t page = a->page[k / CHOOSE_GROUPS];
    uint16_t wide_bf16[CHOOSE_GROUP * HEAD_MAX];
    const int64_t at = kv_half(page, a->n_kv, g, 0, K) + k % CHOOSE_GROUPS * (int64_t)wide;
    const float *f = (const float *)a->pool + at;
    const uint16_t *b = (const uint16_t *)a->pool + at;
    if (page_has_codes(page)) {
        const int t0 = k % CHOOSE_GROUPS * CHOOSE_GROUP;
        kv_codes_keys(wide_bf16, kv_codes_at(a->pool, page, a->n_kv, g, 0, K) + t0 * K,
                      kv_exp_at(c, page, a->n_kv, g, 0) + t0, K, CHOOSE_GROUP);
        b = wide_bf16;
    }
    if (c->kv == DT_F32 && n >= CHOOSE_GROUP) return f;
    for (int i = 0; i < wide; i++) out[i] = c->kv == DT_F32 ? f[i] : f32_from_bf16(b[i]);
    for (int t = n; t < CHOOSE_GROUP; t++)
        for (int i = 0; i < K; i++) out[place(c->kv, K, t, i)] = 0;
    return out;
}

CPU_CLONES static void products(float out[CHOOSE_GROUPS], const float *q, const float *k, int wide)
{
    v16 a[CHOOSE_GROUPS] = {{0}};
    for (int i = 0; i < wide; i += LANES) {
        v16 x = *(const v16 *)(k + i);
        for (int r = 0; r < CHOOSE_GROUPS; r++) a[r] += x * *(const v16 *)(q + r * wide + i);
    }
    for (int r = 0; r < CHOOSE_GROUPS; r++) out[r] = fold16((const float *)&a[r]);
}

/* Softmax, its sum in lanes. */
CPU_CLONES static void soften(float *x, int n)
{
    float max = x[0], lane[LANES] = {0};
    for (int i = 1; i < n; i++) max = x[i] > max ? x[i] : max;
    for (int i = 0; i < n; i++) x[i] = exp_f32(x[i] - max);
    for (int i = 0; i < n; i++) lane[i % LANES] += x[i];
    float sum = fold16(lane);
    for (int i = 0; i < n; i++) x[i] /= sum;
}

/* Softmax of a row of n groups, added up by block. */
static void add_row(float *score, float *x, int n)
{
    soften(x, n);
    for (int i = 0; i < n; i++) score[i / CHOOSE_GROUPS] += x[i];
}

static void xattn_row(const struct op_ctx *c, const struct choose_args *a, int h, int qb,
                      const struct room *o)
{
    const int K = a->head, wide = CHOOSE_GROUP * K, first = qb * CHOOSE_GROUPS;
    const int most = (a->n_prompt + CHOOSE_GROUP - 1) / CHOOSE_GROUP - first,
              n = most < CHOOSE_GROUPS ? most : CHOOSE_GROUPS;
    const int row = first + CHOOSE_GROUPS;
    const float scale = 1.0f / (sqrtf((float)K) * CHOOSE_GROUP);
    memset(o->query, 0, (size_t)(CHOOSE_GROUPS * wide) * sizeof *o->query);
    load_queries(c, a, h, qb, o->query, n);
    for (int k = 0; k < first + n; k++) {
        float out[CHOOSE_GROUPS];
        products(out, o->query, load_keys(c, a, h / (a->n_head / a->n_kv), k, o->key), wide);
        for (int r = 0; r < n; r++) o->group[(int64_t)r * row + k] = out[r] * scale;
    }
    memset(o->score, 0, (size_t)(qb + 1) * sizeof *o->score);
    for (int r = 0; r < n; r++) add_row(o->score, o->group + (int64_t)r * row, first + r + 1);
}

/* --- flex */

static int rows_of(const struct choose_args *a, int b)
{
    return a->n_prompt - b * PAGE_TOK < PAGE_TOK ? a->n_prompt - b * PAGE_TOK : PAGE_TOK;
}

CPU_CLONES static void key_mean(const struct op_ctx *c, const struct choose_args *a, int g, int b, float *out)
{
    const int K = a->head, n = rows_of(a, b);
    const int64_t at = kv_half(a->page[b], a->n_kv, g, 0, K);
    const float *f = (const float *)a->pool + at;
    const uint16_t *p = (const uint16_t *)a->pool + at;
    const bool codes = page_has_codes(a->page[b]);
    for (int i = 0; i < K; i++) out[i] = 0;
    for (int t = 0; codes && t < n; t++)
        for (int i = 0; i < K; i++) out[i] += kv_number(c, a->pool, a->page[b], a->n_kv, g, 0, K, t, i);
    for (int t = 0; !codes && t < n; t++)
        for (int i = 0; i < K; i++)
            out[i] += c->kv == DT_F32 ? f[t * K + i] : f32_from_bf16(p[kv_at_k(DT_BF16, K, t, i)]);
    for (int i = 0; i < K; i++) out[i] /= (float)n;
}

static void flex_row(const struct choose_args *a, int h, int qb, const struct room *o)
{
    const int K = a->head, n = rows_of(a, qb), n_block = (a->pos0 + a->n_row + PAGE_TOK - 1) / PAGE_TOK;
    const float *key = a->mean + (int64_t)(h / (a->n_head / a->n_kv)) * n_block * K;
    const float scale = 1.0f / sqrtf((float)K);
    memset(o->query, 0, (size_t)K * sizeof *o->query);
    for (int t = 0; t < n; t++)
        for (int i = 0; i < K; i++)
            o->query[i] += ((const float *)a->q)[(qb * PAGE_TOK + t - a->pos0) * a->q_stride + h * K + i];
    for (int i = 0; i < K; i++) o->query[i] /= (float)n;
    for (int b = 0; b <= qb; b++) o->group[b] = dot_f32(o->query, key + (int64_t)b * K, K) * scale;
    soften(o->group, qb + 1);
    memcpy(o->score, o->group, (size_t)(qb + 1) * sizeof *o->score);
}

void choose_cpu(struct op_ctx *c, const struct choose_args *a)
{
    const int n_block = (a->n_row + PAGE_TOK - 1) / PAGE_TOK, n_key = a->pos0 / PAGE_TOK + n_block;
    if (a->rule == CHOOSE_FLEX) {
#pragma omp parallel for num_threads(c->n_thread) collapse(2) schedule(static)
        for (int g = 0; g < a->n_kv; g++)
            for (int b = 0; b < n_key; b++)
                key_mean(c, a, g, b, a->mean + ((int64_t)g * n_key + b) * a->head);
    }
#pragma omp parallel for num_threads(c->n_thread) collapse(2) schedule(dynamic)
    for (int b = n_block - 1; b >= 0; b--)
        for (int h = 0; h < a->n_head; h++) {
            int qb = a->pos0 / PAGE_TOK + b;
            struct room o = room_of(a, omp_get_thread_num(), qb + 1);
            if (a->rule == CHOOSE_FLEX)
                flex_row(a, h, qb, &o);
            else
                xattn_row(c, a, h, qb, &o);
            choose_pick(a->keep + h * a->head_stride + b * a->block_stride, o.score, qb + 1, a->threshold,
                        (int32_t *)o.group);
        }
}
