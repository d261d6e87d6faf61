/* int4: what warps make of records of 16 rows x 128 columns (kernels/quant_int4.h): the operands of mma
 * m16n8k16 in registers, and what their sums are multiplied by. Device code, compute capability 8.0 and
 * newer.
 *
 * A decoder has: FINE, whether sums are taken after 32 columns instead of 64; a constructor that reads a
 * lane's share of half a record from shared memory; step(a, i), the operands of 16 columns; add(acc, part,
 * s), which adds the sums of 64 columns (FINE: of the s-th 32) to a warp's in fp32. */
#ifndef FLUXD_KERNELS_CUDA_INT4_CUH
#define FLUXD_KERNELS_CUDA_INT4_CUH

#include "kernels/quant_int4.h"

#include <cuda_fp16.h>
#include <stdint.h>

/* Where a record is. */
struct in_shared {
    uint32_t at;
    __device__ __forceinline__ uint4 load16(int i) const
    {
        uint4 v;
        asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                     : "r"(at + i));
        return v;
    }
    __device__ __forceinline__ uint2 load8(int i) const
    {
        uint2 v;
        asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(at + i));
        return v;
    }
    __device__ __forceinline__ uint32_t load4(int i) const
    {
        uint32_t v;
        asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(at + i));
        return v;
    }
};
struct in_global {
    const unsigned char *at;
    __device__ __forceinline__ uint4 load16(int i) const { return __ldcs((const uint4 *)(at + i)); }
    __device__ __forceinline__ uint2 load8(int i) const { return __ldcs((const uint2 *)(at + i)); }
    __device__ __forceinline__ uint32_t load4(int i) const { return __ldcs((const uint32_t *)(at + i)); }
};

/* Both halves: code - zero of what is 128 + code, exactly. */
__device__ __forceinline__ uint32_t minus_bf16(uint32_t a, uint32_t minus)
{
    uint32_t r;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(0x3f803f80u), "r"(minus));
    return r;
}

/* Codes in bits 4i and 16 + 4i of c, i = shift / 4, as 128 + code in bf16. */
__device__ __forceinline__ uint32_t plus_128(uint32_t c, int shift)
{
    uint32_t r;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(r) : "r"(c >> shift), "r"(0x000f000fu), "r"(0x43004300u));
    return r;
}

/* d[16, 8] = a[16, 16] b[16, 8] */
__device__ __forceinline__ void mma_first(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %10, %10, %10};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(0.0f));
}

template <bool ZEROS, bool FINE_> struct u4_weights {
    static constexpr bool FINE = FINE_;
    static constexpr int ID = ZEROS + 2 * FINE; /* among decoders */
    uint32_t code[4], minus[FINE ? 2 : 1][2];   /* of rows g and g + 8: -(128 + zero), twice */
    float scale[FINE ? 2 : 1][2];

    template <typename S>
    __device__ __forceinline__ u4_weights(const S &record, int lane, int half, int set_shift)
    {
        const uint4 c = record.load16(half * (INT4_CODES / 2) + lane * 16);
        code[0] = c.x, code[1] = c.y, code[2] = c.z, code[3] = c.w;
#pragma unroll
        for (int s = 0; s < (FINE ? 2 : 1); s++) {
            const int set = FINE ? 2 * half + s : half >> set_shift,
                      at = INT4_CODES + (set * 8 + lane / 4) * (ZEROS ? 8 : 4);
            uint32_t both;
            if (ZEROS) {
                const uint2 v = record.load8(at);
                both = v.x;
                minus[s][0] = __byte_perm(v.y, 0, 0x1010) | 0x80008000u;
                minus[s][1] = __byte_perm(v.y, 0, 0x3232) | 0x80008000u;
            } else {
                both = record.load4(at);
                minus[s][0] = minus[s][1] = 0xc308c308u; /* -(128 + 8) */
            }
            scale[s][0] = __half2float(__ushort_as_half((unsigned short)both));
            scale[s][1] = __half2float(__ushort_as_half((unsigned short)(both >> 16)));
        }
    }
    __device__ __forceinline__ void step(uint32_t (&a)[4], int i) const
    {
        const int s = FINE ? i / 2 : 0;
#pragma unroll
        for (int o = 0; o < 4; o++) a[o] = minus_bf16(plus_128(code[i], 4 * o), minus[s][o % 2]);
    }
    __device__ __forceinline__ void add(float (&acc)[4], const float (&part)[4], int s) const
    {
        const int i = FINE ? s : 0;
#pragma unroll
        for (int k = 0; k < 4; k++) acc[k] = fmaf(part[k], scale[i][k / 2], acc[k]);
    }
};

#endif
