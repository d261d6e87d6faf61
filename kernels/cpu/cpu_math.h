/* cpu_math: fp32 building blocks of the CPU kernels. Sums run in 16 lanes that are folded in one fixed order,
 * so that every instruction set (and the compiler's choice of vectors) gives the same bits. */
#ifndef FLUXD_KERNELS_CPU_CPU_MATH_H
#define FLUXD_KERNELS_CPU_CPU_MATH_H

#include <stdint.h>
#include <string.h>

enum { LANES = 16 };

/* One build per instruction set, chosen when the program starts. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__SANITIZE_ADDRESS__) &&                            \
    !defined(__SANITIZE_THREAD__)
#define CPU_HAS_CLONES 1
#define CPU_CLONES     __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CPU_HAS_CLONES 0
#define CPU_CLONES
#endif

static inline float fold16(const float *a)
{
    float b[8], c[4];
    for (int i = 0; i < 8; i++) b[i] = a[i] + a[i + 8];
    for (int i = 0; i < 4; i++) c[i] = b[i] + b[i + 4];
    return (c[0] + c[2]) + (c[1] + c[3]);
}

/* Sum over i of x[i] * y[i]. */
static inline float dot_f32(const float *restrict x, const float *restrict y, int n)
{
    float a[LANES] = {0};
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) a[j] += x[i + j] * y[i + j];
    for (int j = 0; i + j < n; j++) a[j] += x[i + j] * y[i + j];
    return fold16(a);
}

/* e^x for x <= 88: relative error under 2e-7; 0 below -87.3. Cephes' range reduction, minimax polynomial of
 * degree 6. */
static inline float exp_f32(float x)
{
    float t = x < -87.3f ? -87.3f : x;
    float k = t * 1.44269504f + 12582912.0f; /* round to nearest by the 1.5 * 2^23 trick */
    int32_t n;
    memcpy(&n, &k, 4);
    k -= 12582912.0f;
    float r = (t - k * 0.693359375f) - k * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    uint32_t e = (uint32_t)(n - 0x4b400000 + 127) << 23;
    float s;
    e &= x < -87.3f ? 0 : ~0u; /* times zero, not a branch: loops over this stay vectors */
    memcpy(&s, &e, 4);
    return p * s;
}

#endif
