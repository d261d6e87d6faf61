/* bench: what the kernel benches share. One JSON line a figure on stdout (read by run.py, which sets shares
 * of the device's roofs and anchors beside it), a readable line on stderr. */
#ifndef FLUXD_KERNELS_BENCH_BENCH_CUH
#define FLUXD_KERNELS_BENCH_BENCH_CUH

#include "kernels/bench/fill.h"

#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>
#include <algorithm>
#include <functional>
#include <vector>

#define CUDA(x)                                                                                              \
    do {                                                                                                     \
        cudaError_t e_ = (x);                                                                                \
        if (e_ != cudaSuccess) {                                                                             \
            fprintf(stderr, "%s:%d %s: %s\n", __FILE__, __LINE__, #x, cudaGetErrorString(e_));               \
            exit(2);                                                                                         \
        }                                                                                                    \
    } while (0)

enum { FLUSH_BYTES = 256 << 20 }; /* several times any L2 */

/* Evicts L2 with clean lines, so that no write-back falls into the timed launch. */
static __global__ void read_all(const uint4 *p, int64_t n, uint32_t *sink)
{
    uint32_t x = 0;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x)
        x ^= p[i].x ^ p[i].w;
    if (x == 0x12345678) *sink = x;
}

static inline double median(std::vector<float> v)
{
    std::sort(v.begin(), v.end());
    return v[v.size() / 2];
}

/* Median ms of `repeats` runs by CUDA events, after two that are not counted; before(): not timed. */
static inline double median_ms(
    cudaStream_t s, int repeats, const std::function<void()> &run,
    const std::function<void()> &before = [] {})
{
    std::vector<cudaEvent_t> ev((size_t)repeats * 2);
    std::vector<float> ms((size_t)repeats);
    for (cudaEvent_t &e : ev) CUDA(cudaEventCreate(&e));
    for (int i = -2; i < repeats; i++) {
        before();
        if (i >= 0) CUDA(cudaEventRecord(ev[(size_t)i * 2], s));
        run();
        if (i >= 0) CUDA(cudaEventRecord(ev[(size_t)i * 2 + 1], s));
    }
    CUDA(cudaStreamSynchronize(s));
    for (int i = 0; i < repeats; i++)
        CUDA(cudaEventElapsedTime(&ms[(size_t)i], ev[(size_t)i * 2], ev[(size_t)i * 2 + 1]));
    for (cudaEvent_t &e : ev) CUDA(cudaEventDestroy(e));
    return median(ms);
}

/* Median us of one launch in a graph of n_copy launches, each on a copy of its own, so that L2 holds nothing
 * of it. */
static inline double graph_us(cudaStream_t s, int n_copy, const std::function<void(int)> &launch)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    launch(0);
    CUDA(cudaStreamSynchronize(s));
    CUDA(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < n_copy; i++) launch(i);
    CUDA(cudaStreamEndCapture(s, &graph));
    CUDA(cudaGraphInstantiate(&exec, graph, 0));
    double ms = median_ms(s, 21, [&] { CUDA(cudaGraphLaunch(exec, s)); });
    CUDA(cudaGraphExecDestroy(exec));
    CUDA(cudaGraphDestroy(graph));
    return ms * 1e3 / n_copy;
}

static inline int n_sm_here()
{
    cudaDeviceProp prop;
    CUDA(cudaGetDeviceProperties(&prop, 0));
    return prop.multiProcessorCount;
}

#endif
