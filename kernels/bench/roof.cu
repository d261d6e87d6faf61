/* The device's roofs, measured: memory read (2 GB, far more than L2 holds), memory copied (bytes read and written), and the large bf16
 * product of cuBLASLt on random data (zeros run faster: they draw less power).
 * usage: bench_roof */
#include "kernels/bench/bench.cuh"

#include <cublasLt.h>
#include <cuda_bf16.h>

enum { N = 8192 };
static const int64_t BYTES = (int64_t)2 << 30;

static void must(cublasStatus_t s)
{
    if (s != CUBLAS_STATUS_SUCCESS) {
        fprintf(stderr, "cuBLASLt: status %d\n", (int)s);
        exit(2);
    }
}

/* Eight loads in flight a thread. */
static __global__ void read_wide(const uint4 *p, int64_t n, uint32_t *sink)
{
    const int64_t step = (int64_t)gridDim.x * blockDim.x;
    uint32_t      x = 0;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n; i += 8 * step) {
        uint4 v[8];
#pragma unroll
        for (int j = 0; j < 8; j++)
            v[j] = i + j * step < n ? __ldcs(p + i + j * step) : make_uint4(0, 0, 0, 0);
#pragma unroll
        for (int j = 0; j < 8; j++)
            x ^= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
    }
    if (x == 0x12345678)
        *sink = x;
}

static double product_tflops(cudaStream_t s, void *a, void *b, void *c)
{
    cublasLtHandle_t                lt;
    cublasLtMatmulDesc_t            op;
    cublasLtMatrixLayout_t          m;
    cublasLtMatmulPreference_t      pref;
    cublasLtMatmulHeuristicResult_t found;
    cublasOperation_t               t = CUBLAS_OP_T;
    int                             n_found = 0;
    float                           one = 1, zero = 0;
    must(cublasLtCreate(&lt));
    must(cublasLtMatmulDescCreate(&op, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    must(cublasLtMatmulDescSetAttribute(op, CUBLASLT_MATMUL_DESC_TRANSA, &t, sizeof t));
    must(cublasLtMatrixLayoutCreate(&m, CUDA_R_16BF, N, N, N));
    must(cublasLtMatmulPreferenceCreate(&pref));
    must(cublasLtMatmulAlgoGetHeuristic(lt, op, m, m, m, m, pref, 1, &found, &n_found));
    return 2.0 * N * N * N / median_ms(s, 21, [&] { must(cublasLtMatmul(lt, op, &one, a, m, b, m, &zero, c, m, c, m, &found.algo, NULL, 0, s)); }) * 1e-9;
}

int main(void)
{
    cudaDeviceProp prop;
    cudaStream_t   s;
    void          *from, *to;
    CUDA(cudaGetDeviceProperties(&prop, 0));
    CUDA(cudaStreamCreate(&s));
    CUDA(cudaMalloc(&from, (size_t)BYTES));
    CUDA(cudaMalloc(&to, (size_t)BYTES));
    fill_random(from, BYTES / 2, 1, 0, 1);
    fill_random(to, BYTES / 2, 2, 0, 1);
    double read = 0;
    for (int per_sm : {4, 8, 16}) /* the best of some grids */
        read = std::max(read, (double)BYTES / median_ms(s, 21, [&] { read_wide<<<prop.multiProcessorCount * per_sm, 256, 0, s>>>((const uint4 *)from, BYTES / 16, (uint32_t *)to); }) * 1e-9);
    CUDA(cudaGetLastError());
    double product = product_tflops(s, from, (char *)from + BYTES / 2, to);
    double copy = 2.0 * (double)BYTES / median_ms(s, 21, [&] { CUDA(cudaMemcpyAsync(to, from, (size_t)BYTES, cudaMemcpyDeviceToDevice, s)); }) * 1e-9;
    fprintf(stderr, "%s, %d SMs: read %.2f TB/s, copy %.2f TB/s, bf16 product %.0f TFLOP/s\n", prop.name, prop.multiProcessorCount, read, copy, product);
    printf("{\"bench\":\"roof\",\"device\":\"%s\",\"read_tbps\":%.3f,\"copy_tbps\":%.3f,\"product_tflops\":%.1f}\n", prop.name, read, copy, product);
    return 0;
}
