/* attn_prefill: paged attention of prompt rows on Hopper. bf16 in and out, fp32 sums.
 *
 * One CTA per SM takes tiles (128 query rows of one head) from a counter until none is left. One warp loads:
 * Q of the next tile and a ring of K and V pages, by the tensor copy engine. Two warpgroups compute 64 rows
 * each: while the tensor cores do S(n) = Q K(n) and O += P(n-1) V(n-1), the other group does its softmax; a
 * pair of barriers keeps them in turn.
 *
 * Kinds differ only in which pages the loading warp walks, so sparse tiles run at the full rate. Pages are
 * walked down from the diagonal, the only one with a mask; whatever the kind, a row sees its blocks in that
 * order, so its bits depend on nothing but its own keys. */
#include "kernels/cuda/attn_tile.cuh"
#include "kernels/cuda/sm90.cuh"

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <math.h>

enum {
    TILE_M = ATTN_TILE_M,
    TILE_N = PAGE_TOK,
    N_GROUP = 2, /* computing warpgroups */
    THREADS = 128 * (N_GROUP + 1),
    CONSUMER_WARPS = 4 * N_GROUP,
    BAR_TURN = 1,     /* + group: this group may issue products */
    BAR_GROUP = 3,    /* + group: all four warps of the group */
    REG_LAUNCH = 168, /* what THREADS of a CTA get at launch: 65536 / 384, in eights */
    REG_LOAD = 56,
    REG_COMPUTE = 224,
};

static_assert(REG_LOAD + N_GROUP * REG_COMPUTE <= (N_GROUP + 1) * REG_LAUNCH,
              "a group would wait for registers for ever");

template <int K> struct smem {
    static constexpr int STAGES = K == 128 ? 2 : 4;
    __nv_bfloat16 q[2][TILE_M * K]; /* also where O is gathered for its store */
    __nv_bfloat16 k[STAGES][TILE_N * K];
    __nv_bfloat16 v[STAGES][TILE_N * K];
    uint64_t q_full[2], q_empty[2], k_full[STAGES], k_empty[STAGES], v_full[STAGES], v_empty[STAGES], v_fix;
    tile_info info[2];
    int seg_end[ATTN_MAX_SEG]; /* running sum of tiles */
};

struct params {
    const attn_seg *seg;
    __nv_bfloat16 *out;
    int64_t out_stride;
    int *counter; /* [0] next tile, [1] CTAs that are done */
    int n_seg, n_head, n_kv;
    float scale_log2;
};

template <int K>
__device__ __forceinline__ void load_page(const CUtensorMap *map, __nv_bfloat16 *dst_s, uint64_t *bar,
                                          int row, uint64_t hint)
{
#pragma unroll
    for (int c = 0; c < K / 64; c++) tma_load_2d(dst_s + c * TILE_N * 64, map, bar, c * 64, row, hint);
}

/* The loading warp. Lanes look up pages together, lane 0 issues the copies. */
template <int K>
__device__ void load_tiles(smem<K> &sm, const params &p, const CUtensorMap *map_q, const CUtensorMap *map_kv)
{
    constexpr int STAGES = smem<K>::STAGES;
    constexpr uint32_t PAGE_BYTES = TILE_N * K * 2;
    const int lane = threadIdx.x % 32;
    const uint64_t keep = l2_evict_last(), once = l2_evict_first();

    const int total = plan_tiles(sm.seg_end, p);
    int next = lane == 0 ? atomicAdd(&p.counter[0], 1) : 0;
    uint32_t ik = 0, iv = 0, n_fix = 0;
    for (uint32_t it = 0;; it++) {
        int tile = __shfl_sync(~0u, next, 0), slot = it & 1;
        if (lane == 0 && tile < total) next = atomicAdd(&p.counter[0], 1);
        mbar_wait(&sm.q_empty[slot], (it >> 1 & 1) ^ 1);
        if (tile >= total) {
            if (lane == 0) {
                sm.info[slot].n_block = -1;
                mbar_arrive(&sm.q_full[slot]);
            }
            break;
        }
        walk w = walk_tile<K * 4>(p, sm.seg_end, tile);
        int n = w.info.n_block;
        if (lane == 0) {
            sm.info[slot] = w.info;
            if (n > 0) {
                mbar_arrive_tx(&sm.q_full[slot], TILE_M * K * 2);
                for (int c = 0; c < K / 64; c++)
                    tma_load_3d(sm.q[slot] + c * TILE_M * 64, map_q, &sm.q_full[slot], c * 64, w.info.head,
                                w.info.row0, once);
            } else {
                mbar_arrive(&sm.q_full[slot]);
            }
        }
        int page = 0, block = 0, v_row = 0, v_block = 0;
        for (int step = 0; step <= n && n > 0; step++) {
            int k_row = 0, k_block = 0;
            if (step < n) {
                if (step % 32 == 0 && step + lane < n) {
                    block = walk_block(w, step + lane);
                    page = w.page[block];
                }
                k_block = __shfl_sync(~0u, block, step % 32);
                k_row = (__shfl_sync(~0u, page, step % 32) * p.n_kv + w.kv) * 2 * TILE_N;
                uint32_t st = ik % STAGES;
                mbar_wait(&sm.k_empty[st], (ik / STAGES & 1) ^ 1);
                if (lane == 0) {
                    mbar_arrive_tx(&sm.k_full[st], PAGE_BYTES);
                    load_page<K>(map_kv, sm.k[st], &sm.k_full[st], k_row, keep);
                }
                ik++;
            }
            if (step > 0) {
                uint32_t st = iv % STAGES;
                mbar_wait(&sm.v_empty[st], (iv / STAGES & 1) ^ 1);
                bool tail = v_block == w.tail_block;
                if (lane == 0) {
                    mbar_arrive_tx(tail ? &sm.v_fix : &sm.v_full[st], PAGE_BYTES);
                    load_page<K>(map_kv, sm.v[st], tail ? &sm.v_fix : &sm.v_full[st], v_row + TILE_N, keep);
                }
                if (tail) { /* probabilities of unwritten rows are 0, but 0 * NaN is not: clear what the page
                               holds there */
                    mbar_wait(&sm.v_fix, n_fix++ & 1);
                    for (int c = 0; c < K / 64; c++) {
                        uint4 *row_s = (uint4 *)(sm.v[st] + c * TILE_N * 64);
                        for (int j = w.tail_rows * 8 + lane; j < TILE_N * 8; j += 32)
                            row_s[j] = make_uint4(0, 0, 0, 0);
                    }
                    fence_async();
                    __syncwarp();
                    if (lane == 0) mbar_arrive(&sm.v_full[st]);
                }
                iv++;
            }
            v_row = k_row;
            v_block = k_block;
        }
    }
    if (lane == 0) leave_tiles(p.counter);
}

/* s = Q K^T of one group's 64 rows: issued, not waited for. */
template <int K> __device__ __forceinline__ void issue_qk(float (&s_r)[TILE_N / 2], uint64_t q, uint64_t k)
{
#pragma unroll
    for (int i = 0; i < K / 16; i++) {
        uint32_t step =
            i / 4 * (TILE_N * 128 / 16) + i % 4 * 2; /* 16 columns are 32 bytes; 64 columns a tile */
        wgmma_ss(s_r, q + step, k + step, i != 0);
    }
}
/* o += P V: issued, not waited for. */
template <int K>
__device__ __forceinline__ void issue_pv(float (&o_r)[K / 2], const uint32_t (&p_r)[TILE_N / 4], uint64_t v)
{
#pragma unroll
    for (int i = 0; i < TILE_N / 16; i++) wgmma_rs(o_r, p_r + 4 * i, v + i * (16 * 128 / 16));
}

/* Row state of a thread: rows r and r + 8 of its warp's sixteen. l is the thread's own share of the row sum.
 */
struct row_state {
    float m[2], l[2];
};

/* s becomes exp2(s * scale - max); returns what older sums must be multiplied with. */
__device__ __forceinline__ void softmax_step(float (&s_r)[TILE_N / 2], row_state &st, float (&scale)[2],
                                             float scale_log2)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float m = st.m[r];
#pragma unroll
        for (int j = 0; j < TILE_N / 8; j++) m = fmaxf(m, fmaxf(s_r[4 * j + 2 * r], s_r[4 * j + 2 * r + 1]));
        m = fmaxf(m, __shfl_xor_sync(~0u, m, 1));
        m = fmaxf(m, __shfl_xor_sync(~0u, m, 2));
        float base =
            m == -INFINITY ? 0.0f : m * scale_log2; /* a row with no key yet: exp2(-inf - 0) = 0, never NaN */
        scale[r] = exp2_fast(st.m[r] * scale_log2 - base);
        st.m[r] = m;
        float sum = 0;
#pragma unroll
        for (int j = 0; j < TILE_N / 8; j++) {
#pragma unroll
            for (int c = 0; c < 2; c++) {
                float x = exp2_fast(fmaf(s_r[4 * j + 2 * r + c], scale_log2, -base));
                s_r[4 * j + 2 * r + c] = x;
                sum += x;
            }
        }
        st.l[r] = st.l[r] * scale[r] + sum;
    }
}

__device__ __forceinline__ void mask_diagonal(float (&s_r)[TILE_N / 2], int row)
{
    const int col0 = threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < TILE_N / 2; i++)
        if (i / 4 * 8 + i % 2 + col0 > row + (i / 2 % 2) * 8) s_r[i] = -INFINITY;
}

__device__ __forceinline__ void to_bf16(uint32_t (&p_r)[TILE_N / 4], const float (&s_r)[TILE_N / 2])
{
#pragma unroll
    for (int i = 0; i < TILE_N / 4; i++) p_r[i] = pack_bf16(s_r[2 * i], s_r[2 * i + 1]);
}

template <int K> __device__ __forceinline__ void rescale(float (&o_r)[K / 2], const float (&scale)[2])
{
#pragma unroll
    for (int i = 0; i < K / 2; i++) o_r[i] *= scale[i / 2 % 2];
}

/* O of a warp's sixteen rows: through its part of the Q tile so that each row leaves in whole lines. */
template <int K>
__device__ __forceinline__ void store_rows(const params &p, const tile_info &info, float (&o_r)[K / 2],
                                           const row_state &st, __nv_bfloat16 *tile_s, int warp_row)
{
    const int lane = threadIdx.x % 32;
    float inv[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float l = st.l[r];
        l += __shfl_xor_sync(~0u, l, 1);
        l += __shfl_xor_sync(~0u, l, 2);
        inv[r] = l > 0 || l != l ? 1.0f / l : 0.0f; /* no key: 0; NaN stays NaN */
    }
    const uint32_t base = smem_u32(tile_s);
    const int m_row = warp_row + lane / 8 % 2 * 8 + lane % 8;
#pragma unroll
    for (int j = 0; j < K / 8; j += 2) {
        int col = j + lane / 16;
        uint32_t at = base + col / 8 * (TILE_M * 128) + m_row * 128 + ((col % 8) ^ (m_row % 8)) * 16;
        stmatrix_x4(at, pack_bf16(o_r[4 * j] * inv[0], o_r[4 * j + 1] * inv[0]),
                    pack_bf16(o_r[4 * j + 2] * inv[1], o_r[4 * j + 3] * inv[1]),
                    pack_bf16(o_r[4 * j + 4] * inv[0], o_r[4 * j + 5] * inv[0]),
                    pack_bf16(o_r[4 * j + 6] * inv[1], o_r[4 * j + 7] * inv[1]));
    }
    __syncwarp();
#pragma unroll
    for (int i = lane; i < 16 * K / 8; i += 32) {
        int row = warp_row + i / (K / 8), col = i % (K / 8);
        if (row >= info.lo && row < info.hi) {
            const char *src =
                (const char *)tile_s + col / 8 * (TILE_M * 128) + row * 128 + ((col % 8) ^ (row % 8)) * 16;
            *(uint4 *)(p.out + (info.row0 + row) * p.out_stride + info.head * K + col * 8) =
                *(const uint4 *)src;
        }
    }
}

/* One computing warpgroup. */
template <int K> __device__ __forceinline__ void compute_tiles(smem<K> &sm, const params &p, int group)
{
    constexpr int STAGES = smem<K>::STAGES;
    const int lane = threadIdx.x % 32, warp_row = group * 64 + threadIdx.x / 32 % 4 * 16;
    const int my_turn = BAR_TURN + group, other_turn = BAR_TURN + (group ^ 1);
    uint32_t ik = 0, iv = 0;
    auto release = [&](uint64_t *bar) {
        __syncwarp();
        if (lane == 0) mbar_arrive(bar);
    };

    if (group == 1) bar_arrive(other_turn, 128 * N_GROUP);
    for (uint32_t it = 0;; it++) {
        const int slot = it & 1;
        mbar_wait(&sm.q_full[slot], it >> 1 & 1);
        const tile_info info = sm.info[slot];
        if (info.n_block < 0) break;
        float o_r[K / 2], scale[2];
        row_state st = {{-INFINITY, -INFINITY}, {0, 0}};
#pragma unroll
        for (int i = 0; i < K / 2; i++) o_r[i] = 0;
        if (info.n_block > 0) {
            const uint64_t q = wgmma_desc(sm.q[slot] + group * 64 * 64, 0);
            float s_r[TILE_N / 2];
            uint32_t p_r[TILE_N / 4];

            mbar_wait(&sm.k_full[ik % STAGES], ik / STAGES & 1);
            bar_sync(my_turn, 128 * N_GROUP);
            pin(s_r);
            wgmma_fence();
            issue_qk<K>(s_r, q, wgmma_desc(sm.k[ik % STAGES], 0));
            wgmma_commit();
            bar_arrive(other_turn, 128 * N_GROUP);
            wgmma_wait<0>();
            pin(s_r);
            release(&sm.k_empty[ik % STAGES]);
            ik++;
            if (info.diagonal) mask_diagonal(s_r, warp_row + lane / 4);
            softmax_step(s_r, st, scale, p.scale_log2);
            to_bf16(p_r, s_r);

#pragma unroll 1
            for (int n = 1; n < info.n_block; n++) {
                const uint32_t k_st = ik % STAGES, v_st = iv % STAGES;
                mbar_wait(&sm.k_full[k_st], ik / STAGES & 1);
                bar_sync(my_turn, 128 * N_GROUP);
                pin(s_r);
                pin(o_r);
                wgmma_fence();
                issue_qk<K>(s_r, q, wgmma_desc(sm.k[k_st], 0));
                wgmma_commit();
                mbar_wait(&sm.v_full[v_st], iv / STAGES & 1);
                wgmma_fence();
                issue_pv<K>(o_r, p_r, wgmma_desc(sm.v[v_st], TILE_N * 128));
                wgmma_commit();
                bar_arrive(other_turn, 128 * N_GROUP);
                wgmma_wait<1>();
                pin(s_r);
                release(&sm.k_empty[k_st]);
                softmax_step(s_r, st, scale, p.scale_log2);
                wgmma_wait<0>();
                pin(o_r);
                release(&sm.v_empty[v_st]);
                to_bf16(p_r, s_r);
                rescale<K>(o_r, scale);
                ik++;
                iv++;
            }
            mbar_wait(&sm.v_full[iv % STAGES], iv / STAGES & 1);
            pin(o_r);
            wgmma_fence();
            issue_pv<K>(o_r, p_r, wgmma_desc(sm.v[iv % STAGES], TILE_N * 128));
            wgmma_commit();
            wgmma_wait<0>();
            pin(o_r);
            release(&sm.v_empty[iv % STAGES]);
            iv++;
        }
        bar_sync(BAR_GROUP + group, 128); /* no warp of the group reads Q any more */
        store_rows<K>(p, info, o_r, st, sm.q[slot], warp_row);
        fence_async();
        mbar_arrive(&sm.q_empty[slot]);
    }
    if (group == 0)
        bar_sync(my_turn,
                 128 * N_GROUP); /* takes the other group's last turn, so that no barrier is left half full */
}

template <int K>
__global__ void __launch_bounds__(THREADS, 1)
    attn_prefill_kernel(const __grid_constant__ CUtensorMap map_q, const __grid_constant__ CUtensorMap map_kv,
                        const params p)
{
    extern __shared__ __align__(1024) unsigned char raw[];
    smem<K> &sm = *(smem<K> *)((uintptr_t)(raw + 1023) & ~(uintptr_t)1023);
    if (threadIdx.x == 0) {
        for (int i = 0; i < 2; i++) {
            mbar_init(&sm.q_full[i], 1);
            mbar_init(&sm.q_empty[i], 128 * N_GROUP);
        }
        for (int i = 0; i < smem<K>::STAGES; i++) {
            mbar_init(&sm.k_full[i], 1);
            mbar_init(&sm.k_empty[i], CONSUMER_WARPS);
            mbar_init(&sm.v_full[i], 1);
            mbar_init(&sm.v_empty[i], CONSUMER_WARPS);
        }
        mbar_init(&sm.v_fix, 1);
        fence_mbar_init();
        tma_prefetch_map(&map_q);
        tma_prefetch_map(&map_kv);
    }
    __syncthreads();
    if (threadIdx.x < 128) {
        reg_give<REG_LOAD>();
        if (threadIdx.x < 32) load_tiles<K>(sm, p, &map_q, &map_kv);
    } else {
        reg_take<REG_COMPUTE>();
        compute_tiles<K>(sm, p, (int)threadIdx.x / 128 - 1);
    }
}

template <int K> static enum err launch(const attn_args *a, const attn_gpu *g)
{
    constexpr int bytes = sizeof(smem<K>) + 1024;
    static_assert(bytes <= 232448, "shared memory of one CTA");
    CUtensorMap map_q, map_kv;
    enum err e = tensor_map_3d(&map_q, a->q, g->n_row, a->q_stride, a->n_head, K, TILE_M);
    if (e == OK) e = tensor_map_2d(&map_kv, a->pool, g->n_page * a->n_kv * 2 * PAGE_TOK, K, K, TILE_N);
    if (e != OK) return e;
    params p = {a->seg,  (__nv_bfloat16 *)a->out,     a->out_stride, (int *)g->work, a->n_seg, a->n_head,
                a->n_kv, a->scale * 1.44269504088896f};
    if (cudaFuncSetAttribute(attn_prefill_kernel<K>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes) !=
        cudaSuccess)
        return ERR_DEVICE;
    attn_prefill_kernel<K><<<g->n_sm, THREADS, bytes, g->stream>>>(map_q, map_kv, p);
    return cudaGetLastError() == cudaSuccess ? OK : ERR_DEVICE;
}

enum err attn_prefill_sm90(const struct attn_args *a, const struct attn_gpu *g)
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
