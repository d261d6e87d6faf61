/* attn_decode: paged attention of one query row per sequence. bf16 in and out, fp32 sums.
 *
 * In a CTA one warp keeps a ring of pages in flight, four warps compute (32 keys of each page each; the query heads of the
 * kv head are the 8 columns of the products), four warps gather their results and write them, so loads never pause. */
#include "kernels/attn_piece.cuh"

#include <cuda_runtime.h>

enum { THREADS = 32 * (1 + COMPUTE_WARPS + GATHER_WARPS) };

template <int K> struct smem {
    static constexpr int STAGES = K == 128 ? 5 : 10;
    __nv_bfloat16 ring[STAGES][TILE_N * K];
    partial<K>    part[2][COMPUTE_WARPS];
    uint64_t      full[STAGES], empty[STAGES], part_full[2], part_empty[2];
    gather_smem   gather;
    row_plan      plan;
};

/* The rows' last pages hold what the kernel before this one writes; work lists, page lists and all other pages were there before it. */
template <int K> __device__ void load_pages(smem<K> &sm, const piece_params &p, const CUtensorMap *map)
{
    constexpr int  STAGES = smem<K>::STAGES;
    const int      lane = threadIdx.x % 32;
    const uint64_t hint = l2_evict_first();
    item_walk      walk(sm.plan, p);
    item           it;
    uint32_t       i = 0;
    bool           waited = false;
    while (walk.take(it)) {
        const attn_seg &s = p.seg[it.row];
        attn_span       span = span_of(s, it.kv * (p.n_head / p.n_kv));
        int             local0 = s.pos0 / TILE_N + 1 - span.n_local - span.n_sink;
        int             page = 0;
        for (int b = 0; b < it.n; b++) {
            if (b % 32 == 0 && b + lane < it.n) {
                int step = it.first + b + lane;
                page = s.page[step < span.n_sink ? step : local0 + step];
            }
            int row = (__shfl_sync(~0u, page, b % 32) * p.n_kv + it.kv) * 2 * TILE_N;
            if (!waited && it.chunk == it.n_chunk - 1 && b == it.n - 1) {
                grid_wait();
                waited = true;
            }
            for (int kv = 0; kv < 2; kv++, i++) {
                uint32_t st = i % STAGES;
                mbar_wait(&sm.empty[st], (i / STAGES & 1) ^ 1);
                if (lane == 0) {
                    mbar_arrive_tx(&sm.full[st], TILE_N * K * 2);
                    for (int c = 0; c < K / 64; c++)
                        tma_load_2d(sm.ring[st] + c * TILE_N * 64, map, &sm.full[st], c * 64, row + kv * TILE_N, hint);
                }
            }
        }
    }
}

template <int K> __device__ void compute_pieces(smem<K> &sm, const piece_params &p, int warp)
{
    constexpr int STAGES = smem<K>::STAGES;
    const int     lane = threadIdx.x % 32, key0 = warp * 32;
    item_walk     walk(sm.plan, p);
    item          it;
    uint32_t      i = 0;
    auto          release = [&](uint32_t st) {
        __syncwarp();
        if (lane == 0)
            mbar_arrive(&sm.empty[st]);
    };
    for (uint32_t n_item = 0; walk.take(it); n_item++) {
        const int      row_last = p.seg[it.row].pos0 % TILE_N, tail = it.chunk == it.n_chunk - 1 ? it.n - 1 : -1;
        uint32_t       q_r[K / 16][2];
        piece_state<K> state;
        load_q<K>(q_r, p, it);
        for (int b = 0; b < it.n; b++) {
            const int last = b == tail ? row_last : TILE_N - 1;
            float     s_r[2][4];
            uint32_t  st = i % STAGES, p_r[2][2];
            mbar_wait(&sm.full[st], i / STAGES & 1);
            product_qk<K>(s_r, q_r, smem_u32(sm.ring[st]), key0);
            release(st);
            i++;
            softmax_block<K>(state, p_r, s_r, key0, last, p.scale_log2);
            st = i % STAGES;
            mbar_wait(&sm.full[st], i / STAGES & 1);
            if (b == tail)
                product_pv<K, true>(state.o, p_r, smem_u32(sm.ring[st]), key0, last);
            else
                product_pv<K, false>(state.o, p_r, smem_u32(sm.ring[st]), key0, last);
            release(st);
            i++;
        }
        const float l[2] = {column_sum(state.l[0]), column_sum(state.l[1])};
        mbar_wait(&sm.part_empty[n_item & 1], (n_item >> 1 & 1) ^ 1);
        store_state<K>(sm.part[n_item & 1][warp], state, l, p.scale_log2);
        mbar_arrive(&sm.part_full[n_item & 1]);
    }
}

template <int K> __device__ void gather_pieces(smem<K> &sm, const piece_params &p)
{
    item_walk walk(sm.plan, p);
    item      it;
    for (uint32_t n_item = 0; walk.take(it); n_item++) {
        mbar_wait(&sm.part_full[n_item & 1], n_item >> 1 & 1);
        write_piece<K, __nv_bfloat16>(sm.part[n_item & 1], p, it);
        mbar_arrive(&sm.part_empty[n_item & 1]);
        finish_piece<K, __nv_bfloat16>(sm.gather, p, it);
    }
}

template <int K> __global__ void __launch_bounds__(THREADS, 1) attn_decode_kernel(const __grid_constant__ CUtensorMap map, const piece_params p)
{
    extern __shared__ __align__(1024) unsigned char raw[];
    smem<K>  &sm = *(smem<K> *)((uintptr_t)(raw + 1023) & ~(uintptr_t)1023);
    const int warp = threadIdx.x / 32;
    if (threadIdx.x == 0) {
        for (int i = 0; i < smem<K>::STAGES; i++) {
            mbar_init(&sm.full[i], 1);
            mbar_init(&sm.empty[i], COMPUTE_WARPS);
        }
        for (int i = 0; i < 2; i++) {
            mbar_init(&sm.part_full[i], 32 * COMPUTE_WARPS);
            mbar_init(&sm.part_empty[i], 32 * GATHER_WARPS);
        }
        fence_mbar_init();
        tma_prefetch_map(&map);
    }
    grid_launch_next();
    plan_rows(sm.plan, p);
    if (warp == 0)
        load_pages(sm, p, &map);
    grid_wait();
    clear_rows<K, __nv_bfloat16>(p);
    if (warp == 0)
        return;
    if (warp <= COMPUTE_WARPS)
        compute_pieces(sm, p, warp - 1);
    else
        gather_pieces(sm, p);
}

template <int K> static enum err launch(const attn_args *a, const attn_gpu *g)
{
    constexpr int bytes = sizeof(smem<K>) + 1024;
    static_assert(bytes <= 232448, "shared memory of one CTA");
    CUtensorMap  map;
    piece_params p;
    enum err     e = piece_args(p, a, g);
    if (e == OK)
        e = tensor_map_2d(&map, a->pool, g->n_page * a->n_kv * 2 * PAGE_TOK, K, K, TILE_N);
    if (e != OK)
        return e;
    if (cudaFuncSetAttribute(attn_decode_kernel<K>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes) != cudaSuccess)
        return ERR_DEVICE;
    cudaLaunchAttribute attr = {};
    attr.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attr.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((unsigned)g->n_sm);
    config.blockDim = dim3(THREADS);
    config.dynamicSmemBytes = bytes;
    config.stream = g->stream;
    config.attrs = &attr;
    config.numAttrs = 1;
    return cudaLaunchKernelEx(&config, attn_decode_kernel<K>, map, p) == cudaSuccess ? OK : ERR_DEVICE;
}

enum err attn_decode_sm90(const struct attn_args *a, const struct attn_gpu *g)
{
    switch (a->head) {
    case 64: return launch<64>(a, g);
    case 128: return launch<128>(a, g);
    default: return ERR_INVALID_VALUE;
    }
}
