/* quant_fp8: see quant_fp8.h. */
#include "kernels/quant_fp8.h"

#include <math.h>

#include "kernels/quant.h"

/* Without a branch: the compiler makes rows of it. Below 2^-6 codes are units of 2^-9, which a float between
 * 2^14 and 2^15 counts in its last bits. */
static inline uint8_t code_of(float x)
{
    const int32_t u = (int32_t)f32_bits(x), mag = u & 0x7fffffff, sign = u >> 24 & 0x80,
                  small = (int32_t)(f32_bits(f32_from_bits((uint32_t)mag) + 0x1p14f) - f32_bits(0x1p14f)),
                  near = ((mag + 0x7ffff + (mag >> 20 & 1)) >> 20) - ((127 - 7) << 3);
    int32_t code = mag < (int32_t)f32_bits(0x1p-6f) ? small : near;
    code = mag >= (int32_t)f32_bits(FP8_MOST) ? 0x7e : code;
    code = mag > 0x7f800000 ? 0x7f : code;
    return (uint8_t)(sign | code);
}

uint8_t fp8_from_f32(float x) { return code_of(x); }

float fp8_to_f32(uint8_t code)
{
    const int mag = code & 0x7f, exp = mag >> 3, man = mag & 7;
    if (mag == 0x7f) return NAN;
    const float x = exp ? ldexpf((float)(8 + man), exp - 10) : (float)man * 0x1p-9f;
    return code & 0x80 ? -x : x;
}

static void quantise(uint8_t *code, float *scale, const float *x, int n)
{
    int32_t most = 0; /* bits of magnitudes are ordered as they are; a NaN is not the largest */
    for (int i = 0; i < n; i++) {
        const int32_t mag = (int32_t)(f32_bits(x[i]) & 0x7fffffffu), seen = mag > 0x7f800000 ? 0 : mag;
        most = seen > most ? seen : most;
    }
    *scale = fmaxf(f32_from_bits((uint32_t)most) / FP8_MOST, FP8_SCALE_LEAST);
    const float inverse = 1.0f / *scale;
    for (int i = 0; i < n; i++) code[i] = code_of(x[i] * inverse);
}

void fp8_row_ref(uint8_t *code, float *scale, const float *x, int k, bool block)
{
    if (!block) {
        quantise(code, scale, x, k);
        return;
    }
    for (int b = 0; b < fp8_groups(k); b++) {
        const int at = b * FP8_BLOCK, n = k - at < FP8_BLOCK ? k - at : FP8_BLOCK;
        quantise(code + at, scale + b, x + at, n);
    }
}

/* One number of y before bias and what stood there. */
static double product(const struct gemm_fp8_args *a, int t, int row)
{
    const uint8_t *x = a->x + t * a->x_stride, *w = a->w + (int64_t)row * a->k;
    const int groups = fp8_groups(a->k);
    double sum = 0;
    for (int b = 0; b < groups; b++) {
        const int end = (b + 1) * FP8_BLOCK < a->k ? (b + 1) * FP8_BLOCK : a->k;
        double part = 0;
        for (int i = b * FP8_BLOCK; i < end; i++) part += (double)fp8_to_f32(x[i]) * (double)fp8_to_f32(w[i]);
        if (a->block)
            part *= (double)a->x_scale[b * a->x_scale_stride + t] *
                    (double)a->w_scale[row / FP8_BLOCK * a->w_scale_stride + b];
        sum += part;
    }
    return a->block ? sum : sum * (double)a->x_scale[t] * (double)a->w_scale[row];
}

void gemm_fp8_ref(const struct gemm_fp8_args *a)
{
    const int n = a->gated ? a->n / 2 : a->n;
    const float *bias = a->bias;
    for (int t = 0; t < a->n_tok; t++)
        for (int i = 0; i < n; i++) {
            float *y = (float *)a->y + t * a->y_stride + i;
            double v = product(a, t, i) + (bias ? (double)bias[i] : 0);
            if (a->gated) {
                const double up = product(a, t, n + i) + (bias ? (double)bias[n + i] : 0);
                v = v / (1 + exp(-v)) * up;
            }
            *y = (float)(a->add ? v + (double)*y : v);
        }
}
