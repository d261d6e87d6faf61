/* gemm_gpu: the products of the decode phase on Hopper. Host side; one per stream, engine thread only. */
#ifndef FLUXD_KERNELS_GEMM_GPU_H
#define FLUXD_KERNELS_GEMM_GPU_H

#include "base/err.h"
#include "kernels/ops.h"

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { GEMM_SMALL_MAX_TOK = 64 };

struct gemm_gpu {
    cudaStream_t stream;
    int          n_sm;
    void        *work; /* device, zeroed once; counters are left at zero */
};

size_t gemm_small_work_bytes(int n_sm);

/* y = x w^T (+ bias) (+ y) for up to 64 rows of x; bf16 weights [n, k] as they lie in the file, k % 8 == 0. How a product
 * is cut depends on the weight's shape alone, so a row's bits do not depend on the other rows or on their number. */
enum err gemm_small_sm90(const struct gemm_args *a, const struct gemm_gpu *g);

#ifdef __cplusplus
}
#endif
#endif
