/* int4_gpu: weights of 4 bits on CUDA (kernels/quant_int4.h): products with rows of bf16, rows as bf16. Host
 * side; one per stream, engine thread only. Nothing is allocated or waited for, so every call can be captured
 * in a graph. ERR_INVALID_VALUE for a shape that a kernel lacks.
 *
 * The weight of a product: dt DT_U4, data the records in device memory, impl their struct int4_form. */
#ifndef FLUXD_KERNELS_INT4_GPU_H
#define FLUXD_KERNELS_INT4_GPU_H

#include "base/err.h"
#include "kernels/cuda/gemm_gpu.h"
#include "kernels/quant_int4.h"

#ifdef __cplusplus
extern "C" {
#endif

/* As gemm_small_sm90, for such a weight: up to GEMM_SMALL_MAX_TOK rows, Hopper. x at 16 bytes, x_stride % 8
 * == 0, k % 8 == 0. Gated: n / 2 is a multiple of INT4_ROWS. Codes meet x as they are: what is rounded are
 * sums in fp32. */
enum err gemm_int4_small_sm90(const struct gemm_args *a, const struct gemm_more *more, struct gemm_gpu *g);
/* The same without `more`, capability 8.0 and newer. */
enum err gemm_int4_gpu(const struct gemm_args *a, const struct gemm_gpu *g);

/* Rows [row0, row0 + n_row) as bf16, [n_row, k]: (code - zero) x scale, rounded once. For products of many
 * rows of x. row0 % INT4_ROWS == 0, k % 8 == 0. */
enum err int4_rows_gpu(const struct weight *w, int row0, int n_row, void *out, const struct gemm_gpu *g);

/* out[t, i] = x[t, order[i]], bf16, for a weight whose columns stand in that order; out [n_tok, k]. */
enum err int4_sort_gpu(void *out, const void *x, int64_t x_stride, const int32_t *order, int n_tok, int k,
                       const struct gemm_gpu *g);

#ifdef __cplusplus
}
#endif
#endif
