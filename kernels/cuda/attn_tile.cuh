/* attn_tile: the tiles of a prefill launch and which blocks each one walks. Every prefill kernel takes its
 * tiles from here, so kinds of attention are known in one place: a tile is 128 query rows of one head, walked
 * down from the diagonal block. */
#ifndef FLUXD_KERNELS_CUDA_ATTN_TILE_CUH
#define FLUXD_KERNELS_CUDA_ATTN_TILE_CUH

#include "kernels/cuda/attn_gpu.cuh"

enum {
    ATTN_TILE_M = PAGE_TOK,
    ATTN_L2_KV_BYTES = 32 << 20, /* K and V of the heads that run side by side stay in L2 */
};

/* What the consumers need to know of a tile. */
struct tile_info {
    int n_block;  /* < 0: no more tiles */
    int diagonal; /* first block is the diagonal one */
    int row0;     /* row of q of the tile's first row; may lie before the array */
    int lo, hi;   /* rows [lo, hi) of the tile are wanted */
    int head;
};

/* Query blocks of a run by how they are walked: dense ones see all before them, sparse ones by the kind's
 * rule. A triangle's boundary block is in both, with different rows. */
struct seg_blocks {
    int first, last;     /* of the run */
    int dense0, n_dense; /* blocks dense0 .. last */
    int n_sparse;        /* blocks first .. */
};
__device__ __forceinline__ seg_blocks blocks_of(const attn_seg &s)
{
    seg_blocks b = {s.pos0 / ATTN_TILE_M, (s.pos0 + s.n_row - 1) / ATTN_TILE_M, 0, 0, 0};
    if (s.n_row <= 0) return b;
    int n = b.last - b.first + 1;
    if (s.kind == ATTN_FULL) {
        b.dense0 = b.first;
        b.n_dense = n;
    } else if (s.kind == ATTN_TRIANGLE) {
        b.dense0 = max(b.first, s.dense_from / ATTN_TILE_M);
        b.n_dense = max(0, s.dense_from < s.pos0 + s.n_row ? b.last - b.dense0 + 1 : 0);
        b.n_sparse = s.dense_from > s.pos0 ? min(b.last, (s.dense_from - 1) / ATTN_TILE_M) - b.first + 1 : 0;
    } else {
        b.n_sparse = n;
    }
    return b;
}

/* A tile as the producer that loads its pages walks it. */
struct walk {
    tile_info info;
    attn_span span;
    const int *list;      /* not NULL: ascending blocks, walked from the end */
    const uint64_t *keep; /* not NULL: bit b is set where block b is walked */
    const int *page;
    int block, kv;
    int tail_block, tail_rows; /* block whose rows from tail_rows on were never written, or -1 */
};

/* Words of bits up to and with block `block`; the last word's later bits do not count. */
__device__ __forceinline__ uint64_t keep_word(const uint64_t *keep, int block, int i)
{
    uint64_t x = keep[i];
    return i == block / 64 ? x & (~0ull >> (63 - block % 64)) : x;
}
/* Kept block number `step`, from the diagonal down. */
__device__ __forceinline__ int keep_block(const walk &w, int step)
{
    int i = w.block / 64;
    uint64_t x = keep_word(w.keep, w.block, i);
    while (step >= __popcll(x)) {
        step -= __popcll(x);
        x = keep_word(w.keep, w.block, --i);
    }
    for (; step > 0; step--) x &= ~(1ull << (63 - __clzll((long long)x)));
    return i * 64 + 63 - __clzll((long long)x);
}

__device__ __forceinline__ int walk_block(const walk &w, int step)
{
    if (w.list) return w.list[w.info.n_block - 1 - step];
    if (w.keep) return keep_block(w, step);
    return step < w.span.n_local ? w.block - step : w.span.n_sink - 1 - (step - w.span.n_local);
}

/* A list's number of blocks, and whether it has the diagonal one. */
static __device__ __forceinline__ void walk_list(walk &w, const attn_seg &s, const seg_blocks &b)
{
    if (s.keep) {
        w.keep = s.keep + w.info.head * s.keep_head_stride + (w.block - b.first) * s.keep_block_stride;
        w.info.n_block = 0;
        for (int i = 0; i <= w.block / 64; i++) w.info.n_block += __popcll(keep_word(w.keep, w.block, i));
        w.info.diagonal = (int)(w.keep[w.block / 64] >> (w.block % 64) & 1);
    } else {
        const int *off = s.list_off + w.info.head * (b.last - b.first + 2) + w.block - b.first;
        w.list = s.list + off[0];
        w.info.n_block = off[1] - off[0];
        w.info.diagonal = w.info.n_block > 0 && w.list[w.info.n_block - 1] == w.block;
    }
}

/* Tile t of a run: kv heads in sections that share L2, inside a section dense blocks then sparse ones, long
 * to short, heads of one kv head side by side. KEY_BYTES: K and V of one token and kv head. */
template <int KEY_BYTES> __device__ walk walk_tile_of(const attn_seg &s, int n_head, int n_kv, int t)
{
    seg_blocks b = blocks_of(s);
    int n_q = b.n_dense + b.n_sparse, per_kv = n_head / n_kv;
    int64_t kv_bytes = (int64_t)(b.last + 1) * PAGE_TOK * KEY_BYTES;
    int section = s.kind == ATTN_FULL ? max(1, min(n_kv, (int)(ATTN_L2_KV_BYTES / kv_bytes))) : n_kv;
    int sec = t / (section * per_kv * n_q);
    int local = t - sec * section * per_kv * n_q;
    int heads = min(section, n_kv - sec * section) * per_kv;
    int i = local / heads;
    bool dense = i < b.n_dense;

    walk w;
    w.info.head = sec * section * per_kv + local % heads;
    w.kv = w.info.head / per_kv;
    w.block = dense ? b.last - i : b.first + b.n_sparse - 1 - (i - b.n_dense);
    w.page = s.page;
    w.list = nullptr;
    w.keep = nullptr;
    int pos = w.block * ATTN_TILE_M, end = s.pos0 + s.n_row;
    int lo = s.pos0, hi = end;
    if (s.kind == ATTN_TRIANGLE) {
        lo = dense ? max(lo, s.dense_from) : lo;
        hi = dense ? hi : min(hi, s.dense_from);
    }
    w.info.lo = max(lo - pos, 0);
    w.info.hi = min(hi - pos, (int)ATTN_TILE_M);
    w.info.row0 = s.row0 + pos - s.pos0;
    w.tail_rows = end % PAGE_TOK;
    w.tail_block = w.tail_rows ? b.last : -1;
    w.span.n_local = w.block + 1;
    w.span.n_sink = 0;
    if (!dense && !(s.kind == ATTN_SPLIT && s.full_head[w.info.head]))
        w.span = attn_streaming(w.block, s.sink_blocks, s.local_blocks);
    w.info.n_block = w.span.n_local + w.span.n_sink;
    w.info.diagonal = 1;
    if (s.kind == ATTN_LIST)
        walk_list(w, s, b);
    else if (s.kind == ATTN_NONE)
        w.info.n_block = 0;
    return w;
}

/* Running sum of tiles over the runs, by one warp; returns the number of all tiles. */
template <typename P> __device__ int plan_tiles(int *seg_end_s, const P &p)
{
    const int lane = threadIdx.x % 32;
    int total = 0;
    for (int s0 = 0; s0 < p.n_seg; s0 += 32) {
        int n = 0;
        if (s0 + lane < p.n_seg) {
            seg_blocks b = blocks_of(p.seg[s0 + lane]);
            n = (b.n_dense + b.n_sparse) * p.n_head;
        }
        for (int d = 1; d < 32; d *= 2) {
            int up = __shfl_up_sync(~0u, n, d);
            n += lane >= d ? up : 0;
        }
        if (s0 + lane < p.n_seg) seg_end_s[s0 + lane] = total + n;
        total += __shfl_sync(~0u, n, 31);
    }
    __syncwarp();
    return total;
}
/* By one thread of each CTA, once it has got a number past the last tile: who leaves last winds the counters
 * back. */
__device__ __forceinline__ void leave_tiles(int *counter)
{
    if (atomicAdd(&counter[1], 1) == (int)gridDim.x - 1) {
        counter[0] = 0;
        counter[1] = 0;
    }
}
/* Tile `tile` of the launch. */
template <int KEY_BYTES, typename P> __device__ walk walk_tile(const P &p, const int *seg_end_s, int tile)
{
    int lo = 0, hi = p.n_seg - 1;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (seg_end_s[mid] > tile)
            hi = mid;
        else
            lo = mid + 1;
    }
    return walk_tile_of<KEY_BYTES>(p.seg[lo], p.n_head, p.n_kv, tile - (lo ? seg_end_s[lo - 1] : 0));
}

static inline bool prefill_takes(const attn_args *a)
{
    return a->n_seg >= 1 && a->n_seg <= ATTN_MAX_SEG && a->n_kv >= 1 && a->n_head % a->n_kv == 0 &&
           a->q_stride % 8 == 0 && a->out_stride % 8 == 0;
}

#endif
