/* router on CUDA: pooling, the Layer Router's five products and the choice, for one layer and all prompts it
 * decides, in one launch.
 *
 * A cluster of eight blocks takes a prompt. Each pools an eighth of its rows; the sums go to every block's
 * shared memory, as does each product's eighth of outputs, so a layer of the MLP ends with one barrier of the
 * cluster and nothing passes through global memory. One warp a sum, lanes along the inputs: the order is
 * fixed and knows nothing of other prompts. Four eighths are the prompt's first rows: what those add up to
 * may be kept, and stands for them when another prompt goes on behind the same rows. Devices without clusters
 * run one block a prompt, which takes one eighth after the other. */
#include "kernels/cuda/gpu_ops.cuh"

#include <cooperative_groups.h>

namespace cg = cooperative_groups;

enum {
    THREADS = 512,
    WARPS = THREADS / 32,
    PARTS = 8,
    CLUSTER = PARTS,
    VEC = 8,
    HEAD_MAX = 256,
    WIDE_MAX = 8 * HEAD_MAX
};

struct router_smem {
    float part[THREADS * VEC];  /* [group of heads][K] */
    float sum[PARTS][HEAD_MAX]; /* of each eighth of the pooled rows */
    float x[2][WIDE_MAX];       /* inputs and outputs of a product, in turn */
};

/* Blocks that work on one prompt, and their shared memory. */
struct team {
    int rank, size;
    __device__ team()
    {
#if __CUDA_ARCH__ >= 900
        rank = (int)cg::this_cluster().block_rank();
        size = (int)cg::this_cluster().num_blocks();
#else
        rank = 0;
        size = 1;
#endif
    }
    __device__ void sync() const
    {
#if __CUDA_ARCH__ >= 900
        cg::this_cluster().sync();
#else
        __syncthreads();
#endif
    }
    __device__ float *of(float *p, int r) const
    {
#if __CUDA_ARCH__ >= 900
        return cg::this_cluster().map_shared_rank(p, (unsigned)r);
#else
        return p;
#endif
    }
};

static __device__ __forceinline__ void prefetch_l2(const float *p, int n, const team &t)
{
    for (int i = (t.rank * THREADS + (int)threadIdx.x) * 32; i < n; i += t.size * THREADS * 32)
        asm volatile("prefetch.global.L2 [%0];" ::"l"(p + i));
}

/* Sum over one eighth of the pooled rows and all heads, to every block's sum[part]. */
template <typename T>
static __device__ void pool_part(router_smem &s, const router_gpu_args &a, const router_gpu_prompt &p,
                                 int part, const team &team)
{
    const int n_end = min(a.pool_size, p.n_row), n = 2 * n_end, tail = p.n_row - n_end;
    const int per_head = a.head / VEC, n_group = THREADS / per_head;
    const int group = threadIdx.x / per_head, v = threadIdx.x % per_head * VEC;
    const int begin = n * part / PARTS, end = n * (part + 1) / PARTS;
    float acc[VEC] = {};
    if (group < n_group)
        for (int h = group; h < a.n_head; h += n_group)
#pragma unroll(sizeof(T) == 2 ? 8 : 4)
            for (int i = begin; i < end; i++) {
                const int64_t row = p.row0 + (i < n_end ? i : tail + i - n_end);
                float q[VEC];
                load_vec<VEC>(q, (const T *)a.q_raw + row * a.q_stride + h * a.head + v);
#pragma unroll
                for (int j = 0; j < VEC; j++) acc[j] += q[j];
            }
    if (group < n_group) store_vec<VEC>(s.part + group * a.head + v, acc);
    __syncthreads();
    for (int k = threadIdx.x; k < a.head; k += THREADS) {
        float sum = 0;
        for (int i = 0; i < n_group; i++) sum += s.part[i * a.head + k];
        for (int r = 0; r < team.size; r++) team.of(&s.sum[part][k], r)[0] = sum;
    }
}

/* The mean to every block's x[0]. In a prompt that goes on behind cached pages the kept sum stands for the
 * first rows. */
template <typename T>
static __device__ void pool(router_smem &s, const router_gpu_args &a, const router_gpu_prompt &p,
                            const team &team)
{
    const int n = 2 * min(a.pool_size, p.n_row), first = p.resumed ? PARTS / 2 : 0;
    float *kept = a.head_sum ? a.head_sum + (int64_t)(blockIdx.x / team.size) * a.head : NULL;
    for (int part = team.rank; part < PARTS; part += team.size) {
        if (part < first) continue;
        if (part >= team.size) __syncthreads(); /* the part before has been added up */
        pool_part<T>(s, a, p, part, team);
    }
    team.sync();
    for (int k = threadIdx.x; k < a.head; k += THREADS) {
        float sum = p.resumed ? kept[k] : 0;
        for (int i = first; i < PARTS / 2; i++) sum += s.sum[i][k];
        if (!p.resumed && kept && team.rank == 0) kept[k] = sum;
        for (int i = PARTS / 2; i < PARTS; i++) sum += s.sum[i][k];
        s.x[0][k] = sum / ((float)n * (float)a.n_head);
    }
    __syncthreads();
}

/* Dot products of OUT neighbouring outputs with x; every lane returns them all. OUT * DEPTH loads are on
 * their way at once. */
template <int OUT, int DEPTH>
static __device__ __forceinline__ void dots(float (&acc)[OUT], const float *w, const float *x, int k,
                                            int n_left)
{
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int o = 0; o < OUT; o++) acc[o] = 0;
#pragma unroll DEPTH
    for (int i = lane; i < k; i += 32) {
        float v[OUT];
#pragma unroll
        for (int o = 0; o < OUT; o++) v[o] = o < n_left ? w[(int64_t)o * k + i] : 0;
#pragma unroll
        for (int o = 0; o < OUT; o++) acc[o] += v[o] * x[i];
    }
#pragma unroll
    for (int o = 0; o < OUT; o++) acc[o] = warp_sum(acc[o]);
}

/* y = act(w x + b): this block's share of the n outputs, to every block's y. */
template <int OUT, int DEPTH>
static __device__ void product(float *y, const float *x, const float *w, const float *b, int n, int k,
                               bool act, const team &team)
{
    const int lane = threadIdx.x % 32, begin = n * team.rank / team.size,
              end = n * (team.rank + 1) / team.size;
    for (int i = begin + (int)threadIdx.x / 32 * OUT; i < end; i += WARPS * OUT) {
        float acc[OUT];
        dots<OUT, DEPTH>(acc, w + (int64_t)i * k, x, k, end - i);
#pragma unroll
        for (int o = 0; o < OUT; o++)
            if (i + o < end) {
                float v = acc[o] + b[i + o];
                if (act) v = v / (1.0f + expf(-v));
                if (lane < team.size) team.of(y + i + o, lane)[0] = v;
            }
    }
    team.sync();
}

/* This layer and those left are no more than what still must be full. */
static __device__ bool must_be_full(const router_gpu_args &a, const router_gpu_prompt &p)
{
    if (p.need <= 0) return false;
    int n = a.n_left;
    for (int i = 1; i <= a.n_below; i++)
        n += a.fixed && a.fixed[-i] < 2 ? a.fixed[-i] : a.seg[p.run - i * a.seg_stride].kind == a.full_kind;
    return n <= p.need;
}

template <typename T> __global__ void __launch_bounds__(THREADS) router_kernel(const router_gpu_args a)
{
    __shared__ router_smem s;
    const team team;
    const router_weights &w = a.w;
    const int K = a.head;
    const int n[5] = {8 * K, 2 * K, 4 * K, K, w.n_out}, k[5] = {K, 8 * K, 2 * K, 4 * K, K};
#pragma unroll
    for (int i = 0; i < 4; i++) prefetch_l2(w.w[i], n[i] * k[i], team);
    begin_kernel();
    const router_gpu_prompt p = a.prompt[blockIdx.x / team.size];
    if (p.n_row <= 0) return; /* the whole cluster */
    team.sync();              /* all blocks have begun: their shared memory may be written */
    pool<T>(s, a, p, team);
    product<8, 4>(s.x[1], s.x[0], w.w[0], w.b[0], n[0], k[0], true, team);
    product<2, 16>(s.x[0], s.x[1], w.w[1], w.b[1], n[1], k[1], false, team);
    product<4, 8>(s.x[1], s.x[0], w.w[2], w.b[2], n[2], k[2], true, team);
    product<1, 16>(s.x[0], s.x[1], w.w[3], w.b[3], n[3], k[3], true, team);
    if (team.rank != 0 || threadIdx.x >= 32) return;
    float y[2];
    dots<2, 4>(y, w.w[4], s.x[0], K, w.n_out);
    const float l0 = y[0] + w.b[4][0], margin = (w.n_out == 2 ? y[1] + w.b[4][1] - l0 : l0) + p.bias;
    if (threadIdx.x == 0) {
        a.margin[p.run] = margin;
        if (a.seg && a.seg[p.run].kind < 0) { /* a given bit stays */
            const bool full = margin > 0 || must_be_full(a, p);
            a.seg[p.run].kind = full ? a.full_kind : a.sparse_kind;
            a.seg[p.run].codes = a.codes && full;
        }
    }
}

enum err router_gpu(const struct router_gpu_args *a, const struct gpu_ctx *g)
{
    if (a->n_prompt == 0) return OK;
    if (a->n_prompt < 0 || a->head < VEC || a->head > HEAD_MAX || a->head % VEC || a->q_stride % VEC ||
        a->pool_size < 1 || a->w.n_out < 1 || a->w.n_out > 2)
        return ERR_INVALID_VALUE;
    static const int size = gpu_is_sm90(router_kernel<bf16>) ? CLUSTER : 1;
    const dim3 grid((unsigned)(a->n_prompt * size));
    return g->act == DT_F32 ? gpu_launch(g, router_kernel<float>, grid, THREADS, size, *a)
                            : gpu_launch(g, router_kernel<bf16>, grid, THREADS, size, *a);
}
