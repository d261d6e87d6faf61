/* gemm_small: y[T, N] = x[T, K] w[N, K]^T for few rows of x, where the time is the weights' bytes.
 *
 * Weights are the 64-row operand of wgmma, the rows of x its 8..64 columns. One CTA or a cluster of two takes
 * a tile of up to 224 rows of the weight, each CTA an equal part of the columns, and adds the parts up
 * through shared memory in the order of the columns: no sums go through memory. Tiles are tall because every
 * CTA reads x too. The cut depends on the weight's shape alone.
 *
 * Between two products the memory must not rest: the next kernel is let in when a CTA's last loads are on
 * their way, and fills its ring with weights, which depend on no earlier kernel, while this one adds up,
 * stores and ends. So an SM has room for two CTAs. If two CTAs of one product shared an SM, other SMs would
 * idle and the two would end late (4096 x 14336, H200: 19-23 us on an SM alone, 28-31 side by side): of
 * products that follow one another one takes more than half of an SM's shared memory, the next more than half
 * of its registers, so that they fit together and none with itself. */
#include "kernels/cuda/gemm_gpu.h"
#include "kernels/cuda/gemm_small.cuh"
#include "kernels/cuda/tensor_map.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

enum {
    TILE_K = 64,
    BLOCK_N = 64, /* rows of one product's operand */
    TILE_N = 224, /* rows of a tile at most */
    N_GROUP = 2,
    N_COMPUTE = 128 * N_GROUP,
    N_LOAD = 2, /* loading warps: one alone needs as long for a stage as memory does for a small one */
    THREADS = N_COMPUTE + 32 * N_LOAD,
    BAR_COMPUTE = 1,
    STAGES_MOST = 16,
    PAD = 4, /* floats behind a row of sums: lanes of a fragment meet every bank once */
    SMEM_FIRST = 116 * 1024,
    SMEM_SECOND = 110 * 1024, /* with the 1 KiB that every CTA takes besides, an SM's 228 KiB */
    SMEM_MOST = 226 * 1024,   /* for CTAs of several tiles, beside which an end is short */
    SM_REGS = 64 * 1024,
    LEAD_BYTES = 32 * 1024, /* of weights left to load when the next kernel is let in, two loads at least */
};

/* Registers of a thread: as few as leave room for a CTA beside one of the second kind, but for the largest
 * sums. */
static constexpr int regs_most(int m, int blocks) { return m == 64 && blocks == 2 ? 96 : 72; }

struct bars {
    uint64_t full[STAGES_MOST], empty[STAGES_MOST];
    float scale[GEMM_SMALL_MAX_TOK]; /* of rows of x that are not yet normed */
};

struct params {
    void *y;
    const bf16 *bias;
    int64_t y_stride;
    const float *sum_in;
    float *sum_out, eps;
    bf16 *normed; /* [T, n] with y_stride */
    const bf16 *norm;
    int n_tok, n, k, add, vec, gated, n_sum_in, sum_vec; /* n: columns of y; vec, sum_vec: four at a time */
    int n_unit_k, cluster, tile_rows, tile_n, n_tile, tile_first,
        tile_per_cluster; /* tile_n: columns of y in a tile */
    int n_stage, lead,
        bars_at; /* lead: loads left when the next kernel is let in; bytes from the ring's begin */
};

template <int M>
__device__ void load_units(unsigned char *ring, bars &b, const params &p, const CUtensorMap *map_w,
                           const CUtensorMap *map_x, const share &s, int warp)
{
    const uint64_t once = l2_evict_first(), keep = l2_evict_last();
    const int w_bytes = p.tile_rows * TILE_K * 2, stage_bytes = w_bytes + M * TILE_K * 2,
              n = (s.tile1 - s.tile0) * (s.unit1 - s.unit0);
    auto load_w = [&](const turn<N_LOAD> &t) {
        unsigned char *to = ring + t.st * stage_bytes;
        mbar_arrive_tx(&b.full[t.st], (uint32_t)stage_bytes);
        tma_load_2d(to, map_w, &b.full[t.st], t.unit * TILE_K, t.tile * p.tile_n, once);
        if (p.gated)
            tma_load_2d(to + w_bytes / 2, map_w, &b.full[t.st], t.unit * TILE_K, p.n + t.tile * p.tile_n,
                        once);
    };
    auto load_x = [&](const turn<N_LOAD> &t) {
        tma_load_2d(ring + t.st * stage_bytes + w_bytes, map_x, &b.full[t.st], t.unit * TILE_K, 0, keep);
    };

    if (n == 0) {
        grid_launch_next();
        return;
    }
    const int ahead = min(p.n_stage, n); /* weights depend on no earlier kernel, x does */
    turn<N_LOAD> t(s, warp);
    for (; t.i < ahead; t.next(s, p.n_stage)) load_w(t);
    grid_wait();
    for (turn<N_LOAD> u(s, warp); u.i < ahead; u.next(s, p.n_stage)) load_x(u);
    for (; t.i < n; t.next(s, p.n_stage)) {
        if (t.i >= n - p.lead) grid_launch_next();
        mbar_wait(&b.empty[t.st], (uint32_t)t.phase ^ 1);
        load_w(t);
        load_x(t);
    }
    grid_launch_next();
}

/* Rows rank, rank + cluster, .. of a tile, of which every eighth is this warp's, in PARTS of 128 columns, or
 * gates and what they open. The parts of a sum are added in the order of the columns of x. ROWS at once: what
 * one waits for, the others' work hides. C: CTAs of the cluster. */
template <typename T, int ROWS, int C, int PARTS, bool GATED, bool VEC>
__device__ __forceinline__ void store_rows(const params &p, const float *part, const bars &b, int tile,
                                           int rank)
{
    constexpr int YS = GATED ? 1 : PARTS; /* parts of y */
    const int step = C * N_COMPUTE / 32, lane = threadIdx.x % 32 * 4, first = tile * p.tile_n,
              n_tile = min(p.tile_n, p.n - first), ld = p.tile_rows + PAD;
    int t = rank + C * (int)(threadIdx.x / 32), left[PARTS];
    uint32_t at[PARTS][C];
    T *y = (T *)p.y + t * p.y_stride + first + lane, *normed = (T *)p.normed + t * p.y_stride + first + lane;
    four<bf16> norm[PARTS], bias[PARTS];
#pragma unroll
    for (int h = 0; h < PARTS; h++) {
        left[h] = GATED ? n_tile - lane : n_tile - h * 128 - lane;
        const uint32_t own =
            smem_u32(part + t * ld + min(h * (GATED ? p.tile_n : 128) + lane, p.tile_rows - 4));
#pragma unroll
        for (int i = 0; i < C; i++) at[h][i] = C == 1 ? own : map_rank(own, (uint32_t)i);
        if (p.sum_out) load_columns<VEC>(norm[h], p.norm + first + h * 128 + lane, left[h]);
        if (p.bias) load_columns<false>(bias[h], p.bias + first + lane + h * (GATED ? p.n : 128), left[h]);
    }
    if (t >= p.n_tok) read_all(C);
    for (; t < p.n_tok; t += ROWS * step) {
        float4 sum[ROWS][PARTS][C];
        float v[ROWS][PARTS][4];
        four<T> old[ROWS][YS];
        if (p.add)
#pragma unroll
            for (int r = 0; r < ROWS; r++)
#pragma unroll
                for (int h = 0; h < YS; h++)
                    if (t + r * step < p.n_tok)
                        load_columns<VEC>(old[r][h], y + r * step * p.y_stride + h * 128, left[h]);
#pragma unroll
        for (int r = 0; r < ROWS; r++) /* the tile has sums for rows that x has not, too */
#pragma unroll
            for (int h = 0; h < PARTS; h++)
#pragma unroll
                for (int i = 0; i < C; i++)
                    sum[r][h][i] = C == 1 ? load_own(at[h][i] + (uint32_t)(r * step * ld * 4))
                                          : load_at(at[h][i] + (uint32_t)(r * step * ld * 4));
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
            for (int h = 0; h < PARTS; h++) {
                float4 s = sum[r][h][0];
#pragma unroll
                for (int i = 1; i < C; i++)
                    s.x += sum[r][h][i].x, s.y += sum[r][h][i].y, s.z += sum[r][h][i].z,
                        s.w += sum[r][h][i].w;
                v[r][h][0] = s.x, v[r][h][1] = s.y, v[r][h][2] = s.z, v[r][h][3] = s.w;
            }
        if (t + ROWS * step >= p.n_tok) {
#pragma unroll
            for (int r = 0; C > 1 && r < ROWS; r++)
#pragma unroll
                for (int h = 0; h < PARTS; h++) pin(v[r][h]);
            read_all(C);
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            if (t + r * step >= p.n_tok) break;
            const float scale = p.sum_in ? b.scale[t + r * step] : 1.0f;
            float square = 0;
#pragma unroll
            for (int h = 0; h < PARTS; h++)
#pragma unroll
                for (int i = 0; i < 4; i++) v[r][h][i] *= scale;
            if (p.bias)
#pragma unroll
                for (int h = 0; h < PARTS; h++) add_four(v[r][h], bias[h]);
            if constexpr (GATED)
#pragma unroll
                for (int i = 0; i < 4; i++) v[r][0][i] = open_gate(v[r][0][i], v[r][1][i]);
            if (p.add)
#pragma unroll
                for (int h = 0; h < YS; h++) add_four(v[r][h], old[r][h]);
#pragma unroll
            for (int h = 0; h < YS; h++)
                store_columns<VEC>(y + r * step * p.y_stride + h * 128, v[r][h], left[h]);
            if (!p.sum_out) continue;
#pragma unroll
            for (int h = 0; h < YS; h++) {
                float w[4];
                norm[h].get(w);
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const float x = i < left[h] ? rounded(v[r][h][i], bf16()) : 0.0f;
                    square += x * x;
                    w[i] *= x;
                }
                store_columns<VEC>(normed + r * step * p.y_stride + h * 128, w, left[h]);
            }
            square = warp_sum(square);
            if (threadIdx.x % 32 == 0) p.sum_out[(t + r * step) * p.n_tile + tile] = square;
        }
        y += ROWS * step * p.y_stride, normed += ROWS * step * p.y_stride;
#pragma unroll
        for (int h = 0; h < PARTS; h++)
#pragma unroll
            for (int i = 0; i < C; i++) at[h][i] += (uint32_t)(ROWS * step * ld * 4);
    }
}

/* Rows of x are normed by what the product before them left: the squares of each row, tile by tile. Four
 * threads a row, whatever M is. */
template <int M> __device__ __forceinline__ void find_scales(const params &p, bars &b)
{
    const int t = threadIdx.x / 4, q = threadIdx.x % 4, n = p.n_sum_in;
    if (t >= M) return;
    const float *from = p.sum_in + min(t, p.n_tok - 1) * n;
    float sum = 0;
#pragma unroll 4
    for (int i = 4 * q; i < n; i += 16) {
        four<float> v;
        if (p.sum_vec)
            v.load(from + i);
        else
            v.load(from + i, n - i);
        sum += (v.u.x + v.u.y) + (v.u.z + v.u.w);
    }
    sum += __shfl_xor_sync(~0u, sum, 1);
    sum += __shfl_xor_sync(~0u, sum, 2);
    if (q == 0) b.scale[t] = 1.0f / sqrtf(sum / (float)p.k + p.eps);
}

/* Sums of eight rows of y, [row of y][row of the tile]: a thread's two rows of y and two rows of each block
 * of the tile. */
template <int M, int BLOCKS>
__device__ __forceinline__ void put_sums(const params &p, const float (&acc)[BLOCKS][M / 2], uint32_t part,
                                         int c)
{
    const int lane = threadIdx.x % 32, ld = (p.tile_rows + PAD) * 4;
#pragma unroll
    for (int j = 0; j < BLOCKS; j++) {
        const int row = (threadIdx.x / 128 * BLOCKS + j) * BLOCK_N + threadIdx.x % 128 / 32 * 16 + lane / 4;
        const uint32_t to = part + lane % 4 * 2 * ld + row * 4;
#pragma unroll
        for (int k = 0; k < 4; k++)
            if (row + k / 2 * 8 < p.tile_rows) store_at(to + k % 2 * ld + k / 2 * 32, acc[j][4 * c + k]);
    }
}

/* One of a CTA's several tiles, straight from registers: what its ring holds by now are the next one's
 * weights. */
template <int M, int BLOCKS>
__device__ __forceinline__ void store_direct(const params &p, const float (&acc)[BLOCKS][M / 2],
                                             const bars &b, int tile)
{
    const int lane = threadIdx.x % 32;
    bar_sync(BAR_COMPUTE, N_COMPUTE); /* the scales are there */
#pragma unroll
    for (int j = 0; j < 2 * BLOCKS; j++) {
        const int row = (threadIdx.x / 128 * BLOCKS + j / 2) * BLOCK_N + threadIdx.x % 128 / 32 * 16 +
                        lane / 4 + j % 2 * 8,
                  n = tile * p.tile_n + row;
        if (row >= p.tile_n || n >= p.n) continue;
        const float bias = p.bias ? __bfloat162float(p.bias[n]) : 0.0f;
#pragma unroll
        for (int i = 0; i < M / 4; i++) {
            const int t = i / 2 * 8 + lane % 4 * 2 + i % 2;
            if (t >= p.n_tok) continue;
            float *y = (float *)p.y + t * p.y_stride + n;
            float v = acc[j / 2][i / 2 * 4 + j % 2 * 2 + i % 2] * (p.sum_in ? b.scale[t] : 1.0f) + bias;
            *y = p.add ? v + __ldcg(y) : v;
        }
    }
}

template <typename T, int M, int C, int PARTS, bool GATED>
__device__ __forceinline__ void store_tile(const params &p, const float *part, const bars &b, int tile,
                                           int rank)
{
    constexpr int OF_WARP = M / 8 > C ? M / 8 / C : 1, ROOM = (sizeof(T) == 2 ? 4 : 4) / (C * PARTS),
                  MOST = ROOM > 0 ? ROOM : 1, ROWS = OF_WARP < MOST ? OF_WARP : MOST;
    if (p.vec && (tile + 1) * p.tile_n <= p.n)
        store_rows<T, ROWS, C, PARTS, GATED, true>(p, part, b, tile, rank);
    else
        store_rows<T, 1, C, PARTS, GATED, false>(p, part, b, tile, rank);
}

template <int M, bool F32, int BLOCKS, int C>
__device__ __forceinline__ void store_parts(const params &p, const float *part, const bars &b, int tile,
                                            int rank)
{
    if constexpr (F32)
        store_tile<float, M, C, BLOCKS, false>(p, part, b, tile, rank);
    else if (p.gated)
        store_tile<bf16, M, C, 2, true>(p, part, b, tile, rank);
    else
        store_tile<bf16, M, C, BLOCKS, false>(p, part, b, tile, rank);
}

/* A CTA's only tile: its sums lie where its weights were, and all CTAs of the cluster add up and store a
 * share of the rows. */
template <int M, bool F32, int BLOCKS>
__device__ __forceinline__ void store_whole(const params &p, const float (&acc)[BLOCKS][M / 2], float *part,
                                            const bars &b, int tile, int rank)
{
    bar_sync(BAR_COMPUTE, N_COMPUTE);
#pragma unroll
    for (int c = 0; c < M / 8; c++)
        put_sums<M, BLOCKS>(p, acc, smem_u32(part + c * 8 * (p.tile_rows + PAD)), c);
    if (p.cluster == 1) {
        bar_sync(BAR_COMPUTE, N_COMPUTE);
        store_parts<M, F32, BLOCKS, 1>(p, part, b, tile, rank);
    } else {
        release_smem();
        cluster_arrive();
        cluster_wait();
        store_parts<M, F32, BLOCKS, 2>(p, part, b, tile, rank);
        cluster_wait();
    }
}

template <int M, bool F32, int BLOCKS>
__device__ void compute_units(unsigned char *ring, bars &b, const params &p, const share &s, int rank)
{
    const int group = threadIdx.x / 128, lane = threadIdx.x % 32, w_bytes = p.tile_rows * TILE_K * 2,
              stage_bytes = w_bytes + M * TILE_K * 2;
    float acc[BLOCKS][M / 2];
    int st = 0, phase = 0;
    grid_wait(); /* an earlier kernel may still read y */
    if (p.sum_in) find_scales<M>(p, b);
    for (int tile = s.tile0; tile < s.tile1; tile++) {
#pragma unroll
        for (int k = 0; k < BLOCKS * M / 2; k++) acc[k / (M / 2)][k % (M / 2)] = 0;
        for (int u = s.unit0; u < s.unit1; u++) {
            mbar_wait(&b.full[st], (uint32_t)phase);
            unsigned char *at = ring + st * stage_bytes;
            uint64_t w = wgmma_desc(at + group * BLOCKS * BLOCK_N * TILE_K * 2, 0),
                     x = wgmma_desc(at + w_bytes, 0);
#pragma unroll
            for (int j = 0; j < BLOCKS; j++) pin(acc[j]);
            wgmma_fence();
#pragma unroll
            for (int k = 0; k < TILE_K / 16; k++)
#pragma unroll
                for (int j = 0; j < BLOCKS; j++)
                    wgmma_ss(acc[j], w + j * (BLOCK_N * TILE_K * 2 / 16) + 2 * k, x + 2 * k, 1);
            wgmma_commit();
            wgmma_wait<0>();
#pragma unroll
            for (int j = 0; j < BLOCKS; j++) pin(acc[j]);
            __syncwarp();
            if (lane == 0) mbar_arrive(&b.empty[st]);
            if (++st == p.n_stage) st = 0, phase ^= 1;
        }
        if (p.tile_per_cluster == 1) {
            store_whole<M, F32, BLOCKS>(p, acc, (float *)ring, b, tile, rank);
            return;
        }
        if constexpr (F32) store_direct<M, BLOCKS>(p, acc, b, tile);
    }
}

/* BLOCKS: of 64 rows that a warpgroup multiplies. */
template <int M, bool F32, int BLOCKS>
__global__ void __maxnreg__(regs_most(M, BLOCKS))
    gemm_small_kernel(const __grid_constant__ CUtensorMap map_w, const __grid_constant__ CUtensorMap map_x,
                      const params p)
{
    extern __shared__ __align__(1024) unsigned char raw[];
    unsigned char *ring = (unsigned char *)((uintptr_t)(raw + 1023) & ~(uintptr_t)1023);
    bars &b = *(bars *)(ring + p.bars_at);
    const int rank = (int)cluster_rank(), cluster = (int)blockIdx.x / p.cluster;
    if (threadIdx.x == N_COMPUTE) {
        tma_prefetch_map(&map_w);
        tma_prefetch_map(&map_x);
    }
    if (threadIdx.x == 0) {
        for (int i = 0; i < p.n_stage; i++) {
            mbar_init(&b.full[i], 1);
            mbar_init(&b.empty[i], 4 * N_GROUP);
        }
        fence_mbar_init();
    }
    __syncthreads();
    const int tile0 = p.tile_first + cluster * p.tile_per_cluster;
    share s = {tile0, min(p.n_tile, tile0 + p.tile_per_cluster), rank * p.n_unit_k / p.cluster,
               (rank + 1) * p.n_unit_k / p.cluster};
    if (threadIdx.x < N_COMPUTE) {
        compute_units<M, F32, BLOCKS>(ring, b, p, s, rank);
        return;
    }
    if (threadIdx.x >= THREADS)
        grid_wait(); /* all of the grid is placed by then */
    else if (threadIdx.x % 32 == 0)
        load_units<M>(ring, b, p, &map_w, &map_x, s, ((int)threadIdx.x - N_COMPUTE) / 32);
    __syncwarp();
    if (p.cluster > 1)
        for (int i = 0; i < 2;
             i++) { /* as the computing warps do: once the parts lie there, once they are read */
            cluster_arrive();
            cluster_wait();
        }
}

struct plan {
    int cluster, tile_rows, tile_n, n_tile, tile_per_cluster;
};

/* How a product is cut: by the weight's shape alone. A cluster of two if its one tile is not too tall; else
 * one CTA, and if need be several tiles. */
static plan plan_of(int n_sm, int n, int gated)
{
    const int most = TILE_N / (1 + gated);
    plan p;
    p.cluster = n <= n_sm / 2 * most ? 2 : 1;
    const int n_cluster = n_sm / p.cluster;
    p.tile_per_cluster = (n + n_cluster * most - 1) / (n_cluster * most);
    p.tile_n = ((n + n_cluster * p.tile_per_cluster - 1) / (n_cluster * p.tile_per_cluster) + 7) / 8 * 8;
    p.tile_rows = p.tile_n * (1 + gated);
    p.n_tile = (n + p.tile_n - 1) / p.tile_n;
    return p;
}

int gemm_small_tiles(int n_sm, int n) { return plan_of(n_sm, n, 0).n_tile; }

/* Shared memory, of `most` bytes: the ring, barriers; sums lie in the ring. Returns the bytes. */
static int plan_smem(params *p, int m, int blocks, int most)
{
    const int stage = (p->tile_rows + m) * TILE_K * 2, sums = m * (p->tile_rows + PAD) * 4,
              room = most - 1024 - (int)sizeof(bars);
    const int read = blocks * N_GROUP * BLOCK_N * TILE_K *
                     2; /* products read blocks whole, also where a tile's rows end before */
    p->n_stage = room / stage < STAGES_MOST ? room / stage : STAGES_MOST;
    while (p->n_stage > 1 && (p->n_stage - 1) * stage + read > room) p->n_stage--;
    const int ring = (p->n_stage - 1) * stage + (read > stage ? read : stage);
    p->bars_at = (ring > sums ? ring : sums) + 15 & ~15;
    return 1024 + p->bars_at + (int)sizeof(bars);
}

/* Threads of a CTA of the second kind: warps that only wait, until no two fit on an SM where one of the first
 * kind still does, whose threads have regs_first registers. Warps are spread evenly over the quarters of an
 * SM and of its registers, of which a thread takes a multiple of eight. */
static int threads_second(int regs, int regs_first)
{
    const int quarter = SM_REGS / 4 / 32, own = (regs + 7) / 8 * 8, warps = quarter / own / 2 + 1,
              first = (THREADS / 32 + 3) / 4;
    return warps * own + first * regs_first <= quarter ? warps * 4 * 32 : THREADS;
}

/* What all shapes of the kernel are told; y_f32 is F32 of the one that runs. */
static params params_of(const gemm_args *a, const gemm_more *more, const gemm_gpu *g, const plan &cut)
{
    const bool gated = more && more->gated;
    const int n = gated ? a->w->n / 2 : a->w->n;
    params p = {};
    p.y = a->y;
    p.bias = (const bf16 *)a->bias;
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
        p.sum_vec = p.n_sum_in % 4 == 0 && (uintptr_t)p.sum_in % 16 == 0;
    }
    if (more && more->sum_out) {
        p.sum_out = more->sum_out;
        p.normed = (bf16 *)more->normed;
        p.norm = (const bf16 *)more->norm;
        p.vec = p.vec && (uintptr_t)p.normed % 8 == 0 && (uintptr_t)p.norm % 8 == 0;
    }
    p.n_unit_k = (a->w->k + TILE_K - 1) / TILE_K;
    p.cluster = cut.cluster;
    p.tile_per_cluster = a->y_f32 ? cut.tile_per_cluster : 1;
    p.tile_rows = cut.tile_rows;
    p.tile_n = cut.tile_n;
    p.n_tile = cut.n_tile;
    p.lead = (LEAD_BYTES - 1) / (p.tile_rows * TILE_K * 2) + 1;
    p.lead = p.lead > 2 ? p.lead : 2;
    return p;
}

template <int M, bool F32, int BLOCKS>
static enum err launch_as(const gemm_args *a, const gemm_more *more, gemm_gpu *g, const plan &cut)
{
    const bool gated = more && more->gated;
    params p = params_of(a, more, g, cut);
    const bool several = p.tile_per_cluster > 1, second = more && more->second;
    const int room = several  ? SMEM_MOST
                     : second ? SMEM_SECOND
                              : SMEM_FIRST,
              bytes = plan_smem(&p, M, BLOCKS, room);
    CUtensorMap map_w, map_x;
    enum err e = tensor_map_2d(&map_w, a->w->data, a->w->n, a->w->k, a->w->k, p.tile_n);
    if (e == OK) e = tensor_map_2d(&map_x, a->x, a->n_tok, a->w->k, a->x_stride, M);
    if (e != OK) return e;
    auto *kernel = gemm_small_kernel<M, F32, BLOCKS>;
    const int regs = kernel_regs(g, GEMM_KERNEL_BF16 + (kernel_rows(M) * 2 + F32) * 2 + BLOCKS - 1, kernel,
                                 SMEM_MOST, true);
    if (!regs) return ERR_DEVICE;
    cudaLaunchAttribute attr[2] = {};
    attr[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attr[0].val.programmaticStreamSerializationAllowed = 1;
    attr[1].id = cudaLaunchAttributeClusterDimension;
    attr[1].val.clusterDim.x = (unsigned)p.cluster;
    attr[1].val.clusterDim.y = 1;
    attr[1].val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.blockDim = dim3((unsigned)(second && !several ? threads_second(regs, regs_most(M, gated ? 1 : 2))
                                                         : THREADS)); /* after gates come low tiles */
    config.dynamicSmemBytes = (size_t)(second ? bytes : room);
    config.stream = g->stream;
    config.attrs = attr;
    config.numAttrs = 2;
    const int n_cluster = (p.n_tile + cut.tile_per_cluster - 1) / cut.tile_per_cluster;
    for (; p.tile_first < p.n_tile; p.tile_first += n_cluster * p.tile_per_cluster) {
        const int n = (p.n_tile - p.tile_first + p.tile_per_cluster - 1) / p.tile_per_cluster;
        config.gridDim = dim3((unsigned)((n < n_cluster ? n : n_cluster) * p.cluster));
        if (cudaLaunchKernelEx(&config, kernel, map_w, map_x, p) != cudaSuccess) return ERR_DEVICE;
    }
    return OK;
}

template <int M, bool F32>
static enum err launch_blocks(const gemm_args *a, const gemm_more *more, gemm_gpu *g)
{
    const bool gated = more && more->gated;
    const plan cut = plan_of(g->n_sm, gated ? a->w->n / 2 : a->w->n, gated);
    return cut.tile_rows <= N_GROUP * BLOCK_N ? launch_as<M, F32, 1>(a, more, g, cut)
                                              : launch_as<M, F32, 2>(a, more, g, cut);
}

template <int M> static enum err launch(const gemm_args *a, const gemm_more *more, gemm_gpu *g)
{
    return a->y_f32 ? launch_blocks<M, true>(a, more, g) : launch_blocks<M, false>(a, more, g);
}

enum err gemm_small_sm90(const struct gemm_args *a, const struct gemm_more *more, struct gemm_gpu *g)
{
    const struct weight *w = a->w;
    if (a->n_tok < 1 || a->n_tok > GEMM_SMALL_MAX_TOK || w->dt != DT_BF16 || !w->data || w->n < 1 ||
        w->k < 8 || w->k % 8 || a->x_stride % 8 || g->n_sm < 2)
        return ERR_INVALID_VALUE;
    if (more &&
        ((more->gated && (w->n % 2 || a->y_f32 || a->add || more->sum_out)) || (more->sum_out && a->y_f32)))
        return ERR_INVALID_VALUE;
    if (a->n_tok <= 8) return launch<8>(a, more, g);
    if (a->n_tok <= 16) return launch<16>(a, more, g);
    return a->n_tok <= 32 ? launch<32>(a, more, g) : launch<64>(a, more, g);
}
