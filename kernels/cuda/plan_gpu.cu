/* plan_gpu: see plan_gpu.h. One block a layer; a block of threads patches the tables in a launch before. */
#include "kernels/cuda/plan_gpu.h"

#include <cuda_runtime.h>

enum { THREADS = 256, PATCH_BLOCKS = 32 };

static __global__ void patch_kernel(const plan_gpu_args a)
{
    int n = *a.n_patch;
    for (int i = blockIdx.x * THREADS + threadIdx.x; i < n; i += gridDim.x * THREADS)
        a.table[a.patch[i][0]] = a.patch[i][1];
}

/* Run that holds row t: the last one that begins at or before it; padding runs hold none. */
static __device__ int run_of(const plan_gpu_args &a, int t)
{
    int lo = 0, hi = a.n_run - 1;
    while (lo < hi) {
        int mid = (lo + hi + 1) / 2;
        if (a.run[mid].n_row > 0 && a.run[mid].row0 <= t)
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo;
}

static __global__ void plan_kernel(const plan_gpu_args a)
{
    const int layer = a.layer0 + blockIdx.x;
    for (int i = threadIdx.x; i < a.n_run; i += THREADS) {
        const plan_run &r = a.run[i];
        attn_seg s = {};
        s.row0 = r.row0;
        s.n_row = r.n_row;
        s.pos0 = r.pos0;
        int bit = a.route[i * a.n_layer + layer];
        const plan_kind *side = a.kind[layer], &k = side[bit & 1];
        s.kind = bit > 1 ? -1 : a.decode ? k.decode : k.prefill;
        s.sink_blocks = k.sink_blocks;
        s.full_head = k.full_head;
        const int hold = bit < 2 ? k.hold : max(side[0].hold, side[1].hold);
        if (hold >= 0 && a.keep) {
            s.keep = a.keep + (hold * a.hold_stride + r.keep) * a.n_head * a.keep_words;
            s.keep_head_stride = a.keep_words;
            s.keep_block_stride = (int64_t)a.n_head * a.keep_words;
        }
        s.local_blocks = a.local_blocks;
        s.dense_from = r.dense_from;
        s.page = a.table + ((int64_t)r.slot * a.n_layer + layer) * a.n_block;
        a.seg[(int64_t)layer * a.max_run + i] = s;
    }
    for (int t = threadIdx.x; t < a.n_tok; t += THREADS) {
        const plan_run &r = a.run[run_of(a, t)];
        bool real = t >= r.row0 && t < r.row0 + r.n_row;
        int pos = real ? r.pos0 + t - r.row0 : 0;
        a.page[(int64_t)layer * a.max_tok + t] =
            real ? a.table[((int64_t)r.slot * a.n_layer + layer) * a.n_block + pos / PAGE_TOK] : -1;
        if (blockIdx.x == 0) a.pos[t] = pos;
    }
}

enum err plan_gpu(const struct plan_gpu_args *a, cudaStream_t stream)
{
    patch_kernel<<<PATCH_BLOCKS, THREADS, 0, stream>>>(*a);
    plan_kernel<<<(unsigned)(a->layer1 - a->layer0), THREADS, 0, stream>>>(*a);
    return cudaGetLastError() == cudaSuccess ? OK : ERR_DEVICE;
}
