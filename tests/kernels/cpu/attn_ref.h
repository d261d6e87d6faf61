/* attn_ref: attention by its definition (kernels/ops.h, attn_kind), in double precision. For each row and
 * head: scores of all visible keys, softmax, weighted sum of values. */
#ifndef FLUXD_TESTS_KERNELS_CPU_ATTN_REF_H
#define FLUXD_TESTS_KERNELS_CPU_ATTN_REF_H

#include <math.h>

#include "tests/kernels/kv_ref.h"

enum { REF_LEN = 2048, REF_HEAD = 256 }; /* longest context, widest head */

static inline bool listed(const struct attn_seg *s, int i, int h, int b)
{
    const int qblock = i - s->pos0 / PAGE_TOK;
    if (s->keep)
        return s->keep[h * s->keep_head_stride + qblock * s->keep_block_stride + b / 64] >> (b % 64) & 1;
    const int n_qblock = (s->pos0 + s->n_row - 1) / PAGE_TOK - s->pos0 / PAGE_TOK + 1;
    const int32_t *off = s->list_off + (int64_t)h * (n_qblock + 1) + qblock;
    for (int32_t k = off[0]; k < off[1]; k++)
        if (s->list[k] == b) return true;
    return false;
}

/* Whether the row at position pos sees block b with head h. */
static inline bool sees(const struct attn_seg *s, int pos, int h, int b)
{
    const int i = pos / PAGE_TOK;
    const bool near = b < s->sink_blocks || b > i - s->local_blocks;
    switch (s->kind) {
    case ATTN_FULL:
        return true;
    case ATTN_STREAMING:
        return near;
    case ATTN_TRIANGLE:
        return near || pos >= s->dense_from;
    case ATTN_SPLIT:
        return near || s->full_head[h];
    case ATTN_LIST:
        return listed(s, i, h, b);
    default:
        return false;
    }
}

static inline void attn_ref_row(const struct op_ctx *c, const struct attn_args *a, const struct attn_seg *s,
                                int pos, int h, const float *q, float *out)
{
    const int K = a->head, g = h / (a->n_head / a->n_kv), n_block = pos / PAGE_TOK + 1;
    double score[REF_LEN], acc[REF_HEAD] = {0}, max = -INFINITY, sum = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int b = 0; b < n_block; b++) {
            if (!sees(s, pos, h, b)) continue; /* its page may be gone */
            for (int t = b * PAGE_TOK, j = 0; t <= pos && j < PAGE_TOK; t++, j++) {
                double x = 0;
                if (pass) {
                    sum += x = exp(score[t] - max);
                    for (int i = 0; i < K; i++)
                        acc[i] += x * (double)kv_ref(c, a->pool, s->page[b], a->n_kv, g, 1, K, j, i);
                    continue;
                }
                for (int i = 0; i < K; i++)
                    x += (double)q[i] * (double)kv_ref(c, a->pool, s->page[b], a->n_kv, g, 0, K, j, i);
                score[t] = x * (double)a->scale;
                max = fmax(max, score[t]);
            }
        }
    for (int i = 0; i < K; i++) out[i] = sum > 0 ? (float)(acc[i] / sum) : 0;
}

static inline void attn_ref(struct op_ctx *c, const struct attn_args *a)
{
    for (int k = 0; k < a->n_seg; k++) {
        const struct attn_seg *s = &a->seg[k];
        for (int r = 0; r < s->n_row; r++)
            for (int h = 0; h < a->n_head; h++)
                attn_ref_row(c, a, s, s->pos0 + r, h,
                             (const float *)a->q + (s->row0 + r) * a->q_stride + h * a->head,
                             (float *)a->out + (s->row0 + r) * a->out_stride + h * a->head);
    }
}

#endif
