/* attn_decode_fp8: paged attention of one query row per sequence over pages of 8 bits (kernels/kv_fp8.h).
 * bf16 in and out, fp32 sums.
 *
 * As attn_decode_sm90 does it: one warp keeps a ring of pages in flight, four compute, four gather; pieces
 * are those of attn_piece.cuh. Codes become f16, exactly, between shared memory and the tensor cores. A row's
 * exponent is multiplied into the scores of a key, and for a value into its probability, against the largest
 * of the warp's values so far, so that both stay within f16. Columns of a head come to the products in an
 * order of their own, that in which bytes leave shared memory: queries and results follow it. */
#include "kernels/cuda/kv_fp8.cuh"
#include "kernels/cuda/kv_fp8_gpu.h"
#include "kernels/cuda/attn_piece.cuh"
#include "kernels/cuda/gpu_ops.cuh"

#include <cuda_runtime.h>

enum {
    THREADS = 32 * (1 + COMPUTE_WARPS + GATHER_WARPS),
    CTAS = 2,   /* on an SM where there is room: while one is between two pieces the other loads, and the next
                   kernel begins where one ends */
    ITEMS = 4,  /* pieces between the loading warp and the gathering ones */
    LINE = 128, /* bytes of a swizzled row: a token's, or two */
};

/* --- products of f16 */

__device__ __forceinline__ void mma_f16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ uint32_t f16_of_codes(uint32_t two)
{
    uint32_t h;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(h) : "h"((uint16_t)two));
    return h;
}
__device__ __forceinline__ uint32_t pack_f16(float lo, float hi)
{
    uint32_t r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}

/* 16-byte column col of a key in a half of a page: rows of LINE bytes, swizzled. */
template <int K> __device__ __forceinline__ uint32_t codes_at(uint32_t tile, int key, int col)
{
    const int row = key * K / LINE, c = key * K % LINE / 16 + col;
    return tile + row * LINE + ((c ^ row % 8) << 4);
}

/* A head's numbers 16 j + 4 lane % 4 .. + 3 for each j, as f16 within 256, and what scores of its column are
 * multiplied with: heads lane % 4 * 2 and the next. */
template <int K>
__device__ __forceinline__ void read_q_f16(uint32_t (&q_r)[K / 16][2], float (&scale)[2],
                                           const __nv_bfloat16 *q_s, int per_kv, float scale_log2)
{
    const int lane = threadIdx.x % 32, head = lane / 4;
    float most = 0;
    uint2 u[K / 16];
#pragma unroll
    for (int j = 0; j < K / 16; j++) {
        u[j] = head < per_kv ? *(const uint2 *)(q_s + head * K + 16 * j + lane % 4 * 4) : make_uint2(0, 0);
        most = fmaxf(fmaxf(most, fabsf(bf16_lo(u[j].x))), fabsf(bf16_hi(u[j].x)));
        most = fmaxf(fmaxf(most, fabsf(bf16_lo(u[j].y))), fabsf(bf16_hi(u[j].y)));
    }
    most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
    most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
    const int e = max(-100, min(100, (__float_as_int(most) >> 23) - 127 - 7)); /* zero and the like: any */
    const float down = power_of_two(-e);
#pragma unroll
    for (int j = 0; j < K / 16; j++) {
        q_r[j][0] = pack_f16(bf16_lo(u[j].x) * down, bf16_hi(u[j].x) * down);
        q_r[j][1] = pack_f16(bf16_lo(u[j].y) * down, bf16_hi(u[j].y) * down);
    }
#pragma unroll
    for (int c = 0; c < 2; c++)
        scale[c] = scale_log2 * power_of_two(__shfl_sync(~0u, e, (lane % 4 * 2 + c) * 4));
}

/* s[t] = K Q^T of keys 16 t .. of the warp's 32: rows are keys, columns the query heads. */
template <int K>
__device__ __forceinline__ void scores(float (&s_r)[2][4], const uint32_t (&q_r)[K / 16][2], uint32_t tile,
                                       int key0)
{
    const int lane = threadIdx.x % 32, key = key0 + lane % 16, half = lane / 16;
#pragma unroll
    for (int t = 0; t < 2; t++)
#pragma unroll
        for (int i = 0; i < 4; i++) s_r[t][i] = 0;
#pragma unroll
    for (int i = 0; i < K / 32; i++)
#pragma unroll
        for (int t = 0; t < 2; t++) {
            uint32_t k_r[4];
            ldmatrix_x4(k_r, codes_at<K>(tile, key + 16 * t, i * 2 + half));
#pragma unroll
            for (int c = 0; c < 2; c++) {
                const uint32_t a[4] = {f16_of_codes(k_r[2 * c]), f16_of_codes(k_r[2 * c + 1]),
                                       f16_of_codes(k_r[2 * c] >> 16), f16_of_codes(k_r[2 * c + 1] >> 16)};
                mma_f16(s_r[t], a, q_r[2 * i + c][0], q_r[2 * i + c][1]);
            }
        }
}

/* What a warp knows of a piece. A result's row is a head column: 16 j + 2 lane / 4 for the first two of o[j],
 * the next for the others; o counts in units of 2^unit. m is a maximum of scaled scores, in log2. */
template <int K> struct fp8_state {
    float o[K / 16][4], m[2], l[2];
    int unit;
    __device__ fp8_state() : m{-INFINITY, -INFINITY}, l{0, 0}, unit(-128)
    {
#pragma unroll
        for (int j = 0; j < K / 16; j++)
#pragma unroll
            for (int r = 0; r < 4; r++) o[j][r] = 0;
    }
};

/* Scores of a block to probabilities; keys past last do not count. Older sums are rescaled. */
template <int K>
__device__ __forceinline__ void probabilities(fp8_state<K> &st, float (&s_r)[2][4], const int (&e_k)[2][2],
                                              int key0, int last, const float (&scale)[2])
{
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int t = 0; t < 2; t++)
#pragma unroll
        for (int r = 0; r < 4; r++) s_r[t][r] *= power_of_two(e_k[t][r / 2]) * scale[r % 2];
    if (last < TILE_N - 1)
#pragma unroll
        for (int t = 0; t < 2; t++)
#pragma unroll
            for (int r = 0; r < 4; r++)
                if (key0 + 16 * t + r / 2 * 8 + lane / 4 > last) s_r[t][r] = -INFINITY;
#pragma unroll
    for (int c = 0; c < 2; c++) {
        const float top = fmaxf(
            st.m[c], column_max(fmaxf(fmaxf(s_r[0][c], s_r[0][c + 2]), fmaxf(s_r[1][c], s_r[1][c + 2]))));
        const float base = top == -INFINITY ? 0.0f : top; /* all keys masked: exp2(-inf - 0) = 0, never NaN */
        const float down = exp2_fast(st.m[c] - base);
        st.m[c] = top;
        st.l[c] *= down;
#pragma unroll
        for (int t = 0; t < 2; t++)
#pragma unroll
            for (int r = 0; r < 2; r++) {
                const float x = exp2_fast(s_r[t][c + 2 * r] - base);
                s_r[t][c + 2 * r] = x;
                st.l[c] += x;
            }
#pragma unroll
        for (int j = 0; j < K / 16; j++) {
            st.o[j][c] *= down;
            st.o[j][c + 2] *= down;
        }
    }
}

/* Probabilities times the powers of two of their values, as the products take them. e_v: exponent of key key0
 * + lane. */
template <int K>
__device__ __forceinline__ void weigh(fp8_state<K> &st, uint32_t (&p_r)[2][2], const float (&s_r)[2][4],
                                      int e_v)
{
    const int lane = threadIdx.x % 32, unit = max(st.unit, __reduce_max_sync(~0u, e_v));
    if (unit > st.unit) { /* the same for the whole warp, and seldom */
        const float down = power_of_two(st.unit - unit);
#pragma unroll
        for (int j = 0; j < K / 16; j++)
#pragma unroll
            for (int r = 0; r < 4; r++) st.o[j][r] *= down;
        st.unit = unit;
    }
#pragma unroll
    for (int t = 0; t < 2; t++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const float w = power_of_two(__shfl_sync(~0u, e_v, 16 * t + 8 * r + lane / 4) - unit);
            p_r[t][r] = movmatrix_trans(pack_f16(s_r[t][2 * r] * w, s_r[t][2 * r + 1] * w));
        }
}

/* o += V^T P^T over the warp's 32 keys: rows are head columns, columns the query heads. Keys past `last` hold
 * anything. */
template <int K, bool TAIL>
__device__ __forceinline__ void add_values(float (&o_r)[K / 16][4], const uint32_t (&p_r)[2][2],
                                           uint32_t tile, int key0, int last)
{
    const int lane = threadIdx.x % 32, key = key0 + lane % 8 + lane / 8 % 2 * 8, half = lane / 16;
#pragma unroll
    for (int t = 0; t < 2; t++) {
        uint32_t mask[2];
        if (TAIL)
            for (int r = 0; r < 2; r++) {
                const int k = key0 + 16 * t + 8 * r + lane % 4 * 2;
                mask[r] = (k <= last ? 0xffffu : 0) | (k + 1 <= last ? 0xffff0000u : 0);
            }
#pragma unroll
        for (int i = 0; i < K / 32; i++) {
            uint32_t v_r[4]; /* keys 0-7 and 8-15 of 16 columns, then of the next 16; a register: two columns
                                of a key, two of the next */
            ldmatrix_x4_trans(v_r, codes_at<K>(tile, key + 16 * t, i * 2 + half));
#pragma unroll
            for (int c = 0; c < 2; c++) {
                uint32_t lo = v_r[2 * c], hi = v_r[2 * c + 1];
                if (TAIL) { /* a probability of 0 does not clear the NaN of a row never written */
                    lo &= mask[0];
                    hi &= mask[1];
                }
                lo = __byte_perm(lo, 0, 0x3120);
                hi = __byte_perm(hi, 0, 0x3120);
                const uint32_t a[4] = {f16_of_codes(lo), f16_of_codes(lo >> 16), f16_of_codes(hi),
                                       f16_of_codes(hi >> 16)};
                mma_f16(o_r[2 * i + c], a, p_r[t][0], p_r[t][1]);
            }
        }
    }
}

/* l: already summed over the keys. */
template <int K>
__device__ __forceinline__ void store_fp8_state(partial<K> &part, const fp8_state<K> &st, const float (&l)[2],
                                                int per_kv)
{
    const int head = threadIdx.x % 4 * 2, dim = threadIdx.x % 32 / 4;
    const float unit = power_of_two(st.unit);
#pragma unroll
    for (int c = 0; c < 2; c++) {
        if (head + c >= per_kv) break;
#pragma unroll
        for (int j = 0; j < K / 16; j++)
            *(float2 *)&part.o[head + c][16 * j + 2 * dim] =
                make_float2(st.o[j][c] * unit, st.o[j][c + 2] * unit);
        if (dim == 0) {
            part.m[head + c] = st.m[c];
            part.l[head + c] = l[c];
        }
    }
}

/* Behind it lie what depends on the launch: the warps' parts of a piece, the queries of ITEMS pieces, the
 * plan. */
template <int K> struct smem {
    static constexpr int STAGES = K == 128 ? 6 : 12;
    uint8_t ring[STAGES][TILE_N * K];
    int8_t exp[STAGES][TILE_N];
    uint64_t full[STAGES], exp_full[STAGES], empty[STAGES], part_full, part_empty, item_full[ITEMS],
        item_empty[ITEMS];
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
__device__ void load_pages(smem<K> &sm, const row_plan &plan, const piece_params &p, const CUtensorMap *map,
                           const int8_t *exp)
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
            const int half = (page_half(__shfl_sync(~0u, page, b % 32)) * p.n_kv + it.kv) * 2;
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
                    mbar_arrive_tx(&sm.full[st], TILE_N * K);
                    mbar_arrive_tx(&sm.exp_full[st], TILE_N);
                    tma_load_2d(sm.ring[st], map, &sm.full[st], 0, (half + kv) * (TILE_N * K / LINE), hint);
                    bulk_load(sm.exp[st], exp + (int64_t)(half + kv) * TILE_N, TILE_N, &sm.exp_full[st],
                              hint);
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
        float scale[2];
        fp8_state<K> state;
        read_q_f16<K>(q_r, scale, q_of(sm, n_item, per_kv), per_kv, p.scale_log2);
        drop_item(sm, n_item);
        for (int b = 0; b < it.n; b++) {
            const int last = b == tail ? row_last : TILE_N - 1;
            float s_r[2][4];
            uint32_t st = i % STAGES, p_r[2][2];
            int e_k[2][2], e_v;
            mbar_wait(&sm.full[st], i / STAGES & 1);
            scores<K>(s_r, q_r, smem_u32(sm.ring[st]), key0);
            mbar_wait(&sm.exp_full[st], i / STAGES & 1);
#pragma unroll
            for (int t = 0; t < 2; t++)
#pragma unroll
                for (int r = 0; r < 2; r++) e_k[t][r] = sm.exp[st][key0 + 16 * t + 8 * r + lane / 4];
            release(st);
            i++;
            const uint32_t st_v = i % STAGES;
            probabilities<K>(state, s_r, e_k, key0, last, scale);
            mbar_wait(&sm.exp_full[st_v], i / STAGES & 1);
            e_v = key0 + lane <= last ? sm.exp[st_v][key0 + lane] : -128;
            weigh<K>(state, p_r, s_r, e_v);
            mbar_wait(&sm.full[st_v], i / STAGES & 1);
            if (b == tail)
                add_values<K, true>(state.o, p_r, smem_u32(sm.ring[st_v]), key0, last);
            else
                add_values<K, false>(state.o, p_r, smem_u32(sm.ring[st_v]), key0, last);
            release(st_v);
            i++;
        }
        const float l[2] = {column_sum(state.l[0]), column_sum(state.l[1])};
        mbar_wait(&sm.part_empty, (n_item & 1) ^ 1);
        store_fp8_state<K>(part_of<K>(parts, warp, per_kv), state, l, per_kv);
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
    attn_decode_fp8_kernel(const __grid_constant__ CUtensorMap map, const int8_t *exp, const piece_params p)
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
            mbar_init(&sm.exp_full[i], 1);
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
    if (warp == 0) load_pages(sm, plan, p, &map, exp);
    grid_wait();
    clear_rows<K, __nv_bfloat16>(p);
    if (warp == 0) return;
    if (warp <= COMPUTE_WARPS)
        compute_pieces(sm, parts, p, warp - 1);
    else
        gather_pieces(sm, parts, p);
}

template <int K> static enum err launch(const attn_args *a, const kv_fp8_pool *pool, const attn_gpu *g)
{
    static_assert(smem_bytes<K>(HEADS, ATTN_MAX_SEG) <= 232448, "shared memory of one CTA");
    CUtensorMap map;
    piece_params p;
    enum err e = piece_args(p, a, g);
    if (e == OK)
        e = tensor_map_2d(&map, pool->code, g->n_page * a->n_kv * 2 * (PAGE_TOK * K / LINE), LINE / 2,
                          LINE / 2, TILE_N * K / LINE); /* of pairs */
    if (e != OK) return e;
    p.codes = 1;
    const int bytes = smem_bytes<K>(p.n_head / p.n_kv, p.n_seg);
    int per_sm = 0;
    if (cudaFuncSetAttribute(attn_decode_fp8_kernel<K>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             smem_bytes<K>(HEADS, ATTN_MAX_SEG)) != cudaSuccess ||
        cudaFuncSetAttribute(attn_decode_fp8_kernel<K>, cudaFuncAttributePreferredSharedMemoryCarveout,
                             cudaSharedmemCarveoutMaxShared) != cudaSuccess ||
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_sm, attn_decode_fp8_kernel<K>, THREADS,
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
    return cudaLaunchKernelEx(&config, attn_decode_fp8_kernel<K>, map, (const int8_t *)pool->exp, p) ==
                   cudaSuccess
               ? OK
               : ERR_DEVICE;
}

enum err attn_decode_fp8_sm90(const struct attn_args *a, const struct kv_fp8_pool *pool,
                              const struct attn_gpu *g)
{
    switch (a->head) {
    case 64:
        return launch<64>(a, pool, g);
    case 128:
        return launch<128>(a, pool, g);
    default:
        return ERR_INVALID_VALUE;
    }
}
