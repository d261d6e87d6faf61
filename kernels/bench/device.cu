/* The device's roofs, measured: memory read, memory copied, and the large bf16 product of cuBLASLt on random
 * data (zeros run faster: they draw less power). usage: bench_device */
#include "kernels/bench/bench.cuh"
#include "kernels/bench/roof.h"

#include <cublasLt.h>
#include <cuda_bf16.h>

enum { N = 8192 };

static void must(cublasStatus_t s)
{
    if (s != CUBLAS_STATUS_SUCCESS) {
        fprintf(stderr, "cuBLASLt: status %d\n", (int)s);
        exit(2);
    }
}

static double product_tflops(cudaStream_t s, void *a, void *b, void *c)
{
    cublasLtHandle_t lt;
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t m;
    cublasLtMatmulPreference_t pref;
    cublasLtMatmulHeuristicResult_t found;
    cublasOperation_t t = CUBLAS_OP_T;
    int n_found = 0;
    float one = 1, zero = 0;
    must(cublasLtCreate(&lt));
    must(cublasLtMatmulDescCreate(&op, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    must(cublasLtMatmulDescSetAttribute(op, CUBLASLT_MATMUL_DESC_TRANSA, &t, sizeof t));
    must(cublasLtMatrixLayoutCreate(&m, CUDA_R_16BF, N, N, N));
    must(cublasLtMatmulPreferenceCreate(&pref));
    must(cublasLtMatmulAlgoGetHeuristic(lt, op, m, m, m, m, pref, 1, &found, &n_found));
    return 2.0 * N * N * N /
           median_ms(
               s, 21,
               [&] {
                   must(cublasLtMatmul(lt, op, &one, a, m, b, m, &zero, c, m, c, m, &found.algo, NULL, 0, s));
               }) *
           1e-9;
}

int main(void)
{
    cudaDeviceProp prop;
    cudaStream_t s;
    void *m[3];
    CUDA(cudaGetDeviceProperties(&prop, 0));
    const double read = roof_read_tbps(), copy = roof_copy_tbps();
    CUDA(cudaStreamCreate(&s));
    for (int i = 0; i < 3; i++) {
        CUDA(cudaMalloc(&m[i], (size_t)N * N * 2));
        fill_random(m[i], (int64_t)N * N, (uint64_t)i, 0, 1);
    }
    double product = product_tflops(s, m[0], m[1], m[2]);
    fprintf(stderr, "%s, %d SMs: read %.2f TB/s, copy %.2f TB/s, bf16 product %.0f TFLOP/s\n", prop.name,
            prop.multiProcessorCount, read, copy, product);
    printf(
        "{\"bench\":\"roof\",\"device\":\"%s\",\"read_tbps\":%.3f,\"copy_tbps\":%.3f,\"product_tflops\":%.1f}\n",
        prop.name, read, copy, product);
    return 0;
}
