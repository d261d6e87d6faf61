/* Small-batch products, timed beside cuBLASLt in the same run. Weights rotate through more than L2 holds; each figure is
 * the median over replays of a graph that runs every copy once, divided by the number of copies.
 * usage: bench_gemm [out.jsonl] */
#include "kernels/gemm_gpu.h"

#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>
#include <algorithm>
#include <functional>
#include <vector>

#define CUDA(x)                                                                                     \
    do {                                                                                            \
        cudaError_t e_ = (x);                                                                       \
        if (e_ != cudaSuccess) {                                                                    \
            fprintf(stderr, "%s:%d %s: %s\n", __FILE__, __LINE__, #x, cudaGetErrorString(e_));      \
            exit(2);                                                                                \
        }                                                                                           \
    } while (0)
#define LT(x)                                                                                       \
    do {                                                                                            \
        if ((x) != CUBLAS_STATUS_SUCCESS) {                                                         \
            fprintf(stderr, "%s:%d %s\n", __FILE__, __LINE__, #x);                                  \
            exit(2);                                                                                \
        }                                                                                           \
    } while (0)

enum { ROTATE_BYTES = 400 << 20, LT_WORK = 32 << 20 };

__global__ static void fill(__nv_bfloat16 *p, int64_t n, uint32_t seed)
{
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n; i += (int64_t)gridDim.x * blockDim.x) {
        uint64_t x = ((uint64_t)seed << 40 ^ (uint64_t)i) * 0x9e3779b97f4a7c15ull;
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
        x = (x ^ x >> 27) * 0x94d049bb133111ebull;
        p[i] = __float2bfloat16((float)(uint32_t)(x >> 32) * 2.3283064e-10f - 0.5f);
    }
}

static double graph_us(cudaStream_t s, int n_copy, const std::function<void(int)> &launch)
{
    cudaGraph_t     graph;
    cudaGraphExec_t exec;
    launch(0);
    CUDA(cudaStreamSynchronize(s));
    CUDA(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < n_copy; i++)
        launch(i);
    CUDA(cudaStreamEndCapture(s, &graph));
    CUDA(cudaGraphInstantiate(&exec, graph, 0));
    cudaEvent_t a, b;
    CUDA(cudaEventCreate(&a));
    CUDA(cudaEventCreate(&b));
    std::vector<float> ms;
    for (int i = -2; i < 21; i++) {
        CUDA(cudaEventRecord(a, s));
        CUDA(cudaGraphLaunch(exec, s));
        CUDA(cudaEventRecord(b, s));
        CUDA(cudaEventSynchronize(b));
        float t;
        CUDA(cudaEventElapsedTime(&t, a, b));
        if (i >= 0)
            ms.push_back(t);
    }
    std::sort(ms.begin(), ms.end());
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
    return ms[ms.size() / 2] * 1e3 / n_copy;
}

/* y^T[n, m] = w x^T as cuBLASLt's columns see it, with the algorithms it proposes, its first choice first. */
struct lt_product {
    cublasLtMatmulDesc_t             op;
    cublasLtMatrixLayout_t           w, x, y;
    enum { MOST = 16 };
    cublasLtMatmulHeuristicResult_t  found[MOST];
    int                              n_found = 0;
    lt_product(cublasLtHandle_t lt, int m, int n, int k)
    {
        cublasOperation_t t = CUBLAS_OP_T;
        LT(cublasLtMatmulDescCreate(&op, CUBLAS_COMPUTE_32F, CUDA_R_32F));
        LT(cublasLtMatmulDescSetAttribute(op, CUBLASLT_MATMUL_DESC_TRANSA, &t, sizeof t));
        LT(cublasLtMatrixLayoutCreate(&w, CUDA_R_16BF, (uint64_t)k, (uint64_t)n, k));
        LT(cublasLtMatrixLayoutCreate(&x, CUDA_R_16BF, (uint64_t)k, (uint64_t)m, k));
        LT(cublasLtMatrixLayoutCreate(&y, CUDA_R_16BF, (uint64_t)n, (uint64_t)m, n));
        cublasLtMatmulPreference_t pref;
        size_t                     work = LT_WORK;
        LT(cublasLtMatmulPreferenceCreate(&pref));
        LT(cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &work, sizeof work));
        LT(cublasLtMatmulAlgoGetHeuristic(lt, op, w, x, y, y, pref, MOST, found, &n_found));
        if (!n_found)
            exit(2);
    }
};

int main(int argc, char **argv)
{
    FILE *json = argc > 1 ? fopen(argv[1], "a") : NULL;
    const int shapes[][2] = {{6144, 4096}, {4096, 4096}, {28672, 4096}, {4096, 14336}, {128256, 4096}};
    cudaDeviceProp prop;
    CUDA(cudaGetDeviceProperties(&prop, 0));
    cudaStream_t s;
    CUDA(cudaStreamCreate(&s));
    cublasLtHandle_t lt;
    LT(cublasLtCreate(&lt));
    void *lt_work;
    CUDA(cudaMalloc(&lt_work, LT_WORK));
    for (auto &sh : shapes) {
        int            n = sh[0], k = sh[1], n_copy = (int)std::max<int64_t>(2, ROTATE_BYTES / ((int64_t)n * k * 2));
        __nv_bfloat16 *w, *x, *y;
        CUDA(cudaMalloc(&w, (size_t)n * (size_t)k * 2 * (size_t)n_copy));
        CUDA(cudaMalloc(&x, (size_t)k * 64 * 2));
        CUDA(cudaMalloc(&y, (size_t)n * 64 * 4));
        fill<<<1024, 256>>>(w, (int64_t)n * k * n_copy, 1);
        fill<<<64, 256>>>(x, (int64_t)k * 64, 2);
        CUDA(cudaDeviceSynchronize());
        for (int m : {1, 8, 16, 32, 64}) {
            gemm_gpu   g = {s, prop.multiProcessorCount};
            lt_product p(lt, m, n, k);
            float      one = 1, zero = 0;
            double     first = 0, blas = 0;
            for (int c = 0; c < p.n_found; c++) {
                if (p.found[c].state != CUBLAS_STATUS_SUCCESS)
                    continue;
                double us = graph_us(s, n_copy, [&](int i) {
                    LT(cublasLtMatmul(lt, p.op, &one, w + (int64_t)i * n * k, p.w, x, p.x, &zero, y, p.y, y, p.y, &p.found[c].algo, lt_work, LT_WORK, s));
                });
                if (c == 0)
                    first = us;
                if (blas == 0 || us < blas)
                    blas = us;
            }
            double own = graph_us(s, n_copy, [&](int i) {
                struct weight wt = {DT_BF16, n, k, w + (int64_t)i * n * k, NULL};
                gemm_args     a = {y, x, &wt, NULL, k, n, m, false, true, false, n > 100000}; /* logits are fp32 */
                if (gemm_small_sm90(&a, NULL, &g) != OK)
                    exit(3);
            });
            double gb = (double)n * k * 2e-6; /* weights, in MB: MB/us = TB/s */
            printf("gemm %6d x %5d  T=%2d  %8.2f us  %5.3f TB/s  %3.0f%% of roof  cuBLASLt first %8.2f best %8.2f us  %5.2f %5.2f x anchor\n", n, k, m, own, gb / own,
                   gb / own / 3.0 * 100, first, blas, first / own, blas / own);
            fflush(stdout);
            if (json)
                fprintf(json, "{\"bench\":\"gemm\",\"n\":%d,\"k\":%d,\"t\":%d,\"us\":%.3f,\"tbps\":%.4f,\"cublaslt_us\":%.3f,\"cublaslt_best_us\":%.3f,\"anchor_ratio\":%.3f}\n", n, k,
                        m, own, gb / own, first, blas, blas / own);
        }
        cudaFree(w);
        cudaFree(x);
        cudaFree(y);
    }
    if (json)
        fclose(json);
    return 0;
}
