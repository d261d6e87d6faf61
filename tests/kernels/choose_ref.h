/* choose_ref: the choice of blocks by its definition (kernels/ops.h, choose), in plain C. */
#ifndef FLUXD_TESTS_KERNELS_CHOOSE_REF_H
#define FLUXD_TESTS_KERNELS_CHOOSE_REF_H

#include <math.h>
#include <string.h>

#include "tests/kernels/kv_ref.h"

enum { REF_GROUP = 16, REF_GROUPS = PAGE_TOK / REF_GROUP }; /* stride of xattn; groups of a block */

/* First and last block, then the best of the others until the threshold's share of all is reached; ties to
 * the lower block. */
static inline void pick_ref(uint64_t *keep, const float *score, int n, float threshold)
{
    float all = 0, have = score[0] + (n > 1 ? score[n - 1] : 0.0f);
    memset(keep, 0, (size_t)(n + 63) / 64 * sizeof *keep);
    keep[0] |= 1;
    keep[(n - 1) / 64] |= UINT64_C(1) << ((n - 1) % 64);
    for (int b = 0; b < n; b++) all += score[b];
    while (have < threshold * all) {
        int best = -1;
        for (int b = 0; b < n; b++)
            if (!(keep[b / 64] >> (b % 64) & 1) && (best < 0 || score[b] > score[best])) best = b;
        if (best < 0) return;
        keep[best / 64] |= UINT64_C(1) << (best % 64);
        have += score[best];
    }
}

static inline float key_at(const struct op_ctx *c, const struct choose_args *a, int g, int pos, int i)
{
    if (pos >= a->n_prompt) return 0;
    return kv_ref(c, a->pool, a->page[pos / PAGE_TOK], a->n_kv, g, 0, a->head, pos % PAGE_TOK, i);
}

static inline float query_at(const struct choose_args *a, int h, int pos, int i)
{
    return pos >= a->n_prompt ? 0.0f : ((const float *)a->q)[(pos - a->pos0) * a->q_stride + h * a->head + i];
}

static inline void soften(float *x, int n)
{
    float max = x[0], sum = 0;
    for (int i = 1; i < n; i++) max = x[i] > max ? x[i] : max;
    for (int i = 0; i < n; i++) sum += x[i] = expf(x[i] - max);
    for (int i = 0; i < n; i++) x[i] /= sum;
}

static inline void flex_row(const struct op_ctx *c, const struct choose_args *a, int h, int qb, float *mean,
                            float *score)
{
    const int K = a->head, g = h / (a->n_head / a->n_kv);
    float *q = mean, *k = mean + K;
    for (int b = qb, first = 1; b >= 0; b--) { /* the diagonal first: its rows are the queries' */
        int from = b * PAGE_TOK, n = a->n_prompt - from < PAGE_TOK ? a->n_prompt - from : PAGE_TOK;
        memset(mean + (first ? 0 : K), 0, (size_t)(first ? 2 * K : K) * sizeof *mean);
        for (int t = from; t < from + n; t++)
            for (int i = 0; i < K; i++) {
                k[i] += key_at(c, a, g, t, i);
                if (first) q[i] += query_at(a, h, t, i);
            }
        for (int i = 0; i < K; i++) {
            k[i] /= (float)n;
            if (first) q[i] /= (float)n;
        }
        float s = 0;
        for (int i = 0; i < K; i++) s += q[i] * k[i];
        score[b] = s / sqrtf((float)K);
        first = 0;
    }
    soften(score, qb + 1);
}

static inline void xattn_row(const struct op_ctx *c, const struct choose_args *a, int h, int qb, float *group,
                             float *score)
{
    const int K = a->head, g = h / (a->n_head / a->n_kv);
    memset(score, 0, (size_t)(qb + 1) * sizeof *score);
    for (int r = qb * REF_GROUPS; r < (qb + 1) * REF_GROUPS && r * REF_GROUP < a->n_prompt; r++) {
        for (int k = 0; k <= r; k++) {
            float s = 0;
            for (int i = 0; i < REF_GROUP; i++)
                for (int j = 0; j < K; j++)
                    s += query_at(a, h, r * REF_GROUP + REF_GROUP - 1 - i, j) *
                         key_at(c, a, g, k * REF_GROUP + i, j);
            group[k] = s / (sqrtf((float)K) * REF_GROUP);
        }
        soften(group, r + 1);
        for (int k = 0; k <= r; k++) score[k / REF_GROUPS] += group[k];
    }
}

static inline void choose_ref(struct op_ctx *c, const struct choose_args *a)
{
    for (int h = 0; h < a->n_head; h++)
        for (int b = 0; b * PAGE_TOK < a->n_row; b++) {
            int qb = a->pos0 / PAGE_TOK + b, n = qb + 1;
            float *score = a->work, *room = score + n;
            if (a->rule == CHOOSE_FLEX)
                flex_row(c, a, h, qb, room, score);
            else
                xattn_row(c, a, h, qb, room, score);
            pick_ref(a->keep + h * a->head_stride + b * a->block_stride, score, n, a->threshold);
        }
}

#endif
