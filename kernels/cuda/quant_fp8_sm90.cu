/* quant_fp8 on CUDA: one block of threads a row. A row is read once, all of its loads at the same time, and
 * kept in registers as its producer would have stored it; a norm's weights are read before the kernel before
 * has ended. With few registers and threads the block finds room beside the products that it stands between.
 */
#include "kernels/cuda/fp8.cuh"
#include "kernels/cuda/fp8_gpu.h"
#include "kernels/cuda/gpu_ops.cuh"

enum {
    FEW = 256, /* threads. A norm has few, as rmsnorm_gpu: sums are added up in its order */
    MANY = 512,
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

/* What a number's producer made of it, and of the one that stands with it: its norm's weight, what its gate
 * opens. norm: what the row is scaled by. */
template <int FROM> __device__ __forceinline__ uint4 numbers(const uint4 &u, const uint4 &with, float norm)
{
    float v[VEC], f[VEC];
    if (FROM == NONE) return u;
    unpack(v, u);
    unpack(f, with);
#pragma unroll
    for (int k = 0; k < VEC; k++) v[k] = f[k] * (FROM == NORM ? v[k] * norm : silu(v[k]));
    return pack(v);
}

/* PER: of eight numbers that a thread has. */
template <int THREADS, int PER, int FROM, bool BLOCK>
__global__ void __launch_bounds__(THREADS) quant_fp8_kernel(const quant_fp8_args a)
{
    __shared__ float room[2][THREADS / 32];
    const int64_t t = blockIdx.x;
    const bf16 *x = (const bf16 *)a.x + t * a.x_stride;
    const int first = threadIdx.x * VEC;
    float v[VEC], scale = a.fixed;
    uint4 u[PER], with[FROM == NONE ? 1 : PER];
    grid_launch_next();
#pragma unroll
    for (int j = 0; j < PER && FROM == NORM; j++)
        if (first + j * THREADS * VEC < a.d)
            with[j] = *(const uint4 *)((const bf16 *)a.norm + first + j * THREADS * VEC);
    grid_wait();
#pragma unroll
    for (int j = 0; j < PER; j++) {
        const int i = first + j * THREADS * VEC;
        u[j] = i < a.d ? *(const uint4 *)(x + i) : make_uint4(0, 0, 0, 0);
        if (FROM == GATED) with[j] = i < a.d ? *(const uint4 *)(x + a.d + i) : make_uint4(0, 0, 0, 0);
    }
    if (FROM != NONE) {
        float norm = 1;
        if (FROM == NORM) {
            float sum = 0;
#pragma unroll
            for (int j = 0; j < PER; j++) {
                if (first + j * THREADS * VEC >= a.d) continue;
                unpack(v, u[j]);
#pragma unroll
                for (int k = 0; k < VEC; k++) sum += v[k] * v[k];
            }
            norm = 1.0f / sqrtf(over_block<THREADS>(sum, room[0], [](float p, float q) { return p + q; }) /
                                    (float)a.d +
                                a.eps);
        }
#pragma unroll
        for (int j = 0; j < PER; j++)
            if (first + j * THREADS * VEC < a.d) u[j] = numbers<FROM>(u[j], with[j], norm);
    }
    if (!BLOCK && scale <= 0) {
        float most = 0;
#pragma unroll
        for (int j = 0; j < PER; j++) most = fmaxf(most, largest(u[j]));
        scale =
            fp8_scale_of(over_block<THREADS>(most, room[1], [](float p, float q) { return fmaxf(p, q); }));
    }
    if (!BLOCK && threadIdx.x == 0) a.scale[t] = scale;
#pragma unroll
    for (int j = 0; j < PER; j++) {
        const int i = first + j * THREADS * VEC;
        if (BLOCK) {
            float most = largest(u[j]);
#pragma unroll
            for (int m = GROUP / 2; m > 0; m /= 2) most = fmaxf(most, __shfl_xor_sync(~0u, most, m));
            scale = fp8_scale_of(most);
            if (i < a.d && threadIdx.x % GROUP == 0) a.scale[i / FP8_BLOCK * a.scale_stride + t] = scale;
        }
        const float inverse = __fdiv_rn(1.0f, scale);
        unpack(v, u[j]);
#pragma unroll
        for (int k = 0; k < VEC; k++) v[k] *= inverse;
        if (i < a.d)
            *(uint2 *)(a.code + t * a.code_stride + i) =
                make_uint2(fp8x4(v[0], v[1], v[2], v[3]), fp8x4(v[4], v[5], v[6], v[7]));
    }
}

template <int THREADS, int PER, int FROM> static enum err launch(const quant_fp8_args *a, const gemm_gpu *g)
{
    const gpu_ctx ctx = {g->stream, g->n_sm, DT_BF16, DT_BF16};
    const dim3 grid((unsigned)a->n_tok);
    return a->block ? gpu_launch(&ctx, quant_fp8_kernel<THREADS, PER, FROM, true>, grid, THREADS, 1, *a)
                    : gpu_launch(&ctx, quant_fp8_kernel<THREADS, PER, FROM, false>, grid, THREADS, 1, *a);
}
template <int FROM> static enum err launch_wide(const quant_fp8_args *a, const gemm_gpu *g)
{
    if (a->d <= 2 * FEW * VEC) return launch<FEW, 2, FROM>(a, g);
    if (a->d <= 2 * MANY * VEC) return launch<MANY, 2, FROM>(a, g);
    if (a->d <= 4 * MANY * VEC) return launch<MANY, 4, FROM>(a, g);
    return a->d <= 8 * MANY * VEC ? launch<MANY, 8, FROM>(a, g) : launch<MANY, 16, FROM>(a, g);
}
static enum err launch_norm(const quant_fp8_args *a, const gemm_gpu *g)
{
    if (a->d <= 2 * FEW * VEC) return launch<FEW, 2, NORM>(a, g);
    return a->d <= 4 * FEW * VEC ? launch<FEW, 4, NORM>(a, g) : launch<FEW, 8, NORM>(a, g);
}

static_assert(FP8_WIDEST == 16 * MANY * VEC && FP8_NORM_WIDEST == 8 * FEW * VEC, "what a block has room for");

enum err quant_fp8_sm90(const struct quant_fp8_args *a, const struct gemm_gpu *g)
{
    if (a->n_tok == 0) return OK;
    if (a->n_tok < 0 || a->d < VEC || a->d > (a->norm ? FP8_NORM_WIDEST : FP8_WIDEST) || a->d % VEC ||
        a->x_stride % VEC || a->code_stride % VEC || (a->norm && a->gated) || (a->block && a->fixed > 0))
        return ERR_INVALID_VALUE;
    if (a->norm) return launch_norm(a, g);
    return a->gated ? launch_wide<GATED>(a, g) : launch_wide<NONE>(a, g);
}
