/* gemm_small: y[T, N] = x[T, K] w[N, K]^T for few rows of x, where the time is the weights' bytes.
 *
 * Weights are the 64-row operand of wgmma, the rows of x its 8..64 columns. The weight matrix is a line of units (128 rows x
 * 64 columns, 16 KB), tile after tile; every CTA reads an equal run of that line, wherever it begins, so all SMs finish
 * together. A tile that two or more CTAs share is added up by the last of them to finish, in the order of the line. */
#include "kernels/gemm_gpu.h"
#include "kernels/sm90.cuh"
#include "kernels/tensor_map.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

enum {
    TILE_N = 128, TILE_K = 64,
    N_GROUP = 2,
    THREADS = 128 * N_GROUP + 32, /* computing warpgroups, then the loading warp */
    BAR_COMPUTE = 1,
    COUNTER_BYTES = 16384,
};

template <int M> struct smem {
    static constexpr int STAGES = M <= 16 ? 6 : M == 32 ? 5 : 4; /* two CTAs fit: the next product fills its ring beside this one */
    __nv_bfloat16 w[STAGES][TILE_N * TILE_K];
    __nv_bfloat16 x[STAGES][M * TILE_K];
    uint64_t      full[STAGES], empty[STAGES];
    int           last;
};

struct params {
    void                *y;
    const __nv_bfloat16 *bias;
    int64_t              y_stride;
    int                 *counter; /* [tile] CTAs that are done */
    float4              *part;    /* [CTA][its first tile, its last tile][M / 8][thread] */
    int                  n_tok, n, n_unit_k, add;
};

/* The line of units and each CTA's share of it. */
__device__ __forceinline__ int unit_begin(int cta, int n_unit) { return (int)((int64_t)cta * n_unit / gridDim.x); }
__device__ __forceinline__ int unit_owner(int unit, int n_unit) { return (int)((((int64_t)unit + 1) * gridDim.x - 1) / n_unit); }

template <int M> __device__ void load_units(smem<M> &sm, const params &p, const CUtensorMap *map_w, const CUtensorMap *map_x, int begin, int end)
{
    constexpr int  STAGES = smem<M>::STAGES;
    const uint64_t once = l2_evict_first(), keep = l2_evict_last();
    auto           load_w = [&](int u, int st) {
        mbar_arrive_tx(&sm.full[st], (TILE_N + M) * TILE_K * 2);
        tma_load_2d(sm.w[st], map_w, &sm.full[st], u % p.n_unit_k * TILE_K, u / p.n_unit_k * TILE_N, once);
    };
    auto load_x = [&](int u, int st) { tma_load_2d(sm.x[st], map_x, &sm.full[st], u % p.n_unit_k * TILE_K, 0, keep); };

    const int ahead = min(STAGES, end - begin); /* weights hang on no earlier kernel, x does */
    for (int i = 0; i < ahead; i++)
        load_w(begin + i, i);
    grid_wait();
    for (int i = 0; i < ahead; i++)
        load_x(begin + i, i);
    for (int i = ahead; i < end - begin; i++) {
        mbar_wait(&sm.empty[i % STAGES], (i / STAGES & 1) ^ 1);
        load_w(begin + i, i % STAGES);
        load_x(begin + i, i % STAGES);
    }
}

template <int M, bool F32> __device__ __forceinline__ void store_tile(const params &p, const float (&acc)[M / 2], int tile)
{
    const int lane = threadIdx.x % 32, row0 = tile * TILE_N + threadIdx.x / 32 * 16 + lane / 4;
#pragma unroll
    for (int i = 0; i < M / 2; i++) {
        int n = row0 + i / 2 % 2 * 8, t = i / 4 * 8 + lane % 4 * 2 + i % 2;
        if (n >= p.n || t >= p.n_tok)
            continue;
        float v = acc[i] + (p.bias ? __bfloat162float(p.bias[n]) : 0.0f);
        if constexpr (F32) {
            float *y = (float *)p.y + t * p.y_stride + n;
            *y = p.add ? v + *y : v;
        } else {
            __nv_bfloat16 *y = (__nv_bfloat16 *)p.y + t * p.y_stride + n;
            *y = __float2bfloat16(p.add ? v + __bfloat162float(*y) : v);
        }
    }
}

/* A tile shared with other CTAs: leave this CTA's part; whoever is last adds all parts up and stores. */
template <int M, bool F32> __device__ void share_tile(smem<M> &sm, const params &p, float (&acc)[M / 2], int tile, int n_unit)
{
    const int t = threadIdx.x, ks = p.n_unit_k;
    auto      slot = [&](int cta) {
        int second = unit_begin(cta, n_unit) / ks != tile;
        return p.part + (int64_t)(cta * 2 + second) * (M / 8) * (128 * N_GROUP) + t;
    };
    float4 *mine = slot(blockIdx.x);
#pragma unroll
    for (int i = 0; i < M / 8; i++)
        __stcg(mine + i * 128 * N_GROUP, make_float4(acc[4 * i], acc[4 * i + 1], acc[4 * i + 2], acc[4 * i + 3]));
    const int first = unit_owner(tile * ks, n_unit), last = unit_owner((tile + 1) * ks - 1, n_unit);
    bar_sync(BAR_COMPUTE, 128 * N_GROUP);
    if (t == 0) {
        __threadfence();
        sm.last = atomicAdd(&p.counter[tile], 1) == last - first;
        if (sm.last)
            p.counter[tile] = 0;
        __threadfence();
    }
    bar_sync(BAR_COMPUTE, 128 * N_GROUP);
    if (!sm.last)
        return;
#pragma unroll
    for (int i = 0; i < M / 2; i++)
        acc[i] = 0;
    for (int cta = first; cta <= last; cta++) {
        const float4 *part = slot(cta);
#pragma unroll
        for (int i = 0; i < M / 8; i++) {
            float4 v = __ldcg(part + i * 128 * N_GROUP);
            acc[4 * i] += v.x;
            acc[4 * i + 1] += v.y;
            acc[4 * i + 2] += v.z;
            acc[4 * i + 3] += v.w;
        }
    }
    store_tile<M, F32>(p, acc, tile);
}

template <int M, bool F32> __device__ void compute_units(smem<M> &sm, const params &p, int begin, int end, int n_unit)
{
    constexpr int STAGES = smem<M>::STAGES;
    const int     group = threadIdx.x / 128, ks = p.n_unit_k;
    float         acc[M / 2];
    grid_wait(); /* an earlier kernel may still read y and the workspace */
    for (int u = begin, i = 0; u < end;) {
        const int tile = u / ks, stop = min(end, (tile + 1) * ks);
        const bool whole = u == tile * ks && stop == (tile + 1) * ks;
        for (int fresh = 0; u < stop; u++, i++, fresh = 1) {
            int st = i % STAGES;
            mbar_wait(&sm.full[st], i / STAGES & 1);
            uint64_t w = wgmma_desc(sm.w[st] + group * 64 * TILE_K, 0), x = wgmma_desc(sm.x[st], 0);
            pin(acc);
            wgmma_fence();
#pragma unroll
            for (int k = 0; k < TILE_K / 16; k++)
                wgmma_ss(acc, w + 2 * k, x + 2 * k, k ? 1 : fresh);
            wgmma_commit();
            wgmma_wait<0>();
            pin(acc);
            __syncwarp();
            if (threadIdx.x % 32 == 0)
                mbar_arrive(&sm.empty[st]);
        }
        if (whole)
            store_tile<M, F32>(p, acc, tile);
        else
            share_tile<M, F32>(sm, p, acc, tile, n_unit);
    }
}

template <int M, bool F32>
__global__ void __launch_bounds__(THREADS, 2)
    gemm_small_kernel(const __grid_constant__ CUtensorMap map_w, const __grid_constant__ CUtensorMap map_x, const params p)
{
    extern __shared__ __align__(1024) unsigned char raw[];
    smem<M> &sm = *(smem<M> *)((uintptr_t)(raw + 1023) & ~(uintptr_t)1023);
    if (threadIdx.x == 0) {
        for (int i = 0; i < smem<M>::STAGES; i++) {
            mbar_init(&sm.full[i], 1);
            mbar_init(&sm.empty[i], 4 * N_GROUP);
        }
        fence_mbar_init();
    }
    __syncthreads();
    grid_launch_next();
    const int n_unit = (p.n + TILE_N - 1) / TILE_N * p.n_unit_k;
    const int begin = unit_begin(blockIdx.x, n_unit), end = unit_begin(blockIdx.x + 1, n_unit);
    if (threadIdx.x >= 128 * N_GROUP) {
        if (threadIdx.x == 128 * N_GROUP)
            load_units<M>(sm, p, &map_w, &map_x, begin, end);
    } else {
        compute_units<M, F32>(sm, p, begin, end, n_unit);
    }
}

size_t gemm_small_work_bytes(int n_sm)
{
    return COUNTER_BYTES + (size_t)n_sm * 2 * TILE_N * GEMM_SMALL_MAX_TOK * sizeof(float);
}

template <int M, bool F32> static enum err launch_as(const gemm_args *a, const gemm_gpu *g)
{
    constexpr int bytes = sizeof(smem<M>) + 1024;
    static_assert(2 * (bytes + 1024) <= 233472, "shared memory of two CTAs");
    CUtensorMap map_w, map_x;
    enum err    e = tensor_map_2d(&map_w, a->w->data, a->w->n, a->w->k, a->w->k, TILE_N);
    if (e == OK)
        e = tensor_map_2d(&map_x, a->x, a->n_tok, a->w->k, a->x_stride, M);
    if (e != OK)
        return e;
    params p = {a->y, (const __nv_bfloat16 *)a->bias, a->y_stride, (int *)g->work, (float4 *)((char *)g->work + COUNTER_BYTES),
                a->n_tok, a->w->n, (a->w->k + TILE_K - 1) / TILE_K, a->add};
    if (cudaFuncSetAttribute(gemm_small_kernel<M, F32>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes) != cudaSuccess)
        return ERR_DEVICE;
    const int           n_unit = (a->w->n + TILE_N - 1) / TILE_N * p.n_unit_k;
    cudaLaunchAttribute attr = {};
    attr.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attr.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((unsigned)(n_unit < g->n_sm ? n_unit : g->n_sm));
    config.blockDim = dim3(THREADS);
    config.dynamicSmemBytes = bytes;
    config.stream = g->stream;
    config.attrs = &attr;
    config.numAttrs = 1;
    return cudaLaunchKernelEx(&config, gemm_small_kernel<M, F32>, map_w, map_x, p) == cudaSuccess ? OK : ERR_DEVICE;
}

template <int M> static enum err launch(const gemm_args *a, const gemm_gpu *g)
{
    return a->y_f32 ? launch_as<M, true>(a, g) : launch_as<M, false>(a, g);
}

enum err gemm_small_sm90(const struct gemm_args *a, const struct gemm_gpu *g)
{
    const struct weight *w = a->w;
    if (a->n_tok < 1 || a->n_tok > GEMM_SMALL_MAX_TOK || w->dt != DT_BF16 || !w->data || w->n < 1 || w->k < 8 || w->k % 8 || a->x_stride % 8 ||
        (w->n + TILE_N - 1) / TILE_N > COUNTER_BYTES / (int)sizeof(int))
        return ERR_INVALID_VALUE;
    if (a->n_tok <= 8)
        return launch<8>(a, g);
    if (a->n_tok <= 16)
        return launch<16>(a, g);
    return a->n_tok <= 32 ? launch<32>(a, g) : launch<64>(a, g);
}
