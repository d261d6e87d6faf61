/* gemm_lt: large products by cuBLASLt, which is looked up at run time so that one binary starts without it. Engine thread only. */
#ifndef FLUXD_KERNELS_GEMM_LT_H
#define FLUXD_KERNELS_GEMM_LT_H

#include "base/err.h"
#include "kernels/ops.h"

#include <cuda_runtime_api.h>

struct gemm_lt;

enum err gemm_lt_open(struct gemm_lt **out, cudaStream_t stream, struct err_note *note);
void     gemm_lt_close(struct gemm_lt *g);

/* y = x w^T (+ bias) (+ y). x, w and y in one type, DT_BF16 or DT_F32; sums fp32. The algorithm is chosen once for a weight's shape,
 * without split sums, so a row's bits do not depend on the number of rows. */
enum err gemm_lt(struct gemm_lt *g, const struct gemm_args *a);

#endif
