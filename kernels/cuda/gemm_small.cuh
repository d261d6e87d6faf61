/* gemm_small: what the products of few rows share whatever a weight's numbers are: who loads what, how a
 * cluster of two adds up, how rows are stored. Device code of Hopper only. */
#ifndef FLUXD_KERNELS_GEMM_SMALL_CUH
#define FLUXD_KERNELS_GEMM_SMALL_CUH

#include "kernels/cuda/gemm_gpu.h"
#include "kernels/cuda/gpu_ops.cuh"

#include <cuda_bf16.h>

__device__ __forceinline__ uint32_t cluster_rank()
{
    uint32_t r;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
    return r;
}
__device__ __forceinline__ uint32_t map_rank(uint32_t addr, uint32_t rank)
{
    uint32_t r;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(r) : "r"(addr), "r"(rank));
    return r;
}
/* Without its own fence, which is one for all of the device's memory and takes as long as the slowest access
 * on its way: see release_smem, read_all. */
__device__ __forceinline__ void cluster_arrive()
{
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ __forceinline__ void release_smem()
{
    asm volatile("fence.release.sync_restrict::shared::cta.cluster;" ::: "memory");
}
__device__ __forceinline__ void cluster_wait()
{
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
/* With it: all that was written before is seen behind the wait. */
__device__ __forceinline__ void cluster_arrive_all()
{
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ __forceinline__ float4 load_at(uint32_t addr)
{
    float4 v;
    asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
                 : "r"(addr)
                 : "memory");
    return v;
}

__device__ __forceinline__ float4 load_own(uint32_t addr)
{
    float4 v;
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
                 : "r"(addr)
                 : "memory");
    return v;
}

struct share {
    int tile0, tile1, unit0, unit1; /* tiles of the cluster, columns of this CTA in units of a stage */
};

/* The units of a loading warp: from the warp-th on, each N-th. */
template <int N> struct turn {
    int i, tile, unit, st, phase;
    __device__ turn(const share &s, int warp)
        : i(warp), tile(s.tile0), unit(s.unit0 + warp), st(warp), phase(0)
    {
        wrap(s);
    }
    __device__ void wrap(const share &s)
    {
        while (unit >= s.unit1) unit -= s.unit1 - s.unit0, tile++;
    }
    __device__ void next(const share &s, int n_stage)
    {
        i += N, unit += N, st += N;
        wrap(s);
        while (st >= n_stage) st -= n_stage, phase ^= 1;
    }
};

/* Four columns of a row as they lie in memory: all loads are on their way before the first is read. */
template <typename T> struct four;
template <> struct four<bf16> {
    uint2 u;
    __device__ __forceinline__ void load(const bf16 *y) { u = __ldcg((const uint2 *)y); }
    __device__ __forceinline__ void load(const bf16 *y, int n)
    {
        uint32_t h[4];
        for (int i = 0; i < 4; i++)
            h[i] = i < n ? __ldcg((const unsigned short *)(y + i))
                         : 0; /* bf16's own __ldcg may move before its condition */
        u = make_uint2(h[0] | h[1] << 16, h[2] | h[3] << 16);
    }
    __device__ __forceinline__ void get(float (&v)[4]) const
    {
        v[0] = bf16_lo(u.x), v[1] = bf16_hi(u.x), v[2] = bf16_lo(u.y), v[3] = bf16_hi(u.y);
    }
    static __device__ __forceinline__ void store(bf16 *y, const float (&v)[4])
    {
        *(uint2 *)y = make_uint2(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]));
    }
    static __device__ __forceinline__ bf16 one(float v) { return __float2bfloat16(v); }
};
template <> struct four<float> {
    float4 u;
    __device__ __forceinline__ void load(const float *y) { u = __ldcg((const float4 *)y); }
    __device__ __forceinline__ void load(const float *y, int n)
    {
        u = make_float4(at(y, 0, n), at(y, 1, n), at(y, 2, n), at(y, 3, n));
    }
    static __device__ __forceinline__ float at(const float *y, int i, int n)
    {
        return i < n ? __ldcg(y + i) : 0.0f;
    }
    __device__ __forceinline__ void get(float (&v)[4]) const
    {
        v[0] = u.x, v[1] = u.y, v[2] = u.z, v[3] = u.w;
    }
    static __device__ __forceinline__ void store(float *y, const float (&v)[4])
    {
        *(float4 *)y = make_float4(v[0], v[1], v[2], v[3]);
    }
    static __device__ __forceinline__ float one(float v) { return v; }
};

/* `left` columns of y from a lane's first one on: with VEC four or none. */
template <bool VEC, typename T>
__device__ __forceinline__ void load_columns(four<T> &to, const T *y, int left)
{
    if (!VEC)
        to.load(y, left);
    else if (left > 0)
        to.load(y);
}
template <bool VEC, typename T>
__device__ __forceinline__ void store_columns(T *y, const float (&v)[4], int left)
{
    if (VEC) {
        if (left > 0) four<T>::store(y, v);
    } else {
        for (int i = 0; i < 4 && i < left; i++) y[i] = four<T>::one(v[i]);
    }
}

template <typename T> __device__ __forceinline__ void add_four(float (&v)[4], const four<T> &u)
{
    float w[4];
    u.get(w);
#pragma unroll
    for (int i = 0; i < 4; i++) v[i] += w[i];
}

/* As if both had been stored. */
__device__ __forceinline__ float open_gate(float gate, float up)
{
    return rounded(up, bf16()) * silu(rounded(gate, bf16()));
}

/* The warp has read all that it takes from its cluster, the others may end: the sums stand in registers
 * before it arrives. */
__device__ __forceinline__ void read_all(int cluster)
{
    if (cluster > 1) {
        __threadfence_block();
        __syncwarp();
        cluster_arrive();
    }
}

__device__ __forceinline__ void store_at(uint32_t addr, float v)
{
    asm volatile("st.shared.f32 [%0], %1;" ::"r"(addr), "f"(v) : "memory");
}

/* Registers of a thread of g's kernel i, for which it is made ready when it first runs on the device: its
 * shared memory up to smem bytes, all of it where it is wanted. 0: the device refuses. */
template <typename K> static int kernel_regs(struct gemm_gpu *g, int i, K *kernel, int smem, bool all)
{
    cudaFuncAttributes of;
    if (g->regs[i]) return g->regs[i];
    if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, smem) != cudaSuccess ||
        (all &&
         cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, 100) != cudaSuccess) ||
        cudaFuncGetAttributes(&of, kernel) != cudaSuccess)
        return 0;
    return g->regs[i] = of.numRegs;
}
/* The place of a kernel for up to M rows among those of 8, 16, 32 and 64. */
constexpr int kernel_rows(int m) { return m == 8 ? 0 : m == 16 ? 1 : m == 32 ? 2 : 3; }

#endif
