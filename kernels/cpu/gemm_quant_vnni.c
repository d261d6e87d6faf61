/* gemm_quant_vnni: the kernels of gemm_quant for AVX-512 with VNNI: four products of an unsigned weight byte
 * and a signed activation byte per lane and instruction, 16 outputs a vector, the sums of four rows by two
 * groups of outputs in registers. */
#include "kernels/cpu/gemm_quant.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#define VNNI   __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")))
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
    return quant_is_k(form) ? _mm512_loadu_ps(w + 64 * i)
                            : _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(w + 32 * i)));
}

enum { AHEAD = 8 };

/* The integers of one block, added to a: hi bytes (half 0) or lo bytes (half 1) times the weights of M rows
 * from m0 on and G groups. M, m0, G and form are constants at every use. A nibble vector is read once for
 * inputs 4v and 16 + 4v on, a broadcast serves all groups. */
INLINE void products(const uint8_t *q, int64_t group_bytes, const struct quant_x *x, const int M,
                     const int m0, const int G, const enum quant_form form, const int half, __m512i (*a)[2])
{
    const bool nibble = quant_is_nibble(form);
    const int n_vector = nibble ? 4 : 8, n_half = nibble ? 2 : 1;
#pragma GCC unroll 8
    for (int v = 0; v < n_vector; v++) {
        __m512i u[2];
#pragma GCC unroll 2
        for (int g = 0; g < G; g++) u[g] = _mm512_loadu_si512(q + g * group_bytes + 64 * v);
#pragma GCC unroll 2
        for (int h = 0; h < n_half; h++) {
            __m512i z[2];
#pragma GCC unroll 2
            for (int g = 0; g < G; g++)
                z[g] = nibble ? _mm512_and_si512(h ? _mm512_srli_epi16(u[g], 4) : u[g], _mm512_set1_epi8(15))
                              : u[g];
#pragma GCC unroll 4
            for (int m = 0; m < M; m++) {
                __m512i w = four(x->q[v + 4 * h][m0 + m][half]);
#pragma GCC unroll 2
                for (int g = 0; g < G; g++) a[m][g] = _mm512_dpbusd_epi32(a[m][g], z[g], w);
            }
        }
    }
}

/* One block of M rows and G groups, added to f. The sums of the hi bytes are shifted into place before the lo
 * bytes' are added to them. */
INLINE void block(const uint8_t *w, int64_t group_bytes, const struct quant_x *x, const int M, const int m0,
                  const int G, const enum quant_form form, __m512 (*f)[2])
{
    const bool off128 = form == QUANT_BYTE128;
    const uint8_t *q = w + quant_head_bytes(form);
    __m512i a[4][2];
    uint32_t low = 0;
#pragma GCC unroll 4
    for (int m = 0; m < M; m++)
#pragma GCC unroll 2
        for (int g = 0; g < G; g++) a[m][g] = _mm512_setzero_si512();
    products(q, group_bytes, x, M, m0, G, form, 0, a);
#pragma GCC unroll 4
    for (int m = 0; m < M; m++)
#pragma GCC unroll 2
        for (int g = 0; g < G; g++) a[m][g] = _mm512_slli_epi32(a[m][g], 8);
    memcpy(&low, x->low + m0, (size_t)M);
    if (low) products(q, group_bytes, x, M, m0, G, form, 1, a);
#pragma GCC unroll 2
    for (int g = 0; g < G; g++) {
        __m512 wd = head(w + g * group_bytes, form, 0), wm = off128 ? wd : head(w + g * group_bytes, form, 1);
#pragma GCC unroll 4
        for (int m = 0; m < M; m++) {
            __m512i n = off128 ? _mm512_sub_epi32(a[m][g], _mm512_set1_epi32(128 * x->is[m0 + m])) : a[m][g];
            f[m][g] = _mm512_fmadd_ps(_mm512_mul_ps(wd, _mm512_set1_ps(x->d[m0 + m])), _mm512_cvtepi32_ps(n),
                                      f[m][g]);
            if (!off128) f[m][g] = _mm512_fmadd_ps(wm, _mm512_set1_ps(x->s[m0 + m]), f[m][g]);
        }
    }
}

/* M rows from m0 on of G groups; all sums stay in registers. */
INLINE void rows(const struct quant_tile *t, const int M, const int m0, const int G,
                 const enum quant_form form, quant_out *out)
{
    const uint8_t *w = t->w;
    const struct quant_x *x = t->x;
    const int64_t group_bytes = t->group_bytes;
    const int n_block = t->n_block;
    const bool cold = t->cold;
    __m512 f[4][2];
#pragma GCC unroll 4
    for (int m = 0; m < M; m++)
#pragma GCC unroll 2
        for (int g = 0; g < G; g++) f[m][g] = _mm512_setzero_ps();
    for (int b = 0; b < n_block; b++, w += quant_block_bytes(form), x++) {
        if (cold) { /* some blocks ahead: this tile's, then the next one's */
            const uint8_t *next =
                w + AHEAD * quant_block_bytes(form) + (b + AHEAD < n_block ? 0 : (G - 1) * group_bytes);
#pragma GCC unroll 2
            for (int g = 0; g < G; g++)
#pragma GCC unroll 10
                for (int i = 0; i < quant_block_bytes(form); i += 64)
                    _mm_prefetch((const char *)next + g * group_bytes + i, _MM_HINT_T0);
        }
        block(w, group_bytes, x, M, m0, G, form, f);
    }
#pragma GCC unroll 4
    for (int m = 0; m < M; m++)
#pragma GCC unroll 2
        for (int g = 0; g < G; g++) _mm512_storeu_ps(out[g][m0 + m], f[m][g]);
}

/* Each number of rows and groups is its own function so that its registers are its own. */
#define STEP(name, FORM, M, M0, G)                                                                           \
    VNNI static                                                                                              \
        __attribute__((noinline)) void name##_##M##_##M0##_##G(const struct quant_tile *t, quant_out *f)     \
    {                                                                                                        \
        rows(t, M, M0, G, FORM, f);                                                                          \
    }
#define STEPS(name, FORM)                                                                                    \
    STEP(name, FORM, 4, 0, 2)                                                                                \
    STEP(name, FORM, 4, 0, 1)                                                                                \
    STEP(name, FORM, 2, 0, 2)                                                                                \
    STEP(name, FORM, 2, 0, 1)                                                                                \
    STEP(name, FORM, 1, 0, 2)                                                                                \
    STEP(name, FORM, 1, 0, 1)                                                                                \
    STEP(name, FORM, 1, 2, 2)                                                                                \
    STEP(name, FORM, 1, 2, 1)                                                                                \
    static void name(const struct quant_tile *t, quant_out *f)                                               \
    {                                                                                                        \
        const bool two = t->n_group == 2;                                                                    \
        if (t->m == 4) (two ? name##_4_0_2 : name##_4_0_1)(t, f);                                            \
        if (t->m == 2 || t->m == 3) (two ? name##_2_0_2 : name##_2_0_1)(t, f);                               \
        if (t->m == 3) (two ? name##_1_2_2 : name##_1_2_1)(t, f);                                            \
        if (t->m == 1) (two ? name##_1_0_2 : name##_1_0_1)(t, f);                                            \
    }
STEPS(vnni_nibble, QUANT_NIBBLE)
STEPS(vnni_nibble_k, QUANT_NIBBLE_K)
STEPS(vnni_byte, QUANT_BYTE)
STEPS(vnni_byte_k, QUANT_BYTE_K)
STEPS(vnni_byte128, QUANT_BYTE128)

/* See quant_row_plain, whose bits these are. */
VNNI static void quantise(const float *x, int k, float coarse, struct quant_x *to, int row)
{
    const __m512i half = _mm512_set1_epi32(128), least = _mm512_set1_epi32(-127);
    const int n_block = k / QUANT_BLOCK;
    float sum_max = 0;
    for (int b = 0; b < n_block; b++) {
        __m512 a = _mm512_abs_ps(_mm512_loadu_ps(x + b * QUANT_BLOCK)),
               c = _mm512_abs_ps(_mm512_loadu_ps(x + b * QUANT_BLOCK + 16));
        to[b].d[row] = _mm512_reduce_max_ps(_mm512_max_ps(a, c));
        sum_max += to[b].d[row];
    }
    const float loud = coarse * (sum_max / (float)n_block);
    for (int b = 0; b < n_block; b++, to++) {
        __m512 v[2] = {_mm512_loadu_ps(x + b * QUANT_BLOCK), _mm512_loadu_ps(x + b * QUANT_BLOCK + 16)};
        float max = to->d[row];
        __m512i sum = _mm512_setzero_si512();
        bool finite = !(_mm512_fpclass_ps_mask(v[0], 0x99) |
                        _mm512_fpclass_ps_mask(v[1], 0x99)); /* NaNs and infinities */
        __m512 inv = _mm512_set1_ps(max > QUANT_TINY && finite ? QUANT_MAX / max : 0.0f);
        to->low[row] = max > loud;
        for (int i = 0; i < 2; i++) {
            __m512i n = finite ? _mm512_cvtps_epi32(_mm512_mul_ps(v[i], inv)) : _mm512_setzero_si512();
            __m512i hi = _mm512_srai_epi32(_mm512_add_epi32(n, half), 8);
            __m512i lo = to->low[row] ? _mm512_max_epi32(_mm512_sub_epi32(n, _mm512_slli_epi32(hi, 8)), least)
                                      : _mm512_setzero_si512();
            __m128i h = _mm512_cvtepi32_epi8(hi), l = _mm512_cvtepi32_epi8(lo);
            __m128i p[2] = {_mm_unpacklo_epi32(h, l),
                            _mm_unpackhi_epi32(h, l)}; /* two times four inputs each */
            for (int j = 0; j < 4; j++)
                _mm_storel_epi64((void *)to->q[4 * i + j][row],
                                 j % 2 ? _mm_unpackhi_epi64(p[j / 2], p[j / 2]) : p[j / 2]);
            sum = _mm512_add_epi32(sum, _mm512_add_epi32(_mm512_slli_epi32(hi, 8), lo));
        }
        to->d[row] = finite ? max * (1 / QUANT_MAX) : NAN;
        to->is[row] = _mm512_reduce_add_epi32(sum);
        to->s[row] = to->d[row] * (float)to->is[row];
    }
}

static const struct quant_kernels kernels = {{[QUANT_NIBBLE] = vnni_nibble,
                                              [QUANT_NIBBLE_K] = vnni_nibble_k,
                                              [QUANT_BYTE] = vnni_byte,
                                              [QUANT_BYTE_K] = vnni_byte_k,
                                              [QUANT_BYTE128] = vnni_byte128},
                                             quantise,
                                             "avx512 vnni"};

const struct quant_kernels *quant_kernels_vnni(void)
{
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")
               ? &kernels
               : NULL;
}

#else
const struct quant_kernels *quant_kernels_vnni(void) { return NULL; }
#endif
