/* gemm_gpu: the products of the decode phase on Hopper. Host side; one per stream, engine thread only. */
#ifndef FLUXD_KERNELS_CUDA_GEMM_GPU_H
#define FLUXD_KERNELS_CUDA_GEMM_GPU_H

#include "base/err.h"
#include "kernels/ops.h"

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { GEMM_SMALL_MAX_TOK = 64 };

/* The kernels that products choose from: bf16 and FP8 with few rows, FP8 with many, INT4 with few. */
enum {
    GEMM_KERNEL_BF16 = 0,
    GEMM_KERNEL_FP8 = 16,
    GEMM_KERNEL_FP8_MANY = 48,
    GEMM_KERNEL_INT4 = 52,
    GEMM_KERNELS = 100
};

struct gemm_gpu {
    cudaStream_t stream;
    int n_sm;
    int regs[GEMM_KERNELS]; /* of a thread of each kernel, asked when it first runs on this device; 0: not yet
                             */
};

/* What stands around a product in a layer, done by the product itself: the second half of the norm before it,
 * the first half of the norm after it, silu(gate) * up. A row's bits do not depend on the others here either.
 */
struct gemm_more {
    const float *sum_in; /* [T, gemm_small_tiles(k)]: squares of the rows that x was made from; y's sums times
                            1 / sqrt(their mean + eps) */
    float eps;
    float *sum_out;   /* [T, gemm_small_tiles(n)]: squares of y (bf16), for the next product's sum_in */
    void *normed;     /* with sum_out: [T, n] y x norm, strides as y: the next product's x */
    const void *norm; /* [n] */
    bool second; /* every second of the products that follow one another: an SM then holds a CTA of both, and
                    no two of one */
    bool gated;  /* w: n / 2 rows of gates, then n / 2 of what they open; y [T, n / 2] = silu(gate) * up */
};
int gemm_small_tiles(int n_sm, int n); /* of a product with n columns: sums a row in sum_out */

/* y = x w^T (+ bias) (+ y) for up to 64 rows of x, and what `more` (NULL: nothing) asks for; bf16 weights [n,
 * k] as they lie in the file, k % 8 == 0. How a product is cut depends on the weight's shape alone, so a
 * row's bits do not depend on the other rows or on their number. */
enum err gemm_small_sm90(const struct gemm_args *a, const struct gemm_more *more, struct gemm_gpu *g);

#ifdef __cplusplus
}
#endif
#endif
