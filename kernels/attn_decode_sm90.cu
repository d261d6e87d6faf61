/* attn_decode: paged attention of one query row per sequence. bf16 in and out, fp32 sums.
 *
 * The work is bytes of K and V. Each (row, kv head) walks its visible blocks in pieces of equal size, whose size depends on
 * that row's own number of blocks; one CTA per SM takes a run of whole pieces, equal shares by blocks, so long and short,
 * full and sparse rows mix in one launch. Whoever finishes a row's last piece adds up all its pieces in order: bits depend
 * neither on the batch nor on who computed what.
 *
 * In a CTA one warp keeps a ring of pages in flight, four warps compute (32 keys of each page each; the query heads of the
 * kv head are the 8 columns of the products), four warps gather their results and write them, so loads never pause. */
#include "kernels/attn_gpu.cuh"
#include "kernels/sm90.cuh"

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <math.h>

enum {
    TILE_N = PAGE_TOK,
    COMPUTE_WARPS = 4,
    GATHER_WARPS = 4,
    THREADS = 32 * (1 + COMPUTE_WARPS + GATHER_WARPS),
    HEADS = 8,                   /* query heads of a kv head, padded */
    BAR_GATHER = 1,
};

/* A thread's float[HEADS] column would meet its neighbours' in one bank; four more floats a row keep them apart. */
template <int K> struct partial {
    float o[HEADS][K + 4];
    float m[HEADS], l[HEADS];
};

template <int K> struct smem {
    static constexpr int STAGES = K == 128 ? 5 : 10;
    __nv_bfloat16 ring[STAGES][TILE_N * K];
    partial<K>    part[2][COMPUTE_WARPS];
    uint64_t      full[STAGES], empty[STAGES], part_full[2], part_empty[2];
    float         weight[HEADS][ATTN_MAX_CHUNK];
    int           last;
    int           n_block[ATTN_MAX_SEG]; /* visible blocks of each row */
    int           end_block[ATTN_MAX_SEG], end_item[ATTN_MAX_SEG]; /* running sums over rows, all kv heads */
};

struct params {
    const attn_seg      *seg;
    const __nv_bfloat16 *q;
    __nv_bfloat16       *out;
    int64_t              q_stride, out_stride;
    int                 *row_counter; /* [row, kv head] pieces done; zero between launches */
    float2              *stat;        /* [item][heads of a kv head] max (log2), sum */
    float               *part;        /* [item][heads of a kv head][K] */
    int                  n_seg, n_head, n_kv;
    float                scale_log2;
};

__device__ __forceinline__ attn_span span_of(const attn_seg &s)
{
    int       block = s.pos0 / TILE_N;
    bool      full = s.kind == ATTN_FULL || (s.kind == ATTN_TRIANGLE && s.pos0 >= s.dense_from);
    attn_span span = {block + 1, 0};
    if (s.n_row <= 0 || s.kind == ATTN_NONE)
        span.n_local = 0;
    else if (!full)
        span = attn_streaming(block, s.sink_blocks, s.local_blocks);
    return span;
}
/* Blocks in a piece: small enough that pieces share out evenly over the SMs, large enough that the partial result (2 KB for
 * four heads) is little beside the piece's K and V (64 KB a block); a sparse row's window is fewer, smaller pieces. */
__device__ __forceinline__ int chunk_of(int n_block)
{
    return max(n_block <= 32 ? 2 : 4, (n_block + ATTN_MAX_CHUNK - 1) / ATTN_MAX_CHUNK);
}

/* A piece: blocks [first, first + n) of the row's visible ones, in rising order. */
struct item {
    int row, kv, chunk, n_chunk, first, n, id;
};

/* Walks a CTA's pieces. Every warp keeps its own copy and so they agree without talking. */
struct item_walk {
    const int *n_block, *end_block, *end_item;
    int        n_seg, n_kv;
    int        row, kv, chunk;
    int        start, stop; /* next piece's first block, counted over everything; where the CTA's share ends */

    template <int K> __device__ item_walk(const smem<K> &sm, const params &p)
        : n_block(sm.n_block), end_block(sm.end_block), end_item(sm.end_item), n_seg(p.n_seg), n_kv(p.n_kv), row(0), kv(0), chunk(0)
    {
        int64_t total = end_block[n_seg - 1];
        start = (int)(total * blockIdx.x / gridDim.x);
        stop = (int)(total * (blockIdx.x + 1) / gridDim.x);
        int hi = n_seg - 1;
        while (row < hi) {
            int mid = (row + hi) / 2;
            if (end_block[mid] > start)
                hi = mid;
            else
                row = mid + 1;
        }
        if (start >= stop)
            return;
        int nb = n_block[row], cs = chunk_of(nb), off = start - (row ? end_block[row - 1] : 0);
        kv = off / nb;
        chunk = (off - kv * nb + cs - 1) / cs; /* a piece belongs to the CTA in whose share it starts */
        start += chunk * cs - (off - kv * nb);
        if (chunk * cs >= nb) {
            start -= chunk * cs - nb;
            next_head();
        }
    }
    __device__ void next_head()
    {
        chunk = 0;
        if (++kv < n_kv)
            return;
        kv = 0;
        do
            row++;
        while (row < n_seg && n_block[row] == 0);
    }
    __device__ bool take(item &it)
    {
        if (start >= stop)
            return false;
        int nb = n_block[row], cs = chunk_of(nb);
        it.row = row;
        it.kv = kv;
        it.chunk = chunk;
        it.n_chunk = (nb + cs - 1) / cs;
        it.first = chunk * cs;
        it.n = min(cs, nb - it.first);
        it.id = (row ? end_item[row - 1] : 0) + kv * it.n_chunk + chunk;
        start += it.n;
        if (++chunk == it.n_chunk)
            next_head();
        return true;
    }
};

/* How many blocks and pieces each row has, and their running sums. */
template <int K> __device__ void plan_rows(smem<K> &sm, const params &p)
{
    for (int r = threadIdx.x; r < p.n_seg; r += THREADS) {
        attn_span span = span_of(p.seg[r]);
        sm.n_block[r] = span.n_local + span.n_sink;
    }
    __syncthreads();
    if (threadIdx.x < 32) {
        int lane = threadIdx.x, blocks = 0, items = 0;
        for (int r0 = 0; r0 < p.n_seg; r0 += 32) {
            int nb = r0 + lane < p.n_seg ? sm.n_block[r0 + lane] : 0, cs = chunk_of(nb);
            int b = nb * p.n_kv, n = (nb + cs - 1) / cs * p.n_kv;
            for (int d = 1; d < 32; d *= 2) {
                int ub = __shfl_up_sync(~0u, b, d), un = __shfl_up_sync(~0u, n, d);
                b += lane >= d ? ub : 0;
                n += lane >= d ? un : 0;
            }
            if (r0 + lane < p.n_seg) {
                sm.end_block[r0 + lane] = blocks + b;
                sm.end_item[r0 + lane] = items + n;
            }
            blocks += __shfl_sync(~0u, b, 31);
            items += __shfl_sync(~0u, n, 31);
        }
    }
    __syncthreads();
}

template <int K> __device__ void load_pages(smem<K> &sm, const params &p, const CUtensorMap *map)
{
    constexpr int  STAGES = smem<K>::STAGES;
    const int      lane = threadIdx.x % 32;
    const uint64_t hint = l2_evict_first();
    item_walk      walk(sm, p);
    item           it;
    uint32_t       i = 0;
    while (walk.take(it)) {
        const attn_seg &s = p.seg[it.row];
        attn_span       span = span_of(s);
        int             local0 = s.pos0 / TILE_N + 1 - span.n_local - span.n_sink;
        int             page = 0;
        for (int b = 0; b < it.n; b++) {
            if (b % 32 == 0 && b + lane < it.n) {
                int step = it.first + b + lane;
                page = s.page[step < span.n_sink ? step : local0 + step];
            }
            int row = (__shfl_sync(~0u, page, b % 32) * p.n_kv + it.kv) * 2 * TILE_N;
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

/* s[t] = K Q^T of keys 16 t .. of the warp's 32: rows are keys, columns the query heads. */
template <int K> __device__ __forceinline__ void product_qk(float (&s_r)[2][4], const uint32_t (&q_r)[K / 16][2], uint32_t tile, int key0)
{
    const int lane = threadIdx.x % 32, key = key0 + lane % 16, half = lane / 16;
#pragma unroll
    for (int t = 0; t < 2; t++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            s_r[t][i] = 0;
#pragma unroll
    for (int i = 0; i < K / 16; i++) {
#pragma unroll
        for (int t = 0; t < 2; t++) {
            uint32_t k_r[4];
            ldmatrix_x4(k_r, tile + i / 4 * (TILE_N * 128) + (key + 16 * t) * 128 + (((i % 4 * 2 + half) ^ (key % 8)) << 4));
            mma_16816(s_r[t], k_r, q_r[i][0], q_r[i][1]);
        }
    }
}

/* o += V^T P^T over the warp's 32 keys: rows are head columns, columns the query heads. Keys past `last` hold anything. */
template <int K, bool TAIL>
__device__ __forceinline__ void product_pv(float (&o_r)[K / 16][4], const uint32_t (&p_r)[2][2], uint32_t tile, int key0, int last)
{
    const int lane = threadIdx.x % 32, key = key0 + lane % 8 + lane / 16 * 8, half = lane / 8 % 2;
#pragma unroll
    for (int t = 0; t < 2; t++) {
        uint32_t mask[2];
        if (TAIL)
            for (int r = 0; r < 2; r++) {
                int k = key0 + 16 * t + 8 * r + lane % 4 * 2;
                mask[r] = (k <= last ? 0xffffu : 0) | (k + 1 <= last ? 0xffff0000u : 0);
            }
#pragma unroll
        for (int j = 0; j < K / 16; j++) {
            uint32_t v_r[4];
            ldmatrix_x4_trans(v_r, tile + j / 4 * (TILE_N * 128) + (key + 16 * t) * 128 + (((j % 4 * 2 + half) ^ (key % 8)) << 4));
            if (TAIL) { /* a probability of 0 does not clear the NaN of a row never written */
                v_r[0] &= mask[0];
                v_r[1] &= mask[0];
                v_r[2] &= mask[1];
                v_r[3] &= mask[1];
            }
            mma_16816(o_r[j], v_r, p_r[t][0], p_r[t][1]);
        }
    }
}

/* Max over the keys of a column: lanes that differ in bits 2..4 hold its other rows. */
__device__ __forceinline__ float column_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(~0u, x, 4));
    x = fmaxf(x, __shfl_xor_sync(~0u, x, 8));
    return fmaxf(x, __shfl_xor_sync(~0u, x, 16));
}
__device__ __forceinline__ float column_sum(float x)
{
    x += __shfl_xor_sync(~0u, x, 4);
    x += __shfl_xor_sync(~0u, x, 8);
    return x + __shfl_xor_sync(~0u, x, 16);
}

template <int K> __device__ void compute_pieces(smem<K> &sm, const params &p, int warp)
{
    constexpr int STAGES = smem<K>::STAGES;
    const int     lane = threadIdx.x % 32, key0 = warp * 32, per_kv = p.n_head / p.n_kv;
    item_walk     walk(sm, p);
    item          it;
    uint32_t      i = 0;
    for (uint32_t n_item = 0; walk.take(it); n_item++) {
        const int pos = p.seg[it.row].pos0, last = pos % TILE_N, tail = it.chunk == it.n_chunk - 1 ? it.n - 1 : -1;
        uint32_t  q_r[K / 16][2];
        {
            const int             head = lane / 4;
            const __nv_bfloat16  *q = p.q + p.seg[it.row].row0 * p.q_stride + (it.kv * per_kv + head) * K + lane % 4 * 2;
#pragma unroll
            for (int j = 0; j < K / 16; j++)
#pragma unroll
                for (int r = 0; r < 2; r++)
                    q_r[j][r] = head < per_kv ? *(const uint32_t *)(q + 16 * j + 8 * r) : 0;
        }
        float o_r[K / 16][4], m[2] = {-INFINITY, -INFINITY}, l[2] = {0, 0};
#pragma unroll
        for (int j = 0; j < K / 16; j++)
#pragma unroll
            for (int r = 0; r < 4; r++)
                o_r[j][r] = 0;
        for (int b = 0; b < it.n; b++) {
            float    s_r[2][4];
            uint32_t st = i % STAGES, p_r[2][2];
            mbar_wait(&sm.full[st], i / STAGES & 1);
            product_qk<K>(s_r, q_r, smem_u32(sm.ring[st]), key0);
            __syncwarp();
            if (lane == 0)
                mbar_arrive(&sm.empty[st]);
            i++;
            if (b == tail)
#pragma unroll
                for (int t = 0; t < 2; t++)
#pragma unroll
                    for (int r = 0; r < 4; r++)
                        if (key0 + 16 * t + r / 2 * 8 + lane / 4 > last)
                            s_r[t][r] = -INFINITY;
#pragma unroll
            for (int c = 0; c < 2; c++) {
                float top = fmaxf(m[c], column_max(fmaxf(fmaxf(s_r[0][c], s_r[0][c + 2]), fmaxf(s_r[1][c], s_r[1][c + 2]))));
                float base = top == -INFINITY ? 0.0f : top * p.scale_log2; /* all keys masked: exp2(-inf - 0) = 0, never NaN */
                float scale = exp2_fast(m[c] * p.scale_log2 - base);
                m[c] = top;
                l[c] *= scale;
#pragma unroll
                for (int t = 0; t < 2; t++)
#pragma unroll
                    for (int r = 0; r < 2; r++) {
                        float x = exp2_fast(fmaf(s_r[t][c + 2 * r], p.scale_log2, -base));
                        s_r[t][c + 2 * r] = x;
                        l[c] += x;
                    }
#pragma unroll
                for (int j = 0; j < K / 16; j++) {
                    o_r[j][c] *= scale;
                    o_r[j][c + 2] *= scale;
                }
            }
#pragma unroll
            for (int t = 0; t < 2; t++)
#pragma unroll
                for (int r = 0; r < 2; r++)
                    p_r[t][r] = movmatrix_trans(pack_bf16(s_r[t][2 * r], s_r[t][2 * r + 1]));
            st = i % STAGES;
            mbar_wait(&sm.full[st], i / STAGES & 1);
            if (b == tail)
                product_pv<K, true>(o_r, p_r, smem_u32(sm.ring[st]), key0, last);
            else
                product_pv<K, false>(o_r, p_r, smem_u32(sm.ring[st]), key0, last);
            __syncwarp();
            if (lane == 0)
                mbar_arrive(&sm.empty[st]);
            i++;
        }
        partial<K> &part = sm.part[n_item & 1][warp];
        l[0] = column_sum(l[0]);
        l[1] = column_sum(l[1]);
        mbar_wait(&sm.part_empty[n_item & 1], (n_item >> 1 & 1) ^ 1);
        const int head = lane % 4 * 2, dim = lane / 4;
#pragma unroll
        for (int j = 0; j < K / 16; j++)
#pragma unroll
            for (int r = 0; r < 4; r++)
                part.o[head + r % 2][16 * j + r / 2 * 8 + dim] = o_r[j][r];
        if (dim == 0)
            for (int c = 0; c < 2; c++) {
                part.m[head + c] = m[c] * p.scale_log2;
                part.l[head + c] = l[c];
            }
        mbar_arrive(&sm.part_full[n_item & 1]);
    }
}

__device__ __forceinline__ void store_out(const params &p, int row, int head, int n_col, int col, float4 x, float inv)
{
    uint2 v = {pack_bf16(x.x * inv, x.y * inv), pack_bf16(x.z * inv, x.w * inv)};
    *(uint2 *)(p.out + p.seg[row].row0 * p.out_stride + head * n_col + col) = v;
}
__device__ __forceinline__ float weight_of(float m, float top) { return m == -INFINITY ? 0.0f : exp2_fast(m - top); }
__device__ __forceinline__ void add_scaled(float4 &a, float w, float4 x)
{
    a.x += w * x.x;
    a.y += w * x.y;
    a.z += w * x.z;
    a.w += w * x.w;
}

/* Adds up all pieces of a (row, kv head), in their order. */
template <int K> __device__ void merge_pieces(smem<K> &sm, const params &p, const item &it)
{
    const int thread = threadIdx.x % 128, lane = thread % 32, per_kv = p.n_head / p.n_kv, id0 = it.id - it.chunk;
    for (int h = thread / 32; h < per_kv; h += GATHER_WARPS) {
        float2 a = {-INFINITY, 0}, b = {-INFINITY, 0};
        if (lane < it.n_chunk)
            a = __ldcg(&p.stat[(int64_t)(id0 + lane) * per_kv + h]);
        if (lane + 32 < it.n_chunk)
            b = __ldcg(&p.stat[(int64_t)(id0 + lane + 32) * per_kv + h]);
        float top = fmaxf(a.x, b.x);
        for (int d = 16; d; d /= 2)
            top = fmaxf(top, __shfl_xor_sync(~0u, top, d));
        float wa = weight_of(a.x, top), wb = weight_of(b.x, top), sum = a.y * wa + b.y * wb;
        for (int d = 16; d; d /= 2)
            sum += __shfl_xor_sync(~0u, sum, d);
        sm.weight[h][lane] = wa / sum;
        sm.weight[h][lane + 32] = wb / sum;
    }
    bar_sync(BAR_GATHER, 32 * GATHER_WARPS);
    for (int i = thread; i < per_kv * K / 4; i += 128) {
        int           h = i / (K / 4);
        const float4 *part = (const float4 *)(p.part + (int64_t)id0 * per_kv * K) + i;
        float4        acc = {0, 0, 0, 0};
#pragma unroll 16
        for (int c = 0; c < it.n_chunk; c++)
            add_scaled(acc, sm.weight[h][c], __ldcg(part + (int64_t)c * (per_kv * K / 4)));
        store_out(p, it.row, it.kv * per_kv + h, K, i % (K / 4) * 4, acc, 1.0f);
    }
    bar_sync(BAR_GATHER, 32 * GATHER_WARPS);
}

template <int K> __device__ void gather_pieces(smem<K> &sm, const params &p)
{
    const int thread = threadIdx.x % 128, per_kv = p.n_head / p.n_kv;
    item_walk walk(sm, p);
    item      it;
    for (uint32_t n_item = 0; walk.take(it); n_item++) {
        partial<K>(&part)[COMPUTE_WARPS] = sm.part[n_item & 1];
        mbar_wait(&sm.part_full[n_item & 1], n_item >> 1 & 1);
        for (int i = thread; i < per_kv * K / 4; i += 128) {
            int    h = i / (K / 4), col = i % (K / 4) * 4;
            float  top = fmaxf(fmaxf(part[0].m[h], part[1].m[h]), fmaxf(part[2].m[h], part[3].m[h])), l = 0;
            float4 acc = {0, 0, 0, 0};
#pragma unroll
            for (int w = 0; w < COMPUTE_WARPS; w++) {
                float weight = weight_of(part[w].m[h], top);
                l += weight * part[w].l[h];
                add_scaled(acc, weight, *(const float4 *)&part[w].o[h][col]);
            }
            if (it.n_chunk == 1) {
                store_out(p, it.row, it.kv * per_kv + h, K, col, acc, 1.0f / l);
            } else {
                int64_t at = (int64_t)it.id * per_kv + h;
                __stcg((float4 *)(p.part + at * K + col), acc);
                if (col == 0)
                    __stcg(&p.stat[at], make_float2(top, l));
            }
        }
        mbar_arrive(&sm.part_empty[n_item & 1]);
        if (it.n_chunk == 1)
            continue;
        __threadfence();
        bar_sync(BAR_GATHER, 32 * GATHER_WARPS);
        if (thread == 0) {
            int *done = &p.row_counter[it.row * p.n_kv + it.kv];
            sm.last = atomicAdd(done, 1) == it.n_chunk - 1;
            if (sm.last)
                *done = 0;
            __threadfence();
        }
        bar_sync(BAR_GATHER, 32 * GATHER_WARPS);
        if (sm.last)
            merge_pieces(sm, p, it);
    }
}

/* Rows of a skipped layer: out = 0. */
template <int K> __device__ void clear_rows(const params &p)
{
    for (int r = blockIdx.x; r < p.n_seg; r += gridDim.x)
        if (p.seg[r].kind == ATTN_NONE && p.seg[r].n_row > 0)
            for (int i = threadIdx.x; i < p.n_head * K / 8; i += THREADS)
                *(uint4 *)(p.out + p.seg[r].row0 * p.out_stride + i * 8) = make_uint4(0, 0, 0, 0);
}

template <int K> __global__ void __launch_bounds__(THREADS, 1) attn_decode_kernel(const __grid_constant__ CUtensorMap map, const params p)
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
    plan_rows(sm, p);
    clear_rows<K>(p);
    if (warp == 0)
        load_pages(sm, p, &map);
    else if (warp <= COMPUTE_WARPS)
        compute_pieces(sm, p, warp - 1);
    else
        gather_pieces(sm, p);
}

template <int K> static enum err launch(const attn_args *a, const attn_gpu *g)
{
    constexpr int bytes = sizeof(smem<K>) + 1024;
    static_assert(bytes <= 232448, "shared memory of one CTA");
    CUtensorMap map;
    enum err    e = tensor_map_2d(&map, a->pool, g->n_page * a->n_kv * 2 * PAGE_TOK, K, K, TILE_N);
    if (e != OK)
        return e;
    attn_work w = attn_work_plan(g->max_row, a->n_head, a->n_kv, K);
    char     *work = (char *)g->work;
    params    p = {a->seg, (const __nv_bfloat16 *)a->q, (__nv_bfloat16 *)a->out, a->q_stride, a->out_stride, (int *)(work + w.row_counter),
                   (float2 *)(work + w.stat), (float *)(work + w.partial), a->n_seg, a->n_head, a->n_kv, a->scale * 1.44269504088896f};
    if (cudaFuncSetAttribute(attn_decode_kernel<K>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes) != cudaSuccess)
        return ERR_DEVICE;
    attn_decode_kernel<K><<<g->n_sm, THREADS, bytes, g->stream>>>(map, p);
    return cudaGetLastError() == cudaSuccess ? OK : ERR_DEVICE;
}

enum err attn_decode_sm90(const struct attn_args *a, const struct attn_gpu *g)
{
    if (a->n_seg < 1 || a->n_seg > ATTN_MAX_SEG || a->n_seg > g->max_row || a->n_kv < 1 || a->n_head % a->n_kv ||
        a->n_head / a->n_kv > HEADS || a->q_stride % 8 || a->out_stride % 8)
        return ERR_INVALID_VALUE;
    switch (a->head) {
    case 64: return launch<64>(a, g);
    case 128: return launch<128>(a, g);
    default: return ERR_INVALID_VALUE;
    }
}
