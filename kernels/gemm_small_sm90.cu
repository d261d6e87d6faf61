/* gemm_small: y[T, N] = x[T, K] w[N, K]^T for few rows of x, where the time is the weights' bytes.
 *
 * Weights are the 64-row operand of wgmma, the rows of x its 8..64 columns. A cluster of one, two or four CTAs takes tiles of up to 224
 * rows of the weight, each CTA an equal part of the columns, and adds the parts up through shared memory in the order of the columns: no
 * sums go through memory. Tiles are tall because every CTA reads x too. The cut hangs on the weight's shape alone.
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
    TILE_K = 64, BLOCK_N = 64, /* rows of one product's operand */
    TILE_N = 224, /* rows of a tile at most */
    N_GROUP = 2, N_COMPUTE = 128 * N_GROUP,
    N_LOAD = 2, /* loading warps: one alone needs as long for a stage as memory does for a small one */
    THREADS = N_COMPUTE + 32 * N_LOAD,
    BAR_COMPUTE = 1,
    STAGES_MOST = 16,
    PAD = 4, /* floats behind a row of sums: lanes of a fragment meet every bank once */
    SMEM_BYTES = 113 * 1024, /* two CTAs fit: the next product fills its ring beside this one's end */
    SMEM_MOST = 226 * 1024, /* for CTAs of several tiles, beside which an end is short */
    CLUSTER = 4, /* at most */
    FOUR_TALL = 128, /* rows of a tile at most where four CTAs share it */
    LEAD_BYTES = 32 * 1024, /* of weights left to load when the next kernel is let in, two loads at least */
};

struct bars {
    uint64_t full[STAGES_MOST], empty[STAGES_MOST];
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
    int                  n_unit_k, cluster, tile_rows, tile_n, n_tile, tile_first, tile_per_cluster; /* tile_n: columns of y in a tile */
    int                  n_stage, lead, bars_at; /* lead: loads left when the next kernel is let in; bytes from the ring's begin */
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
__device__ __forceinline__ float4 load_at(uint32_t addr)
{
    float4 v;
    asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "r"(addr) : "memory");
    return v;
}

struct share {
    int tile0, tile1, unit0, unit1; /* tiles of the cluster, columns of this CTA in units of TILE_K */
};

/* The units of a loading warp: from the warp-th on, each N_LOAD-th. */
struct turn {
    int i, tile, unit, st, phase;
    __device__ turn(const share &s, int warp) : i(warp), tile(s.tile0), unit(s.unit0 + warp), st(warp), phase(0) { wrap(s); }
    __device__ void wrap(const share &s)
    {
        while (unit >= s.unit1)
            unit -= s.unit1 - s.unit0, tile++;
    }
    __device__ void next(const share &s, int n_stage)
    {
        i += N_LOAD, unit += N_LOAD, st += N_LOAD;
        wrap(s);
        while (st >= n_stage)
            st -= n_stage, phase ^= 1;
    }
};

template <int M>
__device__ void load_units(unsigned char *ring, bars &b, const params &p, const CUtensorMap *map_w, const CUtensorMap *map_x, const share &s, int warp)
{
    const uint64_t once = l2_evict_first(), keep = l2_evict_last();
    const int      w_bytes = p.tile_rows * TILE_K * 2, stage_bytes = w_bytes + M * TILE_K * 2, n = (s.tile1 - s.tile0) * (s.unit1 - s.unit0);
    auto           load_w = [&](const turn &t) {
        unsigned char *to = ring + t.st * stage_bytes;
        mbar_arrive_tx(&b.full[t.st], (uint32_t)stage_bytes);
        tma_load_2d(to, map_w, &b.full[t.st], t.unit * TILE_K, t.tile * p.tile_n, once);
        if (p.gated)
            tma_load_2d(to + w_bytes / 2, map_w, &b.full[t.st], t.unit * TILE_K, p.n + t.tile * p.tile_n, once);
    };
    auto load_x = [&](const turn &t) { tma_load_2d(ring + t.st * stage_bytes + w_bytes, map_x, &b.full[t.st], t.unit * TILE_K, 0, keep); };

    if (n == 0) {
        grid_launch_next();
        return;
    }
    const int ahead = min(p.n_stage, n); /* weights hang on no earlier kernel, x does */
    turn      t(s, warp);
    for (; t.i < ahead; t.next(s, p.n_stage))
        load_w(t);
    grid_wait();
    for (turn u(s, warp); u.i < ahead; u.next(s, p.n_stage))
        load_x(u);
    for (; t.i < n; t.next(s, p.n_stage)) {
        if (t.i >= n - p.lead)
            grid_launch_next();
        mbar_wait(&b.empty[t.st], (uint32_t)t.phase ^ 1);
        load_w(t);
        load_x(t);
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
            v[i] = n + i < p.n ? __uint_as_float((uint32_t)__ldcg((const unsigned short *)(y + n + i)) << 16) : 0.0f; /* bf16's own __ldcg may move before its condition */
    }
}
__device__ __forceinline__ void load_four(const params &p, const float *y, int n, float (&v)[4])
{
    for (int i = 0; i < 4; i++)
        v[i] = n + i < p.n ? __ldcg(y + n + i) : 0.0f;
}
__device__ __forceinline__ float as_bf16(float x) { return __bfloat162float(__float2bfloat16(x)); }

/* One row of a tile, four columns: the parts of all CTAs of the cluster in the order of the columns, then scale and bias. */
__device__ __forceinline__ void sum_parts(const params &p, const float *part, float scale, int n, int shift, float (&v)[4])
{
    float4 sum = *(const float4 *)part;
    if (p.cluster > 1) {
        const uint32_t at = smem_u32(part);
        float4         c[CLUSTER];
#pragma unroll
        for (int i = 0; i < CLUSTER; i++)
            if (i < p.cluster)
                c[i] = load_at(map_rank(at, (uint32_t)i));
        sum = c[0];
#pragma unroll
        for (int i = 1; i < CLUSTER; i++)
            if (i < p.cluster) {
                sum.x += c[i].x;
                sum.y += c[i].y;
                sum.z += c[i].z;
                sum.w += c[i].w;
            }
    }
    v[0] = sum.x * scale, v[1] = sum.y * scale, v[2] = sum.z * scale, v[3] = sum.w * scale;
    if (p.bias)
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (n + i < p.n)
                v[i] += __bfloat162float(p.bias[shift + n + i]);
}

/* The warp has read all that it takes from its cluster: the others may end. */
__device__ __forceinline__ void read_all(const params &p, bool last)
{
    __syncwarp();
    if (last && p.cluster > 1)
        cluster_arrive();
}

/* Row t of y in a tile, by a warp; part: its sums; last: of this warp's rows. All is read before the first store, so that one wait serves
 * both halves. */
template <typename T> __device__ __forceinline__ void store_row(const params &p, const float *part, float scale, int tile, int t, bool last)
{
    enum { HALVES = (TILE_N + 127) / 128 };
    T    *y = (T *)p.y + t * p.y_stride;
    float square = 0, v[HALVES][4], old[HALVES][4] = {}, w[HALVES][4];
    auto  is_in = [&](int h) { return h * 128 + (int)threadIdx.x % 32 * 4 < p.tile_n && tile * p.tile_n + h * 128 + (int)threadIdx.x % 32 * 4 < p.n; };
    auto  column = [&](int h) { return tile * p.tile_n + h * 128 + (int)threadIdx.x % 32 * 4; };
#pragma unroll
    for (int h = 0; h < HALVES; h++)
        if (is_in(h)) {
            if (p.add)
                load_four(p, y, column(h), old[h]);
            if (p.sum_out)
                load_four(p, p.norm, column(h), w[h]);
        }
#pragma unroll
    for (int h = 0; h < HALVES; h++)
        if (is_in(h))
            sum_parts(p, part + h * 128 + threadIdx.x % 32 * 4, scale, column(h), 0, v[h]);
    read_all(p, last);
#pragma unroll
    for (int h = 0; h < HALVES; h++) {
        if (!is_in(h))
            continue;
#pragma unroll
        for (int i = 0; i < 4; i++)
            v[h][i] += old[h][i];
        store_four(p, y, column(h), v[h]);
        if (!p.sum_out)
            continue;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float r = column(h) + i < p.n ? as_bf16(v[h][i]) : 0.0f;
            square += r * r;
            w[h][i] *= r;
        }
        store_four(p, p.normed + t * p.y_stride, column(h), w[h]);
    }
    if (!p.sum_out)
        return;
#pragma unroll
    for (int m = 16; m > 0; m /= 2)
        square += __shfl_xor_sync(~0u, square, m);
    if (threadIdx.x % 32 == 0)
        p.sum_out[t * p.n_tile + tile] = square;
}

/* The same where the tile's first half are gates, the other half what they open. */
__device__ __forceinline__ void store_row_gated(const params &p, const float *part, float scale, int tile, int t, bool last)
{
    const int  row = threadIdx.x % 32 * 4, n = tile * p.tile_n + row;
    const bool in = row < p.tile_n && n < p.n;
    float      gate[4], up[4];
    if (in) {
        sum_parts(p, part + row, scale, n, 0, gate);
        sum_parts(p, part + p.tile_n + row, scale, n, p.n, up);
    }
    read_all(p, last);
    if (!in)
        return;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float g = as_bf16(gate[i]);
        up[i] = as_bf16(up[i]) * (g / (1.0f + expf(-g)));
    }
    store_four(p, (__nv_bfloat16 *)p.y + t * p.y_stride, n, up);
}

/* Rows t0, t0 + step, .. < t1 of a tile, a warp a row; part: the sums of row 0. */
template <bool F32> __device__ __forceinline__ void store_rows(const params &p, const float *part, const bars &b, int tile, int t0, int step, int t1)
{
    const int first = t0 + step * (int)(threadIdx.x / 32), next = step * N_COMPUTE / 32;
    if (first >= t1)
        read_all(p, true);
    for (int t = first; t < t1; t += next) {
        const bool   last = t + next >= t1;
        const float  scale = p.sum_in ? b.scale[t] : 1.0f;
        const float *row = part + t * (p.tile_rows + PAD);
        if constexpr (F32)
            store_row<float>(p, row, scale, tile, t, last);
        else if (p.gated)
            store_row_gated(p, row, scale, tile, t, last);
        else
            store_row<__nv_bfloat16>(p, row, scale, tile, t, last);
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

__device__ __forceinline__ void store_at(uint32_t addr, float v) { asm volatile("st.shared.f32 [%0], %1;" ::"r"(addr), "f"(v) : "memory"); }

/* Sums of eight rows of y, [row of y][row of the tile]: a thread's two rows of y and two rows of each block of the tile. */
template <int M, int BLOCKS> __device__ __forceinline__ void put_sums(const params &p, const float (&acc)[BLOCKS][M / 2], uint32_t part, int c)
{
    const int lane = threadIdx.x % 32, ld = (p.tile_rows + PAD) * 4;
#pragma unroll
    for (int j = 0; j < BLOCKS; j++) {
        const int      row = (threadIdx.x / 128 * BLOCKS + j) * BLOCK_N + threadIdx.x % 128 / 32 * 16 + lane / 4;
        const uint32_t to = part + lane % 4 * 2 * ld + row * 4;
#pragma unroll
        for (int k = 0; k < 4; k++)
            if (row + k / 2 * 8 < p.tile_rows)
                store_at(to + k % 2 * ld + k / 2 * 32, acc[j][4 * c + k]);
    }
}

/* One of a CTA's several tiles, straight from registers: what its ring holds by now are the next one's weights. */
template <int M, int BLOCKS> __device__ __forceinline__ void store_direct(const params &p, const float (&acc)[BLOCKS][M / 2], const bars &b, int tile)
{
    const int lane = threadIdx.x % 32;
    bar_sync(BAR_COMPUTE, N_COMPUTE); /* the scales are there */
#pragma unroll
    for (int j = 0; j < 2 * BLOCKS; j++) {
        const int row = (threadIdx.x / 128 * BLOCKS + j / 2) * BLOCK_N + threadIdx.x % 128 / 32 * 16 + lane / 4 + j % 2 * 8, n = tile * p.tile_n + row;
        if (row >= p.tile_n || n >= p.n)
            continue;
        const float bias = p.bias ? __bfloat162float(p.bias[n]) : 0.0f;
#pragma unroll
        for (int i = 0; i < M / 4; i++) {
            const int t = i / 2 * 8 + lane % 4 * 2 + i % 2;
            if (t >= p.n_tok)
                continue;
            float *y = (float *)p.y + t * p.y_stride + n;
            float  v = acc[j / 2][i / 2 * 4 + j % 2 * 2 + i % 2] * (p.sum_in ? b.scale[t] : 1.0f) + bias;
            *y = p.add ? v + __ldcg(y) : v;
        }
    }
}

/* A CTA's only tile: its sums lie where its weights were, and all CTAs of the cluster add up and store a share of the rows. */
template <int M, bool F32, int BLOCKS>
__device__ __forceinline__ void store_whole(const params &p, const float (&acc)[BLOCKS][M / 2], float *part, const bars &b, int tile, int rank)
{
    bar_sync(BAR_COMPUTE, N_COMPUTE);
#pragma unroll
    for (int c = 0; c < M / 8; c++)
        put_sums<M, BLOCKS>(p, acc, smem_u32(part + c * 8 * (p.tile_rows + PAD)), c);
    if (p.cluster == 1) {
        bar_sync(BAR_COMPUTE, N_COMPUTE);
    } else {
        cluster_arrive();
        cluster_wait();
    }
    store_rows<F32>(p, part, b, tile, rank, p.cluster, p.n_tok);
    if (p.cluster > 1)
        cluster_wait();
}

template <int M, bool F32, int BLOCKS>
__device__ void compute_units(unsigned char *ring, bars &b, const params &p, const share &s, int rank)
{
    const int group = threadIdx.x / 128, lane = threadIdx.x % 32, w_bytes = p.tile_rows * TILE_K * 2, stage_bytes = w_bytes + M * TILE_K * 2;
    float     acc[BLOCKS][M / 2];
    int       st = 0, phase = 0;
    grid_wait(); /* an earlier kernel may still read y */
    if (p.sum_in)
        find_scales<M>(p, b);
    for (int tile = s.tile0; tile < s.tile1; tile++) {
#pragma unroll
        for (int k = 0; k < BLOCKS * M / 2; k++)
            acc[k / (M / 2)][k % (M / 2)] = 0;
        for (int u = s.unit0; u < s.unit1; u++) {
            mbar_wait(&b.full[st], (uint32_t)phase);
            unsigned char *at = ring + st * stage_bytes;
            uint64_t       w = wgmma_desc(at + group * BLOCKS * BLOCK_N * TILE_K * 2, 0), x = wgmma_desc(at + w_bytes, 0);
#pragma unroll
            for (int j = 0; j < BLOCKS; j++)
                pin(acc[j]);
            wgmma_fence();
#pragma unroll
            for (int k = 0; k < TILE_K / 16; k++)
#pragma unroll
                for (int j = 0; j < BLOCKS; j++)
                    wgmma_ss(acc[j], w + j * (BLOCK_N * TILE_K * 2 / 16) + 2 * k, x + 2 * k, 1);
            wgmma_commit();
            wgmma_wait<0>();
#pragma unroll
            for (int j = 0; j < BLOCKS; j++)
                pin(acc[j]);
            __syncwarp();
            if (lane == 0)
                mbar_arrive(&b.empty[st]);
            if (++st == p.n_stage)
                st = 0, phase ^= 1;
        }
        if (p.tile_per_cluster == 1) {
            store_whole<M, F32, BLOCKS>(p, acc, (float *)ring, b, tile, rank);
            return;
        }
        if constexpr (F32)
            store_direct<M, BLOCKS>(p, acc, b, tile);
    }
}

/* BLOCKS: of 64 rows that a warpgroup multiplies. */
template <int M, bool F32, int BLOCKS>
__global__ void __launch_bounds__(THREADS, 2)
    gemm_small_kernel(const __grid_constant__ CUtensorMap map_w, const __grid_constant__ CUtensorMap map_x, const params p)
{
    extern __shared__ __align__(1024) unsigned char raw[];
    unsigned char *ring = (unsigned char *)((uintptr_t)(raw + 1023) & ~(uintptr_t)1023);
    bars          &b = *(bars *)(ring + p.bars_at);
    const int      rank = (int)cluster_rank(), cluster = (int)blockIdx.x / p.cluster;
    if (threadIdx.x == 0) {
        for (int i = 0; i < p.n_stage; i++) {
            mbar_init(&b.full[i], 1);
            mbar_init(&b.empty[i], 4 * N_GROUP);
        }
        fence_mbar_init();
    }
    __syncthreads();
    const int tile0 = p.tile_first + cluster * p.tile_per_cluster;
    share     s = {tile0, min(p.n_tile, tile0 + p.tile_per_cluster), rank * p.n_unit_k / p.cluster, (rank + 1) * p.n_unit_k / p.cluster};
    if (threadIdx.x < N_COMPUTE) {
        compute_units<M, F32, BLOCKS>(ring, b, p, s, rank);
        return;
    }
    if (threadIdx.x % 32 == 0)
        load_units<M>(ring, b, p, &map_w, &map_x, s, ((int)threadIdx.x - N_COMPUTE) / 32);
    __syncwarp();
    if (p.cluster > 1)
        for (int i = 0; i < 2; i++) { /* as the computing warps do: once the parts lie there, once they are read */
            cluster_arrive();
            cluster_wait();
        }
}

struct plan {
    int cluster, tile_rows, tile_n, n_tile, tile_per_cluster;
};

/* How a product is cut: by the weight's shape alone. The largest cluster whose one tile is not too tall; else one CTA, several tiles. */
static plan plan_of(int n_sm, int n, int gated)
{
    const int most = TILE_N / (1 + gated);
    plan      p;
    p.cluster = CLUSTER;
    while (p.cluster > 1 && n > n_sm / p.cluster * (p.cluster > 2 && FOUR_TALL < most ? FOUR_TALL : most))
        p.cluster /= 2;
    const int n_cluster = n_sm / p.cluster;
    p.tile_per_cluster = (n + n_cluster * most - 1) / (n_cluster * most);
    p.tile_n = ((n + n_cluster * p.tile_per_cluster - 1) / (n_cluster * p.tile_per_cluster) + 7) / 8 * 8;
    p.tile_rows = p.tile_n * (1 + gated);
    p.n_tile = (n + p.tile_n - 1) / p.tile_n;
    return p;
}

int gemm_small_tiles(int n_sm, int n) { return plan_of(n_sm, n, 0).n_tile; }

/* Shared memory: the ring, barriers; sums lie in the ring. Returns the bytes. */
static int plan_smem(params *p, int m, int blocks)
{
    const int stage = (p->tile_rows + m) * TILE_K * 2, sums = m * (p->tile_rows + PAD) * 4, room = (p->tile_per_cluster > 1 ? SMEM_MOST : SMEM_BYTES) - 1024 - (int)sizeof(bars);
    const int read = blocks * N_GROUP * BLOCK_N * TILE_K * 2; /* products read blocks whole, also where a tile's rows end before */
    p->n_stage = room / stage < STAGES_MOST ? room / stage : STAGES_MOST;
    while (p->n_stage > 1 && (p->n_stage - 1) * stage + read > room)
        p->n_stage--;
    const int ring = (p->n_stage - 1) * stage + (read > stage ? read : stage);
    p->bars_at = (ring > sums ? ring : sums) + 15 & ~15;
    return 1024 + p->bars_at + (int)sizeof(bars);
}

template <int M, bool F32, int BLOCKS> static enum err launch_as(const gemm_args *a, const gemm_more *more, const gemm_gpu *g, const plan &cut)
{
    const bool gated = more && more->gated;
    const int  n = gated ? a->w->n / 2 : a->w->n;
    params     p = {};
    p.y = a->y;
    p.bias = (const __nv_bfloat16 *)a->bias;
    p.y_stride = a->y_stride;
    p.n_tok = a->n_tok;
    p.n = n;
    p.k = a->w->k;
    p.add = a->add;
    p.gated = gated;
    p.vec = n % 4 == 0 && a->y_stride % 4 == 0 && (uintptr_t)a->y % 16 == 0;
    if (more && more->sum_in) {
        p.sum_in = more->sum_in;
        p.n_sum_in = gemm_small_tiles(g->n_sm, a->w->k);
        p.eps = more->eps;
    }
    if (more && more->sum_out) {
        p.sum_out = more->sum_out;
        p.normed = (__nv_bfloat16 *)more->normed;
        p.norm = (const __nv_bfloat16 *)more->norm;
        p.vec = p.vec && (uintptr_t)p.normed % 8 == 0 && (uintptr_t)p.norm % 8 == 0;
    }
    p.n_unit_k = (a->w->k + TILE_K - 1) / TILE_K;
    p.cluster = cut.cluster;
    p.tile_per_cluster = F32 ? cut.tile_per_cluster : 1;
    p.tile_rows = cut.tile_rows;
    p.tile_n = cut.tile_n;
    p.n_tile = cut.n_tile;
    p.lead = (LEAD_BYTES - 1) / (p.tile_rows * TILE_K * 2) + 1;
    p.lead = p.lead > 2 ? p.lead : 2;
    const int   bytes = plan_smem(&p, M, BLOCKS);
    CUtensorMap map_w, map_x;
    enum err    e = tensor_map_2d(&map_w, a->w->data, a->w->n, a->w->k, a->w->k, p.tile_n);
    if (e == OK)
        e = tensor_map_2d(&map_x, a->x, a->n_tok, a->w->k, a->x_stride, M);
    if (e != OK)
        return e;
    auto *kernel = gemm_small_kernel<M, F32, BLOCKS>;
    static bool set;
    if (!set && (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, SMEM_MOST) != cudaSuccess ||
                 cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, 100) != cudaSuccess))
        return ERR_DEVICE;
    set = true;
    cudaLaunchAttribute attr[2] = {};
    attr[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attr[0].val.programmaticStreamSerializationAllowed = 1;
    attr[1].id = cudaLaunchAttributeClusterDimension;
    attr[1].val.clusterDim.x = (unsigned)p.cluster;
    attr[1].val.clusterDim.y = 1;
    attr[1].val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.blockDim = dim3(THREADS);
    config.dynamicSmemBytes = (size_t)bytes;
    config.stream = g->stream;
    config.attrs = attr;
    config.numAttrs = 2;
    const int n_cluster = (p.n_tile + cut.tile_per_cluster - 1) / cut.tile_per_cluster;
    for (; p.tile_first < p.n_tile; p.tile_first += n_cluster * p.tile_per_cluster) {
        const int n = (p.n_tile - p.tile_first + p.tile_per_cluster - 1) / p.tile_per_cluster;
        config.gridDim = dim3((unsigned)((n < n_cluster ? n : n_cluster) * p.cluster));
        if (cudaLaunchKernelEx(&config, kernel, map_w, map_x, p) != cudaSuccess)
            return ERR_DEVICE;
    }
    return OK;
}

template <int M, bool F32> static enum err launch_blocks(const gemm_args *a, const gemm_more *more, const gemm_gpu *g)
{
    const bool gated = more && more->gated;
    const plan cut = plan_of(g->n_sm, gated ? a->w->n / 2 : a->w->n, gated);
    return cut.tile_rows <= N_GROUP * BLOCK_N ? launch_as<M, F32, 1>(a, more, g, cut) : launch_as<M, F32, 2>(a, more, g, cut);
}

template <int M> static enum err launch(const gemm_args *a, const gemm_more *more, const gemm_gpu *g)
{
    return a->y_f32 ? launch_blocks<M, true>(a, more, g) : launch_blocks<M, false>(a, more, g);
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
