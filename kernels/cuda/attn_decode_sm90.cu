/* attn_decode: paged attention of one query row per sequence. bf16 in and out, fp32 sums.
 *
 * In a CTA one warp keeps a ring of pages in flight, four warps compute (32 keys of each page each; the query
 * heads of the kv head are the 8 columns of the products), four warps gather their results and write them, so
 * loads never pause. Equal shares ended a quarter apart, so no CTA has one: each takes the next piece when it
 * is nearly through with the one before. */
#include "kernels/cuda/attn_piece.cuh"

#include <cuda_runtime.h>

enum {
    THREADS = 32 * (1 + COMPUTE_WARPS + GATHER_WARPS),
    CTAS = 2,  /* on an SM where there is room: while one is between two pieces the other loads, and the next
                  kernel begins where one ends */
    ITEMS = 4, /* pieces between the loading warp and the gathering ones */
};

/* Behind it lie what depends on the launch: the warps' parts of a piece, the queries of ITEMS pieces, the
 * plan. */
template <int K> struct smem {
    static constexpr int STAGES = K == 128 ? 3 : 6;
    __nv_bfloat16 ring[STAGES][TILE_N * K];
    uint64_t full[STAGES], empty[STAGES], part_full, part_empty, item_full[ITEMS], item_empty[ITEMS];
    item items[ITEMS];
    gather_smem gather;
};
__host__ __device__ static constexpr int round_16(int n) { return (n + 15) / 16 * 16; }
template <int K> __host__ __device__ static constexpr int parts_at() { return round_16(sizeof(smem<K>)); }
template <int K> __host__ __device__ static constexpr int q_at(int per_kv)
{
    return parts_at<K>() + COMPUTE_WARPS * partial_bytes<K>(per_kv);
}
template <int K> __host__ __device__ static constexpr int plan_at(int per_kv)
{
    return q_at<K>(per_kv) + ITEMS * per_kv * K * 2;
}
/* The queries of the i-th piece: [per_kv][K]. */
template <int K> __device__ __nv_bfloat16 *q_of(smem<K> &sm, uint32_t i, int per_kv)
{
    return (__nv_bfloat16 *)((unsigned char *)&sm + q_at<K>(per_kv)) + i % ITEMS * per_kv * K;
}
template <int K> static constexpr int smem_bytes(int per_kv, int n_seg)
{
    return plan_at<K>(per_kv) + n_seg * PLAN_INTS * 4;
}

/* The loading warp tells the others which piece comes, in turn, and brings its queries; n = 0: none. */
template <int K> __device__ void tell_item(smem<K> &sm, const piece_params &p, uint32_t i, const item &it)
{
    const uint32_t at = i % ITEMS;
    mbar_wait(&sm.item_empty[at], (i / ITEMS & 1) ^ 1);
    if (threadIdx.x % 32) return;
    sm.items[at] = it;
    if (it.n == 0) {
        mbar_arrive(&sm.item_full[at]);
        return;
    }
    const int per_kv = p.n_head / p.n_kv, bytes = per_kv * K * 2;
    mbar_arrive_tx(&sm.item_full[at], (uint32_t)bytes);
    bulk_load(q_of(sm, i, per_kv),
              (const __nv_bfloat16 *)p.q + p.seg[it.row].row0 * p.q_stride + it.kv * per_kv * K, bytes,
              &sm.item_full[at]);
}
template <int K> __device__ item hear_item(smem<K> &sm, uint32_t i)
{
    mbar_wait(&sm.item_full[i % ITEMS], i / ITEMS & 1);
    return sm.items[i % ITEMS];
}
template <int K> __device__ void drop_item(smem<K> &sm, uint32_t i)
{
    __syncwarp();
    if (threadIdx.x % 32 == 0) mbar_arrive(&sm.item_empty[i % ITEMS]);
}

/* The rows' last pages hold what the kernel before this one writes, and the count of pieces is its too if it
 * is such a kernel; work lists, page lists and all other pages were there before it. */
template <int K>
__device__ void load_pages(smem<K> &sm, const row_plan &plan, const piece_params &p, const CUtensorMap *map)
{
    constexpr int STAGES = smem<K>::STAGES;
    const int lane = threadIdx.x % 32, n_item = plan.n_item();
    const uint64_t hint = l2_evict_first();
    uint32_t i = 0, n_told = 0;
    bool waited = false;
    auto wait = [&]() {
        if (!waited) grid_wait();
        waited = true;
    };
    /* This lane's page of blocks b0 .. of a piece. */
    auto look_up = [&](const item &x, int b0) {
        const attn_seg &s = p.seg[x.row];
        const attn_span span = span_of(s, x.kv * (p.n_head / p.n_kv));
        const int step = x.first + b0 + lane, local0 = s.pos0 / TILE_N + 1 - span.n_local - span.n_sink;
        return b0 + lane < x.n ? s.page[step < span.n_sink ? step : local0 + step] : 0;
    };
    item it = {};
    int page = 0;
    if ((int)blockIdx.x < n_item) {
        it = item_at(plan, p, blockIdx.x);
        page = look_up(it, 0);
    }
    if (it.n == 0) tell_item(sm, p, n_told++, it);
    while (it.n) {
        item next = {};
        int next_page = 0;
        unsigned taken = 0;
        for (int b = 0; b < it.n; b++) {
            if (b && b % 32 == 0) page = look_up(it, b);
            const int row = (__shfl_sync(~0u, page, b % 32) * p.n_kv + it.kv) * 2 * TILE_N;
            if (it.chunk == it.n_chunk - 1 && b == it.n - 1) wait();
            if (n_told == 0 &&
                (2 * b + 2 > STAGES ||
                 b == it.n - 1)) { /* the first piece's queries; pages that fit are on their way */
                wait();
                tell_item(sm, p, n_told++, it);
            }
            for (int kv = 0; kv < 2; kv++, i++) {
                uint32_t st = i % STAGES;
                mbar_wait(&sm.empty[st], (i / STAGES & 1) ^ 1);
                if (lane == 0) {
                    mbar_arrive_tx(&sm.full[st], TILE_N * K * 2);
                    for (int c = 0; c < K / 64; c++)
                        tma_load_2d(sm.ring[st] + c * TILE_N * 64, map, &sm.full[st], c * 64,
                                    row + kv * TILE_N, hint);
                }
            }
            if (b == max(it.n - 2, 0)) { /* late, so that no piece lies here while others are idle; the answer
                                            has a block's time */
                wait();
                if (lane == 0) taken = atomicInc(p.next, n_item - 1); /* of n_item calls the last leaves 0 */
            }
        }
        const int id = (int)(__shfl_sync(~0u, taken, 0) + gridDim.x);
        if (id < n_item) {
            next = item_at(plan, p, id);
            next_page = look_up(next, 0);
        }
        tell_item(sm, p, n_told++, next);
        it = next;
        page = next_page;
    }
}

template <int K>
__device__ void compute_pieces(smem<K> &sm, unsigned char *parts, const piece_params &p, int warp)
{
    constexpr int STAGES = smem<K>::STAGES;
    const int lane = threadIdx.x % 32, key0 = warp * 32, per_kv = p.n_head / p.n_kv;
    uint32_t i = 0;
    auto release = [&](uint32_t st) {
        __syncwarp();
        if (lane == 0) mbar_arrive(&sm.empty[st]);
    };
    for (uint32_t n_item = 0;; n_item++) {
        const item it = hear_item(sm, n_item);
        if (it.n == 0) break;
        const int row_last = p.seg[it.row].pos0 % TILE_N, tail = it.chunk == it.n_chunk - 1 ? it.n - 1 : -1;
        uint32_t q_r[K / 16][2];
        piece_state<K> state;
        read_q<K>(q_r, q_of(sm, n_item, per_kv), per_kv);
        drop_item(sm, n_item);
        for (int b = 0; b < it.n; b++) {
            const int last = b == tail ? row_last : TILE_N - 1;
            float s_r[2][4];
            uint32_t st = i % STAGES, p_r[2][2];
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
        mbar_wait(&sm.part_empty, (n_item & 1) ^ 1);
        store_state<K>(part_of<K>(parts, warp, per_kv), state, l, p.scale_log2, per_kv);
        mbar_arrive(&sm.part_full);
    }
}

template <int K> __device__ void gather_pieces(smem<K> &sm, unsigned char *parts, const piece_params &p)
{
    for (uint32_t n_item = 0;; n_item++) {
        const item it = hear_item(sm, n_item);
        if (it.n == 0) break;
        drop_item(sm, n_item);
        mbar_wait(&sm.part_full, n_item & 1);
        write_piece<K, __nv_bfloat16>(parts, p, it);
        mbar_arrive(&sm.part_empty);
        finish_piece<K, __nv_bfloat16>(sm.gather, p, it);
    }
}

template <int K>
__global__ void __launch_bounds__(THREADS, CTAS)
    attn_decode_kernel(const __grid_constant__ CUtensorMap map, const piece_params p)
{
    extern __shared__ __align__(1024) unsigned char raw[];
    smem<K> &sm = *(smem<K> *)raw;
    unsigned char *parts = raw + parts_at<K>();
    const row_plan plan((int *)(raw + plan_at<K>(p.n_head / p.n_kv)), p.n_seg);
    const int warp = threadIdx.x / 32;
    if (threadIdx.x == 0) {
        if (smem_u32(raw) % 1024) __trap(); /* the swizzle counts from multiples of 1024 */
        for (int i = 0; i < smem<K>::STAGES; i++) {
            mbar_init(&sm.full[i], 1);
            mbar_init(&sm.empty[i], COMPUTE_WARPS);
        }
        mbar_init(&sm.part_full, 32 * COMPUTE_WARPS);
        mbar_init(&sm.part_empty, 32 * GATHER_WARPS);
        for (int i = 0; i < ITEMS; i++) {
            mbar_init(&sm.item_full[i], 1);
            mbar_init(&sm.item_empty[i], COMPUTE_WARPS + GATHER_WARPS);
        }
        fence_mbar_init();
        tma_prefetch_map(&map);
    }
    grid_launch_next();
    plan_rows(plan, p);
    if (warp == 0) load_pages(sm, plan, p, &map);
    grid_wait();
    clear_rows<K, __nv_bfloat16>(p);
    if (warp == 0) return;
    if (warp <= COMPUTE_WARPS)
        compute_pieces(sm, parts, p, warp - 1);
    else
        gather_pieces(sm, parts, p);
}

template <int K> static enum err launch(const attn_args *a, const attn_gpu *g)
{
    static_assert(smem_bytes<K>(HEADS, ATTN_MAX_SEG) <= 232448, "shared memory of one CTA");
    CUtensorMap map;
    piece_params p;
    enum err e = piece_args(p, a, g);
    if (e == OK) e = tensor_map_2d(&map, a->pool, g->n_page * a->n_kv * 2 * PAGE_TOK, K, K, TILE_N);
    if (e != OK) return e;
    const int bytes = smem_bytes<K>(p.n_head / p.n_kv, p.n_seg);
    int per_sm = 0;
    if (cudaFuncSetAttribute(attn_decode_kernel<K>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             smem_bytes<K>(HEADS, ATTN_MAX_SEG)) != cudaSuccess ||
        cudaFuncSetAttribute(attn_decode_kernel<K>, cudaFuncAttributePreferredSharedMemoryCarveout,
                             cudaSharedmemCarveoutMaxShared) != cudaSuccess ||
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_sm, attn_decode_kernel<K>, THREADS,
                                                      (size_t)bytes) != cudaSuccess ||
        per_sm < 1)
        return ERR_DEVICE;
    cudaLaunchAttribute attr = {};
    attr.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attr.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((unsigned)(g->n_sm * per_sm));
    config.blockDim = dim3(THREADS);
    config.dynamicSmemBytes = (size_t)bytes;
    config.stream = g->stream;
    config.attrs = &attr;
    config.numAttrs = 1;
    return cudaLaunchKernelEx(&config, attn_decode_kernel<K>, map, p) == cudaSuccess ? OK : ERR_DEVICE;
}

enum err attn_decode_sm90(const struct attn_args *a, const struct attn_gpu *g)
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
