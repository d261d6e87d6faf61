/* ops: the table of ops on a CUDA device. Everything is queued on the backend's stream. Engine thread only.
 */
#ifndef FLUXD_ENGINE_CUDA_OPS_H
#define FLUXD_ENGINE_CUDA_OPS_H

#include "engine/backend.h"
#include "kernels/cuda/attn_gpu.h"
#include "kernels/cuda/gemm_gpu.h"
#include "kernels/cuda/gemm_lt.h"
#include "kernels/cuda/gpu_ops.h"
#include "kernels/cuda/kv_fp8_gpu.h"

struct op_ctx {
    struct gpu_ctx gpu;
    struct attn_gpu attn;
    struct gemm_gpu small;
    struct gemm_lt *lt;
    struct kv_fp8_pool codes; /* exp NULL: no page holds codes */
    bool own_products; /* decode's, by our kernel: on Hopper in bf16 it starts while the one before it ends,
                          which cuBLASLt's do not */
    void *numbers, *sorted; /* of weights of 4 bits: all rows of one as bf16, rows of x in its order */
    int n_sum;              /* sums a row in gemm_more's */
};

extern const struct backend_ops ops_cuda;

/* The rows of a product from `at` on, at most `most`. */
static inline struct gemm_args ops_rows(const struct gemm_args *a, int at, int most)
{
    struct gemm_args part = *a;
    part.n_tok = a->n_tok - at < most ? a->n_tok - at : most;
    part.x = (const uint16_t *)a->x + at * a->x_stride;
    part.y = (char *)a->y + at * a->y_stride * (a->y_f32 ? 4 : 2);
    return part;
}

/* A product of decode by our kernel, with what stands around it; any number of rows. */
enum err ops_gemm_small(struct op_ctx *c, const struct gemm_args *a, const struct gemm_more *more);

#endif
