/* choose_gpu: see choose_gpu.h. Three moves: scores of (row of groups, key block), fp32 in work; their
 * softmax and sum over the query block; the smallest set of best blocks that reaches the threshold, by
 * bisection over the scores' bits.
 *
 * For xattn a query block of a head is eight rows of 16 K numbers (its groups, each turned around) and a
 * page's keys are eight more, so the scores are one product whose rows are the query blocks of all heads of a
 * kv head. */
#include "kernels/cuda/choose_gpu.h"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/sm90.cuh"

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <math.h>

enum {
    GROUP = 16, /* rows of an antidiagonal (stride of xattn) */
    GROUPS = PAGE_TOK / GROUP,
    THREADS = 256,
    TILE = 128, /* rows and columns of a tile of the bf16 product: 16 query blocks, 16 pages */
    CHUNK = 64, /* numbers of the sum at a time */
    STAGES = 3,
    SMEM_BYTES = STAGES * 2 * TILE * CHUNK * 2,
    TILE_F32 = 64,
    CHUNK_F32 = 32,
    PICK_THREADS = 128,
    PICK_WARPS = PICK_THREADS / 32,
};
static_assert(SMEM_BYTES <= 99 << 10, "shared memory of one CTA on the smallest devices of capability 8");

/* Part of a run: query blocks block0 .. block0 + n_block - 1 of the prompt, key blocks up to the last of
 * them. */
struct part {
    const attn_seg *seg;
    const void *q, *pool;
    const int32_t *page;
    float *score, *mean; /* score: [head][n_block][n_row][n_key], log2; mean: [kv head][n_key][K] */
    uint64_t *keep;      /* of query block block0 */
    int64_t q_stride, head_stride, block_stride;
    int kind, pos0, end, block0, n_block, n_key, n_head, n_kv;
    int n_row; /* rows of scores of a query block: its groups, or one */
    float scale_log2, threshold;
};

static __device__ __forceinline__ int page_of(const part &p, int block)
{
    return (p.page ? p.page : p.seg->page)[block];
}
static __device__ __forceinline__ bool asked(const part &p) { return p.kind < 0 || p.seg->kind == p.kind; }

/* --- xattn: the product. Its sum's number 16 K: row i of the group, counted from a query group's last and a
 * key group's first. */

/* A row of the product: a group of a query block of one of the kv head's heads. */
struct query_group {
    int block, head, last; /* query block of the part; position of the group's last query, -1: no such row */

    __device__ query_group(const part &p, int kv, int row)
    {
        const int per_kv = p.n_head / p.n_kv, pair = row / GROUPS;
        block = pair / per_kv;
        head = kv * per_kv + pair % per_kv;
        last = block < p.n_block ? (p.block0 + block) * PAGE_TOK + row % GROUPS * GROUP + GROUP - 1 : -1;
    }
    /* Row i before the last one; rows that the prompt has not are for the caller to leave out. */
    template <typename T> __device__ const T *at(const part &p, int i, int K) const
    {
        return (const T *)p.q + (last - i - p.pos0) * p.q_stride + head * K;
    }
};
/* A column: a group of a key block. */
struct key_group {
    int block, first; /* position of the group's first key */
    int64_t at;       /* where it stands in the pool */

    __device__ key_group(const part &p, int kv, int block_, int group, int K)
        : block(block_), first(block_ * PAGE_TOK + group * GROUP)
    {
        at = block < p.n_key ? (((int64_t)page_of(p, block) * p.n_kv + kv) * 2 * PAGE_TOK + group * GROUP) * K
                             : -1;
    }
};

/* Log2 of the sum of exponentials over the key block's groups that lie before or at the query's; neighbours
 * in `lanes` lanes have the block's other columns. x: N columns from column col0 on. */
template <int N>
static __device__ __forceinline__ float log_sum(const float (&x)[N], int col0, int n_col, int lanes)
{
    float top = -INFINITY, sum = 0;
#pragma unroll
    for (int c = 0; c < N; c++)
        if (col0 + c < n_col) top = fmaxf(top, x[c]);
    for (int m = 1; m < lanes; m *= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, m));
#pragma unroll
    for (int c = 0; c < N; c++)
        if (col0 + c < n_col) sum += exp2f(x[c] - top);
    for (int m = 1; m < lanes; m *= 2) sum += __shfl_xor_sync(~0u, sum, m);
    return top + log2f(sum);
}
/* A score's place; NULL where there is none. */
static __device__ __forceinline__ float *score_at(const part &p, const query_group &q, int row, int key_block)
{
    if (q.last < 0 || key_block > p.block0 + q.block) return NULL;
    return p.score + (((int64_t)q.head * p.n_block + q.block) * GROUPS + row % GROUPS) * p.n_key + key_block;
}
/* Columns of the key block that count: all before the diagonal block, there those up to the row's own. */
static __device__ __forceinline__ int columns_of(const part &p, const query_group &q, int row, int key_block)
{
    return key_block == p.block0 + q.block ? row % GROUPS + 1 : (int)GROUPS;
}
/* Last query block of a tile's rows, in the prompt. */
static __device__ __forceinline__ int last_block(const part &p, int row_end)
{
    return p.block0 + min(p.n_block - 1, (row_end / GROUPS - 1) / (p.n_head / p.n_kv));
}

static __device__ __forceinline__ uint32_t at_column(int row, int col)
{
    return (uint32_t)(row * CHUNK * 2 + ((col ^ (row % 8)) << 4));
}

/* Copies of a thread: four rows of the queries' tile, four of the keys'. */
template <int K> struct loader {
    const __nv_bfloat16 *q[4], *k[4];
    int q_last[4], k_left[4];

    __device__ loader(const part &p, int kv, int row0, int block0)
    {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int row = threadIdx.x / 8 + 32 * j;
            const query_group g(p, kv, row0 + row);
            const key_group c(p, kv, block0 + row / GROUPS, row % GROUPS, K);
            q[j] = g.at<__nv_bfloat16>(p, 0, K) + threadIdx.x % 8 * 8;
            q_last[j] = g.last;
            k[j] = (const __nv_bfloat16 *)p.pool + c.at + threadIdx.x % 8 * 8;
            k_left[j] = c.at < 0 ? 0 : p.end - c.first;
        }
    }
    __device__ __forceinline__ void copy(const part &p, uint32_t stage, int step) const
    {
        const int i = step / (K / CHUNK), part0 = step % (K / CHUNK) * CHUNK;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int row = threadIdx.x / 8 + 32 * j;
            const uint32_t to = stage + at_column(row, threadIdx.x % 8);
            const bool has_q = q_last[j] >= 0 && q_last[j] - i < p.end, has_k = i < k_left[j];
            copy_async(to, has_q ? q[j] - i * p.q_stride + part0 : (const __nv_bfloat16 *)p.q,
                       has_q ? 16 : 0);
            copy_async(to + TILE * CHUNK * 2, has_k ? k[j] + i * K + part0 : (const __nv_bfloat16 *)p.pool,
                       has_k ? 16 : 0);
        }
    }
};

/* Grid (tiles of pages, tiles of rows, kv heads). A warp has 32 rows and 64 columns: eight pages. */
template <int K> __global__ void __launch_bounds__(THREADS, 2) score_bf16(const part p)
{
    extern __shared__ __align__(128) unsigned char raw[];
    const int lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 % 4 * 32,
              warp_col = threadIdx.x / 128 * 64;
    const int row0 = blockIdx.y * TILE, block0 = blockIdx.x * (TILE / GROUPS), kv = blockIdx.z,
              n_step = GROUP * K / CHUNK;
    if (!asked(p) || block0 > last_block(p, row0 + TILE)) return;
    const loader<K> load(p, kv, row0, block0);
    const uint32_t base = smem_u32(raw);
    float acc[2][8][4] = {};
    for (int s = 0; s < STAGES - 1; s++) {
        load.copy(p, base + s * (2 * TILE * CHUNK * 2), s);
        copy_commit();
    }
#pragma unroll 1
    for (int step = 0; step < n_step; step++) {
        copy_wait<STAGES - 2>();
        __syncthreads(); /* the step's tiles are there; those of the step before are done with */
        if (step + STAGES - 1 < n_step)
            load.copy(p, base + (step + STAGES - 1) % STAGES * (2 * TILE * CHUNK * 2), step + STAGES - 1);
        copy_commit();
        const uint32_t q_s = base + step % STAGES * (2 * TILE * CHUNK * 2), k_s = q_s + TILE * CHUNK * 2;
#pragma unroll
        for (int i = 0; i < CHUNK / 16; i++) {
            uint32_t q_r[2][4];
#pragma unroll
            for (int r = 0; r < 2; r++)
                ldmatrix_x4(q_r[r], q_s + at_column(warp_row + 16 * r + lane % 16, 2 * i + lane / 16));
#pragma unroll
            for (int j = 0; j < 4; j++) {
                uint32_t k_r[4];
                ldmatrix_x4(
                    k_r, k_s + at_column(warp_col + 16 * j + lane % 8 + lane / 16 * 8, 2 * i + lane / 8 % 2));
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    mma_16816(acc[r][2 * j], q_r[r], k_r[0], k_r[1]);
                    mma_16816(acc[r][2 * j + 1], q_r[r], k_r[2], k_r[3]);
                }
            }
        }
    }
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int row = row0 + warp_row + 16 * r + 8 * h + lane / 4;
            const query_group q(p, kv, row);
#pragma unroll
            for (int j = 0; j < 8; j++) {
                const int block = block0 + warp_col / GROUPS + j;
                const float x[2] = {acc[r][j][2 * h] * p.scale_log2, acc[r][j][2 * h + 1] * p.scale_log2};
                const float sum = log_sum(x, lane % 4 * 2, columns_of(p, q, row, block), 4);
                float *to = score_at(p, q, row, block);
                if (to && lane % 4 == 0) *to = sum;
            }
        }
}

/* The same in fp32 by plain multiply-adds, for --dtype f32: thread (ty, tx) of 16 x 16 has rows 4 ty .. and
 * columns 4 tx .., half a page. */
template <int K> __global__ void __launch_bounds__(THREADS) score_f32(const part p)
{
    __shared__ float q_s[TILE_F32][CHUNK_F32 + 4], k_s[TILE_F32][CHUNK_F32 + 4];
    const int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
    const int row0 = blockIdx.y * TILE_F32, block0 = blockIdx.x * (TILE_F32 / GROUPS), kv = blockIdx.z;
    if (!asked(p) || block0 > last_block(p, row0 + TILE_F32)) return;
    float acc[4][4] = {};
    for (int step = 0; step < GROUP * K / CHUNK_F32; step++) {
        const int i = step / (K / CHUNK_F32), part0 = step % (K / CHUNK_F32) * CHUNK_F32;
        __syncthreads();
        for (int x = threadIdx.x; x < TILE_F32 * CHUNK_F32 / 4; x += THREADS) {
            const int row = x / (CHUNK_F32 / 4), col = x % (CHUNK_F32 / 4) * 4;
            const query_group g(p, kv, row0 + row);
            const key_group c(p, kv, block0 + row / GROUPS, row % GROUPS, K);
            float4 q = {0, 0, 0, 0}, k = {0, 0, 0, 0};
            if (g.last >= 0 && g.last - i < p.end) q = *(const float4 *)(g.at<float>(p, i, K) + part0 + col);
            if (c.at >= 0 && c.first + i < p.end)
                k = *(const float4 *)((const float *)p.pool + c.at + i * K + part0 + col);
            *(float4 *)&q_s[row][col] = q;
            *(float4 *)&k_s[row][col] = k;
        }
        __syncthreads();
#pragma unroll 8
        for (int d = 0; d < CHUNK_F32; d++)
#pragma unroll
            for (int a = 0; a < 4; a++)
#pragma unroll
                for (int b = 0; b < 4; b++)
                    acc[a][b] = fmaf(q_s[4 * ty + a][d], k_s[4 * tx + b][d], acc[a][b]);
    }
#pragma unroll
    for (int a = 0; a < 4; a++) {
        const int row = row0 + 4 * ty + a, block = block0 + tx / 2;
        const query_group q(p, kv, row);
        for (int b = 0; b < 4; b++) acc[a][b] *= p.scale_log2;
        const float sum = log_sum(acc[a], tx % 2 * 4, columns_of(p, q, row, block), 2);
        float *to = score_at(p, q, row, block);
        if (to && tx % 2 == 0) *to = sum;
    }
}

/* --- flex: mean keys of each block, their products with the query block's mean */

static __device__ __forceinline__ float to_float(float x) { return x; }
static __device__ __forceinline__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
static __device__ __forceinline__ int rows_of(const part &p, int block)
{
    return min((int)PAGE_TOK, p.end - block * PAGE_TOK);
}

/* Grid (key blocks, kv heads), K threads. */
template <int K, typename T> __global__ void __launch_bounds__(K) key_mean(const part p)
{
    if (!asked(p)) return;
    const int n = rows_of(p, blockIdx.x), d = threadIdx.x;
    const T *k =
        (const T *)p.pool + ((int64_t)page_of(p, blockIdx.x) * p.n_kv + blockIdx.y) * 2 * PAGE_TOK * K + d;
    float sum = 0;
#pragma unroll 8
    for (int t = 0; t < n; t++) sum += to_float(k[t * K]);
    p.mean[((int64_t)blockIdx.y * p.n_key + blockIdx.x) * K + d] = sum / (float)n;
}

/* Grid (query blocks, heads). */
template <int K, typename T> __global__ void __launch_bounds__(PICK_THREADS) score_flex(const part p)
{
    __shared__ float mean_s[K];
    if (!asked(p)) return;
    const int head = blockIdx.y, block = p.block0 + blockIdx.x, n = rows_of(p, block),
              lane = threadIdx.x % 32;
    if (threadIdx.x < K) {
        const T *q = (const T *)p.q + (block * PAGE_TOK - p.pos0) * p.q_stride + head * K + threadIdx.x;
        float sum = 0;
#pragma unroll 8
        for (int t = 0; t < n; t++) sum += to_float(q[t * p.q_stride]);
        mean_s[threadIdx.x] = sum / (float)n;
    }
    __syncthreads();
    const float *mean = p.mean + (int64_t)(head / (p.n_head / p.n_kv)) * p.n_key * K;
    float *to = p.score + ((int64_t)head * p.n_block + blockIdx.x) * p.n_key;
    for (int b = threadIdx.x / 32; b <= block; b += PICK_WARPS) {
        float sum = 0;
#pragma unroll
        for (int d = lane; d < K; d += 32) sum += mean_s[d] * mean[(int64_t)b * K + d];
#pragma unroll
        for (int m = 16; m > 0; m /= 2) sum += __shfl_xor_sync(~0u, sum, m);
        if (lane == 0) to[b] = sum * p.scale_log2;
    }
}

/* --- from scores to sets */

/* Sum over the block's threads, the same in each: one fixed tree, so it never falls when a term rises. */
static __device__ __forceinline__ float block_sum(float x)
{
    __shared__ float warp_s[PICK_WARPS];
#pragma unroll
    for (int m = 16; m > 0; m /= 2) x += __shfl_xor_sync(~0u, x, m);
    if (threadIdx.x % 32 == 0) warp_s[threadIdx.x / 32] = x;
    __syncthreads();
    x = 0;
    for (int w = 0; w < PICK_WARPS; w++) x += warp_s[w];
    __syncthreads();
    return x;
}

/* Log2 of the sum of exponentials of n numbers; by one warp. */
static __device__ float row_log_sum(const float *x, int n)
{
    const int lane = threadIdx.x % 32;
    float top = -INFINITY, sum = 0;
    for (int b = lane; b < n; b += 32) top = fmaxf(top, x[b]);
#pragma unroll
    for (int m = 16; m > 0; m /= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, m));
    for (int b = lane; b < n; b += 32) sum += exp2f(x[b] - top);
#pragma unroll
    for (int m = 16; m > 0; m /= 2) sum += __shfl_xor_sync(~0u, sum, m);
    return top + log2f(sum);
}

/* Sum of the scores of blocks 1 .. n - 2 whose bits are above t. Scores are not negative, so bits are in
 * their order. */
static __device__ __forceinline__ float sum_above(const float *score, int n, uint32_t t)
{
    float sum = 0;
    for (int b = threadIdx.x; b < n - 1; b += PICK_THREADS)
        if (b > 0 && __float_as_uint(score[b]) > t) sum += score[b];
    return block_sum(sum);
}

/* The score that the last kept blocks have (its bits), and how many of those are kept; all with a better
 * score are. */
struct cut {
    uint32_t bits;
    int n;
};
static __device__ cut find_cut(const float *score, int n, float threshold)
{
    float all = 0;
    for (int b = threadIdx.x; b < n; b += PICK_THREADS) all += score[b];
    const float forced = score[0] + (n > 1 ? score[n - 1] : 0.0f), goal = threshold * block_sum(all);
    if (n <= 2 || !(forced < goal)) return {0x7f800000, 0};
    uint32_t lo = 0, hi = 0x7f800000; /* the least t at which what is above t does not reach the goal */
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        if (forced + sum_above(score, n, mid) < goal)
            hi = mid;
        else
            lo = mid + 1;
    }
    const float one = __uint_as_float(lo);
    float have = forced + sum_above(score, n, lo);
    cut c = {lo, 0};
    if (one == 0) c.n = n; /* nothing but zeros are left, and they do not reach it */
    for (; one > 0 && c.n < n && have < goal; c.n++) have += one;
    return c;
}

/* One warp writes the set's words. Among equals the lowest blocks are kept. */
static __device__ void write_set(uint64_t *keep, const float *score, int n, const cut &c)
{
    const int lane = threadIdx.x % 32;
    uint32_t low = 0;
    int seen = 0;
    for (int b0 = 0; b0 < (n + 63) / 64 * 64; b0 += 32) {
        const int b = b0 + lane;
        const bool inside = b < n, ends = b == 0 || b == n - 1;
        const uint32_t bits = inside ? __float_as_uint(score[b]) : 0;
        const uint32_t equal = __ballot_sync(~0u, inside && !ends && bits == c.bits);
        const bool kept = inside && (ends || bits > c.bits ||
                                     (bits == c.bits && seen + __popc(equal & ((1u << lane) - 1)) < c.n));
        const uint32_t word = __ballot_sync(~0u, kept);
        seen += __popc(equal);
        if (b0 % 64 == 0)
            low = word;
        else if (lane == 0)
            keep[b0 / 64] = (uint64_t)word << 32 | low;
    }
}

/* Grid (query blocks, heads). The rows' softmax is added up in the first row's place. */
static __global__ void __launch_bounds__(PICK_THREADS) pick(const part p)
{
    __shared__ float sum_s[GROUPS];
    if (!asked(p)) return;
    const int head = blockIdx.y, block = p.block0 + blockIdx.x, n = block + 1;
    /* a group that the prompt ends before does not count */
    const int n_row = p.n_row == 1 ? 1 : min((int)GROUPS, (p.end - block * PAGE_TOK + GROUP - 1) / GROUP);
    float *score = p.score + ((int64_t)head * p.n_block + blockIdx.x) * p.n_row * p.n_key;
    for (int r = threadIdx.x / 32; r < n_row; r += PICK_WARPS) {
        const float sum = row_log_sum(score + (int64_t)r * p.n_key, n);
        if (threadIdx.x % 32 == 0) sum_s[r] = sum;
    }
    __syncthreads();
    for (int b = threadIdx.x; b < n; b += PICK_THREADS) {
        float sum = 0;
        for (int r = 0; r < n_row; r++) sum += exp2f(score[(int64_t)r * p.n_key + b] - sum_s[r]);
        score[b] = sum;
    }
    __syncthreads();
    const cut c = find_cut(score, n, p.threshold);
    if (threadIdx.x < 32) write_set(p.keep + head * p.head_stride + blockIdx.x * p.block_stride, score, n, c);
}

/* --- host */

static unsigned tiles(int n, int tile) { return (unsigned)((n + tile - 1) / tile); }

template <int K> static enum err score_part(const part &p, bool f32, cudaStream_t stream)
{
    const int rows = p.n_block * (p.n_head / p.n_kv) * GROUPS, tile = f32 ? TILE_F32 : TILE;
    const dim3 grid(tiles(p.n_key * GROUPS, tile), tiles(rows, tile), (unsigned)p.n_kv);
    if (f32) {
        score_f32<K><<<grid, THREADS, 0, stream>>>(p);
        return OK;
    }
    if (cudaFuncSetAttribute(score_bf16<K>, cudaFuncAttributeMaxDynamicSharedMemorySize, SMEM_BYTES) !=
        cudaSuccess)
        return ERR_DEVICE;
    score_bf16<K><<<grid, THREADS, SMEM_BYTES, stream>>>(p);
    return OK;
}
template <int K, typename T> static void score_means(const part &p, cudaStream_t stream)
{
    key_mean<K, T><<<dim3((unsigned)p.n_key, (unsigned)p.n_kv), K, 0, stream>>>(p);
    score_flex<K, T><<<dim3((unsigned)p.n_block, (unsigned)p.n_head), PICK_THREADS, 0, stream>>>(p);
}

template <int K> static enum err choose_part(const part &p, const choose_args *a, const struct choose_gpu *g)
{
    enum err e = OK;
    if (a->rule == CHOOSE_XATTN)
        e = score_part<K>(p, g->act == DT_F32, g->stream);
    else if (g->act == DT_F32)
        score_means<K, float>(p, g->stream);
    else
        score_means<K, __nv_bfloat16>(p, g->stream);
    if (e != OK) return e;
    pick<<<dim3((unsigned)p.n_block, (unsigned)p.n_head), PICK_THREADS, 0, g->stream>>>(p);
    return cudaGetLastError() == cudaSuccess ? OK : ERR_DEVICE;
}

enum err choose_gpu(const struct choose_args *a, const struct choose_gpu *g)
{
    const int n_row = a->rule == CHOOSE_XATTN ? GROUPS : 1, end = a->pos0 + a->n_row,
              first = a->pos0 / PAGE_TOK, last = (end - 1) / PAGE_TOK;
    if (a->n_row < 1 || a->pos0 % PAGE_TOK || (end % PAGE_TOK && end != a->n_prompt) || a->n_kv < 1 ||
        a->n_head % a->n_kv || a->q_stride % 8 || (a->head != 64 && a->head != 128) ||
        a->work_stride < (int64_t)n_row * a->n_head * (last + 1))
        return ERR_INVALID_VALUE;
    part p = {g->seg,
              a->q,
              a->pool,
              a->page,
              a->work,
              a->mean,
              a->keep,
              a->q_stride,
              a->head_stride,
              a->block_stride,
              g->kind,
              a->pos0,
              end,
              0,
              0,
              0,
              a->n_head,
              a->n_kv,
              n_row,
              1.44269504088896f / sqrtf((float)a->head) / (n_row == 1 ? 1.0f : (float)GROUP),
              a->threshold};
    enum err e = OK;
    const int at_once = (int)(a->work_stride / ((int64_t)n_row * a->n_head * (last + 1)));
    for (int b = first; b <= last && e == OK; b += at_once) {
        p.block0 = b;
        p.n_block = last - b + 1 < at_once ? last - b + 1 : at_once;
        p.n_key = b + p.n_block;
        p.keep = a->keep + (b - first) * a->block_stride;
        e = a->head == 64 ? choose_part<64>(p, a, g) : choose_part<128>(p, a, g);
    }
    return e;
}
