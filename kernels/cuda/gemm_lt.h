/* gemm_lt: large products by cuBLASLt, which is looked up at run time so that one binary starts without it.
 * Engine thread only. */
#ifndef FLUXD_KERNELS_CUDA_GEMM_LT_H
#define FLUXD_KERNELS_CUDA_GEMM_LT_H

#include "base/err.h"
#include "kernels/ops.h"
#include "kernels/quant_fp8.h"

#include <cuda_runtime_api.h>

struct gemm_lt;

enum err gemm_lt_open(struct gemm_lt **out, cudaStream_t stream, struct err_note *note);
void gemm_lt_close(struct gemm_lt *g);

/* y = x w^T (+ bias) (+ y). x and w in one type, DT_BF16 or DT_F32, y too unless y_f32; sums fp32. Two
 * algorithms serve a weight's shape, one for the rows of prompts and one for those of decode (a->decode, up
 * to 256), each fixed when the shape is first seen and without split sums, so a row's bits do not depend on
 * the number of rows. Asks for no memory once the shape was seen; cuBLASLt itself does, for some products:
 * two strings, about 90 bytes. */
enum err gemm_lt(struct gemm_lt *g, const struct gemm_args *a);

/* The same of codes of 8 bits, for the rows of prompts; sums are taken from the tensor cores and added in
 * fp32, as the library's exact ones are. Scales begin at 16 bytes; by block x_scale_stride is n_tok, both
 * n_tok and w_scale_stride are multiples of four. ERR_INVALID_VALUE also where the library lacks such
 * products (before 12.9): gemm_fp8_sm90 has them. */
enum err gemm_lt_fp8(struct gemm_lt *g, const struct gemm_fp8_args *a);

/* Fixes the algorithm of the product's shape before it is needed. For decode it is timed on a->w (some 0.1 s,
 * and memory that it frees), and not taken unless rows get the same bits alone and among others. x and y
 * are not read. */
enum err gemm_lt_plan(struct gemm_lt *g, const struct gemm_args *a);

#endif
