/* router: pooling and the Layer Router's MLP, fp32 (docs/attention-routes.md). Five small products for
 * one row per prompt and layer; one order of sums, so a decision near a tie does not depend on anything but
 * the prompt. */
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/cpu_math.h"

void pool_cpu(struct op_ctx *c, const struct pool_args *a)
{
    (void)c;
    for (int r = 0; r < a->n_row; r++)
        for (int h = 0; h < a->n_head; h++) {
            const float *q = (const float *)a->q + r * a->q_stride + h * a->head;
            for (int i = 0; i < a->head; i++) a->sum[i] += q[i];
        }
}

static float silu(float x) { return x / (1.0f + exp_f32(x < -80.0f ? 80.0f : -x)); }

CPU_CLONES static void layer(float *y, const float *x, const float *w, const float *b, int n, int k, int act)
{
    for (int i = 0; i < n; i++) {
        float v = dot_f32(x, w + (int64_t)i * k, k) + b[i];
        y[i] = act ? silu(v) : v;
    }
}

enum { ROUTER_HEAD_MAX = 256 };

void router_cpu(struct op_ctx *c, const struct router_args *a)
{
    (void)c;
    const struct router_weights *w = a->w;
    const int K = a->head;
    float x[8 * ROUTER_HEAD_MAX], y[8 * ROUTER_HEAD_MAX];
    for (int i = 0; i < K; i++) x[i] = a->sum[i] / a->count;
    layer(y, x, w->w[0], w->b[0], 8 * K, K, 1);
    layer(x, y, w->w[1], w->b[1], 2 * K, 8 * K, 0);
    layer(y, x, w->w[2], w->b[2], 4 * K, 2 * K, 1);
    layer(x, y, w->w[3], w->b[3], K, 4 * K, 1);
    layer(y, x, w->w[4], w->b[4], w->n_out, K, 0);
    *a->margin = (w->n_out == 2 ? y[1] - y[0] : y[0]) + a->bias;
}
