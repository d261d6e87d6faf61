/* kv_fp8: rows to codes and codes to pages as the CPU's kernels read them (kernels/kv_page.h). */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu_math.h"
#include "kernels/cpu/kv_codes.h"
#include "kernels/kv_page.h"

static inline __attribute__((always_inline)) uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
}
static inline __attribute__((always_inline)) float of_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, 4);
    return x;
}

/* 2^e for e in -126 .. 127. */
static inline __attribute__((always_inline)) float power_of_two(int e)
{
    return of_bits((uint32_t)(e + 127) << 23);
}

/* 448 is 1.75 x 2^8. Below 2^-126 the exponent is the least anyway. */
static inline int exponent_of(float most)
{
    const uint32_t u = bits_of(most);
    const int e = (int)(u >> 23) - 127 - 8 + ((u & 0x7fffff) > 0x600000);
    return e < -KV_FP8_EXP_MOST ? -KV_FP8_EXP_MOST : e > KV_FP8_EXP_MOST ? KV_FP8_EXP_MOST : e;
}

/* Nearest e4m3 of a number of at most 448, ties to even; what is no number is NaN. 2^14 + x has x's multiples
 * of 2^-9 in its last bits. */
static inline __attribute__((always_inline)) uint8_t code_of(float x)
{
    const uint32_t u = bits_of(x), sign = u >> 24 & 0x80, a = u & 0x7fffffff;
    const uint32_t few = bits_of(of_bits(a < 0x3c800000 ? a : 0) + 16384.0f) & 0xff;
    const uint32_t many = ((a + 0x7ffff + (a >> 20 & 1)) >> 20) - (120 << 3);
    const uint32_t c = a < 0x3c800000 ? few : many; /* 2^-6: the least normal one */
    return (uint8_t)(sign | (a > 0x7f800000 ? 0x7f : c));
}

CPU_CLONES void kv_fp8_row_cpu(uint8_t *code, int8_t *exp, const float *x, int n)
{
    float most = 0;
    for (int i = 0; i < n; i++) {
        const float a = fabsf(x[i]);
        most = a > most ? a : most; /* a NaN is not */
    }
    const int e = exponent_of(most);
    const float down = power_of_two(-e);
    *exp = (int8_t)e;
    for (int i = 0; i < n; i++) code[i] = code_of(fabsf(x[i]) == INFINITY ? NAN : x[i] * down);
}

/* --- codes to bf16 */

static inline __attribute__((always_inline)) uint16_t bf16_of(uint8_t code, float scale)
{
    /* e4m3 as half of a float's bits, its exponent off by 120: subnormal codes come out right too */
    const float x = of_bits((uint32_t)(code & 0x7f) << 20) * 0x1p120f;
    const uint32_t nan = (code & 0x7f) == 0x7f ? 0x7fc00000 : 0;
    return (uint16_t)((bits_of(x * scale) | nan | (uint32_t)(code & 0x80) << 24) >> 16);
}

CPU_CLONES void kv_codes_keys(uint16_t *to, const uint8_t *code, const int8_t *exp, int K, int n_tok)
{
    for (int t = 0; t < n_tok; t++) {
        const float scale = power_of_two(exp[t]);
        for (int i = 0; i < K; i += 2) {
            uint16_t *pair = to + kv_at_k(DT_BF16, K, t, i);
            pair[0] = bf16_of(code[t * K + i], scale);
            pair[1] = bf16_of(code[t * K + i + 1], scale);
        }
    }
}

CPU_CLONES void kv_codes_values(uint16_t *to, const uint8_t *code, const int8_t *exp, int K, int n_tok)
{
    for (int t = 0; t < n_tok; t++) {
        const float scale = power_of_two(exp[t]);
        uint16_t *row = to + kv_at_v(DT_BF16, K, t, 0);
        for (int i = 0; i < K; i++) row[2 * i] = bf16_of(code[t * K + i], scale);
    }
}
