/* roof: see roof.h. */
#include "kernels/bench/roof.h"
#include "kernels/sm90.cuh"

#include <cuda_runtime.h>
#include <algorithm>

enum { BULK = 32 << 10, DEPTH = 6, N_BULK = 65536, LOADS = 8, REPEATS = 15 };
static const int64_t BYTES = (int64_t)BULK * N_BULK;

/* Loads of 16 bytes, eight of a thread in flight. */
__global__ static void read_loads(const uint4 *p, int64_t n, uint32_t *sink)
{
    uint32_t x = 0;
    const int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i + (LOADS - 1) * step < n; i += LOADS * step) {
        uint4 v[LOADS];
#pragma unroll
        for (int k = 0; k < LOADS; k++)
            v[k] = __ldcs(p + i + k * step);
#pragma unroll
        for (int k = 0; k < LOADS; k++)
            x ^= v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;
    }
    if (x == 0x12345678)
        *sink = x;
}

/* Bulk copies into shared memory, DEPTH of 32 KB in flight on each SM, as attention and the small products load. */
__global__ static void read_bulk(const unsigned char *p)
{
    extern __shared__ __align__(128) unsigned char ring[];
    __shared__ uint64_t full[DEPTH];
    if (threadIdx.x)
        return;
    for (int i = 0; i < DEPTH; i++)
        mbar_init(&full[i], 1);
    fence_mbar_init();
    const int n = (N_BULK - (int)blockIdx.x + (int)gridDim.x - 1) / (int)gridDim.x;
    for (int i = 0; i < n + DEPTH; i++) {
        const int st = i % DEPTH;
        if (i >= DEPTH)
            mbar_wait(&full[st], (i / DEPTH - 1) & 1);
        if (i < n) {
            mbar_arrive_tx(&full[st], BULK);
            asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(smem_u32(ring + st * BULK)),
                         "l"(p + ((int64_t)i * gridDim.x + blockIdx.x) * BULK), "r"(BULK), "r"(smem_u32(&full[st])), "l"(l2_evict_first())
                         : "memory");
        } else if (i >= DEPTH && i - DEPTH >= n) {
            break;
        }
    }
}

/* Best of REPEATS. */
template <typename F> static double best_ms(F f)
{
    cudaEvent_t begin, end;
    float       best = 1e9f, ms;
    cudaEventCreate(&begin);
    cudaEventCreate(&end);
    for (int i = 0; i < REPEATS; i++) {
        cudaEventRecord(begin, 0);
        f();
        cudaEventRecord(end, 0);
        if (cudaEventSynchronize(end) == cudaSuccess && cudaEventElapsedTime(&ms, begin, end) == cudaSuccess && i > 1)
            best = std::min(best, ms);
    }
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    return best;
}

double roof_loads_tbps(int per_sm, int threads)
{
    void *p;
    int   n_sm = 0;
    if (cudaMalloc(&p, (size_t)BYTES) != cudaSuccess)
        return 0;
    cudaDeviceGetAttribute(&n_sm, cudaDevAttrMultiProcessorCount, 0);
    cudaMemset(p, 1, (size_t)BYTES);
    double ms = best_ms([&] { read_loads<<<n_sm * per_sm, threads>>>((const uint4 *)p, BYTES / 16, (uint32_t *)p); });
    cudaFree(p);
    return (double)BYTES / ms * 1e-9;
}
double roof_read_tbps(void)
{
    void *p;
    int   n_sm = 0;
    if (cudaMalloc(&p, (size_t)BYTES) != cudaSuccess)
        return 0;
    cudaDeviceGetAttribute(&n_sm, cudaDevAttrMultiProcessorCount, 0);
    cudaMemset(p, 1, (size_t)BYTES);
    cudaFuncSetAttribute(read_bulk, cudaFuncAttributeMaxDynamicSharedMemorySize, BULK * DEPTH);
    double ms = best_ms([&] { read_bulk<<<n_sm, 32, BULK * DEPTH>>>((const unsigned char *)p); });
    cudaFree(p);
    return (double)BYTES / ms * 1e-9;
}
double roof_copy_tbps(void)
{
    char *p;
    if (cudaMalloc((void **)&p, (size_t)BYTES) != cudaSuccess)
        return 0;
    cudaMemset(p, 1, (size_t)BYTES);
    double ms = best_ms([&] { cudaMemcpyAsync(p, p + BYTES / 2, (size_t)BYTES / 2, cudaMemcpyDeviceToDevice, 0); });
    cudaFree(p);
    return (double)BYTES / ms * 1e-9;
}
