/* attn_decode_mma: decode attention for devices of capability 8.0 and newer. bf16 in and out, fp32 sums; the
 * pieces, products and their order are those of attn_decode_sm90, and so are the bits.
 *
 * A warp copies its own 32 keys of each page into a ring and computes on them, so inside a piece no warp
 * waits for another. */
#include "kernels/cuda/attn_piece.cuh"
#include "kernels/cuda/mma.cuh"

#include <cuda_runtime.h>

enum { THREADS = 32 * COMPUTE_WARPS, SMEM_MAX = 99 << 10 /* on the smallest devices of capability 8 */ };

/* A stage holds K or V of a page: [K / 64][128 keys][64], swizzled as attn_piece reads it. */
template <int K> struct smem {
    static constexpr int STAGES = K == 128 ? 2 : 4;
    __nv_bfloat16 ring[STAGES][TILE_N * K];
    unsigned char part[COMPUTE_WARPS * partial_bytes<K>(HEADS)];
    gather_smem gather;
    int plan[PLAN_INTS * ATTN_MAX_SEG];
};

struct params : piece_params {
    const __nv_bfloat16 *pool;
};

/* What a warp loads next: it runs ahead of what it computes, over the ends of pieces. */
template <int K> struct loader {
    smem<K> &sm;
    const params &p;
    row_plan plan;
    item it;
    int id;                         /* of the piece after it */
    int b, v, page, local0, n_sink; /* block of the piece, K or V */
    uint32_t i;                     /* stages loaded */

    __device__ loader(smem<K> &sm_, const row_plan &plan_, const params &p_)
        : sm(sm_), p(p_), plan(plan_), it{}, id(blockIdx.x), b(0), v(0), page(0), local0(0), n_sink(0), i(0)
    {
    }

    /* Copies the next half page of keys, if there is one; a group is closed either way. */
    __device__ void next()
    {
        const int lane = threadIdx.x % 32, key0 = threadIdx.x / 32 * 32;
        if (b == it.n && it.n >= 0) {
            b = 0;
            if (id < plan.n_item()) {
                it = item_at(plan, p, id);
                id += gridDim.x;
                const attn_span span = span_of(p.seg[it.row], it.kv * (p.n_head / p.n_kv));
                n_sink = span.n_sink;
                local0 = p.seg[it.row].pos0 / TILE_N + 1 - span.n_local - span.n_sink;
            } else {
                it.n = -1;
            }
        }
        if (it.n > 0) {
            if (v == 0 && b % 32 == 0 && b + lane < it.n) {
                const int step = it.first + b + lane;
                page = p.seg[it.row].page[step < n_sink ? step : local0 + step];
            }
            const int at = __shfl_sync(~0u, page, b % 32);
            const __nv_bfloat16 *src =
                p.pool + ((((int64_t)at * p.n_kv + it.kv) * 2 + v) * PAGE_TOK + key0) * K;
            const uint32_t dst = smem_u32(sm.ring[i % smem<K>::STAGES]);
#pragma unroll
            for (int j = 0; j < K / 8; j++) {
                const int x = j * 32 + lane, key = key0 + x / (K / 8), col = x % (K / 8);
                copy_async(column_at<K>(dst, key, col), src + x * 8);
            }
            v ^= 1;
            b += v == 0;
        }
        copy_commit();
        i++;
    }
};

template <int K> __device__ void attend_pieces(smem<K> &sm, const row_plan &plan, const params &p)
{
    constexpr int STAGES = smem<K>::STAGES;
    const int warp = threadIdx.x / 32, key0 = warp * 32, per_kv = p.n_head / p.n_kv;
    loader<K> load(sm, plan, p);
    uint32_t i = 0;
    for (int s = 0; s < STAGES; s++) load.next();
    /* The stage at hand is waited for, used, and filled again. */
    auto take = [&]() {
        copy_wait<STAGES - 1>();
        __syncwarp();
        return smem_u32(sm.ring[i % STAGES]);
    };
    auto release = [&]() {
        __syncwarp();
        load.next();
        i++;
    };
    for (int id = blockIdx.x; id < plan.n_item(); id += gridDim.x) {
        const item it = item_at(plan, p, id);
        const int row_last = p.seg[it.row].pos0 % TILE_N, tail = it.chunk == it.n_chunk - 1 ? it.n - 1 : -1;
        uint32_t q_r[K / 16][2];
        piece_state<K> state;
        load_q<K>(q_r, p, it);
        for (int b = 0; b < it.n; b++) {
            const int last = b == tail ? row_last : TILE_N - 1;
            float s_r[2][4];
            uint32_t p_r[2][2];
            product_qk<K>(s_r, q_r, take(), key0);
            release();
            softmax_block<K>(state, p_r, s_r, key0, last, p.scale_log2);
            if (b == tail)
                product_pv<K, true>(state.o, p_r, take(), key0, last);
            else
                product_pv<K, false>(state.o, p_r, take(), key0, last);
            release();
        }
        const float l[2] = {column_sum(state.l[0]), column_sum(state.l[1])};
        store_state<K>(part_of<K>(sm.part, warp, per_kv), state, l, p.scale_log2, per_kv);
        __syncthreads();
        write_piece<K, __nv_bfloat16>(sm.part, p, it);
        finish_piece<K, __nv_bfloat16>(sm.gather, p, it);
        __syncthreads();
    }
    copy_wait<0>();
}

template <int K> __global__ void __launch_bounds__(THREADS) attn_decode_mma_kernel(const params p)
{
    extern __shared__ __align__(128) unsigned char raw[];
    smem<K> &sm = *(smem<K> *)raw;
    const row_plan plan(sm.plan, p.n_seg);
    plan_rows(plan, p);
    clear_rows<K, __nv_bfloat16>(p);
    attend_pieces<K>(sm, plan, p);
}

template <int K> static enum err launch(const attn_args *a, const attn_gpu *g)
{
    static_assert(sizeof(smem<K>) <= SMEM_MAX, "shared memory of one CTA");
    params p;
    enum err e = piece_args(p, a, g);
    p.pool = (const __nv_bfloat16 *)a->pool;
    return e == OK ? attn_launch(attn_decode_mma_kernel<K>, THREADS, sizeof(smem<K>), p, g) : e;
}

enum err attn_decode_mma(const struct attn_args *a, const struct attn_gpu *g)
{
    switch (a->head) {
    case 64:
        return launch<64>(a, g);
    case 128:
        return launch<128>(a, g);
    default:
        return ERR_INVALID_VALUE;
    }
}
