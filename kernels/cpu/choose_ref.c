/* choose: the reference, and the step that both versions share (choose_pick.h): from scores to sets. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/choose_pick.h"
#include "kernels/cpu/kv_codes.h"

/* --- from scores to sets */

static bool before(const float *score, int32_t a, int32_t b)
{
    return score[a] > score[b] || (score[a] == score[b] && a < b);
}

/* Heap of indexes with the best first. */
static void sift(int32_t *heap, int n, int at, const float *score)
{
    for (int kid; (kid = 2 * at + 1) < n; at = kid) {
        if (kid + 1 < n && before(score, heap[kid + 1], heap[kid])) kid++;
        if (!before(score, heap[kid], heap[at])) return;
        int32_t t = heap[at];
        heap[at] = heap[kid];
        heap[kid] = t;
    }
}

void choose_pick(uint64_t *keep, const float *score, int n, float threshold, int32_t *order)
{
    float all = 0, have = score[0] + (n > 1 ? score[n - 1] : 0.0f);
    int left = n > 2 ? n - 2 : 0;
    memset(keep, 0, (size_t)(n + 63) / 64 * sizeof *keep);
    keep[0] |= 1;
    keep[(n - 1) / 64] |= 1ull << ((n - 1) % 64);
    for (int b = 0; b < n; b++) all += score[b];
    for (int i = 0; i < left; i++) order[i] = i + 1;
    for (int i = left / 2 - 1; i >= 0; i--) sift(order, left, i, score);
    while (left > 0 && have < threshold * all) {
        int b = order[0];
        keep[b / 64] |= 1ull << (b % 64);
        have += score[b];
        order[0] = order[--left];
        sift(order, left, 0, score);
    }
}

/* --- scores */

static float key_at(const struct op_ctx *c, const struct choose_args *a, int g, int pos, int i)
{
    if (pos >= a->n_prompt) return 0;
    return kv_number(c, a->pool, a->page[pos / PAGE_TOK], a->n_kv, g, 0, a->head, pos % PAGE_TOK, i);
}

static float query_at(const struct choose_args *a, int h, int pos, int i)
{
    return pos >= a->n_prompt ? 0.0f : ((const float *)a->q)[(pos - a->pos0) * a->q_stride + h * a->head + i];
}

static void soften(float *x, int n)
{
    float max = x[0], sum = 0;
    for (int i = 1; i < n; i++) max = x[i] > max ? x[i] : max;
    for (int i = 0; i < n; i++) sum += x[i] = expf(x[i] - max);
    for (int i = 0; i < n; i++) x[i] /= sum;
}

static void flex_row(const struct op_ctx *c, const struct choose_args *a, int h, int qb, float *mean,
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

static void xattn_row(const struct op_ctx *c, const struct choose_args *a, int h, int qb, float *group,
                      float *score)
{
    const int K = a->head, g = h / (a->n_head / a->n_kv);
    memset(score, 0, (size_t)(qb + 1) * sizeof *score);
    for (int r = qb * CHOOSE_GROUPS; r < (qb + 1) * CHOOSE_GROUPS && r * CHOOSE_GROUP < a->n_prompt; r++) {
        for (int k = 0; k <= r; k++) {
            float s = 0;
            for (int i = 0; i < CHOOSE_GROUP; i++)
                for (int j = 0; j < K; j++)
                    s += query_at(a, h, r * CHOOSE_GROUP + CHOOSE_GROUP - 1 - i, j) *
                         key_at(c, a, g, k * CHOOSE_GROUP + i, j);
            group[k] = s / (sqrtf((float)K) * CHOOSE_GROUP);
        }
        soften(group, r + 1);
        for (int k = 0; k <= r; k++) score[k / CHOOSE_GROUPS] += group[k];
    }
}

void choose_ref(struct op_ctx *c, const struct choose_args *a)
{
    for (int h = 0; h < a->n_head; h++)
        for (int b = 0; b * PAGE_TOK < a->n_row; b++) {
            int qb = a->pos0 / PAGE_TOK + b, n = qb + 1;
            float *score = a->work, *room = score + n;
            if (a->rule == CHOOSE_FLEX)
                flex_row(c, a, h, qb, room, score);
            else
                xattn_row(c, a, h, qb, room, score);
            choose_pick(a->keep + h * a->head_stride + b * a->block_stride, score, n, a->threshold,
                        (int32_t *)room);
        }
}
