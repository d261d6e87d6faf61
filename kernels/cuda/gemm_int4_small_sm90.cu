/* gemm_int4_small: y[T, N] = x[T, K] w[N, K]^T of weights of few bits for few rows of x, where the time is
 * the weights' bytes, or what it takes to make numbers of them.
 *
 * Cut and chain are those of the bf16 product (gemm_small_sm90.cu): a CTA or a cluster of two takes a tile of
 * the weight, each CTA an equal part of the columns; the next product's weights are on their way while this
 * one ends. What differs: a warp has strips of 16 rows and every n-th record of their columns. It makes bf16
 * of codes in registers, exactly (code - zero is a small integer), and multiplies them by mma, weights as the
 * operand of 16 rows; the sums of a group are multiplied by its scale in fp32. A record is read from shared
 * memory by one warp alone, x as well where there are few strips.
 *
 * The order of a sum is the shape's: 64 (or 32) columns by the tensor cores, a warp's records in their order,
 * the warps of a CTA, the CTAs of a cluster. So rows' bits do not depend on their number. */
#include "kernels/cuda/gemm_small.cuh"
#include "kernels/cuda/int4.cuh"
#include "kernels/cuda/int4_gpu.h"

#include <cuda_runtime.h>

enum {
    N_WARP = 8, /* that multiply */
    N_COMPUTE = 32 * N_WARP,
    N_LOAD = 2, /* one for weights, one for x */
    THREADS = N_COMPUTE + 32 * N_LOAD,
    BAR_COMPUTE = 1,
    STAGES_MOST = 16,
    ROWS = INT4_ROWS,
    COLS = INT4_COLS,
    STRIPS_MOST = 14, /* of a tile: 224 rows */
    X_PAD = 64,       /* bytes behind a row of x in shared memory: lanes of two rows meet every bank once */
    PAD = 4,          /* floats behind a row of sums */
    SMEM_FIRST = 116 * 1024,
    SMEM_SECOND = 110 * 1024, /* with the 1 KiB that every CTA takes besides, an SM's 228 KiB */
    SMEM_ALONE = 226 * 1024,  /* of many rows of x, beside which nothing else fits */
    SM_REGS = 64 * 1024,
    LEAD_BYTES = 32 * 1024, /* of weights left to load when the next kernel is let in, two loads at least */
    M_MOST = 32,            /* rows of x at once */
    ADDS = 8,               /* parts of a sum read at once */
};

static constexpr int regs_most(int m) { return m >= 16 ? 168 : 72; }

struct ends {
    uint64_t full[STAGES_MOST], empty[STAGES_MOST];
    float scale[M_MOST]; /* of rows of x that are not yet normed */
    float factor[STRIPS_MOST * ROWS];
};

struct params {
    void *y;
    const bf16 *bias, *x;
    const unsigned char *w, *zeros;
    const float *factor;
    int64_t y_stride, x_stride;
    const float *sum_in;
    float *sum_out, eps;
    bf16 *normed; /* [T, n] with y_stride */
    const bf16 *norm;
    int n_tok, n, k, add, vec, gated, y_f32, n_sum_in, sum_vec, n_sum_out; /* n: columns of y */
    int n_chunk, n_strip, record,
        set_shift; /* of the weight; 64 columns >> set_shift: sets of scales before */
    int cluster, strips, tile_n, n_tile, tile_first; /* strips, tile_n: of a tile, columns of y in it */
    int warps_k, n_stage, stage_bytes, x_row_bytes, lead, ends_at; /* warps_k: records side by side */
};

/* Of the tile's strip j: which of the weight's it is. */
__device__ __forceinline__ int strip_of(const params &p, int tile, int j)
{
    const int half = p.strips / 2;
    if (!p.gated) return tile * p.strips + j;
    return j < half ? tile * half + j : p.n_strip / 2 + tile * half + j - half;
}
/* Is it there? */
__device__ __forceinline__ bool has_strip(const params &p, int tile, int j)
{
    const int half = p.strips / 2;
    return p.gated ? tile * half + j % half < p.n_strip / 2 : tile * p.strips + j < p.n_strip;
}

struct cut {
    int chunk0, chunk1, n; /* of this CTA, stages of warps_k chunks */
    __device__ cut(const params &p, int rank)
        : chunk0(rank * p.n_chunk / p.cluster), chunk1((rank + 1) * p.n_chunk / p.cluster),
          n((chunk1 - chunk0 + p.warps_k - 1) / p.warps_k)
    {
    }
};

__device__ void load_weights(unsigned char *ring, ends &b, const params &p, const cut &c, int tile)
{
    const uint64_t once = l2_evict_first();
    const int lane = threadIdx.x % 32, slot = p.warps_k * p.record;
    const bool own = lane < p.strips && has_strip(p, tile, lane);
    const int n_own = __popc(__ballot_sync(~0u, own));
    const unsigned char *from =
        p.w + ((int64_t)strip_of(p, tile, own ? lane : 0) * p.n_chunk + c.chunk0) * p.record;
    for (int i = 0, st = 0, phase = 1; i < c.n; i++) {
        if (i >= c.n - p.lead) grid_launch_next();
        mbar_wait(&b.empty[st], (uint32_t)phase);
        const int bytes = min(p.warps_k, c.chunk1 - c.chunk0 - i * p.warps_k) * p.record;
        if (lane == 0) mbar_arrive_tx(&b.full[st], (uint32_t)(bytes * n_own));
        __syncwarp();
        if (own) bulk_load(ring + st * p.stage_bytes + lane * slot, from, bytes, &b.full[st], once);
        from += bytes;
        if (++st == p.n_stage) st = 0, phase ^= 1;
    }
    grid_launch_next();
}

__device__ void load_x(unsigned char *ring, ends &b, const params &p, const cut &c)
{
    const uint64_t keep = l2_evict_last();
    const int lane = threadIdx.x % 32;
    grid_wait();
    for (int i = 0, st = 0, phase = 1; i < c.n; i++) {
        mbar_wait(&b.empty[st], (uint32_t)phase);
        const int first = c.chunk0 + i * p.warps_k, last = min(first + p.warps_k, c.chunk1),
                  bytes = (min(last * COLS, p.k) - first * COLS) * 2;
        unsigned char *to = ring + st * p.stage_bytes + p.strips * p.warps_k * p.record;
        const int lack = (last - first) * COLS * 2 - bytes; /* columns that x has not */
        if (lane == 0) mbar_arrive_tx(&b.full[st], (uint32_t)((bytes + lack) * p.n_tok));
        __syncwarp();
        for (int t = lane; t < p.n_tok; t += 32) {
            unsigned char *row = to + t * p.x_row_bytes;
            bulk_load(row, p.x + t * p.x_stride + first * COLS, bytes, &b.full[st], keep);
            if (lack) bulk_load(row + bytes, p.zeros, lack, &b.full[st], keep);
        }
        if (++st == p.n_stage) st = 0, phase ^= 1;
    }
}

/* Rows of x are normed by what the product before them left: the squares of each row, tile by tile. */
__device__ __forceinline__ void find_scales(const params &p, ends &b)
{
    const int t = threadIdx.x / 4, q = threadIdx.x % 4, n = p.n_sum_in;
    if (t >= M_MOST) return;
    const float *from = p.sum_in + min(t, p.n_tok - 1) * n;
    float sum = 0;
#pragma unroll 4
    for (int i = 4 * q; i < n; i += 16) {
        four<float> v;
        if (p.sum_vec)
            v.load(from + i);
        else
            v.load(from + i, n - i);
        sum += (v.u.x + v.u.y) + (v.u.z + v.u.w);
    }
    sum += __shfl_xor_sync(~0u, sum, 1);
    sum += __shfl_xor_sync(~0u, sum, 2);
    if (q == 0) b.scale[t] = 1.0f / sqrtf(sum / (float)p.k + p.eps);
}

/* A warp's records of one stage: SPW strips, M rows of x. */
template <int M, int SPW, class W>
__device__ __forceinline__ void multiply(const params &p, float (&acc)[SPW][M / 8][4],
                                         const uint32_t (&w)[SPW], const uint32_t (&x)[M / 8])
{
    constexpr int NB = M / 8;
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        uint4 once[2];
        if constexpr (NB == 1)
#pragma unroll
            for (int s = 0; s < 2; s++) once[s] = in_shared{x[0]}.load16(h * 128 + s * 64);
#pragma unroll
        for (int j = 0; j < SPW; j++) {
            const W from(in_shared{w[j]}, lane, h, p.set_shift);
            float part[NB][4];
#pragma unroll
            for (int s = 0; s < 2; s++) {
                uint32_t a[2][4];
                from.step(a[0], 2 * s);
                from.step(a[1], 2 * s + 1);
#pragma unroll
                for (int nb = 0; nb < NB; nb++) { /* of a lane: operands of two steps */
                    const uint4 v = NB == 1 ? once[s] : in_shared{x[nb]}.load16(h * 128 + s * 64);
                    if (s == 0 || W::FINE)
                        mma_first(part[nb], a[0], v.x, v.y);
                    else
                        mma_16816(part[nb], a[0], v.x, v.y);
                    mma_16816(part[nb], a[1], v.z, v.w);
                    if (s == 1 || W::FINE) from.add(acc[j][nb], part[nb], s);
                }
            }
        }
    }
}

/* Where the sums of a CTA lie: [warp along the columns][row of y][row of the tile]. */
__device__ __forceinline__ int sum_row(const params &p) { return p.strips * ROWS + PAD; }

template <int M, int SPW>
__device__ __forceinline__ void put_sums(const params &p, const float (&acc)[SPW][M / 8][4], uint32_t part,
                                         int warp_k, int group, int groups)
{
    const int lane = threadIdx.x % 32, ld = sum_row(p) * 4;
    const uint32_t to = part + (warp_k * M + lane % 4 * 2) * ld + lane / 4 * 4;
#pragma unroll
    for (int j = 0; j < SPW; j++) {
        const int strip = group + j * groups;
        if (strip >= p.strips) break;
#pragma unroll
        for (int nb = 0; nb < M / 8; nb++)
#pragma unroll
            for (int k = 0; k < 4; k++)
                store_at(to + (8 * nb + k % 2) * ld + strip * ROWS * 4 + k / 2 * 32, acc[j][nb][k]);
    }
}

/* Four columns of the tile from `column` on: all parts of their sums in the order of x's columns. All loads
 * are on their way before the first is read. */
template <int M>
__device__ __forceinline__ float4 add_parts(const params &p, const float *part, int t, int column)
{
    const uint32_t own = smem_u32(part + t * sum_row(p) + column), step = (uint32_t)(M * sum_row(p) * 4);
    const int n = p.cluster * p.warps_k, shift = 31 - __clz(p.warps_k);
    float4 sum = make_float4(0, 0, 0, 0);
    for (int i0 = 0; i0 < n; i0 += ADDS) {
        float4 v[ADDS];
#pragma unroll
        for (int i = 0; i < ADDS; i++)
            v[i] = i0 + i < n
                       ? load_at(map_rank(own + ((i0 + i) & (p.warps_k - 1)) * step, (i0 + i) >> shift))
                       : make_float4(0, 0, 0, 0);
#pragma unroll
        for (int i = 0; i < ADDS; i++) sum.x += v[i].x, sum.y += v[i].y, sum.z += v[i].z, sum.w += v[i].w;
    }
    return sum;
}

/* Rows rank, rank + cluster, .. of y, of which every eighth is this warp's, four columns a lane. */
template <typename T, int M, bool VEC>
__device__ __forceinline__ void store_rows(const params &p, const float *part, const ends &b, int tile,
                                           int rank)
{
    const int step = p.cluster * N_WARP, lane = threadIdx.x % 32, first = tile * p.tile_n,
              n_tile = min(p.tile_n, p.n - first);
    for (int t = rank + p.cluster * (int)(threadIdx.x / 32); t < p.n_tok; t += step) {
        const float scale = p.sum_in ? b.scale[t] : 1.0f;
        float square = 0;
        for (int c = lane * 4; c < n_tile; c += 128) {
            const int left = n_tile - c, halves = 1 + p.gated;
            T *y = (T *)p.y + t * p.y_stride + first + c;
            four<T> old;
            four<bf16> norm, bias[2];
            float v[2][4];
            if (p.add) load_columns<VEC>(old, y, left);
            if (p.sum_out) load_columns<VEC>(norm, p.norm + first + c, left);
            for (int h = 0; h < halves && p.bias; h++)
                load_columns<false>(bias[h], p.bias + first + c + h * p.n, left);
#pragma unroll
            for (int h = 0; h < 2; h++) {
                if (h == halves) break;
                const int column = c + h * p.tile_n;
                const float4 s = add_parts<M>(p, part, t, column), f = *(const float4 *)(b.factor + column);
                v[h][0] = s.x * f.x * scale, v[h][1] = s.y * f.y * scale;
                v[h][2] = s.z * f.z * scale, v[h][3] = s.w * f.w * scale;
                if (p.bias) add_four(v[h], bias[h]);
            }
            if (p.gated)
#pragma unroll
                for (int i = 0; i < 4; i++) v[0][i] = open_gate(v[0][i], v[1][i]);
            if (p.add) add_four(v[0], old);
            store_columns<VEC>(y, v[0], left);
            if (!p.sum_out) continue;
            float w[4];
            norm.get(w);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float x = i < left ? rounded(v[0][i], bf16()) : 0.0f;
                square += x * x;
                w[i] *= x;
            }
            store_columns<VEC>(p.normed + t * p.y_stride + first + c, w, left);
        }
        if (!p.sum_out) continue;
        square = warp_sum(square);
        float *to = p.sum_out + t * p.n_sum_out;
        if (lane == 0) to[tile] = square;
        if (tile == p.n_tile - 1) /* the row of sums is as long as the bf16 product's */
            for (int i = p.n_tile + lane; i < p.n_sum_out; i += 32) to[i] = 0;
    }
}

/* Tiles at the weight's end, rows of y that do not begin at 16 bytes. */
template <typename T, int M>
__device__ __noinline__ void store_odd(const params &p, const float *part, const ends &b, int tile, int rank)
{
    store_rows<T, M, false>(p, part, b, tile, rank);
}

template <int M>
__device__ __forceinline__ void store_tile(const params &p, const float *part, const ends &b, int tile,
                                           int rank)
{
    const bool odd = !p.vec || (tile + 1) * p.tile_n > p.n;
    if (p.y_f32 && odd)
        store_odd<float, M>(p, part, b, tile, rank);
    else if (p.y_f32)
        store_rows<float, M, true>(p, part, b, tile, rank);
    else if (odd)
        store_odd<bf16, M>(p, part, b, tile, rank);
    else
        store_rows<bf16, M, true>(p, part, b, tile, rank);
}

template <int M, int SPW, class W>
__device__ void compute_tile(unsigned char *ring, ends &b, const params &p, const cut &c, int tile, int rank)
{
    constexpr int NB = M / 8;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warp_k = warp % p.warps_k,
              group = warp / p.warps_k, groups = N_WARP / p.warps_k;
    float acc[SPW][NB][4] = {};
    uint32_t w_at[SPW], x_at[NB];
    for (int r = threadIdx.x; r < p.strips * ROWS; r += N_COMPUTE)
        b.factor[r] = has_strip(p, tile, r / ROWS)
                          ? __ldg(p.factor + strip_of(p, tile, r / ROWS) * ROWS + r % ROWS)
                          : 0.0f;
#pragma unroll
    for (int j = 0; j < SPW; j++) /* a warp without a strip there does another's work in vain */
        w_at[j] = smem_u32(ring) + (min(group + j * groups, p.strips - 1) * p.warps_k + warp_k) * p.record;
#pragma unroll
    for (int nb = 0; nb < NB; nb++)
        x_at[nb] = smem_u32(ring) + p.strips * p.warps_k * p.record +
                   min(nb * 8 + lane / 4, p.n_tok - 1) * p.x_row_bytes + warp_k * COLS * 2 + lane % 4 * 16;
    grid_wait(); /* an earlier kernel may still read y */
    if (p.sum_in) find_scales(p, b);
    for (int i = 0, st = 0, phase = 0; i < c.n; i++) {
        const int chunk = c.chunk0 + i * p.warps_k + warp_k;
        mbar_wait(&b.full[st], (uint32_t)phase);
        if (chunk < c.chunk1) multiply<M, SPW, W>(p, acc, w_at, x_at);
        __syncwarp();
        if (lane == 0) mbar_arrive(&b.empty[st]);
        int by = p.stage_bytes;
        if (++st == p.n_stage) st = 0, phase ^= 1, by -= p.n_stage * p.stage_bytes;
#pragma unroll
        for (int j = 0; j < SPW; j++) w_at[j] += by;
#pragma unroll
        for (int nb = 0; nb < NB; nb++) x_at[nb] += by;
    }
    float *part = (float *)ring; /* where weights were */
    bar_sync(BAR_COMPUTE, N_COMPUTE);
    put_sums<M, SPW>(p, acc, smem_u32(part), warp_k, group, groups);
    if (p.cluster == 1) {
        bar_sync(BAR_COMPUTE, N_COMPUTE);
        store_tile<M>(p, part, b, tile, rank);
        return;
    }
    release_smem();
    cluster_arrive();
    cluster_wait();
    store_tile<M>(p, part, b, tile, rank);
    __syncwarp();
    read_all(p.cluster);
    cluster_wait();
}

template <int M, int SPW, class W>
__global__ void __maxnreg__(regs_most(M)) gemm_int4_small_kernel(const __grid_constant__ params p)
{
    extern __shared__ __align__(1024) unsigned char ring[];
    ends &b = *(ends *)(ring + p.ends_at);
    const int rank = (int)cluster_rank(), tile = p.tile_first + (int)blockIdx.x / p.cluster,
              warp = threadIdx.x / 32;
    if (threadIdx.x == 0) {
        for (int i = 0; i < p.n_stage; i++) {
            mbar_init(&b.full[i], 2);
            mbar_init(&b.empty[i], N_WARP);
        }
        fence_mbar_init();
    }
    __syncthreads();
    const cut c(p, rank);
    if (warp < N_WARP) {
        compute_tile<M, SPW, W>(ring, b, p, c, tile, rank);
        return;
    }
    if (warp == N_WARP)
        load_weights(ring, b, p, c, tile);
    else if (warp == N_WARP + 1)
        load_x(ring, b, p, c);
    else
        grid_wait(); /* all of the grid is placed by then */
    __syncwarp();
    if (p.cluster > 1)
        for (int i = 0; i < 2; i++) { /* as the others do: once the parts lie there, once they are read */
            cluster_arrive();
            cluster_wait();
        }
}

/* How a product is cut: by the weight's shape alone. A cluster of two if its one tile is not too tall; else
 * one CTA, and if need be several launches. Warps take records side by side as long as each has at most three
 * strips of them. */
static void plan(params *p, int n_sm, int *n_launch)
{
    const int most = STRIPS_MOST / (1 + p->gated), strips = p->n_strip / (1 + p->gated);
    p->cluster = strips <= n_sm / 2 * most ? 2 : 1;
    const int n_cluster = n_sm / p->cluster;
    *n_launch = (strips + n_cluster * most - 1) / (n_cluster * most);
    const int own = (strips + n_cluster * *n_launch - 1) / (n_cluster * *n_launch);
    p->tile_n = own * ROWS;
    p->strips = own * (1 + p->gated);
    p->n_tile = (strips + own - 1) / own;
    p->warps_k = p->strips <= 3 ? 8 : p->strips <= 6 ? 4 : 2;
}

/* Shared memory, of `most` bytes: the ring, barriers; sums lie in the ring. Returns the bytes; 0: there is no
 * room. */
static int plan_smem(params *p, int m, int most)
{
    const int sums = p->warps_k * m * (p->strips * ROWS + PAD) * 4, room = most - (int)sizeof(ends);
    p->x_row_bytes = p->warps_k * COLS * 2 + X_PAD;
    p->stage_bytes = p->strips * p->warps_k * p->record + p->n_tok * p->x_row_bytes;
    p->n_stage = room / p->stage_bytes < STAGES_MOST ? room / p->stage_bytes : STAGES_MOST;
    const int ring = p->n_stage * p->stage_bytes;
    p->ends_at = (ring > sums ? ring : sums) + 15 & ~15;
    return p->n_stage < 1 || p->ends_at > room ? 0 : p->ends_at + (int)sizeof(ends);
}

/* Threads of a CTA of the second kind: warps that only wait, until no two fit on an SM where one of the first
 * kind still does. Warps are spread evenly over the quarters of an SM and of its registers, of which a thread
 * takes a multiple of eight. */
static int threads_second(int regs, int regs_first)
{
    const int quarter = SM_REGS / 4 / 32, own = (regs + 7) / 8 * 8, warps = quarter / own / 2 + 1,
              first = (THREADS / 32 + 3) / 4;
    return warps * own + first * regs_first <= quarter ? warps * 4 * 32 : THREADS;
}

template <int M, int SPW, class W> static enum err launch_as(params p, int n_launch, bool second, gemm_gpu *g)
{
    auto *kernel = gemm_int4_small_kernel<M, SPW, W>;
    const bool alone = M >= 16;
    const int room = alone ? SMEM_ALONE : second ? SMEM_SECOND : SMEM_FIRST, bytes = plan_smem(&p, M, room);
    if (bytes == 0) return ERR_INVALID_VALUE;
    p.lead = (LEAD_BYTES - 1) / (p.strips * p.warps_k * p.record) + 1;
    p.lead = p.lead > 2 ? p.lead : 2;
    const int regs = kernel_regs(g, GEMM_KERNEL_INT4 + (W::ID * 3 + kernel_rows(M)) * 4 + SPW - 1, kernel,
                                 SMEM_ALONE, true);
    if (!regs) return ERR_DEVICE;
    cudaLaunchAttribute attr[2] = {};
    attr[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attr[0].val.programmaticStreamSerializationAllowed = 1;
    attr[1].id = cudaLaunchAttributeClusterDimension;
    attr[1].val.clusterDim.x = (unsigned)p.cluster;
    attr[1].val.clusterDim.y = 1;
    attr[1].val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.blockDim = dim3((unsigned)(second && !alone ? threads_second(regs, regs_most(M)) : THREADS));
    config.dynamicSmemBytes = (size_t)(second || alone ? bytes : room);
    config.stream = g->stream;
    config.attrs = attr;
    config.numAttrs = 2;
    const int of_launch = (p.n_tile + n_launch - 1) / n_launch;
    for (; p.tile_first < p.n_tile; p.tile_first += of_launch) {
        const int n = p.n_tile - p.tile_first;
        config.gridDim = dim3((unsigned)((n < of_launch ? n : of_launch) * p.cluster));
        if (cudaLaunchKernelEx(&config, kernel, p) != cudaSuccess) return ERR_DEVICE;
    }
    return OK;
}

template <int M, class W>
static enum err launch_strips(const params &p, int n_launch, bool second, gemm_gpu *g)
{
    switch ((p.strips * p.warps_k + N_WARP - 1) / N_WARP) { /* strips of a warp */
    case 1:
        return launch_as<M, 1, W>(p, n_launch, second, g);
    case 2:
        return launch_as<M, 2, W>(p, n_launch, second, g);
    case 3:
        return launch_as<M, 3, W>(p, n_launch, second, g);
    default:
        return launch_as<M, 4, W>(p, n_launch, second, g);
    }
}
template <class W> static enum err launch_rows(const params &p, int n_launch, bool second, gemm_gpu *g)
{
    if (p.n_tok <= 8) return launch_strips<8, W>(p, n_launch, second, g);
    return p.n_tok <= 16 ? launch_strips<16, W>(p, n_launch, second, g)
                         : launch_strips<32, W>(p, n_launch, second, g);
}
static enum err launch(const params &p, const int4_form *f, int n_launch, bool second, gemm_gpu *g)
{
    if (f->group == 32)
        return f->zeros ? launch_rows<u4_weights<true, true>>(p, n_launch, second, g)
                        : launch_rows<u4_weights<false, true>>(p, n_launch, second, g);
    return f->zeros ? launch_rows<u4_weights<true, false>>(p, n_launch, second, g)
                    : launch_rows<u4_weights<false, false>>(p, n_launch, second, g);
}

enum err gemm_int4_small_sm90(const struct gemm_args *a, const struct gemm_more *more, struct gemm_gpu *g)
{
    static const gemm_more none = {};
    const gemm_more *m = more ? more : &none;
    const struct weight *w = a->w;
    const int4_form *f = (const int4_form *)w->impl;
    if (a->n_tok < 1 || a->n_tok > GEMM_SMALL_MAX_TOK || w->dt != DT_U4 || !w->data || !f || w->n < 1 ||
        w->k < 8 || w->k % 8 || a->x_stride % 8 || (uintptr_t)a->x % 16 || g->n_sm < 2 ||
        (m->gated && (w->n % (2 * ROWS) || a->y_f32 || a->add || m->sum_out)) || (m->sum_out && a->y_f32))
        return ERR_INVALID_VALUE;
    params p = {};
    int n_launch = 0;
    p.gated = m->gated;
    p.n = m->gated ? w->n / 2 : w->n;
    p.k = w->k;
    p.add = a->add;
    p.y_f32 = a->y_f32;
    p.bias = (const bf16 *)a->bias;
    p.x_stride = a->x_stride;
    p.y_stride = a->y_stride;
    p.w = (const unsigned char *)w->data;
    p.factor = (const float *)(p.w + int4_record_bytes(f));
    p.zeros = p.w + int4_zeros_at(f);
    p.n_chunk = int4_chunks(w->k);
    p.n_strip = int4_strips(w->n);
    p.record = int4_record(f->group, f->zeros);
    p.set_shift = f->group == 128;
    p.n_sum_in = m->sum_in ? gemm_small_tiles(g->n_sm, w->k) : 0;
    p.n_sum_out = m->sum_out ? gemm_small_tiles(g->n_sm, p.n) : 0;
    p.eps = m->eps;
    p.norm = (const bf16 *)m->norm;
    plan(&p, g->n_sm, &n_launch);
    if (m->sum_out && p.n_tile > p.n_sum_out) return ERR_INVALID_VALUE;
    for (int t = 0; t < a->n_tok; t += M_MOST) {
        p.n_tok = a->n_tok - t < M_MOST ? a->n_tok - t : M_MOST;
        p.x = (const bf16 *)a->x + t * a->x_stride;
        p.y = (char *)a->y + t * a->y_stride * (a->y_f32 ? 4 : 2);
        p.sum_in = m->sum_in ? m->sum_in + t * p.n_sum_in : NULL;
        p.sum_out = m->sum_out ? m->sum_out + t * p.n_sum_out : NULL;
        p.normed = m->sum_out ? (bf16 *)m->normed + t * a->y_stride : NULL;
        p.sum_vec = p.n_sum_in % 4 == 0 && (uintptr_t)p.sum_in % 16 == 0;
        p.vec = p.n % 4 == 0 && a->y_stride % 4 == 0 && (uintptr_t)p.y % 16 == 0 &&
                (uintptr_t)p.normed % 8 == 0 && (uintptr_t)p.norm % 8 == 0;
        const enum err e = launch(p, f, n_launch, m->second != (t > 0), g);
        if (e != OK) return e;
    }
    return OK;
}
