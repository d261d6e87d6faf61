/* kv_fp8: exponents and codes of rows of keys and values on the device, by the rules of kernels/kv_fp8.h. */
#ifndef FLUXD_KERNELS_KV_FP8_CUH
#define FLUXD_KERNELS_KV_FP8_CUH

#include "kernels/cuda/fp8.cuh"
#include "kernels/kv_fp8.h"

/* The row's exponent from its largest magnitude: 448 is 1.75 x 2^8. */
__device__ __forceinline__ int kv_exponent(float most)
{
    const int u = __float_as_int(most), e = (u >> 23) - 127 - 8 + ((u & 0x7fffff) > 0x600000);
    return max(-KV_FP8_EXP_MOST, min(e, (int)KV_FP8_EXP_MOST));
}
/* 0 below 2^-126 */
__device__ __forceinline__ float power_of_two(int e)
{
    return e < -126 ? 0.0f : __int_as_float((e + 127) << 23);
}
/* Four codes of a row whose numbers are scaled by 2^-e; an infinity becomes NaN. */
__device__ __forceinline__ uint32_t kv_codes(const float *x, float down)
{
    float y[4];
#pragma unroll
    for (int k = 0; k < 4; k++) y[k] = fabsf(x[k]) == INFINITY ? NAN : x[k] * down;
    return fp8x4(y[0], y[1], y[2], y[3]);
}

#endif
