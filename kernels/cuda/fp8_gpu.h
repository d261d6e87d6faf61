/* fp8_gpu: FP8 on CUDA (kernels/quant_fp8.h): rows to codes, products of codes. Host side; one per stream,
 * engine thread only. Everything in device memory; nothing is allocated or waited for, so every call can be
 * captured in a graph. A row's bits do not depend on the other rows or on their number. ERR_INVALID_VALUE for
 * a shape that a kernel lacks. */
#ifndef FLUXD_KERNELS_FP8_GPU_H
#define FLUXD_KERNELS_FP8_GPU_H

#include "base/err.h"
#include "kernels/cuda/gemm_gpu.h"
#include "kernels/quant_fp8.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Codes of rows of bf16 and of what their producers would have stored as bf16: the norm of a row, silu(gate)
 * * up. */
struct quant_fp8_args {
    uint8_t *code; /* [T, d] with code_stride bytes */
    float *scale;  /* [T], or by block [fp8_groups(d), T] with scale_stride */
    const void *x; /* [T, d] bf16 with x_stride; gated: [T, 2 d], gates first */
    const void
        *norm; /* [d] bf16: x is w x / sqrt(mean(x^2) + eps), as rmsnorm_gpu stores it; NULL: x as it is */
    int64_t code_stride, x_stride, scale_stride;
    int n_tok, d; /* d % 8 == 0; code_stride % 8 == 0 */
    float eps;
    bool block, gated;
    float fixed; /* not by block. Above 0: the scale of every row, whose codes end at 448 */
};
enum { FP8_WIDEST = 65536, FP8_NORM_WIDEST = 16384 }; /* rows */
enum err quant_fp8_sm90(const struct quant_fp8_args *a, const struct gemm_gpu *g);

/* Up to GEMM_SMALL_MAX_TOK rows, Hopper. k % 16 == 0, x_stride % 16 == 0. How a product is cut depends on the
 * weight's shape alone. */
enum err gemm_fp8_small_sm90(const struct gemm_fp8_args *a, struct gemm_gpu *g);
/* Any number of rows, Hopper; no gates. k % 16 == 0, x_stride % 16 == 0; n % 8 == 0, y_stride % 8 == 0. */
enum err gemm_fp8_sm90(const struct gemm_fp8_args *a, struct gemm_gpu *g);

#ifdef __cplusplus
}
#endif
#endif
