/* quant_fp8 on CUDA: one block of threads a row. A row is read anew, from L1 by then, for its sum of squares,
 * its largest magnitude and its codes: with few registers and threads the block finds room beside the
 * products that it stands between. */
#include "kernels/cuda/fp8.cuh"
#include "kernels/cuda/fp8_gpu.h"
#include "kernels/cuda/gpu_ops.cuh"

enum {
    FEW = 256,
    MANY = 512,
    WIDE = 4096, /* threads, columns from which there are many; a norm has few, as rmsnorm_gpu: sums are added
                    up in its order */
    VEC = 8,
    GROUP = FP8_BLOCK / VEC, /* lanes that hold a block of columns */
    NONE = 0,
    NORM = 1,
    GATED = 2,
};

__device__ __forceinline__ void unpack(float (&v)[VEC], const uint4 &u)
{
    const uint32_t w[4] = {u.x, u.y, u.z, u.w};
#pragma unroll
    for (int i = 0; i < 4; i++) v[2 * i] = bf16_lo(w[i]), v[2 * i + 1] = bf16_hi(w[i]);
}
__device__ __forceinline__ uint4 pack(const float (&v)[VEC])
{
    return make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]),
                      pack_bf16(v[6], v[7]));
}

/* All threads get the sum, or the largest, of one number of each. */
template <int THREADS, typename F> __device__ __forceinline__ float over_block(float x, float *room, F join)
{
#pragma unroll
    for (int m = 16; m > 0; m /= 2) x = join(x, __shfl_xor_sync(~0u, x, m));
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = x;
    __syncthreads();
    x = room[0];
#pragma unroll
    for (int i = 1; i < THREADS / 32; i++) x = join(x, room[i]);
    return x;
}
__device__ __forceinline__ float largest(const uint4 &u)
{
    float v[VEC], most = 0;
    unpack(v, u);
#pragma unroll
    for (int i = 0; i < VEC; i++) most = fmaxf(most, fabsf(v[i]));
    return most;
}

/* Eight numbers of a row as their producer would have stored them; norm: what the row is scaled by. */
template <int FROM>
__device__ __forceinline__ uint4 numbers(const quant_fp8_args &a, const bf16 *x, int i, float norm)
{
    const uint4 u = *(const uint4 *)(x + i);
    float v[VEC], f[VEC];
    if (FROM == NONE) return u;
    unpack(v, u);
    unpack(f, *(const uint4 *)(FROM == NORM ? (const bf16 *)a.norm + i : x + a.d + i));
#pragma unroll
    for (int k = 0; k < VEC; k++) v[k] = f[k] * (FROM == NORM ? v[k] * norm : silu(v[k]));
    return pack(v);
}

template <int THREADS, int FROM, bool BLOCK>
__global__ void __launch_bounds__(THREADS) quant_fp8_kernel(const quant_fp8_args a)
{
    __shared__ float room[2][THREADS / 32];
    const int64_t t = blockIdx.x;
    const bf16 *x = (const bf16 *)a.x + t * a.x_stride;
    float v[VEC], norm = 1, scale = 0;
    begin_kernel();
    if (FROM == NORM) {
        float sum = 0;
#pragma unroll 4
        for (int i = threadIdx.x * VEC; i < a.d; i += THREADS * VEC) {
            unpack(v, *(const uint4 *)(x + i));
#pragma unroll
            for (int k = 0; k < VEC; k++) sum += v[k] * v[k];
        }
        norm = 1.0f /
               sqrtf(over_block<THREADS>(sum, room[0], [](float p, float q) { return p + q; }) / (float)a.d +
                     a.eps);
    }
    if (!BLOCK) {
        float most = 0;
        scale = a.fixed;
#pragma unroll 4
        for (int i = threadIdx.x * VEC; i < a.d && scale <= 0; i += THREADS * VEC)
            most = fmaxf(most, largest(numbers<FROM>(a, x, i, norm)));
        if (scale <= 0)
            scale = fp8_scale_of(
                over_block<THREADS>(most, room[1], [](float p, float q) { return fmaxf(p, q); }));
        if (threadIdx.x == 0) a.scale[t] = scale;
    }
#pragma unroll 4
    for (int i0 = 0; i0 < a.d; i0 += THREADS * VEC) {
        const int i = i0 + threadIdx.x * VEC;
        const uint4 u = i < a.d ? numbers<FROM>(a, x, i, norm) : make_uint4(0, 0, 0, 0);
        if (BLOCK) {
            float most = largest(u);
#pragma unroll
            for (int m = GROUP / 2; m > 0; m /= 2) most = fmaxf(most, __shfl_xor_sync(~0u, most, m));
            scale = fp8_scale_of(most);
            if (i < a.d && threadIdx.x % GROUP == 0) a.scale[i / FP8_BLOCK * a.scale_stride + t] = scale;
        }
        const float inverse = __fdiv_rn(1.0f, scale);
        unpack(v, u);
#pragma unroll
        for (int k = 0; k < VEC; k++) v[k] *= inverse;
        if (i < a.d)
            *(uint2 *)(a.code + t * a.code_stride + i) =
                make_uint2(fp8x4(v[0], v[1], v[2], v[3]), fp8x4(v[4], v[5], v[6], v[7]));
    }
}

template <int THREADS, int FROM> static enum err launch(const quant_fp8_args *a, const gemm_gpu *g)
{
    const gpu_ctx ctx = {g->stream, g->n_sm, DT_BF16, DT_BF16};
    const dim3 grid((unsigned)a->n_tok);
    return a->block ? gpu_launch(&ctx, quant_fp8_kernel<THREADS, FROM, true>, grid, THREADS, 1, *a)
                    : gpu_launch(&ctx, quant_fp8_kernel<THREADS, FROM, false>, grid, THREADS, 1, *a);
}

enum err quant_fp8_sm90(const struct quant_fp8_args *a, const struct gemm_gpu *g)
{
    if (a->n_tok == 0) return OK;
    if (a->n_tok < 0 || a->d < VEC || a->d % VEC || a->x_stride % VEC || a->code_stride % VEC ||
        (a->norm && a->gated) || (a->block && a->fixed > 0))
        return ERR_INVALID_VALUE;
    if (a->norm) return launch<FEW, NORM>(a, g);
    if (a->d > WIDE) return a->gated ? launch<MANY, GATED>(a, g) : launch<MANY, NONE>(a, g);
    return a->gated ? launch<FEW, GATED>(a, g) : launch<FEW, NONE>(a, g);
}
