/* attn_prefill_mma: paged attention of prompt rows for devices of capability 8.0 and newer. bf16 in and out,
 * fp32 sums.
 *
 * The tiles and walks of attn_prefill_sm90. Four warps have 32 rows of a tile each; half pages of K and V
 * come into shared memory by turns: V while the scores are made, the next K while the softmax and O += P V
 * run. Two CTAs on an SM fill each other's gaps. */
#include "kernels/cuda/attn_tile.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/sm90.cuh"

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <math.h>

enum {
    TILE_M = ATTN_TILE_M,
    TILE_N = 64, /* keys at a time */
    THREADS = 128,
    ROW_TILES = TILE_M / (THREADS / 32) / 16, /* of 16 rows, a warp's */
    SMEM_MAX = 99 << 10,                      /* on the smallest devices of capability 8 */
};
static_assert(PAGE_TOK == 2 * TILE_N, "a page is two tiles of keys");

/* Rows of K numbers, 16-byte column c of row r at column c ^ (r % 8). */
template <int K> struct smem {
    __nv_bfloat16 q[TILE_M * K]; /* also where O is gathered for its store */
    __nv_bfloat16 k[TILE_N * K], v[TILE_N * K];
    walk at; /* the tile at hand */
    int next, total, seg_end[ATTN_MAX_SEG];
};

struct params {
    const attn_seg *seg;
    const __nv_bfloat16 *q, *pool;
    __nv_bfloat16 *out;
    int64_t q_stride, out_stride;
    int *counter;
    int n_seg, n_head, n_kv;
    float scale_log2;
};

template <int K> __device__ __forceinline__ uint32_t at_column(int row, int col)
{
    return (uint32_t)(row * K * 2 + ((col ^ (row % 8)) << 4));
}

/* A warp's own rows of Q; those that are not wanted become 0. */
template <int K>
__device__ __forceinline__ void load_q(smem<K> &sm, const params &p, const tile_info &info, int warp_row)
{
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = lane; i < 16 * ROW_TILES * K / 8; i += 32) {
        const int row = warp_row + i / (K / 8), col = i % (K / 8);
        const bool wanted = row >= info.lo && row < info.hi;
        copy_async(smem_u32(sm.q) + at_column<K>(row, col),
                   p.q + (wanted ? (info.row0 + row) * p.q_stride + info.head * K + col * 8 : 0),
                   wanted ? 16 : 0);
    }
}
/* Half a page of K or V; rows from n_key on were never written and become 0. */
template <int K>
__device__ __forceinline__ void load_keys(__nv_bfloat16 *dst_s, const __nv_bfloat16 *src, int n_key)
{
#pragma unroll
    for (int i = threadIdx.x; i < TILE_N * K / 8; i += THREADS) {
        const int row = i / (K / 8), col = i % (K / 8);
        copy_async(smem_u32(dst_s) + at_column<K>(row, col), src + i * 8, row < n_key ? 16 : 0);
    }
}

/* s = Q K^T of the warp's rows. */
template <int K>
__device__ __forceinline__ void product_qk(float (&s_r)[ROW_TILES][TILE_N / 8][4], uint32_t q, uint32_t k,
                                           int warp_row)
{
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int r = 0; r < ROW_TILES; r++)
#pragma unroll
        for (int j = 0; j < TILE_N / 8; j++)
#pragma unroll
            for (int x = 0; x < 4; x++) s_r[r][j][x] = 0;
#pragma unroll
    for (int i = 0; i < K / 16; i++) {
        uint32_t q_r[ROW_TILES][4];
#pragma unroll
        for (int r = 0; r < ROW_TILES; r++)
            ldmatrix_x4(q_r[r], q + at_column<K>(warp_row + 16 * r + lane % 16, 2 * i + lane / 16));
#pragma unroll
        for (int j = 0; j < TILE_N / 16; j++) {
            uint32_t k_r[4];
            ldmatrix_x4(k_r, k + at_column<K>(16 * j + lane % 8 + lane / 16 * 8, 2 * i + lane / 8 % 2));
#pragma unroll
            for (int r = 0; r < ROW_TILES; r++) {
                mma_16816(s_r[r][2 * j], q_r[r], k_r[0], k_r[1]);
                mma_16816(s_r[r][2 * j + 1], q_r[r], k_r[2], k_r[3]);
            }
        }
    }
}
/* o += P V. */
template <int K>
__device__ __forceinline__ void product_pv(float (&o_r)[ROW_TILES][K / 8][4],
                                           const float (&s_r)[ROW_TILES][TILE_N / 8][4], uint32_t v)
{
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < TILE_N / 16; i++) {
        uint32_t p_r[ROW_TILES][4];
#pragma unroll
        for (int r = 0; r < ROW_TILES; r++)
#pragma unroll
            for (int x = 0; x < 4; x++)
                p_r[r][x] = pack_bf16(s_r[r][2 * i + x / 2][x % 2 * 2], s_r[r][2 * i + x / 2][x % 2 * 2 + 1]);
#pragma unroll
        for (int j = 0; j < K / 16; j++) {
            uint32_t v_r[4];
            ldmatrix_x4_trans(v_r, v + at_column<K>(16 * i + lane % 16, 2 * j + lane / 16));
#pragma unroll
            for (int r = 0; r < ROW_TILES; r++) {
                mma_16816(o_r[r][2 * j], p_r[r], v_r[0], v_r[1]);
                mma_16816(o_r[r][2 * j + 1], p_r[r], v_r[2], v_r[3]);
            }
        }
    }
}

/* Rows lane / 4 and lane / 4 + 8 of each of the warp's sixteens. l is the thread's own share of the row sum.
 */
struct row_state {
    float m[ROW_TILES][2], l[ROW_TILES][2];
};

/* s becomes exp2(s * scale - max); older sums are rescaled. */
template <int K>
__device__ __forceinline__ void softmax_step(float (&s_r)[ROW_TILES][TILE_N / 8][4],
                                             float (&o_r)[ROW_TILES][K / 8][4], row_state &st,
                                             float scale_log2)
{
#pragma unroll
    for (int r = 0; r < ROW_TILES; r++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float m = st.m[r][h];
#pragma unroll
            for (int j = 0; j < TILE_N / 8; j++) m = fmaxf(m, fmaxf(s_r[r][j][2 * h], s_r[r][j][2 * h + 1]));
            m = fmaxf(m, __shfl_xor_sync(~0u, m, 1));
            m = fmaxf(m, __shfl_xor_sync(~0u, m, 2));
            const float base =
                m == -INFINITY ? 0.0f
                               : m * scale_log2; /* a row with no key yet: exp2(-inf - 0) = 0, never NaN */
            const float scale = exp2_fast(st.m[r][h] * scale_log2 - base);
            float sum = 0;
            st.m[r][h] = m;
#pragma unroll
            for (int j = 0; j < TILE_N / 8; j++)
#pragma unroll
                for (int c = 0; c < 2; c++) {
                    const float x = exp2_fast(fmaf(s_r[r][j][2 * h + c], scale_log2, -base));
                    s_r[r][j][2 * h + c] = x;
                    sum += x;
                }
            st.l[r][h] = st.l[r][h] * scale + sum;
#pragma unroll
            for (int j = 0; j < K / 8; j++) {
                o_r[r][j][2 * h] *= scale;
                o_r[r][j][2 * h + 1] *= scale;
            }
        }
}

/* Keys key_lo .. of the diagonal block: those after a row do not count. */
__device__ __forceinline__ void mask_diagonal(float (&s_r)[ROW_TILES][TILE_N / 8][4], int warp_row,
                                              int key_lo)
{
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int r = 0; r < ROW_TILES; r++)
#pragma unroll
        for (int j = 0; j < TILE_N / 8; j++)
#pragma unroll
            for (int x = 0; x < 4; x++)
                if (key_lo + 8 * j + lane % 4 * 2 + x % 2 > warp_row + 16 * r + lane / 4 + x / 2 * 8)
                    s_r[r][j][x] = -INFINITY;
}

/* O of the warp's rows: through its part of the Q tile so that each row leaves in whole lines. */
template <int K>
__device__ __forceinline__ void store_rows(smem<K> &sm, const params &p, const tile_info &info,
                                           const float (&o_r)[ROW_TILES][K / 8][4], const row_state &st,
                                           int warp_row)
{
    const int lane = threadIdx.x % 32;
    char *tile_s = (char *)sm.q;
#pragma unroll
    for (int r = 0; r < ROW_TILES; r++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float l = st.l[r][h];
            l += __shfl_xor_sync(~0u, l, 1);
            l += __shfl_xor_sync(~0u, l, 2);
            const float inv = l > 0 || l != l ? 1.0f / l : 0.0f; /* no key: 0; NaN stays NaN */
            const int row = warp_row + 16 * r + 8 * h + lane / 4;
#pragma unroll
            for (int j = 0; j < K / 8; j++)
                *(uint32_t *)(tile_s + at_column<K>(row, j) + lane % 4 * 4) =
                    pack_bf16(o_r[r][j][2 * h] * inv, o_r[r][j][2 * h + 1] * inv);
        }
    __syncwarp();
#pragma unroll
    for (int i = lane; i < 16 * ROW_TILES * K / 8; i += 32) {
        const int row = warp_row + i / (K / 8), col = i % (K / 8);
        if (row >= info.lo && row < info.hi)
            *(uint4 *)(p.out + (info.row0 + row) * p.out_stride + info.head * K + col * 8) =
                *(const uint4 *)(tile_s + at_column<K>(row, col));
    }
    __syncwarp();
}

/* Where step n of a walk finds its keys: pages from the diagonal down, the later half first. */
template <int K> struct keys_at {
    const __nv_bfloat16 *k; /* V follows PAGE_TOK * K behind */
    int n_key, block, key_lo;

    __device__ __forceinline__ keys_at(const params &p, const walk &w, int n)
    {
        block = walk_block(w, n / 2);
        key_lo = n % 2 ? 0 : TILE_N;
        n_key = (block == w.tail_block ? w.tail_rows : (int)PAGE_TOK) - key_lo;
        k = p.pool + (((int64_t)w.page[block] * p.n_kv + w.kv) * 2 * PAGE_TOK + key_lo) * K;
    }
};

template <int K> __device__ void attend_tile(smem<K> &sm, const params &p, const walk &w)
{
    const int warp_row = threadIdx.x / 32 * 16 * ROW_TILES, n = 2 * w.info.n_block;
    float o_r[ROW_TILES][K / 8][4];
    row_state st;
#pragma unroll
    for (int r = 0; r < ROW_TILES; r++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            st.m[r][h] = -INFINITY;
            st.l[r][h] = 0;
        }
#pragma unroll
        for (int j = 0; j < K / 8; j++)
#pragma unroll
            for (int x = 0; x < 4; x++) o_r[r][j][x] = 0;
    }
    if (n > 0) {
        keys_at<K> at(p, w, 0);
        load_q<K>(sm, p, w.info, warp_row);
        load_keys<K>(sm.k, at.k, at.n_key);
        copy_commit();
#pragma unroll 1
        for (int i = 0; i < n; i++) {
            float s_r[ROW_TILES][TILE_N / 8][4];
            copy_wait<0>();
            __syncthreads(); /* K is there, the last V is done with */
            load_keys<K>(sm.v, at.k + PAGE_TOK * K, at.n_key);
            copy_commit();
            const bool diagonal = at.block == w.block;
            const int key_lo = at.key_lo;
            if (i + 1 < n) at = keys_at<K>(p, w, i + 1);
            product_qk<K>(s_r, smem_u32(sm.q), smem_u32(sm.k), warp_row);
            copy_wait<0>();
            __syncthreads(); /* V is there, K is done with */
            if (i + 1 < n) load_keys<K>(sm.k, at.k, at.n_key);
            copy_commit();
            if (diagonal) mask_diagonal(s_r, warp_row, key_lo);
            softmax_step<K>(s_r, o_r, st, p.scale_log2);
            product_pv<K>(o_r, s_r, smem_u32(sm.v));
        }
    }
    store_rows<K>(sm, p, w.info, o_r, st, warp_row);
}

template <int K> __global__ void __launch_bounds__(THREADS, 2) attn_prefill_mma_kernel(const params p)
{
    extern __shared__ __align__(128) unsigned char raw[];
    smem<K> &sm = *(smem<K> *)raw;
    if (threadIdx.x < 32) {
        const int total = plan_tiles(sm.seg_end, p);
        if (threadIdx.x == 0) sm.total = total;
    }
    for (;;) {
        __syncthreads();
        if (threadIdx.x == 0)
            if ((sm.next = atomicAdd(&p.counter[0], 1)) < sm.total)
                sm.at = walk_tile<K * 4>(p, sm.seg_end, sm.next);
        __syncthreads();
        if (sm.next >= sm.total) break;
        attend_tile<K>(sm, p, sm.at);
    }
    if (threadIdx.x == 0) leave_tiles(p.counter);
}

template <int K> static enum err launch(const attn_args *a, const attn_gpu *g)
{
    static_assert(sizeof(smem<K>) <= SMEM_MAX, "shared memory of one CTA");
    params p = {a->seg,
                (const __nv_bfloat16 *)a->q,
                (const __nv_bfloat16 *)a->pool,
                (__nv_bfloat16 *)a->out,
                a->q_stride,
                a->out_stride,
                (int *)g->work,
                a->n_seg,
                a->n_head,
                a->n_kv,
                a->scale * 1.44269504088896f};
    return attn_launch(attn_prefill_mma_kernel<K>, THREADS, sizeof(smem<K>), p, g);
}

enum err attn_prefill_mma(const struct attn_args *a, const struct attn_gpu *g)
{
    if (!prefill_takes(a)) return ERR_INVALID_VALUE;
    switch (a->head) {
    case 64:
        return launch<64>(a, g);
    case 128:
        return launch<128>(a, g);
    default:
        return ERR_INVALID_VALUE;
    }
}
