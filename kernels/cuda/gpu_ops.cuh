/* gpu_ops: what the small kernels share: vectors of 8 numbers of either type, sums over a block, launches. */
#ifndef FLUXD_KERNELS_CUDA_GPU_OPS_CUH
#define FLUXD_KERNELS_CUDA_GPU_OPS_CUH

#include "kernels/cuda/gpu_ops.h"
#include "kernels/cuda/sm90.cuh"

#include <cuda_bf16.h>
#include <type_traits>

typedef __nv_bfloat16 bf16;

/* Waits for the kernels before this one; lets the next one's blocks be placed. Before it a kernel reads
 * weights alone. */
__device__ __forceinline__ void begin_kernel()
{
#if __CUDA_ARCH__ >= 900
    grid_launch_next();
    grid_wait();
#endif
}

__device__ __forceinline__ float bf16_lo(uint32_t x) { return __uint_as_float(x << 16); }
__device__ __forceinline__ float bf16_hi(uint32_t x) { return __uint_as_float(x & 0xffff0000u); }
__device__ __forceinline__ float to_f32(float x) { return x; }
__device__ __forceinline__ float to_f32(bf16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float rounded(float x, float) { return x; }
__device__ __forceinline__ float rounded(float x, bf16) { return __bfloat162float(__float2bfloat16(x)); }
/* Beyond -88 e^-x overflows to infinity and silu to 0, as it should. */
__device__ __forceinline__ float silu(float x) { return x / (1.0f + expf(-x)); }

/* N numbers (4 or 8) at an address aligned to their size, 16 bytes at most. */
template <int N> __device__ __forceinline__ void load_vec(float (&v)[N], const float *p)
{
#pragma unroll
    for (int i = 0; i < N; i += 4) {
        float4 x = *(const float4 *)(p + i);
        v[i] = x.x, v[i + 1] = x.y, v[i + 2] = x.z, v[i + 3] = x.w;
    }
}
template <int N> __device__ __forceinline__ void load_vec(float (&v)[N], const bf16 *p)
{
    uint32_t u[N / 2];
    if constexpr (N == 8)
        *(uint4 *)u = *(const uint4 *)p;
    else
        *(uint2 *)u = *(const uint2 *)p;
#pragma unroll
    for (int i = 0; i < N / 2; i++) {
        v[2 * i] = bf16_lo(u[i]);
        v[2 * i + 1] = bf16_hi(u[i]);
    }
}
template <int N> __device__ __forceinline__ void store_vec(float *p, const float (&v)[N])
{
#pragma unroll
    for (int i = 0; i < N; i += 4) *(float4 *)(p + i) = make_float4(v[i], v[i + 1], v[i + 2], v[i + 3]);
}
template <int N> __device__ __forceinline__ void store_vec(bf16 *p, const float (&v)[N])
{
    uint32_t u[N / 2];
#pragma unroll
    for (int i = 0; i < N / 2; i++) u[i] = pack_bf16(v[2 * i], v[2 * i + 1]);
    if constexpr (N == 8)
        *(uint4 *)p = *(uint4 *)u;
    else
        *(uint2 *)p = *(uint2 *)u;
}

__device__ __forceinline__ float warp_sum(float x)
{
#pragma unroll
    for (int m = 16; m > 0; m /= 2) x += __shfl_xor_sync(~0u, x, m);
    return x;
}

/* Was the kernel, as this device runs it, compiled for Hopper or newer? PTX of older targets, translated by
 * the driver for a newer device, has neither begin_kernel's wait nor clusters. */
template <typename F> static inline bool gpu_is_sm90(F *kernel)
{
    cudaFuncAttributes attr;
    return cudaFuncGetAttributes(&attr, (const void *)kernel) == cudaSuccess && attr.ptxVersion >= 90;
}
/* A launch whose blocks may be placed while the kernel before still runs, where the kernel waits for it
 * (begin_kernel). */
template <typename F, typename... A>
static inline enum err gpu_launch(const struct gpu_ctx *g, F *kernel, dim3 grid, int threads, int cluster,
                                  const A &...arg)
{
    static const bool overlaps = gpu_is_sm90(kernel);
    cudaLaunchAttribute attr[2] = {};
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3((unsigned)threads);
    config.stream = g->stream;
    config.attrs = attr;
    if (overlaps) {
        attr[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
        attr[config.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
    }
    if (cluster > 1) {
        attr[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
        attr[config.numAttrs].val.clusterDim.x = (unsigned)cluster;
        attr[config.numAttrs].val.clusterDim.y = 1;
        attr[config.numAttrs++].val.clusterDim.z = 1;
    }
    return cudaLaunchKernelEx(&config, kernel, arg...) == cudaSuccess ? OK : ERR_DEVICE;
}

#endif
