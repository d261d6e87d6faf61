/* rmsnorm: y = x (or y = res += x); out = w * y / sqrt(mean(y^2) + eps). One row at a time, fp32. */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/cpu_math.h"

static inline __attribute__((always_inline)) void norm_row(float *out, const float *y, const float *w, int d,
                                                           float eps)
{
    float scale = 1.0f / sqrtf(dot_f32(y, y, d) / (float)d + eps);
    for (int i = 0; i < d; i++) out[i] = w[i] * (y[i] * scale);
}

CPU_CLONES static void rmsnorm_rows(const struct rmsnorm_args *a, int t0, int t1)
{
    const float *w = a->w;
    for (int t = t0; t < t1; t++) {
        float *out = (float *)a->out + (int64_t)t * a->d;
        const float *x = a->x ? (const float *)a->x + t * a->x_stride : NULL;
        float *res = a->res ? (float *)a->res + t * a->res_stride : NULL;
        if (res && x)
            for (int i = 0; i < a->d; i++) res[i] += x[i];
        norm_row(out, res ? res : x, w, a->d, a->eps);
    }
}

void rmsnorm_cpu(struct op_ctx *c, const struct rmsnorm_args *a)
{
#pragma omp parallel for num_threads(c->n_thread) if (a->n_tok > 16) schedule(static)
    for (int t = 0; t < a->n_tok; t++) rmsnorm_rows(a, t, t + 1);
}
