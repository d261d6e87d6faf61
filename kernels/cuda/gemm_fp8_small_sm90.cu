/* gemm_fp8_small: y[T, N] = x[T, K] w[N, K]^T of codes of 8 bits for few rows of x, where the time is the
 * weights' bytes.
 *
 * Cut, loads and ends are those of the bf16 product (gemm_small_sm90.cu): weights are the 64-row operand of
 * wgmma, a CTA or a cluster of two takes a tile of the weight, the next product's loads begin while this one
 * ends. What differs: the tensor cores add e4m3 products up with 14 bits or so, so the sums of each 128
 * columns are taken from them and added in fp32; there the scales of blocks are multiplied in, those of rows
 * at the end. A warpgroup has 64 rows of the tile, so that a thread's
 * sums leave room for the next product's CTA. */
#include "kernels/cuda/fp8.cuh"
#include "kernels/cuda/fp8_gpu.h"
#include "kernels/cuda/gemm_small.cuh"
#include "kernels/cuda/tensor_map.h"

#include <cuda_runtime.h>

enum {
    TILE_K = FP8_BLOCK,
    ROW_BYTES = TILE_K,
    BLOCK_N = 64,
    HIGH_MOST = 4,
    TILE_N = 224, /* rows of a tile at most */
    N_LOAD = 2,
    BAR_COMPUTE = 1,
    STAGES_MOST = 16,
    PAD = 4, /* floats behind a row of sums: lanes of a fragment meet every bank once */
    SMEM_FIRST = 116 * 1024,
    SMEM_SECOND = 110 * 1024, /* with the 1 KiB that every CTA takes besides, an SM's 228 KiB */
    SM_REGS = 64 * 1024,
    LEAD_BYTES = 32 * 1024, /* of weights left to load when the next kernel is let in, two loads at least */
    ROW_BLOCKS = 4,         /* of FP8_BLOCK rows of the weight that a tile meets at most */
};
static_assert(TILE_N <= BLOCK_N * HIGH_MOST && (TILE_N + FP8_BLOCK - 2) / FP8_BLOCK + 1 <= ROW_BLOCKS &&
                  2 * ((TILE_N / 2 + FP8_BLOCK - 2) / FP8_BLOCK + 1) <= ROW_BLOCKS,
              "a tile");

/* HIGH in templates: blocks of 64 rows in a tile, a warpgroup each; one block has two, each for every second
 * of the units of columns. */
__host__ __device__ static constexpr int groups_of(int high) { return high == 1 ? 2 : high; }
__host__ __device__ static constexpr int sums_of(int high)
{
    return high == 1 ? 2 : 1;
} /* of a row in a CTA */
/* Registers of a thread: as few as leave room for a CTA beside one of the second kind; 64 rows with scales by
 * block take too many for that. */
static constexpr int regs_most(int m, bool block) { return m <= 16 ? 56 : m == 32 ? 64 : block ? 96 : 72; }
__host__ __device__ static constexpr int threads_of(int high) { return 128 * groups_of(high) + 32 * N_LOAD; }

/* In shared memory behind the ring; by block the scales follow: of w [ROW_BLOCKS][units], of x [units][M]. */
struct ends {
    uint64_t full[STAGES_MOST], empty[STAGES_MOST];
    float x_scale[GEMM_SMALL_MAX_TOK], w_scale[TILE_N];
};

struct params {
    void *y;
    const bf16 *bias;
    const float *x_scale, *w_scale;
    int64_t y_stride, x_scale_stride, w_scale_stride;
    int n_tok, n, add, vec, gated, y_f32; /* n: columns of y; vec: four columns at a time */
    int n_unit_k, cluster, tile_rows, tile_n, n_tile, tile_first; /* tile_n: columns of y in a tile */
    int n_stage, lead,
        ends_at; /* lead: loads left when the next kernel is let in; bytes from the ring's begin */
};

/* Of the tile's row r: its row in the weight, and which of the tile's row blocks that is in. */
__device__ __forceinline__ int weight_row(const params &p, int tile, int r)
{
    return tile * p.tile_n + (p.gated && r >= p.tile_n ? p.n - p.tile_n + r : r);
}
__device__ __forceinline__ int row_block(const params &p, int tile, int r)
{
    const int block = min(weight_row(p, tile, r), p.n * (1 + p.gated) - 1) / FP8_BLOCK;
    if (p.gated && r >= p.tile_n) return ROW_BLOCKS / 2 + block - (p.n + tile * p.tile_n) / FP8_BLOCK;
    return block - tile * p.tile_n / FP8_BLOCK;
}

template <int M>
__device__ void load_units(unsigned char *ring, ends &b, const params &p, const CUtensorMap *map_w,
                           const CUtensorMap *map_x, const share &s, int warp)
{
    const uint64_t once = l2_evict_first(), keep = l2_evict_last();
    const int w_bytes = p.tile_rows * ROW_BYTES, stage_bytes = w_bytes + M * ROW_BYTES, n = s.unit1 - s.unit0;
    auto load_w = [&](const turn<N_LOAD> &t) {
        unsigned char *to = ring + t.st * stage_bytes;
        mbar_arrive_tx(&b.full[t.st], (uint32_t)stage_bytes);
        tma_load_2d(to, map_w, &b.full[t.st], t.unit * (ROW_BYTES / 2), t.tile * p.tile_n,
                    once); /* the map counts pairs of codes */
        if (p.gated)
            tma_load_2d(to + w_bytes / 2, map_w, &b.full[t.st], t.unit * (ROW_BYTES / 2),
                        p.n + t.tile * p.tile_n, once);
    };
    auto load_x = [&](const turn<N_LOAD> &t) {
        tma_load_2d(ring + t.st * stage_bytes + w_bytes, map_x, &b.full[t.st], t.unit * (ROW_BYTES / 2), 0,
                    keep);
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

/* The weight's scales that the tile needs: before the wait for the kernel before. */
template <int HIGH, bool BLOCK>
__device__ __forceinline__ void fetch_w_scales(const params &p, ends &b, const share &s, float *w_scale_s)
{
    if (!BLOCK) {
        for (int r = threadIdx.x; r < p.tile_rows; r += 128 * groups_of(HIGH))
            b.w_scale[r] = __ldg(p.w_scale + min(weight_row(p, s.tile0, r), p.n * (1 + p.gated) - 1));
        return;
    }
    const int n = s.unit1 - s.unit0, first = s.tile0 * p.tile_n, last = (p.n * (1 + p.gated) - 1) / FP8_BLOCK;
    for (int i = threadIdx.x; i < ROW_BLOCKS * n; i += 128 * groups_of(HIGH)) {
        const int slot = i / n, up = p.gated && slot >= ROW_BLOCKS / 2,
                  block = up ? (p.n + first) / FP8_BLOCK + slot - ROW_BLOCKS / 2 : first / FP8_BLOCK + slot;
        w_scale_s[i] = __ldg(p.w_scale + min(block, last) * p.w_scale_stride + s.unit0 + i % n);
    }
}
/* x's, behind that wait; rows that x has not take part as the last one. */
template <int M, int HIGH, bool BLOCK>
__device__ __forceinline__ void fetch_x_scales(const params &p, ends &b, const share &s, float *x_scale_s)
{
    if (!BLOCK) {
        if (threadIdx.x < M) b.x_scale[threadIdx.x] = __ldcg(p.x_scale + min((int)threadIdx.x, p.n_tok - 1));
        return;
    }
    const int n = s.unit1 - s.unit0;
    for (int i = threadIdx.x; i < M * n; i += 128 * groups_of(HIGH))
        x_scale_s[i] = __ldcg(p.x_scale + (s.unit0 + i / M) * p.x_scale_stride + min(i % M, p.n_tok - 1));
}

/* Rows rank, rank + cluster, .. of a tile, which the CTA's warps take in turn, in PARTS of 128 columns, or
 * gates and what they open. The parts of a sum are added in the order of the columns of x. ROWS at once: what
 * one waits for, the others' work hides. C: CTAs of the cluster. */
template <typename T, int ROWS, int M, int C, int HIGH, int PARTS, bool GATED, bool BLOCK>
__device__ __forceinline__ void store_rows(const params &p, const float *part, const ends &b, int tile,
                                           int rank)
{
    constexpr int YS = GATED ? 1 : PARTS, S = sums_of(HIGH); /* parts of y, sums of each in a CTA */
    const int step = C * 4 * groups_of(HIGH), lane = threadIdx.x % 32 * 4, first = tile * p.tile_n,
              n_tile = min(p.tile_n, p.n - first), ld = p.tile_rows + PAD;
    int t = rank + C * (int)(threadIdx.x / 32), left[PARTS];
    uint32_t at[PARTS][C];
    T *y = (T *)p.y + t * p.y_stride + first + lane;
    four<bf16> bias[PARTS];
    four<float> w_scale[PARTS];
#pragma unroll
    for (int h = 0; h < PARTS; h++) {
        left[h] = GATED ? n_tile - lane : n_tile - h * 128 - lane;
        const int column = min(h * (GATED ? p.tile_n : 128) + lane, p.tile_rows - 4);
        const uint32_t own = smem_u32(part + t * ld + column);
#pragma unroll
        for (int i = 0; i < C; i++) at[h][i] = C == 1 ? own : map_rank(own, (uint32_t)i);
        if (!BLOCK) w_scale[h].u = *(const float4 *)(b.w_scale + column);
        if (p.bias) load_columns<false>(bias[h], p.bias + first + lane + h * (GATED ? p.n : 128), left[h]);
    }
    if (t >= p.n_tok) read_all(C);
    for (; t < p.n_tok; t += ROWS * step) {
        float4 sum[ROWS][PARTS][C * S];
        float v[ROWS][PARTS][4];
        four<T> old[ROWS][YS];
        if (p.add)
#pragma unroll
            for (int r = 0; r < ROWS; r++)
#pragma unroll
                for (int h = 0; h < YS; h++)
                    if (t + r * step < p.n_tok)
                        load_columns<true>(old[r][h], y + r * step * p.y_stride + h * 128, left[h]);
#pragma unroll
        for (int r = 0; r < ROWS; r++) /* the tile has sums for rows that x has not, too */
#pragma unroll
            for (int h = 0; h < PARTS; h++)
#pragma unroll
                for (int i = 0; i < C * S; i++) {
                    const uint32_t from = at[h][i / S] + (uint32_t)((r * step + i % S * M) * ld * 4);
                    sum[r][h][i] = C == 1 ? load_own(from) : load_at(from);
                }
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
            for (int h = 0; h < PARTS; h++) {
                float4 s = sum[r][h][0];
#pragma unroll
                for (int i = 1; i < C * S; i++)
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
            if (!BLOCK) {
                const float x_scale = b.x_scale[t + r * step];
#pragma unroll
                for (int h = 0; h < PARTS; h++) {
                    float w[4];
                    w_scale[h].get(w);
#pragma unroll
                    for (int i = 0; i < 4; i++)
                        v[r][h][i] = __fmul_rn(__fmul_rn(v[r][h][i], x_scale),
                                               w[i]); /* its bits do not depend on what is added */
                }
            }
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
                store_columns<true>(y + r * step * p.y_stride + h * 128, v[r][h], left[h]);
        }
        y += ROWS * step * p.y_stride;
#pragma unroll
        for (int h = 0; h < PARTS; h++)
#pragma unroll
            for (int i = 0; i < C; i++) at[h][i] += (uint32_t)(ROWS * step * ld * 4);
    }
}

/* The same, number by number: tiles at the weight's end, rows of y that do not begin at 16 bytes. */
template <typename T, int M, int HIGH, bool BLOCK>
__device__ __noinline__ void store_odd(const params &p, const float *part, const ends &b, int tile, int rank)
{
    constexpr int S = sums_of(HIGH);
    const int first = tile * p.tile_n, n_tile = min(p.tile_n, p.n - first), ld = p.tile_rows + PAD;
    for (int i = threadIdx.x;; i += 128 * groups_of(HIGH)) {
        const int t = rank + p.cluster * (i / n_tile), column = i % n_tile;
        float v[2] = {};
        if (t >= p.n_tok) break;
        for (int h = 0; h <= p.gated; h++) {
            const int row = h * p.tile_n + column;
            const uint32_t own = smem_u32(part + t * ld + row);
            for (int k = 0; k < p.cluster * S; k++) {
                float x;
                asm volatile("ld.shared::cluster.f32 %0, [%1];"
                             : "=f"(x)
                             : "r"(map_rank(own, (uint32_t)(k / S)) + (uint32_t)(k % S * M * ld * 4))
                             : "memory");
                v[h] = k ? v[h] + x : x;
            }
            if (!BLOCK) v[h] = __fmul_rn(__fmul_rn(v[h], b.x_scale[t]), b.w_scale[row]);
            if (p.bias) v[h] += __bfloat162float(p.bias[h * p.n + first + column]);
        }
        T *y = (T *)p.y + t * p.y_stride + first + column;
        if (p.gated) v[0] = open_gate(v[0], v[1]);
        if (p.add) v[0] += to_f32(*y);
        *y = four<T>::one(v[0]);
    }
    __syncwarp();
    read_all(p.cluster);
}

template <typename T, int M, int HIGH, bool BLOCK, int C, int PARTS, bool GATED>
__device__ __forceinline__ void store_tile(const params &p, const float *part, const ends &b, int tile,
                                           int rank)
{
    constexpr int OF_WARP = M / (4 * groups_of(HIGH)) > C ? M / (4 * groups_of(HIGH)) / C : 1,
                  ROOM = 4 / (C * sums_of(HIGH) * PARTS), MOST = ROOM > 0 ? ROOM : 1;
    store_rows<T, (OF_WARP < MOST ? OF_WARP : MOST), M, C, HIGH, PARTS, GATED, BLOCK>(p, part, b, tile, rank);
}
template <int M, int HIGH, bool BLOCK, int C>
__device__ __forceinline__ void store_parts(const params &p, const float *part, const ends &b, int tile,
                                            int rank)
{
    const bool odd = !p.vec || (tile + 1) * p.tile_n > p.n;
    if (p.y_f32 && odd)
        store_odd<float, M, HIGH, BLOCK>(p, part, b, tile, rank);
    else if (p.y_f32)
        store_tile<float, M, HIGH, BLOCK, C, (HIGH + 1) / 2, false>(p, part, b, tile, rank);
    else if (odd)
        store_odd<bf16, M, HIGH, BLOCK>(p, part, b, tile, rank);
    else if (p.gated)
        store_tile<bf16, M, HIGH, BLOCK, C, 2, true>(p, part, b, tile, rank);
    else
        store_tile<bf16, M, HIGH, BLOCK, C, (HIGH + 1) / 2, false>(p, part, b, tile, rank);
}

/* The tile's sums lie where its weights were, [sum][row of y][row of the tile], and all CTAs of the cluster
 * add up and store a share of the rows. */
template <int M, int HIGH, bool BLOCK>
__device__ __forceinline__ void store_whole(const params &p, const float (&acc)[M / 2], float *part,
                                            const ends &b, int tile, int rank)
{
    const int lane = threadIdx.x % 32, ld = (p.tile_rows + PAD) * 4, group = threadIdx.x / 128;
    const int row = group % HIGH * BLOCK_N + threadIdx.x % 128 / 32 * 16 + lane / 4;
    const uint32_t to = smem_u32(part) + group / HIGH * M * ld + lane % 4 * 2 * ld + row * 4;
    bar_sync(BAR_COMPUTE, 128 * groups_of(HIGH));
#pragma unroll
    for (int c = 0; c < M / 8; c++)
#pragma unroll
        for (int k = 0; k < 4; k++)
            if (row + k / 2 * 8 < p.tile_rows)
                store_at(to + (8 * c + k % 2) * ld + k / 2 * 32, acc[4 * c + k]);
    if (p.cluster == 1) {
        bar_sync(BAR_COMPUTE, 128 * groups_of(HIGH));
        store_parts<M, HIGH, BLOCK, 1>(p, part, b, tile, rank);
    } else {
        release_smem();
        cluster_arrive();
        cluster_wait();
        store_parts<M, HIGH, BLOCK, 2>(p, part, b, tile, rank);
        cluster_wait();
    }
}

template <int M, int HIGH, bool BLOCK>
__device__ void compute_units(unsigned char *ring, ends &b, const params &p, const share &s, int rank)
{
    constexpr int PART_M = M < 32 ? M : 32,
                  N_PART = M / PART_M; /* columns that the tensor cores add up at once */
    const int group = threadIdx.x / 128, lane = threadIdx.x % 32, w_bytes = p.tile_rows * ROW_BYTES,
              stage_bytes = w_bytes + M * ROW_BYTES, n = s.unit1 - s.unit0;
    float *w_scale_s = (float *)(&b + 1), *x_scale_s = w_scale_s + ROW_BLOCKS * n;
    float acc[M / 2];
    int st = group / HIGH, phase = 0, slot[2] = {};
    if (BLOCK)
#pragma unroll
        for (int h = 0; h < 2; h++)
            slot[h] =
                row_block(p, s.tile0,
                          min(group % HIGH * BLOCK_N + (int)threadIdx.x % 128 / 32 * 16 + lane / 4 + 8 * h,
                              p.tile_rows - 1)) *
                n;
    fetch_w_scales<HIGH, BLOCK>(p, b, s, w_scale_s);
    grid_wait(); /* an earlier kernel may still read y */
    fetch_x_scales<M, HIGH, BLOCK>(p, b, s, x_scale_s);
    bar_sync(BAR_COMPUTE, 128 * groups_of(HIGH));
#pragma unroll
    for (int k = 0; k < M / 2; k++) acc[k] = 0;
    for (int u = group / HIGH; u < n; u += sums_of(HIGH)) {
        mbar_wait(&b.full[st], (uint32_t)phase);
        unsigned char *at = ring + st * stage_bytes;
        const uint64_t w = wgmma_desc(at + group % HIGH * BLOCK_N * ROW_BYTES, 0),
                       x = wgmma_desc(at + w_bytes, 0);
#pragma unroll
        for (int h = 0; h < N_PART; h++) {
            float part[PART_M / 2];
            pin(part);
            wgmma_fence();
#pragma unroll
            for (int k = 0; k < TILE_K / 32; k++)
                wgmma_fp8(part, w + 2 * k, x + h * (PART_M * ROW_BYTES / 16) + 2 * k, k > 0);
            wgmma_commit();
            wgmma_wait<0>();
            pin(part);
            if (h == N_PART - 1) {
                __syncwarp();
                if (lane == 0) mbar_arrive(&b.empty[st]);
            }
#pragma unroll
            for (int c = 0; c < PART_M / 8; c++) {
                if (!BLOCK) {
#pragma unroll
                    for (int k = 0; k < 4; k++) acc[h * (PART_M / 2) + 4 * c + k] += part[4 * c + k];
                    continue;
                }
                const float2 xs = *(const float2 *)(x_scale_s + u * M + h * PART_M + 8 * c + lane % 4 * 2);
#pragma unroll
                for (int k = 0; k < 4; k++)
                    acc[h * (PART_M / 2) + 4 * c + k] =
                        fmaf(part[4 * c + k], (k % 2 ? xs.y : xs.x) * w_scale_s[slot[k / 2] + u],
                             acc[h * (PART_M / 2) + 4 * c + k]);
            }
        }
        st += sums_of(HIGH);
        while (st >= p.n_stage) st -= p.n_stage, phase ^= 1;
    }
    store_whole<M, HIGH, BLOCK>(p, acc, (float *)ring, b, s.tile0, rank);
}

template <int M, int HIGH, bool BLOCK>
__global__ void __maxnreg__(regs_most(M, BLOCK))
    gemm_fp8_small_kernel(const __grid_constant__ CUtensorMap map_w,
                          const __grid_constant__ CUtensorMap map_x, const __grid_constant__ params p)
{
    extern __shared__ __align__(1024) unsigned char raw[];
    unsigned char *ring = (unsigned char *)((uintptr_t)(raw + 1023) & ~(uintptr_t)1023);
    ends &b = *(ends *)(ring + p.ends_at);
    const int rank = (int)cluster_rank(), tile = p.tile_first + (int)blockIdx.x / p.cluster;
    if (threadIdx.x == 128 * groups_of(HIGH)) {
        tma_prefetch_map(&map_w);
        tma_prefetch_map(&map_x);
    }
    if (threadIdx.x == 0) {
        for (int i = 0; i < p.n_stage; i++) {
            mbar_init(&b.full[i], 1);
            mbar_init(&b.empty[i], 4 * HIGH); /* of a unit */
        }
        fence_mbar_init();
    }
    __syncthreads();
    share s = {tile, tile + 1, rank * p.n_unit_k / p.cluster, (rank + 1) * p.n_unit_k / p.cluster};
    if (threadIdx.x < 128 * groups_of(HIGH)) {
        compute_units<M, HIGH, BLOCK>(ring, b, p, s, rank);
        return;
    }
    if (threadIdx.x >= threads_of(HIGH))
        grid_wait(); /* all of the grid is placed by then */
    else if (threadIdx.x % 32 == 0)
        load_units<M>(ring, b, p, &map_w, &map_x, s, ((int)threadIdx.x - 128 * groups_of(HIGH)) / 32);
    __syncwarp();
    if (p.cluster > 1)
        for (int i = 0; i < 2;
             i++) { /* as the computing warps do: once the parts lie there, once they are read */
            cluster_arrive();
            cluster_wait();
        }
}

/* How a product is cut: by the weight's shape alone. A cluster of two if its one tile is not too tall; else
 * one CTA, and if need be several launches. */
static void plan(params *p, int n_sm, int *n_launch)
{
    const int most = TILE_N / (1 + p->gated);
    p->cluster = p->n <= n_sm / 2 * most ? 2 : 1;
    const int n_cluster = n_sm / p->cluster;
    *n_launch = (p->n + n_cluster * most - 1) / (n_cluster * most);
    p->tile_n = ((p->n + n_cluster * *n_launch - 1) / (n_cluster * *n_launch) + 7) / 8 * 8;
    p->tile_rows = p->tile_n * (1 + p->gated);
    p->n_tile = (p->n + p->tile_n - 1) / p->tile_n;
}

/* Shared memory, of `most` bytes: the ring, barriers, scales; sums lie in the ring. Returns the bytes; 0:
 * there is no room. */
static int plan_smem(params *p, int m, int high, bool block, int most)
{
    const int units = (p->n_unit_k + p->cluster - 1) / p->cluster,
              behind = (int)sizeof(ends) + (block ? units * (ROW_BLOCKS + m) * 4 : 0);
    const int stage = (p->tile_rows + m) * ROW_BYTES, sums = sums_of(high) * m * (p->tile_rows + PAD) * 4,
              room = most - 1024 - behind;
    const int read =
        high * BLOCK_N * ROW_BYTES; /* products read blocks whole, also where a tile's rows end before */
    p->n_stage = room / stage < STAGES_MOST ? room / stage : STAGES_MOST;
    while (p->n_stage > 1 && (p->n_stage - 1) * stage + read > room) p->n_stage--;
    if (high == 1 && p->n_stage > 1)
        p->n_stage -= p->n_stage % 2; /* a stage is one warpgroup's: the other would take its full barrier's
                                         next phase for the one before */
    const int ring = (p->n_stage - 1) * stage + (read > stage ? read : stage);
    p->ends_at = (ring > sums ? ring : sums) + 15 & ~15;
    return p->n_stage < sums_of(high) || p->ends_at > room ? 0 : 1024 + p->ends_at + behind;
}

/* Threads of a CTA of the second kind: warps that only wait, until no two fit on an SM where one of the first
 * kind still does. Warps are spread evenly over the quarters of an SM and of its registers, of which a thread
 * takes a multiple of eight. */
static int threads_second(int threads, int regs, int first_warps, int first_regs)
{
    const int quarter = SM_REGS / 4 / 32, own = (regs + 7) / 8 * 8, warps = quarter / own / 2 + 1,
              first = (first_warps + 3) / 4;
    return warps * 4 * 32 >= threads && warps * own + first * first_regs <= quarter ? warps * 4 * 32
                                                                                    : threads;
}

template <int M, int HIGH, bool BLOCK>
static enum err launch_as(const gemm_fp8_args *a, gemm_gpu *g, params p, int n_launch)
{
    auto *kernel = gemm_fp8_small_kernel<M, HIGH, BLOCK>;
    const int room = a->second ? SMEM_SECOND : SMEM_FIRST, bytes = plan_smem(&p, M, HIGH, BLOCK, room);
    CUtensorMap map_w, map_x; /* pairs of codes are what the maps have numbers of 16 bits for */
    if (bytes == 0) return ERR_INVALID_VALUE;
    enum err e = tensor_map_2d(&map_w, a->w, a->n, a->k / 2, a->k / 2, p.tile_n);
    if (e == OK) e = tensor_map_2d(&map_x, a->x, a->n_tok, a->k / 2, a->x_stride / 2, M);
    if (e != OK) return e;
    const int regs = kernel_regs(g, GEMM_KERNEL_FP8 + (kernel_rows(M) * 4 + HIGH - 1) * 2 + BLOCK, kernel,
                                 SMEM_FIRST, true);
    if (!regs) return ERR_DEVICE;
    cudaLaunchAttribute attr[2] = {};
    attr[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attr[0].val.programmaticStreamSerializationAllowed = 1;
    attr[1].id = cudaLaunchAttributeClusterDimension;
    attr[1].val.clusterDim.x = (unsigned)p.cluster;
    attr[1].val.clusterDim.y = 1;
    attr[1].val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    /* Beside it on an SM: a product of two groups; gates, of three, are of the second kind where rows are
     * many. */
    config.blockDim = dim3((unsigned)(a->second ? threads_second(threads_of(HIGH), regs,
                                                                 threads_of(a->gated || M > 16 ? 2 : 3) / 32,
                                                                 regs_most(M, BLOCK))
                                                : threads_of(HIGH)));
    config.dynamicSmemBytes = (size_t)(a->second ? bytes : room);
    config.stream = g->stream;
    config.attrs = attr;
    config.numAttrs = 2;
    const int of_launch = (p.n_tile + n_launch - 1) / n_launch;
    for (; p.tile_first < p.n_tile; p.tile_first += of_launch) {
        const int n = p.n_tile - p.tile_first;
        config.gridDim = dim3((unsigned)((n < of_launch ? n : of_launch) * p.cluster));
        if (cudaLaunchKernelEx(&config, kernel, map_w, map_x, p) != cudaSuccess) return ERR_DEVICE;
    }
    return OK;
}

template <int M, int HIGH>
static enum err launch_scales(const gemm_fp8_args *a, gemm_gpu *g, const params &p, int n_launch)
{
    return a->block ? launch_as<M, HIGH, true>(a, g, p, n_launch)
                    : launch_as<M, HIGH, false>(a, g, p, n_launch);
}
template <int M> static enum err launch(const gemm_fp8_args *a, gemm_gpu *g, const params &p, int n_launch)
{
    if (p.tile_rows <= BLOCK_N) return launch_scales<M, 1>(a, g, p, n_launch);
    if (p.tile_rows <= 2 * BLOCK_N) return launch_scales<M, 2>(a, g, p, n_launch);
    return p.tile_rows <= 3 * BLOCK_N ? launch_scales<M, 3>(a, g, p, n_launch)
                                      : launch_scales<M, 4>(a, g, p, n_launch);
}

enum err gemm_fp8_small_sm90(const struct gemm_fp8_args *a, struct gemm_gpu *g)
{
    params p = {};
    int n_launch = 0;
    if (a->n_tok < 1 || a->n_tok > GEMM_SMALL_MAX_TOK || a->n < 1 || a->k < 16 || a->k % 16 ||
        a->x_stride % 16 || a->x_stride < a->k || g->n_sm < 2 ||
        (a->gated && (a->n % 2 || a->y_f32 || a->add)) ||
        (a->block && (a->x_scale_stride < a->n_tok || a->w_scale_stride < fp8_groups(a->k))))
        return ERR_INVALID_VALUE;
    p.y = a->y;
    p.bias = (const bf16 *)a->bias;
    p.x_scale = a->x_scale;
    p.w_scale = a->w_scale;
    p.y_stride = a->y_stride;
    p.n_tok = a->n_tok;
    p.n = a->gated ? a->n / 2 : a->n;
    p.x_scale_stride = a->x_scale_stride;
    p.w_scale_stride = a->w_scale_stride;
    p.add = a->add;
    p.gated = a->gated;
    p.y_f32 = a->y_f32;
    p.vec = p.n % 4 == 0 && a->y_stride % 4 == 0 && (uintptr_t)a->y % 16 == 0;
    p.n_unit_k = fp8_groups(a->k);
    plan(&p, g->n_sm, &n_launch);
    p.lead = (LEAD_BYTES - 1) / (p.tile_rows * ROW_BYTES) + 1;
    p.lead = p.lead > 2 ? p.lead : 2;
    if (a->n_tok <= 8) return launch<8>(a, g, p, n_launch);
    if (a->n_tok <= 16) return launch<16>(a, g, p, n_launch);
    return a->n_tok <= 32 ? launch<32>(a, g, p, n_launch) : launch<64>(a, g, p, n_launch);
}
