/* gemm_quant_avx2: the kernels of gemm_quant for processors with AVX2 and FMA: 8 outputs a vector, up to 4
 * rows in registers. Products of bytes are summed in 16 bits as long as they fit (a weight's bits times 127,
 * times two, times how many are added), then in 32: the integers are the other kernels', and so are the fp32
 * sums after them. */
#include "kernels/cpu/gemm_quant.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define AVX2   __attribute__((target("avx2,fma,f16c")))
#define INLINE AVX2 static inline __attribute__((always_inline))

enum {
    HALF = 8,
    ROWS = QUANT_ROWS,
    NEXT = sizeof(int8_t[QUANT_ROWS][2][4]) /* from four inputs to the next four */
};

INLINE __m256i four(const int8_t *p)
{
    int32_t v;
    memcpy(&v, p, 4);
    return _mm256_set1_epi32(v);
}

/* Scales (i = 0) or minima (i = 1) of half h of the outputs. */
INLINE __m256 load_head(const uint8_t *w, const enum quant_form form, int i, int h)
{
    return quant_is_k(form) ? _mm256_loadu_ps((const float *)(const void *)(w + 64 * i + 32 * h))
                            : _mm256_cvtph_ps(_mm_loadu_si128((const void *)(w + 32 * i + 16 * h)));
}

INLINE __m256i widen(__m256i c) { return _mm256_madd_epi16(c, _mm256_set1_epi16(1)); }

/* 4-bit weights: 15 * 127 * 2 * 8 < 2^15, so that all eight sums fit 16 bits. */
INLINE __m256i nibble_dot(const __m256i *z, const int8_t *p)
{
    __m256i c = _mm256_maddubs_epi16(z[0], four(p));
#pragma GCC unroll 8
    for (int v = 1; v < 8; v++) c = _mm256_add_epi16(c, _mm256_maddubs_epi16(z[v], four(p + NEXT * v)));
    return widen(c);
}

/* 5-bit weights: 31 * 127 * 2 * 4 < 2^15. */
INLINE __m256i byte_dot(const __m256i *z, const int8_t *p)
{
    __m256i sum = _mm256_setzero_si256();
#pragma GCC unroll 2
    for (int h = 0; h < 8; h += 4) {
        __m256i c = _mm256_maddubs_epi16(z[h], four(p + NEXT * h));
#pragma GCC unroll 4
        for (int v = h + 1; v < h + 4; v++)
            c = _mm256_add_epi16(c, _mm256_maddubs_epi16(z[v], four(p + NEXT * v)));
        sum = _mm256_add_epi32(sum, widen(c));
    }
    return sum;
}

/* 8-bit weights, stored + 128: |w| * (a with w's sign), 128 * 127 * 2 < 2^15. */
INLINE __m256i byte128_dot(const __m256i *z, const int8_t *p)
{
    __m256i sum = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int v = 0; v < 8; v++)
        sum = _mm256_add_epi32(sum, widen(_mm256_maddubs_epi16(_mm256_abs_epi8(z[v]),
                                                               _mm256_sign_epi8(four(p + NEXT * v), z[v]))));
    return sum;
}

INLINE __m256i dot(const __m256i *z, const int8_t *p, const enum quant_form form)
{
    return quant_is_nibble(form)   ? nibble_dot(z, p)
           : form == QUANT_BYTE128 ? byte128_dot(z, p)
                                   : byte_dot(z, p);
}

INLINE void load_quants(const uint8_t *q, const enum quant_form form, __m256i *z)
{
    const __m256i low = _mm256_set1_epi8(15), top = _mm256_set1_epi8(-128);
#pragma GCC unroll 8
    for (int v = 0; v < 8; v++) {
        __m256i u = _mm256_loadu_si256((const void *)(q + 64 * (quant_is_nibble(form) ? v % 4 : v)));
        if (quant_is_nibble(form))
            z[v] = _mm256_and_si256(v < 4 ? u : _mm256_srli_epi16(u, 4), low);
        else
            z[v] = form == QUANT_BYTE128 ? _mm256_xor_si256(u, top) : u;
    }
}

/* Outputs [8 * h, 8 * h + 8) of group g, for M rows from m0 on; M and form are constants at every use. */
INLINE void half_rows(const struct quant_tile *t, int g, int m0, int h, const int M,
                      const enum quant_form form, quant_out out)
{
    const uint8_t *w = t->w + g * t->group_bytes;
    __m256 f[ROWS];
#pragma GCC unroll 4
    for (int m = 0; m < M; m++) f[m] = _mm256_setzero_ps();
    for (int b = 0; b < t->n_block; b++, w += quant_block_bytes(form)) {
        const struct quant_x *x = &t->x[b];
        __m256i z[8];
        __m256 wd = load_head(w, form, 0, h), wm = form == QUANT_BYTE128 ? wd : load_head(w, form, 1, h);
        load_quants(w + quant_head_bytes(form) + 32 * h, form, z);
#pragma GCC unroll 4
        for (int m = m0; m < m0 + M; m++) {
            __m256i n = _mm256_slli_epi32(dot(z, x->q[0][m][0], form), 8);
            if (x->low[m]) n = _mm256_add_epi32(n, dot(z, x->q[0][m][1], form));
            __m256 c = _mm256_cvtepi32_ps(n);
            f[m - m0] = _mm256_fmadd_ps(_mm256_mul_ps(wd, _mm256_set1_ps(x->d[m])), c, f[m - m0]);
            if (form != QUANT_BYTE128) f[m - m0] = _mm256_fmadd_ps(wm, _mm256_set1_ps(x->s[m]), f[m - m0]);
        }
    }
#pragma GCC unroll 4
    for (int m = 0; m < M; m++) _mm256_storeu_ps(out[m0 + m] + HALF * h, f[m]);
}

#define STEP(name, FORM, M)                                                                                  \
    AVX2 static __attribute__((noinline)) void name##_##M(const struct quant_tile *t, int g, int m0, int h,  \
                                                          quant_out f)                                       \
    {                                                                                                        \
        half_rows(t, g, m0, h, M, FORM, f);                                                                  \
    }
#define STEPS(name, FORM)                                                                                    \
    STEP(name, FORM, 4)                                                                                      \
    STEP(name, FORM, 2)                                                                                      \
    STEP(name, FORM, 1)                                                                                      \
    static void name(const struct quant_tile *t, quant_out *f)                                               \
    {                                                                                                        \
        for (int i = 0; i < t->n_group * QUANT_GROUP / HALF; i++) {                                          \
            int g = i / 2, h = i % 2;                                                                        \
            if (t->m == 4) name##_4(t, g, 0, h, f[g]);                                                       \
            if (t->m == 2 || t->m == 3) name##_2(t, g, 0, h, f[g]);                                          \
            if (t->m % 2) name##_1(t, g, t->m - 1, h, f[g]);                                                 \
        }                                                                                                    \
    }
STEPS(avx2_nibble, QUANT_NIBBLE)
STEPS(avx2_nibble_k, QUANT_NIBBLE_K)
STEPS(avx2_byte, QUANT_BYTE)
STEPS(avx2_byte_k, QUANT_BYTE_K)
STEPS(avx2_byte128, QUANT_BYTE128)

static const struct quant_kernels kernels = {{[QUANT_NIBBLE] = avx2_nibble,
                                              [QUANT_NIBBLE_K] = avx2_nibble_k,
                                              [QUANT_BYTE] = avx2_byte,
                                              [QUANT_BYTE_K] = avx2_byte_k,
                                              [QUANT_BYTE128] = avx2_byte128},
                                             quant_row_plain,
                                             "avx2"};

const struct quant_kernels *quant_kernels_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")
               ? &kernels
               : NULL;
}

#else
const struct quant_kernels *quant_kernels_avx2(void) { return NULL; }
#endif
