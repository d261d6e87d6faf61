/* gemm_fp8: y[T, N] = x[T, K] w[N, K]^T of codes of 8 bits for the rows of prompts, where the time is the
 * tensor cores'.
 *
 * A cluster of two CTAs takes 256 rows of x and two tiles of 128 rows of w, one each; each loads half of the
 * rows of x and the copy engine gives them to both, so L2 is read a third less. In a CTA one warp keeps a
 * ring of 128 columns of both in flight, two warpgroups multiply 128 rows of x each. The tensor cores add
 * e4m3 products up with 14 bits or so: the sums of each 128 columns are taken from them, 64 rows at a time,
 * and added in fp32 with the block's scales while the other warpgroup's rows are multiplied. A row's bits
 * depend on nothing but the row. */
#include "kernels/cuda/fp8.cuh"
#include "kernels/cuda/fp8_gpu.h"
#include "kernels/cuda/gemm_small.cuh"
#include "kernels/cuda/tensor_map.h"

#include <cuda_runtime.h>

enum {
    TILE_M = 256,
    TILE_N = 128,
    TILE_K = FP8_BLOCK, /* bytes too */
    CTAS = 2,
    STAGES = 4,
    GROUPS = 2,
    HALVES = TILE_M / GROUPS / 64, /* of 64 rows that a warpgroup multiplies in turn */
    THREADS = 128 * (GROUPS + 1),
    BAR_TURN = 2, /* and the next: whose products are issued; side by side they would end, and be added, side
                     by side */
    SECTION = 8,  /* tiles of x that are walked for the same rows of w, so that both stay in L2 */
};
static_assert((int)TILE_N == (int)FP8_BLOCK, "a tile has one scale of w for 128 columns");

struct stage {
    uint8_t x[TILE_M * TILE_K], w[TILE_N * TILE_K];
};
struct smem {
    stage ring[STAGES];
    uint64_t full[STAGES], empty[STAGES];
};

struct params {
    void *y;
    const bf16 *bias;
    const float *x_scale, *w_scale;
    int64_t y_stride, x_scale_stride, w_scale_stride;
    int n_tok, n, n_unit, n_tile_m, n_tile; /* n_tile: of clusters */
    int add;
};

__device__ __forceinline__ void tma_load_both(void *dst_s, const CUtensorMap *map, uint64_t *bar, int x,
                                              int y, uint64_t hint)
{
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint "
        "[%0], [%1, {%3, %4}], [%2], %5, %6;" ::"r"(smem_u32(dst_s)),
        "l"(map), "r"(smem_u32(bar)), "r"(x), "r"(y), "h"((uint16_t)3), "l"(hint)
        : "memory");
}
/* What was read, the tensor cores have read: nothing else is to be ordered, and a fence for the cluster is
 * one for all of the device's memory. */
__device__ __forceinline__ void arrive_at(uint32_t bar)
{
    asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(bar) : "memory");
}

/* First rows of x and w of a cluster's tile. */
struct place {
    int m, n;
    __device__ place(const params &p, int tile)
    {
        const int n_pair = (p.n + CTAS * TILE_N - 1) / (CTAS * TILE_N), section = tile / (SECTION * n_pair),
                  at = tile - section * SECTION * n_pair;
        const int high = min(SECTION, p.n_tile_m - section * SECTION);
        m = (section * SECTION + at % high) * TILE_M;
        n = at / high * CTAS * TILE_N;
    }
};

__device__ void load_tiles(smem &sm, const params &p, const CUtensorMap *map_x, const CUtensorMap *map_w,
                           int rank)
{
    const uint64_t keep = l2_evict_last();
    uint32_t i = 0;
    for (int tile = blockIdx.x / CTAS; tile < p.n_tile; tile += gridDim.x / CTAS) {
        const place at(p, tile);
        for (int u = 0; u < p.n_unit; u++, i++) {
            const int st = i % STAGES;
            mbar_wait(&sm.empty[st], (i / STAGES & 1) ^ 1);
            mbar_arrive_tx(&sm.full[st], sizeof(stage));
            tma_load_both(sm.ring[st].x + rank * (TILE_M / CTAS * TILE_K), map_x, &sm.full[st],
                          u * (TILE_K / 2), at.m + rank * (TILE_M / CTAS), keep); /* maps count pairs */
            tma_load_2d(sm.ring[st].w, map_w, &sm.full[st], u * (TILE_K / 2), at.n + rank * TILE_N, keep);
        }
    }
}

/* Eight columns of two neighbouring parts of a row lie with four lanes, two each; a lane then has four of one
 * part. */
__device__ __forceinline__ void gather_four(float (&v)[4], float a0, float a1, float b0, float b1)
{
    const int q = threadIdx.x % 4;
    const bool second = q >= 2;
    const int from = threadIdx.x % 32 / 4 * 4 + q % 2 * 2; /* of the part, lanes 2 q % 4 and the next */
    const float x0 = __shfl_sync(~0u, a0, from), x1 = __shfl_sync(~0u, a1, from),
                x2 = __shfl_sync(~0u, a0, from + 1), x3 = __shfl_sync(~0u, a1, from + 1);
    const float y0 = __shfl_sync(~0u, b0, from), y1 = __shfl_sync(~0u, b1, from),
                y2 = __shfl_sync(~0u, b0, from + 1), y3 = __shfl_sync(~0u, b1, from + 1);
    v[0] = second ? y0 : x0, v[1] = second ? y1 : x1, v[2] = second ? y2 : x2, v[3] = second ? y3 : x3;
}

template <typename T, bool BLOCK>
__device__ __forceinline__ void store_half(const params &p, const float (&acc)[TILE_N / 2], int row0, int n0)
{
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int t = row0 + 8 * h;
        const bool in = t < p.n_tok;
        const float x_scale = BLOCK || !in ? 1.0f : __ldg(p.x_scale + t);
        T *y = (T *)p.y + (int64_t)t * p.y_stride;
#pragma unroll
        for (int c = 0; c < TILE_N / 8; c += 2) {
            float v[4];
            gather_four(v, acc[4 * c + 2 * h], acc[4 * c + 2 * h + 1], acc[4 * c + 4 + 2 * h],
                        acc[4 * c + 5 + 2 * h]);
            const int n = n0 + 8 * c + lane % 4 * 4; /* n % 4 == 0: all four or none */
            if (!in || n >= p.n) continue;
            if (!BLOCK) {
                const float4 w = __ldg((const float4 *)(p.w_scale + n));
                v[0] = v[0] * x_scale * w.x, v[1] = v[1] * x_scale * w.y, v[2] = v[2] * x_scale * w.z,
                v[3] = v[3] * x_scale * w.w;
            }
            if (p.bias) {
                four<bf16> bias;
                bias.load(p.bias + n);
                add_four(v, bias);
            }
            if (p.add) {
                four<T> old;
                old.load(y + n);
                add_four(v, old);
            }
            four<T>::store(y + n, v);
        }
    }
}

template <typename T, bool BLOCK> __device__ void multiply_tiles(smem &sm, const params &p, int rank)
{
    const int group = threadIdx.x / 128 - 1, lane = threadIdx.x % 32,
              row = group * (TILE_M / GROUPS) + threadIdx.x % 128 / 32 * 16 + lane / 4;
    const uint32_t peer_empty = map_rank(smem_u32(sm.empty), (uint32_t)rank ^ 1);
    uint32_t i = 0;
    float acc[HALVES][TILE_N / 2];
    if (group == 1) bar_arrive(BAR_TURN, 128 * GROUPS);
    for (int tile = blockIdx.x / CTAS; tile < p.n_tile; tile += gridDim.x / CTAS) {
        const place at(p, tile);
        const int n0 = at.n + rank * TILE_N;
        const float *w_scale = p.w_scale + (int64_t)min(n0, p.n - 1) / FP8_BLOCK * p.w_scale_stride,
                    *x_scale[HALVES][2];
        float ws = 0, xs[HALVES][2], next_ws = 0, next_xs[HALVES][2];
        auto fetch = [&](int u) { /* a unit's scales, a unit before they are needed */
                                  next_ws = __ldg(w_scale + u);
#pragma unroll
                                  for (int j = 0; j < HALVES; j++)
#pragma unroll
                                      for (int h = 0; h < 2; h++)
                                          next_xs[j][h] = __ldg(x_scale[j][h] + u * p.x_scale_stride);
        };
#pragma unroll
        for (int j = 0; j < HALVES; j++) {
#pragma unroll
            for (int k = 0; k < TILE_N / 2; k++) acc[j][k] = 0;
#pragma unroll
            for (int h = 0; h < 2 && BLOCK; h++)
                x_scale[j][h] = p.x_scale + min(at.m + row + 64 * j + 8 * h, p.n_tok - 1);
        }
        if (BLOCK) fetch(0);
        for (int u = 0; u < p.n_unit; u++, i++) {
            const int st = i % STAGES;
            if (BLOCK) {
                ws = next_ws;
#pragma unroll
                for (int j = 0; j < HALVES; j++)
#pragma unroll
                    for (int h = 0; h < 2; h++) xs[j][h] = next_xs[j][h];
                fetch(min(u + 1, p.n_unit - 1));
            }
            mbar_wait(&sm.full[st], i / STAGES & 1);
            const uint64_t x = wgmma_desc(sm.ring[st].x + group * (TILE_M / GROUPS) * TILE_K, 0),
                           w = wgmma_desc(sm.ring[st].w, 0);
#pragma unroll
            for (int j = 0; j < HALVES; j++) {
                float part[TILE_N / 2];
                bar_sync(BAR_TURN + group, 128 * GROUPS);
                pin(part);
                wgmma_fence();
#pragma unroll
                for (int k = 0; k < TILE_K / 32; k++)
                    wgmma_fp8(part, x + j * (64 * TILE_K / 16) + 2 * k, w + 2 * k, k > 0);
                wgmma_commit();
                bar_arrive(BAR_TURN + (group ^ 1), 128 * GROUPS);
                wgmma_wait<0>();
                pin(part);
                if (j == HALVES - 1 && lane < CTAS) /* both CTAs load into both */
                    arrive_at(lane ? peer_empty + st * 8 : smem_u32(&sm.empty[st]));
                const float s[2] = {BLOCK ? xs[j][0] * ws : 1.0f, BLOCK ? xs[j][1] * ws : 1.0f};
#pragma unroll
                for (int k = 0; k < TILE_N / 2; k++)
                    acc[j][k] = BLOCK ? fmaf(part[k], s[k / 2 % 2], acc[j][k]) : acc[j][k] + part[k];
            }
        }
#pragma unroll
        for (int j = 0; j < HALVES; j++) store_half<T, BLOCK>(p, acc[j], at.m + row + 64 * j, n0);
    }
}

template <typename T, bool BLOCK>
__global__ void __launch_bounds__(THREADS, 1)
    gemm_fp8_kernel(const __grid_constant__ CUtensorMap map_x, const __grid_constant__ CUtensorMap map_w,
                    const params p)
{
    extern __shared__ __align__(1024) unsigned char raw[];
    smem &sm = *(smem *)raw;
    const int rank = (int)cluster_rank();
    if (threadIdx.x == 0) {
        if (smem_u32(raw) % 1024) __trap(); /* the swizzle counts from multiples of 1024 */
        for (int i = 0; i < STAGES; i++) {
            mbar_init(&sm.full[i], 1);
            mbar_init(&sm.empty[i], CTAS * GROUPS * 4);
        }
        fence_mbar_init();
        tma_prefetch_map(&map_x);
        tma_prefetch_map(&map_w);
    }
    cluster_arrive_all();
    cluster_wait();
    grid_wait();
    if (threadIdx.x < 128) {
        reg_give<40>();
        if (threadIdx.x == 0) load_tiles(sm, p, &map_x, &map_w, rank);
    } else {
        reg_take<232>();
        multiply_tiles<T, BLOCK>(sm, p, rank);
    }
    __syncwarp();
    cluster_arrive_all(); /* the other may still arrive at barriers here */
    cluster_wait();
}

template <typename T, bool BLOCK> static enum err launch(const gemm_fp8_args *a, gemm_gpu *g)
{
    auto *kernel = gemm_fp8_kernel<T, BLOCK>;
    params p = {a->y,
                (const bf16 *)a->bias,
                a->x_scale,
                a->w_scale,
                a->y_stride,
                a->x_scale_stride,
                a->w_scale_stride,
                a->n_tok,
                a->n,
                fp8_groups(a->k),
                0,
                0,
                a->add};
    CUtensorMap map_x, map_w;
    enum err e = tensor_map_2d(&map_x, a->x, a->n_tok, a->k / 2, a->x_stride / 2, TILE_M / CTAS);
    if (e == OK) e = tensor_map_2d(&map_w, a->w, a->n, a->k / 2, a->k / 2, TILE_N);
    if (e != OK) return e;
    p.n_tile_m = (a->n_tok + TILE_M - 1) / TILE_M;
    p.n_tile = p.n_tile_m * ((a->n + CTAS * TILE_N - 1) / (CTAS * TILE_N));
    if (!kernel_regs(g, GEMM_KERNEL_FP8_MANY + (sizeof(T) == 4) * 2 + BLOCK, kernel, sizeof(smem), false))
        return ERR_DEVICE;
    cudaLaunchAttribute attr[2] = {};
    attr[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attr[0].val.programmaticStreamSerializationAllowed = 1;
    attr[1].id = cudaLaunchAttributeClusterDimension;
    attr[1].val.clusterDim.x = CTAS;
    attr[1].val.clusterDim.y = 1;
    attr[1].val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    const int most = g->n_sm / CTAS;
    config.gridDim = dim3((unsigned)((p.n_tile < most ? p.n_tile : most) * CTAS));
    config.blockDim = dim3(THREADS);
    config.dynamicSmemBytes = sizeof(smem);
    config.stream = g->stream;
    config.attrs = attr;
    config.numAttrs = 2;
    return cudaLaunchKernelEx(&config, kernel, map_x, map_w, p) == cudaSuccess ? OK : ERR_DEVICE;
}

enum err gemm_fp8_sm90(const struct gemm_fp8_args *a, struct gemm_gpu *g)
{
    if (a->n_tok == 0) return OK;
    if (a->n_tok < 0 || a->n < 8 || a->n % 8 || a->k < 16 || a->k % 16 || a->x_stride % 16 ||
        a->x_stride < a->k || a->y_stride % 8 || a->gated || g->n_sm < CTAS ||
        (a->block && (a->x_scale_stride < a->n_tok || a->w_scale_stride < fp8_groups(a->k))) ||
        (uintptr_t)a->y % 16 || (uintptr_t)a->bias % 8 || (uintptr_t)a->w_scale % 16)
        return ERR_INVALID_VALUE;
    if (a->y_f32) return a->block ? launch<float, true>(a, g) : launch<float, false>(a, g);
    return a->block ? launch<bf16, true>(a, g) : launch<bf16, false>(a, g);
}
