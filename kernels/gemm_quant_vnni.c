/* gemm_quant_vnni: the kernels of gemm_quant for AVX-512 with VNNI: four products of an unsigned weight byte and a signed
 * activation byte per lane and instruction, 16 outputs a vector, up to 8 rows in registers. */
#include "kernels/gemm_quant.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")))
#define INLINE VNNI static inline __attribute__((always_inline))

INLINE __m512i four(const int8_t *p)
{
    int32_t v;
    memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
}

/* Scales (i = 0) or minima (i = 1) of a block. */
INLINE __m512 head(const uint8_t *w, const enum quant_form form, int i)
{
    return quant_is_k(form) ? _mm512_loadu_ps(w + 64 * i) : _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(w + 32 * i)));
}

/* M and form are constants at every use, so the accumulators stay in registers. */
INLINE void nibble_rows(const struct quant_tile *t, int m0, const int M, const enum quant_form form, float (*out)[QUANT_GROUP])
{
    __m512        f[8];
    const __m512i low = _mm512_set1_epi8(15);
    const uint8_t *w = t->w;
#pragma GCC unroll 8
    for (int m = 0; m < M; m++)
        f[m] = _mm512_setzero_ps();
    for (int b = 0; b < t->n_block; b++, w += quant_block_bytes(form)) {
        __m512  wd = head(w, form, 0), wm = head(w, form, 1);
        __m512i z[8];
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) {
            __m512i u = _mm512_loadu_si512(w + quant_head_bytes(form) + 64 * v);
            z[v] = _mm512_and_si512(u, low);
            z[4 + v] = _mm512_and_si512(_mm512_srli_epi16(u, 4), low);
            _mm_prefetch((const char *)w + 2560 + 64 * v, _MM_HINT_T0);
        }
        _mm_prefetch((const char *)w + 2560 + 256, _MM_HINT_T0);
#pragma GCC unroll 8
        for (int m = 0; m < M; m++) {
            const int64_t at = (m0 + m) * t->q_stride + b * QUANT_BLOCK, i = (m0 + m) * t->s_stride + b;
            __m512i       hi = _mm512_setzero_si512(), lo = hi;
#pragma GCC unroll 8
            for (int v = 0; v < 8; v++) {
                hi = _mm512_dpbusd_epi32(hi, z[v], four(t->hi + at + 4 * v));
                lo = _mm512_dpbusd_epi32(lo, z[v], four(t->lo + at + 4 * v));
            }
            __m512 c = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(hi, 8), lo));
            f[m] = _mm512_fmadd_ps(_mm512_mul_ps(wd, _mm512_set1_ps(t->d[i])), c, f[m]);
            f[m] = _mm512_fmadd_ps(wm, _mm512_set1_ps(t->s[i]), f[m]);
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; m++)
        _mm512_storeu_ps(out[m0 + m], f[m]);
}

INLINE void byte_rows(const struct quant_tile *t, int m0, const int M, const enum quant_form form, float (*out)[QUANT_GROUP])
{
    __m512         f[8];
    const uint8_t *w = t->w;
    const bool     off128 = form == QUANT_BYTE128;
#pragma GCC unroll 8
    for (int m = 0; m < M; m++)
        f[m] = _mm512_setzero_ps();
    for (int b = 0; b < t->n_block; b++, w += quant_block_bytes(form)) {
        __m512  wd = head(w, form, 0), wm = off128 ? wd : head(w, form, 1);
        __m512i z[8];
#pragma GCC unroll 8
        for (int v = 0; v < 8; v++) {
            z[v] = _mm512_loadu_si512(w + quant_head_bytes(form) + 64 * v);
            _mm_prefetch((const char *)w + 4352 + 64 * v, _MM_HINT_T0);
        }
#pragma GCC unroll 8
        for (int m = 0; m < M; m++) {
            const int64_t at = (m0 + m) * t->q_stride + b * QUANT_BLOCK, i = (m0 + m) * t->s_stride + b;
            __m512i       hi = _mm512_setzero_si512(), lo = off128 ? _mm512_set1_epi32(-128 * t->is[i]) : hi;
#pragma GCC unroll 8
            for (int v = 0; v < 8; v++) {
                hi = _mm512_dpbusd_epi32(hi, z[v], four(t->hi + at + 4 * v));
                lo = _mm512_dpbusd_epi32(lo, z[v], four(t->lo + at + 4 * v));
            }
            __m512 c = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(hi, 8), lo));
            f[m] = _mm512_fmadd_ps(_mm512_mul_ps(wd, _mm512_set1_ps(t->d[i])), c, f[m]);
            if (!off128)
                f[m] = _mm512_fmadd_ps(wm, _mm512_set1_ps(t->s[i]), f[m]);
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; m++)
        _mm512_storeu_ps(out[m0 + m], f[m]);
}

/* Rows in steps of 8, 4, 2, 1: each step is its own function so that its registers are its own. */
#define STEPS(name, CALL)                                                                          \
    VNNI static __attribute__((noinline)) void name##_8(const struct quant_tile *t, int m0, float (*f)[QUANT_GROUP]) { CALL(8); } \
    VNNI static __attribute__((noinline)) void name##_4(const struct quant_tile *t, int m0, float (*f)[QUANT_GROUP]) { CALL(4); } \
    VNNI static __attribute__((noinline)) void name##_2(const struct quant_tile *t, int m0, float (*f)[QUANT_GROUP]) { CALL(2); } \
    VNNI static __attribute__((noinline)) void name##_1(const struct quant_tile *t, int m0, float (*f)[QUANT_GROUP]) { CALL(1); } \
    static void name(const struct quant_tile *t, float (*f)[QUANT_GROUP])                          \
    {                                                                                              \
        int m = 0;                                                                                 \
        for (; m + 8 <= t->m; m += 8)                                                              \
            name##_8(t, m, f);                                                                     \
        if (t->m - m >= 4) {                                                                       \
            name##_4(t, m, f);                                                                     \
            m += 4;                                                                                \
        }                                                                                          \
        if (t->m - m >= 2) {                                                                       \
            name##_2(t, m, f);                                                                     \
            m += 2;                                                                                \
        }                                                                                          \
        if (m < t->m)                                                                              \
            name##_1(t, m, f);                                                                     \
    }
#define NIBBLE(M) nibble_rows(t, m0, M, QUANT_NIBBLE, f)
#define NIBBLE_K(M) nibble_rows(t, m0, M, QUANT_NIBBLE_K, f)
#define BYTE(M) byte_rows(t, m0, M, QUANT_BYTE, f)
#define BYTE_K(M) byte_rows(t, m0, M, QUANT_BYTE_K, f)
#define BYTE128(M) byte_rows(t, m0, M, QUANT_BYTE128, f)
STEPS(vnni_nibble, NIBBLE)
STEPS(vnni_nibble_k, NIBBLE_K)
STEPS(vnni_byte, BYTE)
STEPS(vnni_byte_k, BYTE_K)
STEPS(vnni_byte128, BYTE128)

/* See quant_row_plain, whose bits these are. */
VNNI static void quantise(const float *x, int k, const struct quant_row *r)
{
    const __m512i half = _mm512_set1_epi32(128), least = _mm512_set1_epi32(-127);
    for (int b = 0; b < k / QUANT_BLOCK; b++) {
        __m512  v[2] = {_mm512_loadu_ps(x + b * QUANT_BLOCK), _mm512_loadu_ps(x + b * QUANT_BLOCK + 16)};
        float   max = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(v[0]), _mm512_abs_ps(v[1])));
        __m512i sum = _mm512_setzero_si512();
        bool    finite = !(_mm512_fpclass_ps_mask(v[0], 0x99) | _mm512_fpclass_ps_mask(v[1], 0x99)); /* NaNs and infinities */
        __m512  inv = _mm512_set1_ps(max > QUANT_TINY && finite ? QUANT_MAX / max : 0.0f);
        for (int i = 0; i < 2; i++) {
            __m512i n = finite ? _mm512_cvtps_epi32(_mm512_mul_ps(v[i], inv)) : _mm512_setzero_si512();
            __m512i hi = _mm512_srai_epi32(_mm512_add_epi32(n, half), 8);
            __m512i lo = _mm512_max_epi32(_mm512_sub_epi32(n, _mm512_slli_epi32(hi, 8)), least);
            _mm_storeu_si128((void *)(r->hi + b * QUANT_BLOCK + 16 * i), _mm512_cvtepi32_epi8(hi));
            _mm_storeu_si128((void *)(r->lo + b * QUANT_BLOCK + 16 * i), _mm512_cvtepi32_epi8(lo));
            sum = _mm512_add_epi32(sum, _mm512_add_epi32(_mm512_slli_epi32(hi, 8), lo));
        }
        r->d[b] = finite ? max * (1 / QUANT_MAX) : NAN;
        r->is[b] = _mm512_reduce_add_epi32(sum);
        r->s[b] = r->d[b] * (float)r->is[b];
    }
}

static const struct quant_kernels kernels = {{[QUANT_NIBBLE] = vnni_nibble,
                                              [QUANT_NIBBLE_K] = vnni_nibble_k,
                                              [QUANT_BYTE] = vnni_byte,
                                              [QUANT_BYTE_K] = vnni_byte_k,
                                              [QUANT_BYTE128] = vnni_byte128},
                                             quantise, "avx512 vnni"};

const struct quant_kernels *quant_kernels_vnni(void)
{
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")
               ? &kernels
               : NULL;
}

#else
const struct quant_kernels *quant_kernels_vnni(void) { return NULL; }
#endif
