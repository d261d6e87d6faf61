/* Small-batch products, timed beside cuBLASLt in the same run. Weights rotate through more than L2 holds;
 * each figure is the median over replays of a graph that runs every copy once, divided by the number of
 * copies. usage: bench_gemm */
#include "kernels/cuda/gemm_gpu.h"
#include "kernels/bench/bench.cuh"

#include <cublasLt.h>
#include <cuda_bf16.h>

#define LT(x)                                                                                                \
    do {                                                                                                     \
        if ((x) != CUBLAS_STATUS_SUCCESS) {                                                                  \
            fprintf(stderr, "%s:%d %s\n", __FILE__, __LINE__, #x);                                           \
            exit(2);                                                                                         \
        }                                                                                                    \
    } while (0)

enum { ROTATE_BYTES = 400 << 20, LT_WORK = 32 << 20 };

/* y^T[n, m] = w x^T as cuBLASLt's columns see it, with the algorithms it proposes, its first choice first. */
struct lt_product {
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t w, x, y;
    enum { MOST = 16 };
    cublasLtMatmulHeuristicResult_t found[MOST];
    int n_found = 0;
    lt_product(cublasLtHandle_t lt, int m, int n, int k)
    {
        cublasOperation_t t = CUBLAS_OP_T;
        LT(cublasLtMatmulDescCreate(&op, CUBLAS_COMPUTE_32F, CUDA_R_32F));
        LT(cublasLtMatmulDescSetAttribute(op, CUBLASLT_MATMUL_DESC_TRANSA, &t, sizeof t));
        LT(cublasLtMatrixLayoutCreate(&w, CUDA_R_16BF, (uint64_t)k, (uint64_t)n, k));
        LT(cublasLtMatrixLayoutCreate(&x, CUDA_R_16BF, (uint64_t)k, (uint64_t)m, k));
        LT(cublasLtMatrixLayoutCreate(&y, CUDA_R_16BF, (uint64_t)n, (uint64_t)m, n));
        cublasLtMatmulPreference_t pref;
        size_t work = LT_WORK;
        LT(cublasLtMatmulPreferenceCreate(&pref));
        LT(cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &work,
                                                sizeof work));
        LT(cublasLtMatmulAlgoGetHeuristic(lt, op, w, x, y, y, pref, MOST, found, &n_found));
        if (!n_found) exit(2);
    }
};

int main(void)
{
    const int shapes[][2] = {{6144, 4096}, {4096, 4096}, {28672, 4096}, {4096, 14336}, {128256, 4096}};
    const int n_sm = n_sm_here();
    cudaStream_t s;
    CUDA(cudaStreamCreate(&s));
    cublasLtHandle_t lt;
    LT(cublasLtCreate(&lt));
    void *lt_work;
    CUDA(cudaMalloc(&lt_work, LT_WORK));
    for (auto &sh : shapes) {
        int n = sh[0], k = sh[1], n_copy = (int)std::max<int64_t>(2, ROTATE_BYTES / ((int64_t)n * k * 2));
        __nv_bfloat16 *w, *x, *y;
        CUDA(cudaMalloc(&w, (size_t)n * (size_t)k * 2 * (size_t)n_copy));
        CUDA(cudaMalloc(&x, (size_t)k * 64 * 2));
        CUDA(cudaMalloc(&y, (size_t)n * 64 * 4));
        fill_random(w, (int64_t)n * k * n_copy, 1, 0, 0.5f);
        fill_random(x, (int64_t)k * 64, 2, 0, 0.5f);
        for (int m : {1, 8, 16, 32, 64}) {
            gemm_gpu g = {s, n_sm};
            lt_product p(lt, m, n, k);
            float one = 1, zero = 0;
            double first = 0, blas = 0;
            for (int c = 0; c < p.n_found; c++) {
                if (p.found[c].state != CUBLAS_STATUS_SUCCESS) continue;
                double us = graph_us(s, n_copy, [&](int i) {
                    LT(cublasLtMatmul(lt, p.op, &one, w + (int64_t)i * n * k, p.w, x, p.x, &zero, y, p.y, y,
                                      p.y, &p.found[c].algo, lt_work, LT_WORK, s));
                });
                if (c == 0) first = us;
                if (blas == 0 || us < blas) blas = us;
            }
            double own = graph_us(s, n_copy, [&](int i) {
                struct weight wt = {DT_BF16, n, k, w + (int64_t)i * n * k, NULL};
                gemm_args a = {y, x,     &wt,  NULL,  k,         n,
                               m, false, true, false, n > 100000}; /* logits are fp32 */
                gemm_more more = {};
                more.second = i % 2;
                if (gemm_small_sm90(&a, &more, &g) != OK) exit(3);
            });
            double gb = (double)n * k * 2e-6; /* weights, in MB: MB/us = TB/s */
            fprintf(
                stderr,
                "gemm %6d x %5d  T=%2d  %8.2f us  %5.3f TB/s  cuBLASLt first %8.2f best %8.2f us  %5.2f %5.2f x anchor\n",
                n, k, m, own, gb / own, first, blas, first / own, blas / own);
            printf(
                "{\"bench\":\"gemm\",\"n\":%d,\"k\":%d,\"t\":%d,\"us\":%.3f,\"tbps\":%.4f,\"cublaslt_us\":%.3f,\"cublaslt_best_us\":%.3f}\n",
                n, k, m, own, gb / own, first, blas);
            fflush(stdout);
        }
        cudaFree(w);
        cudaFree(x);
        cudaFree(y);
    }
    return 0;
}
