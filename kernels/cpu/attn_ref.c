/* attn: the reference. For each row and head: scores of all visible keys, softmax in fp32, weighted sum of
 * values. */
#include <math.h>
#include <string.h>

#include "kernels/attn_blocks.h"
#include "kernels/cpu/kv_codes.h"

/* One query head of one row. Two walks: the maximum, then weights and values. */
static void one_head(const struct op_ctx *c, const struct attn_args *a, const struct attn_seg *s, int pos,
                     int h, const float *q, float *out)
{
    const int K = a->head, g = h / (a->n_head / a->n_kv);
    float max = -INFINITY, sum = 0;
    memset(out, 0, (size_t)K * sizeof *out);
    for (int pass = 0; pass < 2; pass++) {
        struct attn_walk w = attn_walk_begin(s, pos, h);
        for (int b = attn_walk_next(&w); b >= 0; b = attn_walk_next(&w)) {
            int n = pos - b * PAGE_TOK + 1;
            for (int j = 0; j < (n < PAGE_TOK ? n : PAGE_TOK); j++) {
                float score = 0;
                for (int i = 0; i < K; i++)
                    score += q[i] * kv_number(c, a->pool, s->page[b], a->n_kv, g, 0, K, j, i);
                score *= a->scale;
                if (pass == 0) {
                    max = score > max ? score : max;
                    continue;
                }
                float p = expf(score - max);
                sum += p;
                for (int i = 0; i < K; i++)
                    out[i] += p * kv_number(c, a->pool, s->page[b], a->n_kv, g, 1, K, j, i);
            }
        }
    }
    for (int i = 0; i < K && sum > 0; i++) out[i] /= sum;
}

void attn_ref(struct op_ctx *c, const struct attn_args *a)
{
    for (int k = 0; k < a->n_seg; k++) {
        const struct attn_seg *s = &a->seg[k];
        for (int r = 0; r < s->n_row; r++)
            for (int h = 0; h < a->n_head; h++)
                one_head(c, a, s, s->pos0 + r, h,
                         (const float *)a->q + (s->row0 + r) * a->q_stride + h * a->head,
                         (float *)a->out + (s->row0 + r) * a->out_stride + h * a->head);
    }
}
