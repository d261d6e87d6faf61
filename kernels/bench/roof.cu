/* roof: see roof.h. */
#include "kernels/bench/roof.h"
#include "kernels/cuda/sm90.cuh"

#include <cuda_runtime.h>
#include <algorithm>

enum {
    BULK = 32 << 10,
    DEPTH = 6,
    N_BULK = 65536,
    REPEATS = 500 /* a quarter of a second: a device that was idle takes some of it to reach its clock */
};
static const int64_t BYTES = (int64_t)BULK * N_BULK;

/* Bulk copies into shared memory, DEPTH of 32 KB in flight on each SM; loads of 16 bytes by as many threads
 * as fit are 1% slower. */
__global__ static void read_kernel(const unsigned char *p)
{
    extern __shared__ __align__(128) unsigned char ring[];
    __shared__ uint64_t full[DEPTH];
    const int n = (N_BULK - (int)blockIdx.x + (int)gridDim.x - 1) / (int)gridDim.x;
    if (threadIdx.x) return;
    for (int i = 0; i < DEPTH; i++) mbar_init(&full[i], 1);
    fence_mbar_init();
    for (int i = 0; i < n + DEPTH; i++) {
        const int st = i % DEPTH;
        if (i >= DEPTH && i - DEPTH < n) mbar_wait(&full[st], (i / DEPTH - 1) & 1);
        if (i < n) {
            mbar_arrive_tx(&full[st], BULK);
            bulk_load(ring + st * BULK, p + ((int64_t)i * gridDim.x + blockIdx.x) * BULK, BULK, &full[st],
                      l2_evict_first()); /* nothing of a run is left in L2 for the next */
        }
    }
}

/* The best of REPEATS; run() moves BYTES. 0: no room for them. */
template <typename F> static double best_tbps(F run)
{
    cudaEvent_t begin, end;
    float best = 1e9f, ms;
    char *p;
    if (cudaMalloc((void **)&p, (size_t)BYTES) != cudaSuccess) return 0;
    cudaMemset(p, 1, (size_t)BYTES);
    cudaEventCreate(&begin);
    cudaEventCreate(&end);
    for (int i = 0; i < REPEATS; i++) {
        cudaEventRecord(begin, 0);
        run(p);
        cudaEventRecord(end, 0);
        if (cudaEventSynchronize(end) == cudaSuccess && cudaEventElapsedTime(&ms, begin, end) == cudaSuccess)
            best = std::min(best, ms);
    }
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    cudaFree(p);
    return (double)BYTES / best * 1e-9;
}

double roof_read_tbps(void)
{
    int n_sm = 0;
    cudaDeviceGetAttribute(&n_sm, cudaDevAttrMultiProcessorCount, 0);
    cudaFuncSetAttribute(read_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, BULK * DEPTH);
    return best_tbps([&](char *p) { read_kernel<<<n_sm, 32, BULK * DEPTH>>>((const unsigned char *)p); });
}

double roof_copy_tbps(void)
{
    return best_tbps(
        [](char *p) { cudaMemcpyAsync(p, p + BYTES / 2, (size_t)BYTES / 2, cudaMemcpyDeviceToDevice, 0); });
}
