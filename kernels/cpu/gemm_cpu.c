/* gemm: the choice of the kernel for a weight. */
#include "kernels/cpu/internal.h"
#include "kernels/cpu/gemm_quant.h"

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
