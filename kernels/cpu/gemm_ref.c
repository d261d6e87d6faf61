/* gemm: the reference, and the choice of the kernel for a weight. */
#include <stdlib.h>

#include "base/check.h"
#include "kernels/cpu/internal.h"
#include "kernels/cpu/cpu_math.h"
#include "kernels/cpu/gemm_quant.h"

void gemm_ref(struct op_ctx *c, const struct gemm_args *a)
{
    (void)c;
    const int n = a->w->n, k = a->w->k;
    float *w = malloc((size_t)k * sizeof *w);
    CHECK(w);
    for (int i = 0; i < n; i++) {
        cpu_weight_row(a->w, i, w);
        for (int t = 0; t < a->n_tok; t++) {
            float *y = (float *)a->y + t * a->y_stride + i;
            float v = dot_f32((const float *)a->x + t * a->x_stride, w, k);
            *y = (a->add ? *y : 0.0f) + v + (a->bias ? ((const float *)a->bias)[i] : 0.0f);
        }
    }
    free(w);
}

static void add_bias(const struct gemm_args *a)
{
    const float *bias = a->bias;
    for (int t = 0; t < a->n_tok; t++)
        for (int i = 0; i < a->w->n; i++) ((float *)a->y)[t * a->y_stride + i] += bias[i];
}

void gemm_cpu(struct op_ctx *c, const struct gemm_args *a)
{
    if (a->w->dt == DT_F32 || a->w->dt == DT_BF16)
        gemm_dnnl(c, a);
    else
        gemm_quant(c, a);
    if (a->bias) add_bias(a);
}
