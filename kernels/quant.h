/* quant: what the bytes of a tensor mean. Values of every dtype as fp32, exactly as the GGUF format defines
 * them (value = scale * integer (+ minimum), each step in fp32). Pure functions, any thread. */
#ifndef FLUXD_KERNELS_QUANT_H
#define FLUXD_KERNELS_QUANT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "kernels/ops.h"
#include "kernels/quant_fp8.h"
#include "kernels/quant_int4.h"

/* n values of src (a multiple of the block) to fp32. DT_I32 is not a weight, and DT_FP8 and DT_U4 are none
 * without their scales: nothing is written and false returned. */
bool quant_to_f32(enum dtype dt, const void *src, float *dst, int64_t n);

/* Whether all n values are finite (of block types: all scales are). */
bool quant_finite(enum dtype dt, const void *src, int64_t n);

/* Rows of codes with scales (DT_FP8, DT_U4 in host memory) to fp32 [n, k], each value one product in fp32. */
void quant_scaled_to_f32(const struct weight *w, int row, int n, float *out);

/* Q4_K and Q5_K: scale and minimum (6 bits each) of group j of 8, from the block's 12 bytes of them. */
void quant_k_scale_min(const uint8_t *s, int j, int *scale, int *min);

static inline float f32_from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t f32_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float f32_from_bf16(uint16_t h) { return f32_from_bits((uint32_t)h << 16); }

/* Round to nearest even; a NaN stays one. */
static inline uint16_t f32_to_bf16(float f)
{
    uint32_t u = f32_bits(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((u >> 16) | 0x40u);
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

/* IEEE half, subnormals, infinities and NaN included. */
static inline float f32_from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, mag = h & 0x7fffu;
    if (mag >= 0x7c00u) return f32_from_bits(sign | 0x7f800000u | (mag & 0x3ffu) << 13);
    if (mag >= 0x0400u) return f32_from_bits(sign | ((mag << 13) + 0x38000000u));
    float f = (float)mag * 0x1p-24f;
    return sign ? -f : f;
}

#endif
