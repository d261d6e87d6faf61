/* quant_fp8: numbers of 8 bits (e4m3: sign, 4 bits of exponent, 3 of mantissa; no infinities, the largest is
 * 448) and what they are the codes of. Plain C, any thread; it owns the rounding that the kernels of CUDA
 * repeat bit for bit.
 *
 * A row of x, or each 128 columns of it, has one scale: its largest magnitude / 448, at least
 * FP8_SCALE_LEAST. A number's code is the nearest e4m3 to number x (1 / scale) in fp32 (ties to even, beyond
 * 448 it is 448). A NaN's code is NaN and a row with an infinity has NaN for it, so that no product heals
 * what was broken. */
#ifndef FLUXD_KERNELS_QUANT_FP8_H
#define FLUXD_KERNELS_QUANT_FP8_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { FP8_BLOCK = 128 }; /* columns, and rows of a weight, that share a scale where scales are by block */
#define FP8_MOST        448.0f
#define FP8_SCALE_LEAST 0x1p-100f

uint8_t fp8_from_f32(float x);
float fp8_to_f32(uint8_t code);

/* Groups of FP8_BLOCK columns in a row of k. */
#ifdef __CUDACC__
__host__ __device__
#endif
    static inline int
    fp8_groups(int k)
{
    return (k + FP8_BLOCK - 1) / FP8_BLOCK;
}

/* codes[k] and scale (one, or fp8_groups(k) by block) of one row. */
void fp8_row_ref(uint8_t *code, float *scale, const float *x, int k, bool block);

/* y = x w^T (+ bias) (+ y) of codes; sums are fp32 or better. */
struct gemm_fp8_args {
    void *y;              /* [T, n] fp32 or bf16 with y_stride elements; gated: [T, n / 2] */
    const uint8_t *x;     /* [T, k] codes with x_stride bytes */
    const float *x_scale; /* [T], or by block [fp8_groups(k), T] with x_scale_stride */
    const uint8_t *w;     /* [n, k] codes */
    const float *w_scale; /* [n], or by block [fp8_groups(n), fp8_groups(k)] with w_scale_stride */
    const void *bias;     /* [n] of y's type in the reference, bf16 on the GPU; or NULL */
    int64_t x_stride, y_stride, x_scale_stride, w_scale_stride;
    int n_tok, n, k;
    bool block;  /* scales by block of 128 x 128 of w and 1 x 128 of x; not: by row of w and of x */
    bool add;    /* y += */
    bool gated;  /* w: n / 2 rows of gates, then n / 2 of what they open; y = silu(gate) * up */
    bool y_f32;  /* GPU: y is fp32, not bf16 */
    bool second; /* GPU, few rows: every second of the products that follow one another (gemm_gpu.h); with
                    more than 16 rows the gated ones */
};
/* fp32 y, summed in double: what the kernels are held to. Gates and what they open are not rounded. */
void gemm_fp8_ref(const struct gemm_fp8_args *a);

#ifdef __cplusplus
}
#endif
#endif
