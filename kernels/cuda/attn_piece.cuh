/* attn_piece: the pieces of a decode launch: how rows are cut, how pieces are added up. Every decode kernel
 * takes its pieces from here, and the products of the bf16 ones, so that kernels differ only in how pages
 * reach shared memory and in who takes which piece.
 *
 * The work is bytes of K and V. The visible blocks of each (row, kv head) are cut into pieces as even as they
 * can be, as many as that row's own number of blocks says, so long and short, full and sparse rows mix in one
 * launch. The CTA that finishes a row's last piece adds up all its pieces in order: bits depend neither on
 * the batch nor on who computed what. */
#ifndef FLUXD_KERNELS_CUDA_ATTN_PIECE_CUH
#define FLUXD_KERNELS_CUDA_ATTN_PIECE_CUH

#include "kernels/cuda/attn_gpu.cuh"
#include "kernels/cuda/sm90.cuh"

#include <cuda_bf16.h>
#include <math.h>

enum {
    TILE_N = PAGE_TOK,
    COMPUTE_WARPS = 4, /* 32 keys of each page each */
    GATHER_WARPS = 4,
    HEADS = 8, /* query heads of a kv head, padded */
    BAR_GATHER = 1,
    PIECE = 8, /* blocks in a piece at most, unless a row then had more than ATTN_MAX_CHUNK pieces */
};

/* A warp's part of a piece, of which only the rows of the kv head's own query heads need be there. A thread's
 * float[HEADS] column would meet its neighbours' in one bank; four more floats a row keep them apart. */
template <int K> struct partial {
    float m[HEADS], l[HEADS];
    float o[HEADS][K + 4];
};
template <int K> __host__ __device__ static constexpr int partial_bytes(int per_kv)
{
    return (int)sizeof(float) * (2 * HEADS + per_kv * (K + 4));
}

struct piece_params {
    const attn_seg *seg;
    const void *q;
    void *out;
    int64_t q_stride, out_stride;
    unsigned *next;   /* pieces handed out after the CTAs' first; zero between launches */
    int *row_counter; /* [row, kv head] pieces done; zero between launches */
    float2 *stat;     /* [item][heads of a kv head] max (log2), sum */
    float *part;      /* [item][heads of a kv head][K] */
    int n_seg, n_head, n_kv;
    float scale_log2;
    int codes; /* rows whose seg says so are this launch's */
};

/* In shared memory; [rows of the launch] each. */
struct row_plan {
    int *n_block;  /* visible blocks of each row; split: of its full kv heads, which come first */
    int *split;    /* 0, or kv heads that are full << 24 | visible blocks of the others */
    int *end_item; /* pieces up to and with this row's, all kv heads */
    int n_seg;

    __device__ row_plan(int *at, int n) : n_block(at), split(at + n), end_item(at + 2 * n), n_seg(n) {}
    __device__ int n_item() const { return end_item[n_seg - 1]; }
};
enum { PLAN_INTS = 3 }; /* a row's */
struct gather_smem {
    float weight[HEADS][ATTN_MAX_CHUNK];
    int last;
};

/* head: the kv head's first query head */
__device__ __forceinline__ attn_span span_of(const attn_seg &s, int head)
{
    int block = s.pos0 / TILE_N;
    bool full = s.kind == ATTN_FULL || (s.kind == ATTN_TRIANGLE && s.pos0 >= s.dense_from) ||
                (s.kind == ATTN_SPLIT && s.full_head[head]);
    attn_span span = {block + 1, 0};
    if (s.n_row <= 0 || s.kind == ATTN_NONE)
        span.n_local = 0;
    else if (!full)
        span = attn_streaming(block, s.sink_blocks, s.local_blocks);
    return span;
}
/* Into how many pieces a kv head's n_block visible blocks are cut; their sizes differ by one block at most.
 * Pieces of 4 blocks cost mixed and full batches 3 to 4%, since each costs some 5 ns of the device beside its
 * K and V (64 KB a block), and gain one row alone a microsecond. */
__device__ __forceinline__ int pieces_of(int n_block)
{
    return min((n_block + PIECE - 1) / PIECE, (int)ATTN_MAX_CHUNK);
}

/* A piece: blocks [first, first + n) of the row's visible ones, in rising order. id: place of its result; a
 * head's lie together, in order. */
struct item {
    int row, kv, chunk, n_chunk, first, n, id;
};

/* The kv head that comes at a place: of a split row the full ones first. */
__device__ __forceinline__ int kv_at(const piece_params &p, int row, int n_full, int place)
{
    const uint8_t *full = p.seg[row].full_head;
    const int per_kv = p.n_head / p.n_kv;
    int left = place < n_full ? place : place - n_full, at = 0;
    for (;; at++)
        if ((full[at * per_kv] != 0) == (place < n_full) && left-- == 0) return at;
}

/* The turn-th piece of the launch: rows in their order, a row's pieces in theirs, each of them for all kv
 * heads that have so many. */
static __device__ item item_at(const row_plan &plan, const piece_params &p, int turn)
{
    item it = {};
    int hi = plan.n_seg - 1;
    while (it.row < hi) {
        const int mid = (it.row + hi) / 2;
        if (plan.end_item[mid] > turn)
            hi = mid;
        else
            it.row = mid + 1;
    }
    const int split = plan.split[it.row], n_full = split ? split >> 24 : p.n_kv;
    int at = turn - (it.row ? plan.end_item[it.row - 1] : 0), nb = plan.n_block[it.row], place = 0,
        n_head = n_full;
    it.id = turn - at;
    it.n_chunk = pieces_of(nb);
    if (at >= n_full * it.n_chunk) {
        at -= n_full * it.n_chunk;
        it.id += n_full * it.n_chunk;
        place = n_full;
        n_head = p.n_kv - n_full;
        nb = split & 0xffffff;
        it.n_chunk = pieces_of(nb);
    }
    it.chunk = at / n_head;
    const int head = at - it.chunk * n_head, few = nb / it.n_chunk,
              more = nb - few * it.n_chunk; /* the first `more` pieces have one block more */
    it.id += head * it.n_chunk + it.chunk;
    it.kv = split ? kv_at(p, it.row, n_full, place + head) : head;
    it.first = it.chunk * few + min(it.chunk, more);
    it.n = few + (it.chunk < more);
    return it;
}

/* How many blocks each row has, and the running sums of pieces. */
static __device__ void plan_rows(const row_plan &plan, const piece_params &p)
{
    for (int r = threadIdx.x; r < p.n_seg; r += blockDim.x) {
        const attn_seg &s = p.seg[r];
        attn_span span = span_of(s, 0);
        plan.n_block[r] = span.n_local + span.n_sink;
        plan.split[r] = 0;
        if (s.codes != p.codes) plan.n_block[r] = 0;
        if (s.codes != p.codes) continue;
        if (s.kind != ATTN_SPLIT || s.n_row <= 0) continue;
        const attn_span few = attn_streaming(s.pos0 / TILE_N, s.sink_blocks, s.local_blocks);
        int n_full = 0;
        for (int kv = 0; kv < p.n_kv; kv++) n_full += s.full_head[kv * (p.n_head / p.n_kv)] != 0;
        plan.n_block[r] = s.pos0 / TILE_N + 1;
        if (n_full < p.n_kv) plan.split[r] = n_full << 24 | (few.n_local + few.n_sink);
    }
    __syncthreads();
    if (threadIdx.x < 32) {
        int lane = threadIdx.x, items = 0;
        for (int r0 = 0; r0 < p.n_seg; r0 += 32) {
            int nb = r0 + lane < p.n_seg ? plan.n_block[r0 + lane] : 0,
                split = r0 + lane < p.n_seg ? plan.split[r0 + lane] : 0;
            int n_full = split ? split >> 24 : p.n_kv,
                n = pieces_of(nb) * n_full + pieces_of(split & 0xffffff) * (p.n_kv - n_full);
            for (int d = 1; d < 32; d *= 2) {
                int up = __shfl_up_sync(~0u, n, d);
                n += lane >= d ? up : 0;
            }
            if (r0 + lane < p.n_seg) plan.end_item[r0 + lane] = items + n;
            items += __shfl_sync(~0u, n, 31);
        }
    }
    __syncthreads();
}

/* 16-byte column col of a key in a page's K or V in shared memory: [K / 64][128 keys][64], swizzled. */
template <int K> __device__ __forceinline__ uint32_t column_at(uint32_t tile, int key, int col)
{
    return tile + col / 8 * (TILE_N * 128) + key * 128 + ((col % 8 ^ key % 8) << 4);
}

/* s[t] = K Q^T of keys 16 t .. of the warp's 32: rows are keys, columns the query heads. */
template <int K>
__device__ __forceinline__ void product_qk(float (&s_r)[2][4], const uint32_t (&q_r)[K / 16][2],
                                           uint32_t tile, int key0)
{
    const int lane = threadIdx.x % 32, key = key0 + lane % 16, half = lane / 16;
#pragma unroll
    for (int t = 0; t < 2; t++)
#pragma unroll
        for (int i = 0; i < 4; i++) s_r[t][i] = 0;
#pragma unroll
    for (int i = 0; i < K / 16; i++) {
#pragma unroll
        for (int t = 0; t < 2; t++) {
            uint32_t k_r[4];
            ldmatrix_x4(k_r, column_at<K>(tile, key + 16 * t, i * 2 + half));
            mma_16816(s_r[t], k_r, q_r[i][0], q_r[i][1]);
        }
    }
}

/* o += V^T P^T over the warp's 32 keys: rows are head columns, columns the query heads. Keys past `last` hold
 * anything. */
template <int K, bool TAIL>
__device__ __forceinline__ void product_pv(float (&o_r)[K / 16][4], const uint32_t (&p_r)[2][2],
                                           uint32_t tile, int key0, int last)
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
            ldmatrix_x4_trans(v_r, column_at<K>(tile, key + 16 * t, j * 2 + half));
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

/* What a warp knows of a piece: columns are query heads, this thread's are lane % 4 * 2 and the next. */
template <int K> struct piece_state {
    float o[K / 16][4], m[2], l[2];
    __device__ piece_state() : m{-INFINITY, -INFINITY}, l{0, 0}
    {
#pragma unroll
        for (int j = 0; j < K / 16; j++)
#pragma unroll
            for (int r = 0; r < 4; r++) o[j][r] = 0;
    }
};

template <int K>
__device__ __forceinline__ void load_q(uint32_t (&q_r)[K / 16][2], const piece_params &p, const item &it)
{
    const int lane = threadIdx.x % 32, head = lane / 4, per_kv = p.n_head / p.n_kv;
    const __nv_bfloat16 *q = (const __nv_bfloat16 *)p.q + p.seg[it.row].row0 * p.q_stride +
                             (it.kv * per_kv + head) * K + lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < K / 16; j++)
#pragma unroll
        for (int r = 0; r < 2; r++) q_r[j][r] = head < per_kv ? *(const uint32_t *)(q + 16 * j + 8 * r) : 0;
}

/* The same from shared memory: [per_kv][K]. */
template <int K>
__device__ __forceinline__ void read_q(uint32_t (&q_r)[K / 16][2], const __nv_bfloat16 *q_s, int per_kv)
{
    const int lane = threadIdx.x % 32, head = lane / 4;
#pragma unroll
    for (int j = 0; j < K / 16; j++)
#pragma unroll
        for (int r = 0; r < 2; r++)
            q_r[j][r] =
                head < per_kv ? *(const uint32_t *)(q_s + head * K + 16 * j + 8 * r + lane % 4 * 2) : 0;
}

/* Scores of a block to probabilities; keys past last do not count. Older sums are rescaled. */
template <int K>
__device__ __forceinline__ void softmax_block(piece_state<K> &st, uint32_t (&p_r)[2][2], float (&s_r)[2][4],
                                              int key0, int last, float scale_log2)
{
    const int lane = threadIdx.x % 32;
    if (last < TILE_N - 1)
#pragma unroll
        for (int t = 0; t < 2; t++)
#pragma unroll
            for (int r = 0; r < 4; r++)
                if (key0 + 16 * t + r / 2 * 8 + lane / 4 > last) s_r[t][r] = -INFINITY;
#pragma unroll
    for (int c = 0; c < 2; c++) {
        float top = fmaxf(
            st.m[c], column_max(fmaxf(fmaxf(s_r[0][c], s_r[0][c + 2]), fmaxf(s_r[1][c], s_r[1][c + 2]))));
        float base =
            top == -INFINITY ? 0.0f : top * scale_log2; /* all keys masked: exp2(-inf - 0) = 0, never NaN */
        float scale = exp2_fast(st.m[c] * scale_log2 - base);
        st.m[c] = top;
        st.l[c] *= scale;
#pragma unroll
        for (int t = 0; t < 2; t++)
#pragma unroll
            for (int r = 0; r < 2; r++) {
                float x = exp2_fast(fmaf(s_r[t][c + 2 * r], scale_log2, -base));
                s_r[t][c + 2 * r] = x;
                st.l[c] += x;
            }
#pragma unroll
        for (int j = 0; j < K / 16; j++) {
            st.o[j][c] *= scale;
            st.o[j][c + 2] *= scale;
        }
    }
#pragma unroll
    for (int t = 0; t < 2; t++)
#pragma unroll
        for (int r = 0; r < 2; r++) p_r[t][r] = movmatrix_trans(pack_bf16(s_r[t][2 * r], s_r[t][2 * r + 1]));
}

/* l: already summed over the keys. */
template <int K>
__device__ __forceinline__ void store_state(partial<K> &part, const piece_state<K> &st, const float (&l)[2],
                                            float scale_log2, int per_kv)
{
    const int head = threadIdx.x % 4 * 2, dim = threadIdx.x % 32 / 4;
#pragma unroll
    for (int c = 0; c < 2; c++) {
        if (head + c >= per_kv) break;
#pragma unroll
        for (int j = 0; j < K / 16; j++) {
            part.o[head + c][16 * j + dim] = st.o[j][c];
            part.o[head + c][16 * j + 8 + dim] = st.o[j][c + 2];
        }
        if (dim == 0) {
            part.m[head + c] = st.m[c] * scale_log2;
            part.l[head + c] = l[c];
        }
    }
}

__device__ __forceinline__ void store_four(__nv_bfloat16 *to, float4 x)
{
    *(uint2 *)to = make_uint2(pack_bf16(x.x, x.y), pack_bf16(x.z, x.w));
}
__device__ __forceinline__ void store_four(float *to, float4 x) { *(float4 *)to = x; }
template <typename T>
__device__ __forceinline__ void store_out(const piece_params &p, int row, int head, int n_col, int col,
                                          float4 x, float inv)
{
    store_four((T *)p.out + p.seg[row].row0 * p.out_stride + head * n_col + col,
               make_float4(x.x * inv, x.y * inv, x.z * inv, x.w * inv));
}
__device__ __forceinline__ float weight_of(float m, float top)
{
    return m == -INFINITY ? 0.0f : exp2_fast(m - top);
}
__device__ __forceinline__ void add_scaled(float4 &a, float w, float4 x)
{
    a.x += w * x.x;
    a.y += w * x.y;
    a.z += w * x.z;
    a.w += w * x.w;
}

/* Adds up all pieces of a (row, kv head), in their order; a warp has whole query heads. */
template <int K, typename T>
__device__ void merge_pieces(gather_smem &sm, const piece_params &p, const item &it)
{
    const int lane = threadIdx.x % 32, per_kv = p.n_head / p.n_kv, id0 = it.id - it.chunk;
    for (int h = threadIdx.x % 128 / 32; h < per_kv; h += GATHER_WARPS) {
        float2 a = {-INFINITY, 0}, b = {-INFINITY, 0};
        if (lane < it.n_chunk) a = __ldcg(&p.stat[(int64_t)(id0 + lane) * per_kv + h]);
        if (lane + 32 < it.n_chunk) b = __ldcg(&p.stat[(int64_t)(id0 + lane + 32) * per_kv + h]);
        float top = fmaxf(a.x, b.x);
        for (int d = 16; d; d /= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, d));
        float wa = weight_of(a.x, top), wb = weight_of(b.x, top), sum = a.y * wa + b.y * wb;
        for (int d = 16; d; d /= 2) sum += __shfl_xor_sync(~0u, sum, d);
        sm.weight[h][lane] = wa / sum;
        sm.weight[h][lane + 32] = wb / sum;
        __syncwarp();
        if (lane < K / 4) {
            const float4 *part = (const float4 *)(p.part + ((int64_t)id0 * per_kv + h) * K) + lane;
            float4 acc = {0, 0, 0, 0};
#pragma unroll 16
            for (int c = 0; c < it.n_chunk; c++)
                add_scaled(acc, sm.weight[h][c], __ldcg(part + (int64_t)c * (per_kv * K / 4)));
            store_out<T>(p, it.row, it.kv * per_kv + h, K, lane * 4, acc, 1.0f);
        }
    }
}

/* Warp w's part of a piece. */
template <int K> __device__ __forceinline__ partial<K> &part_of(unsigned char *parts, int w, int per_kv)
{
    return *(partial<K> *)(parts + w * partial_bytes<K>(per_kv));
}

/* Adds up the warps' results of a piece, in their order; by the 128 threads that gather. */
template <int K, typename T>
__device__ __forceinline__ void write_piece(unsigned char *parts, const piece_params &p, const item &it)
{
    const int thread = threadIdx.x % 128, per_kv = p.n_head / p.n_kv;
    for (int i = thread; i < per_kv * K / 4; i += 128) {
        int h = i / (K / 4), col = i % (K / 4) * 4;
        float top = -INFINITY, l = 0;
        float4 acc = {0, 0, 0, 0};
#pragma unroll
        for (int w = 0; w < COMPUTE_WARPS; w++) top = fmaxf(top, part_of<K>(parts, w, per_kv).m[h]);
#pragma unroll
        for (int w = 0; w < COMPUTE_WARPS; w++) {
            const partial<K> &part = part_of<K>(parts, w, per_kv);
            float weight = weight_of(part.m[h], top);
            l += weight * part.l[h];
            add_scaled(acc, weight, *(const float4 *)&part.o[h][col]);
        }
        if (it.n_chunk == 1) {
            store_out<T>(p, it.row, it.kv * per_kv + h, K, col, acc, 1.0f / l);
        } else {
            int64_t at = (int64_t)it.id * per_kv + h;
            __stcg((float4 *)(p.part + at * K + col), acc);
            if (col == 0) __stcg(&p.stat[at], make_float2(top, l));
        }
    }
}

/* Counts a piece as done; after a row's last one the row is added up. By all threads that gather, after
 * write_piece: their writes come before thread 0's count by the barrier, that one before the count of the
 * thread that adds up by the two counts' order. */
template <int K, typename T>
__device__ __forceinline__ void finish_piece(gather_smem &sm, const piece_params &p, const item &it)
{
    if (it.n_chunk == 1) return;
    bar_sync(BAR_GATHER, 32 * GATHER_WARPS);
    if (threadIdx.x % 128 == 0) {
        int *done = &p.row_counter[it.row * p.n_kv + it.kv], before;
        asm volatile("atom.acq_rel.gpu.global.add.s32 %0, [%1], 1;" : "=r"(before) : "l"(done) : "memory");
        sm.last = before == it.n_chunk - 1;
        if (sm.last) *done = 0;
    }
    bar_sync(BAR_GATHER, 32 * GATHER_WARPS);
    if (sm.last) merge_pieces<K, T>(sm, p, it);
}

/* Rows of a skipped layer: out = 0. */
template <int K, typename T> __device__ void clear_rows(const piece_params &p)
{
    for (int r = blockIdx.x; r < p.n_seg; r += gridDim.x)
        if (p.seg[r].kind == ATTN_NONE && p.seg[r].n_row > 0)
            for (int i = threadIdx.x; i < p.n_head * K * (int)sizeof(T) / 16; i += blockDim.x)
                ((uint4 *)((T *)p.out + p.seg[r].row0 * p.out_stride))[i] = make_uint4(0, 0, 0, 0);
}

/* ERR_INVALID_VALUE for a launch that no decode kernel takes; otherwise p is filled. */
static inline enum err piece_args(piece_params &p, const attn_args *a, const attn_gpu *g)
{
    if (a->n_seg < 1 || a->n_seg > ATTN_MAX_SEG || a->n_seg > g->max_row || a->n_kv < 1 ||
        a->n_head % a->n_kv || a->n_head / a->n_kv > HEADS || a->q_stride % 8 || a->out_stride % 8)
        return ERR_INVALID_VALUE;
    attn_work w = attn_work_plan(g->max_row, a->n_head, a->n_kv, a->head);
    char *work = (char *)g->work;
    p = {a->seg,
         a->q,
         a->out,
         a->q_stride,
         a->out_stride,
         (unsigned *)(work + w.next),
         (int *)(work + w.row_counter),
         (float2 *)(work + w.stat),
         (float *)(work + w.partial),
         a->n_seg,
         a->n_head,
         a->n_kv,
         a->scale * 1.44269504088896f,
         0};
    return OK;
}

#endif
