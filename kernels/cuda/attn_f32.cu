/* attn_f32: paged attention wholly in fp32, for --dtype f32. The same tiles and pieces as the fast kernels,
 * plain multiply-adds, so what it gives differs from the exact mode of the CPU by the order of sums alone. K
 * and V pages are fp32 in the common layout. */
#include "kernels/cuda/attn_piece.cuh"
#include "kernels/cuda/attn_tile.cuh"

#include <cuda_runtime.h>

enum {
    ROWS = 64, /* a CTA takes half a tile of query rows */
    KEYS = 64, /* and half a page of keys at a time */
    PREFILL_THREADS = 256,
    DECODE_THREADS = 32 * COMPUTE_WARPS,
    PAD = 4,             /* floats behind a row: neighbouring rows begin in different banks */
    SMEM_MAX = 99 << 10, /* what a CTA gets on the smallest devices of capability 8 */
};

static __device__ __forceinline__ float warp_max(float x)
{
#pragma unroll
    for (int m = 16; m > 0; m /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, m));
    return x;
}
static __device__ __forceinline__ float dot4(float4 a, float4 b, float sum)
{
    sum = fmaf(a.x, b.x, sum);
    sum = fmaf(a.y, b.y, sum);
    sum = fmaf(a.z, b.z, sum);
    return fmaf(a.w, b.w, sum);
}

/* --- prefill: thread (ty, tx) of 16 x 16 has rows 4 ty .. 4 ty + 3, of scores the keys tx + 16 j, of O the
 * columns 4 tx + 64 c .. */

struct prefill_params {
    const attn_seg *seg;
    const float *q, *pool;
    float *out;
    int64_t q_stride, out_stride;
    int *counter;
    int n_seg, n_head, n_kv;
    float scale_log2;
};

template <int K> struct prefill_smem {
    float q[ROWS][K + PAD], kv[KEYS][K + PAD], p[ROWS][KEYS + PAD];
    walk at; /* the tile at hand */
    int next, total, seg_end[ATTN_MAX_SEG];
};

/* Rows [lo, hi) from src on; the others become 0. */
template <int K>
__device__ __forceinline__ void load_rows(float (*dst_s)[K + PAD], const float *src, int64_t stride, int lo,
                                          int hi)
{
#pragma unroll 8
    for (int i = threadIdx.x; i < ROWS * K / 4; i += PREFILL_THREADS) {
        const int row = i / (K / 4), col = i % (K / 4) * 4;
        float4 x = {0, 0, 0, 0};
        if (row >= lo && row < hi) x = *(const float4 *)(src + row * stride + col);
        *(float4 *)&dst_s[row][col] = x;
    }
}

template <int K> struct prefill_state {
    float o[4][K / 16], m[4], l[4]; /* l: this thread's keys alone */
};

/* Scores of the keys at hand to probabilities in p_s. `masked`: the half page is the rows' own, later keys do
 * not count. */
template <int K>
__device__ __forceinline__ void scores(prefill_smem<K> &sm, prefill_state<K> &st, bool masked,
                                       float scale_log2)
{
    const int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
    float s[4][4] = {};
#pragma unroll 4
    for (int d = 0; d < K; d += 4) {
        float4 q[4], k[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            q[i] = *(const float4 *)&sm.q[4 * ty + i][d];
            k[i] = *(const float4 *)&sm.kv[tx + 16 * i][d];
        }
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) s[i][j] = dot4(q[i], k[j], s[i][j]);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float top = st.m[i];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (masked && tx + 16 * j > 4 * ty + i) s[i][j] = -INFINITY;
            top = fmaxf(top, s[i][j]);
        }
#pragma unroll
        for (int m = 8; m > 0; m /= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, m));
        const float base = top == -INFINITY ? 0.0f : top, scale = exp2f((st.m[i] - base) * scale_log2);
        st.m[i] = top;
        st.l[i] *= scale;
#pragma unroll
        for (int c = 0; c < K / 16; c++) st.o[i][c] *= scale;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float x = exp2f((s[i][j] - base) * scale_log2);
            st.l[i] += x;
            sm.p[4 * ty + i][tx + 16 * j] = x;
        }
    }
}

template <int K> __device__ __forceinline__ void values(prefill_smem<K> &sm, prefill_state<K> &st)
{
    const int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
#pragma unroll 2
    for (int key = 0; key < KEYS; key += 4) {
        float p[4][4];
#pragma unroll
        for (int i = 0; i < 4; i++) *(float4 *)p[i] = *(const float4 *)&sm.p[4 * ty + i][key];
#pragma unroll
        for (int k = 0; k < 4; k++)
#pragma unroll
            for (int c = 0; c < K / 64; c++) {
                float v[4];
                *(float4 *)v = *(const float4 *)&sm.kv[key + k][64 * c + 4 * tx];
#pragma unroll
                for (int i = 0; i < 4; i++)
#pragma unroll
                    for (int x = 0; x < 4; x++) st.o[i][4 * c + x] = fmaf(p[i][k], v[x], st.o[i][4 * c + x]);
            }
    }
}

/* Rows row_lo .. row_lo + 63 of a tile. */
template <int K>
__device__ void half_tile(prefill_smem<K> &sm, const prefill_params &p, const walk &w, int row_lo)
{
    const int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
    const int lo = w.info.lo - row_lo, hi = w.info.hi - row_lo;
    prefill_state<K> st = {{}, {-INFINITY, -INFINITY, -INFINITY, -INFINITY}, {}};
    load_rows<K>(sm.q, p.q + (w.info.row0 + row_lo) * p.q_stride + w.info.head * K, p.q_stride, lo, hi);
    for (int step = 0; step < w.info.n_block; step++) {
        const int block = walk_block(w, step);
        const float *page = p.pool + ((int64_t)w.page[block] * p.n_kv + w.kv) * 2 * PAGE_TOK * K;
        const int n_key =
            block == w.tail_block ? w.tail_rows : PAGE_TOK; /* later rows of the page were never written */
        for (int key_lo = PAGE_TOK - KEYS; key_lo >= 0; key_lo -= KEYS) {
            if (block == w.block && key_lo > row_lo) continue;
            load_rows<K>(sm.kv, page + key_lo * K, K, 0, n_key - key_lo);
            __syncthreads();
            scores<K>(sm, st, block == w.block && key_lo == row_lo, p.scale_log2);
            __syncthreads();
            load_rows<K>(sm.kv, page + (PAGE_TOK + key_lo) * K, K, 0, n_key - key_lo);
            __syncthreads();
            values<K>(sm, st);
            __syncthreads();
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float l = st.l[i];
#pragma unroll
        for (int m = 8; m > 0; m /= 2) l += __shfl_xor_sync(~0u, l, m);
        const float inv = l > 0 || l != l ? 1.0f / l : 0.0f; /* no key: 0; NaN stays NaN */
        const int row = 4 * ty + i;
        if (row < lo || row >= hi) continue;
        float *out = p.out + (w.info.row0 + row_lo + row) * p.out_stride + w.info.head * K + 4 * tx;
#pragma unroll
        for (int c = 0; c < K / 64; c++)
            *(float4 *)(out + 64 * c) = make_float4(st.o[i][4 * c] * inv, st.o[i][4 * c + 1] * inv,
                                                    st.o[i][4 * c + 2] * inv, st.o[i][4 * c + 3] * inv);
    }
}

template <int K> __global__ void __launch_bounds__(PREFILL_THREADS, 2) prefill_kernel(const prefill_params p)
{
    extern __shared__ __align__(16) unsigned char raw[];
    prefill_smem<K> &sm = *(prefill_smem<K> *)raw;
    if (threadIdx.x < 32) {
        const int total = plan_tiles(sm.seg_end, p);
        if (threadIdx.x == 0) sm.total = total;
    }
    for (;;) {
        __syncthreads();
        if (threadIdx.x == 0)
            if ((sm.next = atomicAdd(&p.counter[0], 1)) / 2 < sm.total)
                sm.at = walk_tile<K * 8>(p, sm.seg_end, sm.next / 2);
        __syncthreads();
        const int row_lo = sm.next % 2 ? 0 : ROWS;
        if (sm.next / 2 >= sm.total) break;
        if (sm.at.info.lo < row_lo + ROWS && sm.at.info.hi > row_lo) half_tile<K>(sm, p, sm.at, row_lo);
    }
    if (threadIdx.x == 0) leave_tiles(p.counter);
}

/* --- decode: a warp has 32 keys of each page; for scores a lane has a key, for O a lane has K / 32 columns
 */

template <int K> struct decode_smem {
    union {
        float k[COMPUTE_WARPS][32][K + PAD];
        unsigned char part[COMPUTE_WARPS * partial_bytes<K>(HEADS)];
    };
    float q[HEADS][K], p[COMPUTE_WARPS][32][HEADS];
    gather_smem gather;
    int plan[PLAN_INTS * ATTN_MAX_SEG];
};

template <int K> struct decode_params : piece_params {
    const float *pool;
};

template <int N> __device__ __forceinline__ void load_columns(float (&v)[N], const float *p)
{
    if constexpr (N == 4)
        *(float4 *)v = *(const float4 *)p;
    else
        *(float2 *)v = *(const float2 *)p;
}

/* n keys of a block, at k_g and v_g; m, l and o are of all heads. l: this lane's keys alone. */
template <int K>
__device__ __forceinline__ void attend_keys(decode_smem<K> &sm, float (&o)[HEADS][K / 32], float (&m)[HEADS],
                                            float (&l)[HEADS], const float *k_g, const float *v_g, int n,
                                            int n_head, float scale_log2)
{
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float s[HEADS] = {};
#pragma unroll 8
    for (int i = lane; i < n * K / 4; i += 32)
        *(float4 *)&sm.k[warp][i / (K / 4)][i % (K / 4) * 4] = *(const float4 *)(k_g + 4 * i);
    __syncwarp();
#pragma unroll 2
    for (int d = 0; d < K; d += 4) {
        const float4 k = *(const float4 *)&sm.k[warp][lane][d];
#pragma unroll
        for (int h = 0; h < HEADS; h++)
            if (h < n_head) s[h] = dot4(k, *(const float4 *)&sm.q[h][d], s[h]);
    }
#pragma unroll
    for (int h = 0; h < HEADS; h++)
        if (h < n_head) {
            const float x = lane < n ? s[h] : -INFINITY, top = fmaxf(m[h], warp_max(x)),
                        base = top == -INFINITY ? 0.0f : top;
            const float scale = exp2f((m[h] - base) * scale_log2), e = exp2f((x - base) * scale_log2);
            m[h] = top;
            l[h] = l[h] * scale + e;
            sm.p[warp][lane][h] = e;
#pragma unroll
            for (int c = 0; c < K / 32; c++) o[h][c] *= scale;
        }
    __syncwarp();
#pragma unroll 4
    for (int key = 0; key < n; key++) {
        float v[K / 32];
        load_columns(v, v_g + key * K + lane * (K / 32));
#pragma unroll
        for (int h = 0; h < HEADS; h++)
            if (h < n_head)
#pragma unroll
                for (int c = 0; c < K / 32; c++) o[h][c] = fmaf(sm.p[warp][key][h], v[c], o[h][c]);
    }
    __syncwarp();
}

template <int K> __device__ void decode_piece(decode_smem<K> &sm, const decode_params<K> &p, const item &it)
{
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, key0 = warp * 32, per_kv = p.n_head / p.n_kv;
    const attn_seg &s = p.seg[it.row];
    const attn_span span = span_of(s, it.kv * (p.n_head / p.n_kv));
    const int local0 = s.pos0 / TILE_N + 1 - span.n_local - span.n_sink,
              tail = it.chunk == it.n_chunk - 1 ? it.n - 1 : -1;
    float o[HEADS][K / 32] = {}, m[HEADS], l[HEADS] = {};
#pragma unroll
    for (int h = 0; h < HEADS; h++) m[h] = -INFINITY;
    for (int i = threadIdx.x; i < per_kv * K; i += DECODE_THREADS)
        (&sm.q[0][0])[i] = ((const float *)p.q)[s.row0 * p.q_stride + it.kv * per_kv * K + i];
    __syncthreads();
    for (int b = 0; b < it.n; b++) {
        const int step = it.first + b, page = s.page[step < span.n_sink ? step : local0 + step];
        const int n = min(32, (b == tail ? s.pos0 % TILE_N + 1 : (int)TILE_N) - key0);
        const float *k_g = p.pool + (((int64_t)page * p.n_kv + it.kv) * 2 * PAGE_TOK + key0) * K;
        if (n > 0) attend_keys<K>(sm, o, m, l, k_g, k_g + PAGE_TOK * K, n, per_kv, p.scale_log2);
    }
    __syncthreads(); /* part takes the place of k */
    partial<K> &part = part_of<K>(sm.part, warp, per_kv);
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        if (h >= per_kv) break;
        float sum = l[h];
#pragma unroll
        for (int d = 16; d > 0; d /= 2) sum += __shfl_xor_sync(~0u, sum, d);
#pragma unroll
        for (int c = 0; c < K / 32; c++) part.o[h][lane * (K / 32) + c] = o[h][c];
        if (lane == 0) {
            part.m[h] = m[h] * p.scale_log2;
            part.l[h] = sum;
        }
    }
    __syncthreads();
    write_piece<K, float>(sm.part, p, it);
    finish_piece<K, float>(sm.gather, p, it);
    __syncthreads();
}

template <int K> __global__ void __launch_bounds__(DECODE_THREADS) decode_kernel(const decode_params<K> p)
{
    extern __shared__ __align__(16) unsigned char raw[];
    decode_smem<K> &sm = *(decode_smem<K> *)raw;
    const row_plan plan(sm.plan, p.n_seg);
    plan_rows(plan, p);
    clear_rows<K, float>(p);
    for (int id = blockIdx.x; id < plan.n_item(); id += gridDim.x)
        decode_piece<K>(sm, p, item_at(plan, p, id));
}

template <int K> static enum err prefill(const attn_args *a, const attn_gpu *g)
{
    static_assert(sizeof(prefill_smem<K>) <= SMEM_MAX, "shared memory of one CTA");
    prefill_params p = {a->seg,
                        (const float *)a->q,
                        (const float *)a->pool,
                        (float *)a->out,
                        a->q_stride,
                        a->out_stride,
                        (int *)g->work,
                        a->n_seg,
                        a->n_head,
                        a->n_kv,
                        a->scale * 1.44269504088896f};
    return attn_launch(prefill_kernel<K>, PREFILL_THREADS, sizeof(prefill_smem<K>), p, g);
}
template <int K> static enum err decode(const attn_args *a, const attn_gpu *g)
{
    static_assert(sizeof(decode_smem<K>) <= SMEM_MAX, "shared memory of one CTA");
    decode_params<K> p;
    enum err e = piece_args(p, a, g);
    p.pool = (const float *)a->pool;
    return e == OK ? attn_launch(decode_kernel<K>, DECODE_THREADS, sizeof(decode_smem<K>), p, g) : e;
}

enum err attn_prefill_f32(const struct attn_args *a, const struct attn_gpu *g)
{
    if (!prefill_takes(a) || (a->head != 64 && a->head != 128)) return ERR_INVALID_VALUE;
    return a->head == 64 ? prefill<64>(a, g) : prefill<128>(a, g);
}

enum err attn_decode_f32(const struct attn_args *a, const struct attn_gpu *g)
{
    if (a->head != 64 && a->head != 128) return ERR_INVALID_VALUE;
    return a->head == 64 ? decode<64>(a, g) : decode<128>(a, g);
}
