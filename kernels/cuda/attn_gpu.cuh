/* attn_gpu: what prefill and decode share: the workspace's plan, the streaming rule. */
#ifndef FLUXD_KERNELS_CUDA_ATTN_GPU_CUH
#define FLUXD_KERNELS_CUDA_ATTN_GPU_CUH

#include "kernels/cuda/attn_gpu.h"
#include "kernels/cuda/tensor_map.h"

/* Workspace: prefill's two counters, then decode's counters, then its partial results. */
struct attn_work {
    size_t counter, next, row_counter, stat, partial, bytes; /* offsets */
};
static inline struct attn_work attn_work_plan(int max_row, int n_head, int n_kv, int head)
{
    size_t chunks = (size_t)max_row * (size_t)n_head * ATTN_MAX_CHUNK;
    struct attn_work w;
    w.counter = 0;
    w.next = 128; /* a line of its own */
    w.row_counter = 256;
    w.stat = w.row_counter + ((size_t)max_row * (size_t)n_kv * 4 + 255) / 256 * 256;
    w.partial = w.stat + chunks * 8;
    w.bytes = w.partial + chunks * (size_t)head * 4;
    return w;
}

/* Blocks a query block sees, walked down from the diagonal: n_local of them, then sink_blocks-1 .. 0 (n_sink
 * of them). */
struct attn_span {
    int n_local, n_sink;
};
__host__ __device__ static inline struct attn_span attn_streaming(int block, int sink, int local)
{
    int low = block - local + 1;
    struct attn_span s = {block + 1, 0};
    if (low > sink) {
        s.n_local = local;
        s.n_sink = sink;
    }
    return s;
}

/* Starts as many CTAs as fit on the device at once; they share out the work among themselves. */
template <typename P>
static inline enum err attn_launch(void (*kernel)(const P), int threads, size_t smem_bytes, const P &p,
                                   const struct attn_gpu *g)
{
    int n = 0;
    if (cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             (int)smem_bytes) != cudaSuccess ||
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&n, (const void *)kernel, threads, smem_bytes) !=
            cudaSuccess ||
        n < 1)
        return ERR_DEVICE;
    kernel<<<(unsigned)(g->n_sm * n), (unsigned)threads, smem_bytes, g->stream>>>(p);
    return cudaGetLastError() == cudaSuccess ? OK : ERR_DEVICE;
}

#endif
