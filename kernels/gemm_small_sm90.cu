/* gemm_small: y[T, N] = x[T, K] w[N, K]^T for few rows of x, where the time is the weights' bytes.
 *
 * Weights are the 64-row operand of wgmma, the rows of x its 8..64 columns. A cluster of CTAs takes tiles of up to 128 rows of the
 * weight, each CTA an equal part of the columns, and adds the parts up through shared memory in the order of the columns: no sums
 * go through memory, and the cut hangs on the weight's shape alone.
 *
 * Between two products the memory must not rest: the next kernel is let in when a CTA's last loads are on their way, and fills its
 * ring with weights, which hang on no earlier kernel, while this one adds up, stores and ends. Let in earlier it would only take
 * this one's bandwidth. */
#include "kernels/gemm_gpu.h"
#include "kernels/sm90.cuh"
#include "kernels/tensor_map.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

enum {
    TILE_N = 128, TILE_K = 64,
    N_GROUP = 2, N_COMPUTE = 128 * N_GROUP,
    THREADS = N_COMPUTE + 32, /* computing warpgroups, then the loading warp */
    BAR_COMPUTE = 1,
    STAGES_MOST = 12,
    PART_LD = TILE_N + 4, /* floats; lanes of a fragment meet every bank once */
    SMEM_BYTES = 113 * 1024, /* two CTAs fit: the next product fills its ring beside this one's end */
    CLUSTER = 4,
};

struct bars {
    uint64_t full[STAGES_MOST], empty[STAGES_MOST], parts_there, parts_read;
    float    scale[GEMM_SMALL_MAX_TOK]; /* of rows of x that are not yet normed */
};

struct params {
    void                *y;
    const __nv_bfloat16 *bias;
    int64_t              y_stride;
    const float         *sum_in;
    float               *sum_out, eps;
    __nv_bfloat16       *normed; /* [T, n] with y_stride */
    const __nv_bfloat16 *norm;
    int                  n_tok, n, k, add, vec, gated, n_sum_in; /* n: columns of y */
    int                  n_unit_k, tile_rows, tile_n, n_tile, tile_per_cluster, n_stage; /* tile_n: columns of y in a tile */
};

__device__ __forceinline__ uint32_t cluster_rank() { uint32_t r; asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(r)); return r; }
__device__ __forceinline__ uint32_t map_rank(uint32_t addr, uint32_t rank)
{
    uint32_t r;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(r) : "r"(addr), "r"(rank));
    return r;
}
__device__ __forceinline__ void cluster_arrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
__device__ __forceinline__ void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }
__device__ __forceinline__ void mbar_arrive_at(uint64_t *bar, uint32_t rank)
{
    asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(map_rank(smem_u32(bar), rank)) : "memory");
}
__device__ __forceinline__ void mbar_wait_cluster(uint64_t *bar, uint32_t parity)
{
    asm volatile("{\n.reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra again;\n}\n" ::"r"(smem_u32(bar)), "r"(parity) : "memory");
}
__device__ __forceinline__ float4 load_at(uint32_t addr)
{
    float4 v;
    asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "r"(addr) : "memory");
    return v;
}

struct share {
    int tile0, tile1, unit0, unit1; /* tiles of the cluster, columns of this CTA in units */
};

template <int M> __device__ void load_units(unsigned char *ring, bars &b, const params &p, const CUtensorMap *map_w, const CUtensorMap *map_x, const share &s)
{
    const uint64_t once = l2_evict_first(), keep = l2_evict_last();
    const int      w_bytes = p.tile_rows * TILE_K * 2, stage_bytes = w_bytes + M * TILE_K * 2;
    const int      per = s.unit1 - s.unit0, n = (s.tile1 - s.tile0) * per;
    auto           load_w = [&](int tile, int u, int st) {
        mbar_arrive_tx(&b.full[st], (uint32_t)stage_bytes);
        tma_load_2d(ring + st * stage_bytes, map_w, &b.full[st], u * TILE_K, tile * p.tile_n, once);
        if (p.gated)
            tma_load_2d(ring + st * stage_bytes + w_bytes / 2, map_w, &b.full[st], u * TILE_K, p.n + tile * p.tile_n, once);
    };
    auto load_x = [&](int u, int st) { tma_load_2d(ring + st * stage_bytes + w_bytes, map_x, &b.full[st], u * TILE_K, 0, keep); };

    const int ahead = min(p.n_stage, n); /* weights hang on no earlier kernel, x does */
    int       tile = s.tile0, u = s.unit0;
    for (int i = 0; i < ahead; i++) {
        load_w(tile, u, i);
        if (++u == s.unit1)
            u = s.unit0, tile++;
    }
    grid_wait();
    for (int i = 0, ux = s.unit0; i < ahead; i++) {
        load_x(ux, i);
        if (++ux == s.unit1)
            ux = s.unit0;
    }
    for (int i = ahead, st = 0, phase = 0; i < n; i++) {
        if (st == p.n_stage)
            st = 0, phase ^= 1;
        mbar_wait(&b.empty[st], (uint32_t)phase);
        load_w(tile, u, st);
        load_x(u, st);
        if (++u == s.unit1)
            u = s.unit0, tile++;
        st++;
    }
    grid_launch_next();
}

/* Four columns of y from n on. */
__device__ __forceinline__ void store_four(const params &p, __nv_bfloat16 *y, int n, const float (&v)[4])
{
    if (p.vec && n + 4 <= p.n)
        *(uint2 *)(y + n) = make_uint2(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]));
    else
        for (int i = 0; i < 4 && n + i < p.n; i++)
            y[n + i] = __float2bfloat16(v[i]);
}
__device__ __forceinline__ void store_four(const params &p, float *y, int n, const float (&v)[4])
{
    if (p.vec && n + 4 <= p.n)
        *(float4 *)(y + n) = make_float4(v[0], v[1], v[2], v[3]);
    else
        for (int i = 0; i < 4 && n + i < p.n; i++)
            y[n + i] = v[i];
}
__device__ __forceinline__ void load_four(const params &p, const __nv_bfloat16 *y, int n, float (&v)[4])
{
    if (p.vec && n + 4 <= p.n) {
        uint2 u = __ldcg((const uint2 *)(y + n));
        v[0] = __uint_as_float(u.x << 16), v[1] = __uint_as_float(u.x & 0xffff0000u);
        v[2] = __uint_as_float(u.y << 16), v[3] = __uint_as_float(u.y & 0xffff0000u);
    } else {
        for (int i = 0; i < 4; i++)
            v[i] = n + i < p.n ? __bfloat162float(__ldcg(y + n + i)) : 0.0f;
    }
}
__device__ __forceinline__ void load_four(const params &p, const float *y, int n, float (&v)[4])
{
    for (int i = 0; i < 4; i++)
        v[i] = n + i < p.n ? __ldcg(y + n + i) : 0.0f;
}
__device__ __forceinline__ float as_bf16(float x) { return __bfloat162float(__float2bfloat16(x)); }

/* One row of a tile, four columns: the parts of all CTAs of the cluster in the order of the columns, then scale and bias. */
__device__ __forceinline__ void sum_parts(const params &p, const float *part, float scale, int bias_at, float (&v)[4])
{
    const uint32_t at = smem_u32(part);
    float4         c[CLUSTER];
#pragma unroll
    for (int i = 0; i < CLUSTER; i++)
        c[i] = load_at(map_rank(at, (uint32_t)i));
#pragma unroll
    for (int i = 1; i < CLUSTER; i++) {
        c[0].x += c[i].x;
        c[0].y += c[i].y;
        c[0].z += c[i].z;
        c[0].w += c[i].w;
    }
    v[0] = c[0].x * scale, v[1] = c[0].y * scale, v[2] = c[0].z * scale, v[3] = c[0].w * scale;
    if (p.bias)
#pragma unroll
        for (int i = 0; i < 4; i++)
            v[i] += __bfloat162float(p.bias[bias_at + i]);
}

/* Rows rank, rank + CLUSTER, .. of y: every CTA of the cluster adds up and stores a share of them, a warp a row. */
template <int M, typename T> __device__ __forceinline__ void add_up(const params &p, const float *part, const bars &b, int tile, int rank)
{
    constexpr int N = (M + CLUSTER * 8 - 1) / (CLUSTER * 8);
    const int     warp = threadIdx.x / 32, row = threadIdx.x % 32 * 4, n = tile * p.tile_n + row;
    const bool    mine = row < p.tile_n && n < p.n;
#pragma unroll
    for (int j = 0; j < N; j++) {
        const int t = rank + CLUSTER * (warp + 8 * j);
        if (t >= p.n_tok)
            break;
        T    *y = (T *)p.y + t * p.y_stride;
        float v[4] = {}, old[4] = {}, sum = 0;
        if (mine) {
            if (p.add)
                load_four(p, y, n, old);
            sum_parts(p, part + t * PART_LD + row, p.sum_in ? b.scale[t] : 1.0f, n, v);
#pragma unroll
            for (int i = 0; i < 4; i++)
                v[i] += old[i];
            store_four(p, y, n, v);
        }
        if (!p.sum_out)
            continue;
        float w[4] = {};
        if (mine) {
            load_four(p, p.norm, n, w);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float r = n + i < p.n ? as_bf16(v[i]) : 0.0f;
                sum += r * r;
                w[i] *= r;
            }
            store_four(p, p.normed + t * p.y_stride, n, w);
        }
#pragma unroll
        for (int m = 16; m > 0; m /= 2)
            sum += __shfl_xor_sync(~0u, sum, m);
        if (threadIdx.x % 32 == 0)
            p.sum_out[t * p.n_tile + tile] = sum;
    }
}

/* The same where the tile's first half are gates, the other half what they open; half a warp a row. */
template <int M> __device__ __forceinline__ void add_up_gated(const params &p, const float *part, const bars &b, int tile, int rank)
{
    constexpr int N = (M + CLUSTER * 16 - 1) / (CLUSTER * 16);
    const int     row = threadIdx.x % 16 * 4, n = tile * p.tile_n + row;
    if (row >= p.tile_n || n >= p.n)
        return;
#pragma unroll
    for (int j = 0; j < N; j++) {
        const int t = rank + CLUSTER * ((int)threadIdx.x / 16 + 16 * j);
        if (t >= p.n_tok)
            break;
        const float scale = p.sum_in ? b.scale[t] : 1.0f;
        float       gate[4], up[4];
        sum_parts(p, part + t * PART_LD + row, scale, n, gate);
        sum_parts(p, part + t * PART_LD + p.tile_n + row, scale, p.n + n, up);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float g = as_bf16(gate[i]);
            up[i] = as_bf16(up[i]) * (g / (1.0f + expf(-g)));
        }
        store_four(p, (__nv_bfloat16 *)p.y + t * p.y_stride, n, up);
    }
}

/* Rows of x are normed by what the product before them left: the squares of each row, tile by tile. */
template <int M> __device__ __forceinline__ void find_scales(const params &p, bars &b)
{
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (int j = 0; j < M / 8; j++) {
        const int t = warp + 8 * j;
        float     sum = 0;
        if (t < p.n_tok)
            for (int i = lane; i < p.n_sum_in; i += 32)
                sum += __ldcg(p.sum_in + t * p.n_sum_in + i);
#pragma unroll
        for (int m = 16; m > 0; m /= 2)
            sum += __shfl_xor_sync(~0u, sum, m);
        if (lane == 0)
            b.scale[t] = 1.0f / sqrtf(sum / (float)p.k + p.eps);
    }
}

template <int M, bool F32>
__device__ void compute_units(unsigned char *ring, float *part, bars &b, const params &p, const share &s, int rank)
{
    const int group = threadIdx.x / 128, lane = threadIdx.x % 32, w_bytes = p.tile_rows * TILE_K * 2, stage_bytes = w_bytes + M * TILE_K * 2;
    float     acc[M / 2];
    int       st = 0, phase = 0;
    cluster_wait();
    grid_wait(); /* an earlier kernel may still read y */
    if (p.sum_in)
        find_scales<M>(p, b);
    for (int tile = s.tile0, i = 0; tile < s.tile1; tile++, i++) {
#pragma unroll
        for (int k = 0; k < M / 2; k++)
            acc[k] = 0;
        for (int u = s.unit0; u < s.unit1; u++) {
            mbar_wait(&b.full[st], (uint32_t)phase);
            unsigned char *at = ring + st * stage_bytes;
            uint64_t       w = wgmma_desc(at + group * 64 * TILE_K * 2, 0), x = wgmma_desc(at + w_bytes, 0);
            pin(acc);
            wgmma_fence();
#pragma unroll
            for (int k = 0; k < TILE_K / 16; k++)
                wgmma_ss(acc, w + 2 * k, x + 2 * k, 1);
            wgmma_commit();
            wgmma_wait<0>();
            pin(acc);
            __syncwarp();
            if (lane == 0)
                mbar_arrive(&b.empty[st]);
            if (++st == p.n_stage)
                st = 0, phase ^= 1;
        }
        if (i > 0)
            mbar_wait_cluster(&b.parts_read, (uint32_t)(i - 1) & 1);
        float *to = part + lane % 4 * 2 * PART_LD + threadIdx.x / 32 * 16 + lane / 4;
#pragma unroll
        for (int k = 0; k < M / 2; k++)
            to[(k / 4 * 8 + k % 2) * PART_LD + k / 2 % 2 * 8] = acc[k];
        bar_sync(BAR_COMPUTE, N_COMPUTE);
        if (threadIdx.x < CLUSTER)
            mbar_arrive_at(&b.parts_there, threadIdx.x);
        mbar_wait_cluster(&b.parts_there, (uint32_t)i & 1);
        if constexpr (F32)
            add_up<M, float>(p, part, b, tile, rank);
        else if (p.gated)
            add_up_gated<M>(p, part, b, tile, rank);
        else
            add_up<M, __nv_bfloat16>(p, part, b, tile, rank);
        bar_sync(BAR_COMPUTE, N_COMPUTE);
        if (threadIdx.x < CLUSTER)
            mbar_arrive_at(&b.parts_read, threadIdx.x);
    }
    if (threadIdx.x == 0 && s.tile1 > s.tile0)
        mbar_wait_cluster(&b.parts_read, (uint32_t)(s.tile1 - s.tile0 - 1) & 1);
}

template <int M, bool F32>
__global__ void __launch_bounds__(THREADS, 2)
    gemm_small_kernel(const __grid_constant__ CUtensorMap map_w, const __grid_constant__ CUtensorMap map_x, const params p)
{
    extern __shared__ __align__(1024) unsigned char raw[];
    unsigned char *ring = (unsigned char *)((uintptr_t)(raw + 1023) & ~(uintptr_t)1023);
    float         *part = (float *)(ring + p.n_stage * (p.tile_rows + M) * TILE_K * 2);
    bars          &b = *(bars *)(part + M * PART_LD);
    const int      rank = (int)cluster_rank(), cluster = (int)blockIdx.x / CLUSTER;
    if (threadIdx.x == 0) {
        for (int i = 0; i < p.n_stage; i++) {
            mbar_init(&b.full[i], 1);
            mbar_init(&b.empty[i], 4 * N_GROUP);
        }
        mbar_init(&b.parts_there, CLUSTER);
        mbar_init(&b.parts_read, CLUSTER);
        fence_mbar_init();
    }
    __syncthreads();
    cluster_arrive();
    const int tile0 = cluster * p.tile_per_cluster;
    share     s = {tile0, min(p.n_tile, tile0 + p.tile_per_cluster), rank * p.n_unit_k / CLUSTER, (rank + 1) * p.n_unit_k / CLUSTER};
    if (threadIdx.x >= N_COMPUTE) {
        if (threadIdx.x == N_COMPUTE)
            load_units<M>(ring, b, p, &map_w, &map_x, s);
        __syncwarp();
        cluster_wait();
    } else {
        compute_units<M, F32>(ring, part, b, p, s, rank);
    }
}

struct plan {
    int tile_rows, tile_n, n_tile, tile_per_cluster;
};

/* How a product is cut: by the weight's shape alone. */
static plan plan_of(int n_sm, int n, int gated)
{
    const int n_cluster = n_sm / CLUSTER, most = TILE_N / (1 + gated);
    plan      p;
    p.tile_per_cluster = ((n + n_cluster - 1) / n_cluster + most - 1) / most;
    p.tile_n = ((n + n_cluster * p.tile_per_cluster - 1) / (n_cluster * p.tile_per_cluster) + 7) / 8 * 8;
    p.tile_rows = p.tile_n * (1 + gated);
    p.n_tile = (n + p.tile_n - 1) / p.tile_n;
    return p;
}

int gemm_small_tiles(int n_sm, int n) { return plan_of(n_sm, n, 0).n_tile; }

template <int M, bool F32> static enum err launch_as(const gemm_args *a, const gemm_more *more, const gemm_gpu *g)
{
    const bool gated = more && more->gated;
    const int  n = gated ? a->w->n / 2 : a->w->n;
    const plan cut = plan_of(g->n_sm, n, gated);
    params     p = {};
    p.y = a->y;
    p.bias = (const __nv_bfloat16 *)a->bias;
    p.y_stride = a->y_stride;
    p.n_tok = a->n_tok;
    p.n = n;
    p.k = a->w->k;
    p.add = a->add;
    p.gated = gated;
    if (more && more->sum_in) {
        p.sum_in = more->sum_in;
        p.n_sum_in = gemm_small_tiles(g->n_sm, a->w->k);
        p.eps = more->eps;
    }
    if (more && more->sum_out) {
        p.sum_out = more->sum_out;
        p.normed = (__nv_bfloat16 *)more->normed;
        p.norm = (const __nv_bfloat16 *)more->norm;
    }
    p.n_unit_k = (a->w->k + TILE_K - 1) / TILE_K;
    p.tile_per_cluster = cut.tile_per_cluster;
    p.tile_rows = cut.tile_rows;
    p.tile_n = cut.tile_n;
    p.n_tile = cut.n_tile;
    p.vec = n % 4 == 0 && a->y_stride % 4 == 0 && (uintptr_t)a->y % 16 == 0;
    const int stage_bytes = (p.tile_rows + M) * TILE_K * 2, fixed = M * PART_LD * 4 + (int)sizeof(bars) + 1024;
    p.n_stage = (SMEM_BYTES - fixed) / stage_bytes;
    if (p.n_stage > STAGES_MOST)
        p.n_stage = STAGES_MOST;
    CUtensorMap map_w, map_x;
    enum err    e = tensor_map_2d(&map_w, a->w->data, a->w->n, a->w->k, a->w->k, p.tile_n);
    if (e == OK)
        e = tensor_map_2d(&map_x, a->x, a->n_tok, a->w->k, a->x_stride, M);
    if (e != OK)
        return e;
    auto *kernel = gemm_small_kernel<M, F32>;
    static bool set;
    if (!set && (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, SMEM_BYTES) != cudaSuccess ||
                 cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, 100) != cudaSuccess))
        return ERR_DEVICE;
    set = true;
    cudaLaunchAttribute attr[2] = {};
    attr[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attr[0].val.programmaticStreamSerializationAllowed = 1;
    attr[1].id = cudaLaunchAttributeClusterDimension;
    attr[1].val.clusterDim.x = CLUSTER;
    attr[1].val.clusterDim.y = 1;
    attr[1].val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((unsigned)((p.n_tile + p.tile_per_cluster - 1) / p.tile_per_cluster * CLUSTER));
    config.blockDim = dim3(THREADS);
    config.dynamicSmemBytes = (size_t)(fixed + p.n_stage * stage_bytes);
    config.stream = g->stream;
    config.attrs = attr;
    config.numAttrs = 2;
    return cudaLaunchKernelEx(&config, kernel, map_w, map_x, p) == cudaSuccess ? OK : ERR_DEVICE;
}

template <int M> static enum err launch(const gemm_args *a, const gemm_more *more, const gemm_gpu *g)
{
    return a->y_f32 ? launch_as<M, true>(a, more, g) : launch_as<M, false>(a, more, g);
}

enum err gemm_small_sm90(const struct gemm_args *a, const struct gemm_more *more, const struct gemm_gpu *g)
{
    const struct weight *w = a->w;
    if (a->n_tok < 1 || a->n_tok > GEMM_SMALL_MAX_TOK || w->dt != DT_BF16 || !w->data || w->n < 1 || w->k < 8 || w->k % 8 || a->x_stride % 8 || g->n_sm < CLUSTER)
        return ERR_INVALID_VALUE;
    if (more && ((more->gated && (w->n % 2 || a->y_f32 || a->add || more->sum_out)) || (more->sum_out && a->y_f32)))
        return ERR_INVALID_VALUE;
    if (a->n_tok <= 8)
        return launch<8>(a, more, g);
    if (a->n_tok <= 16)
        return launch<16>(a, more, g);
    return a->n_tok <= 32 ? launch<32>(a, more, g) : launch<64>(a, more, g);
}
