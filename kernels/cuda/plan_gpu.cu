/* plan_gpu: see plan_gpu.h. One block a layer; a block of threads patches the tables in a launch before. */
#include "kernels/cuda/plan_gpu.h"
#include "kernels/kv_fp8.h"

#include <cuda_runtime.h>

enum { THREADS = 256, PATCH_BLOCKS = 32, SETTLE_BLOCKS = 32 };

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
        s.codes = a.wide && bit == 1;
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

/* A block of a run's layer that keeps codes; batch_code_page of the engine. */
static __device__ int code_page(const int32_t *page, int own, int block)
{
    const bool second = block % 2 == 1 && block - 1 >= own;
    if (page[block] < 0 || page_has_codes(page[block])) return page[block];
    return page_codes(page_id(page[block - second]), block);
}

static __global__ void settle_kernel(const plan_gpu_args a, int layer)
{
    const int t0 = blockIdx.x * THREADS + threadIdx.x, step = gridDim.x * THREADS;
    for (int i = t0; i < a.n_run; i += step) {
        const plan_run &r = a.run[i];
        attn_seg &s = a.seg[(int64_t)layer * a.max_run + i];
        const int32_t *page = a.table + ((int64_t)r.slot * a.n_layer + layer) * a.n_block;
        /* halves where pages should be: it has strayed, and anything may stand there */
        const bool strayed = !s.codes && r.own > 0 && r.n_row > 0 && page_has_codes(page[0]);
        s.page = s.codes || strayed ? a.wide + r.wide : page;
    }
    for (int t = t0; t < a.n_tok; t += step) {
        const int i = run_of(a, t);
        const plan_run &r = a.run[i];
        if (t < r.row0 || t >= r.row0 + r.n_row) continue;
        const int32_t *page = a.table + ((int64_t)r.slot * a.n_layer + layer) * a.n_block;
        const int block = (r.pos0 + t - r.row0) / PAGE_TOK;
        a.page[(int64_t)layer * a.max_tok + t] = a.seg[(int64_t)layer * a.max_run + i].codes
                                                     ? code_page(page, r.own, block)
                                                     : page_id(page[block]);
    }
    for (int w = t0; w < a.n_wide; w += step) {
        int i = 0;
        for (int hi = a.n_run - 1; i < hi;) { /* the last run that begins at or before it */
            const int mid = (i + hi + 1) / 2;
            if (a.run[mid].wide <= w)
                i = mid;
            else
                hi = mid - 1;
        }
        const plan_run &r = a.run[i];
        const bool codes = a.seg[(int64_t)layer * a.max_run + i].codes;
        a.from[w] =
            codes ? code_page(a.table + ((int64_t)r.slot * a.n_layer + layer) * a.n_block, r.own, w - r.wide)
                  : -1;
    }
}

enum err plan_settle_gpu(const struct plan_gpu_args *a, int layer, cudaStream_t stream)
{
    settle_kernel<<<SETTLE_BLOCKS, THREADS, 0, stream>>>(*a, layer);
    return cudaGetLastError() == cudaSuccess ? OK : ERR_DEVICE;
}

enum err plan_gpu(const struct plan_gpu_args *a, cudaStream_t stream)
{
    patch_kernel<<<PATCH_BLOCKS, THREADS, 0, stream>>>(*a);
    plan_kernel<<<(unsigned)(a->layer1 - a->layer0), THREADS, 0, stream>>>(*a);
    return cudaGetLastError() == cudaSuccess ? OK : ERR_DEVICE;
}
