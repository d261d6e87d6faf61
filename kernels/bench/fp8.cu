/* FP8 products, timed beside cuBLASLt in the same run. Few rows: weights rotate through more than L2 holds;
 * each figure is the median over replays of a graph that runs every copy once, divided by the number of
 * copies; with the rows' quantisation in the chain and without. usage: bench_fp8 [small] [large] */
#include "kernels/bench/bench.cuh"
#include "kernels/cuda/fp8_gpu.h"

#include <cublasLt.h>
#include <string.h>

#define LT(x)                                                                                                \
    do {                                                                                                     \
        if ((x) != CUBLAS_STATUS_SUCCESS) {                                                                  \
            fprintf(stderr, "%s:%d %s\n", __FILE__, __LINE__, #x);                                           \
            exit(2);                                                                                         \
        }                                                                                                    \
    } while (0)

enum { ROTATE_BYTES = 400 << 20, LT_WORK = 64 << 20 };

/* Codes that are no NaN; scales of about 0.01. */
__global__ static void fill_codes(uint8_t *p, int64_t n, uint64_t seed)
{
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x) {
        uint64_t x = (seed << 40 ^ (uint64_t)i) * 0x9e3779b97f4a7c15ull;
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
        const uint8_t c = (uint8_t)(x >> 40);
        p[i] = (c & 0x7f) == 0x7f ? c - 1
               : (c & 0x40)       ? c
                                  : c | 0x20; /* most of a row's numbers are within 2^8 of its largest */
    }
}
__global__ static void fill_scales(float *p, int64_t n)
{
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x)
        p[i] = 0.01f + 1e-5f * (float)(i % 97);
}

/* y^T[n, m] = w x^T as cuBLASLt's columns see it. scales: cublasLtMatmulMatrixScale_t of w and of x. */
struct lt_product {
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t w, x, y;
    cublasLtMatmulHeuristicResult_t found[8];
    int n_found = 0;
    lt_product(cublasLtHandle_t lt, int m, int n, int k, bool fast, int w_mode, int x_mode, const float *ws,
               const float *xs)
    {
        cublasOperation_t t = CUBLAS_OP_T;
        int8_t f = fast;
        int32_t wm = w_mode, xm = x_mode;
        LT(cublasLtMatmulDescCreate(&op, CUBLAS_COMPUTE_32F, CUDA_R_32F));
        LT(cublasLtMatmulDescSetAttribute(op, CUBLASLT_MATMUL_DESC_TRANSA, &t, sizeof t));
        LT(cublasLtMatmulDescSetAttribute(op, CUBLASLT_MATMUL_DESC_FAST_ACCUM, &f, sizeof f));
        LT(cublasLtMatmulDescSetAttribute(op, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &wm, sizeof wm));
        LT(cublasLtMatmulDescSetAttribute(op, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &xm, sizeof xm));
        LT(cublasLtMatmulDescSetAttribute(op, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &ws, sizeof ws));
        LT(cublasLtMatmulDescSetAttribute(op, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &xs, sizeof xs));
        LT(cublasLtMatrixLayoutCreate(&w, CUDA_R_8F_E4M3, (uint64_t)k, (uint64_t)n, k));
        LT(cublasLtMatrixLayoutCreate(&x, CUDA_R_8F_E4M3, (uint64_t)k, (uint64_t)m, k));
        LT(cublasLtMatrixLayoutCreate(&y, CUDA_R_16BF, (uint64_t)n, (uint64_t)m, n));
        cublasLtMatmulPreference_t pref;
        size_t work = LT_WORK;
        LT(cublasLtMatmulPreferenceCreate(&pref));
        LT(cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &work,
                                                sizeof work));
        if (cublasLtMatmulAlgoGetHeuristic(lt, op, w, x, y, y, pref, 8, found, &n_found) !=
            CUBLAS_STATUS_SUCCESS)
            n_found = 0;
    }
};

struct world {
    cudaStream_t s;
    cublasLtHandle_t lt;
    void *lt_work;
    int n_sm;
    uint8_t *w, *x;
    float *scale;
    void *y, *rows;
};

/* us of the best of what cuBLASLt proposes; 0: nothing */
static double lt_us(const world &v, int m, int n, int k, int n_copy, bool fast, int w_mode, int x_mode,
                    double *first)
{
    lt_product p(v.lt, m, n, k, fast, w_mode, x_mode, v.scale, v.scale);
    float one = 1, zero = 0;
    double best = 0;
    for (int c = 0; c < p.n_found && c < 4; c++) {
        auto run = [&](int i) {
            return cublasLtMatmul(v.lt, p.op, &one, v.w + (int64_t)i * n * k, p.w, v.x, p.x, &zero, v.y, p.y,
                                  v.y, p.y, &p.found[c].algo, v.lt_work, LT_WORK, v.s);
        };
        if (run(0) != CUBLAS_STATUS_SUCCESS) continue;
        const double us = m > 64 ? median_ms(v.s, 7, [&] { run(0); }) * 1e3
                                 : graph_us(v.s, n_copy, [&](int i) { LT(run(i)); });
        if (best == 0 && first) *first = us;
        best = best == 0 || us < best ? us : best;
    }
    return best;
}

static void quantise(const world &v, int m, int k, bool block)
{
    const gemm_gpu g = {v.s, v.n_sm};
    quant_fp8_args q = {v.x, v.scale, v.rows, NULL, k, k, m, m, k, 0, block, false};
    if (quant_fp8_sm90(&q, &g) != OK) exit(3);
}

static void few_rows(const world &v, int n, int k, bool gated)
{
    const int n_copy = (int)std::max<int64_t>(2, ROTATE_BYTES / ((int64_t)n * k)) / 2 * 2;
    for (int m : {1, 8, 16, 32, 64}) {
        double us[2][2];
        gemm_gpu g = {v.s, v.n_sm};
        for (int block = 0; block < 2; block++)
            for (int quant = 0; quant < 2; quant++)
                us[block][quant] = graph_us(v.s, n_copy, [&](int i) {
                    gemm_fp8_args a = {};
                    a.y = v.y, a.x = v.x, a.x_scale = v.scale, a.w = v.w + (int64_t)i * n * k,
                    a.w_scale = v.scale + (1 << 20), a.x_stride = k, a.y_stride = gated ? n / 2 : n;
                    a.n_tok = m, a.n = n, a.k = k, a.block = block, a.gated = gated, a.second = i % 2,
                    a.x_scale_stride = m, a.w_scale_stride = k / 128;
                    if (quant) quantise(v, m, k, block);
                    if (gemm_fp8_small_sm90(&a, &g) != OK) exit(3);
                });
        double first = 0, lt = lt_us(v, m, n, k, n_copy, true, 0, 0, &first);
        const double mb = (double)n * k * 1e-6; /* weights: MB/us = TB/s */
        fprintf(
            stderr,
            "fp8 %6d x %5d%s T=%2d  by row %7.2f us (%5.3f TB/s) with quantisation %7.2f (%5.3f)  by block %7.2f with %7.2f (%5.3f)  cuBLASLt first %7.2f best %7.2f (%5.3f)\n",
            n, k, gated ? " gated" : "", m, us[0][0], mb / us[0][0], us[0][1], mb / us[0][1], us[1][0],
            us[1][1], mb / us[1][1], first, lt, mb / lt);
        printf(
            "{\"bench\":\"fp8\",\"n\":%d,\"k\":%d,\"t\":%d,\"gated\":%d,\"us\":%.3f,\"quant_us\":%.3f,\"block_us\":%.3f,\"block_quant_us\":%.3f,\"cublaslt_us\":%.3f,\"cublaslt_best_us\":%.3f}\n",
            n, k, m, gated, us[0][0], us[0][1], us[1][0], us[1][1], first, lt);
        fflush(stdout);
    }
}

static void many_rows(const world &v, int n, int k)
{
    for (int m : {2048, 8192}) {
        const double tf = 2.0 * m * n * k * 1e-6;
        double own[2], lt[6];
        gemm_gpu g = {v.s, v.n_sm};
        for (int block = 0; block < 2; block++)
            own[block] = median_ms(v.s, 9,
                                   [&] {
                                       gemm_fp8_args a = {};
                                       a.y = v.y, a.x = v.x, a.x_scale = v.scale, a.w = v.w,
                                       a.w_scale = v.scale + (1 << 20), a.x_stride = k, a.y_stride = n,
                                       a.n_tok = m, a.n = n, a.k = k, a.block = block, a.x_scale_stride = m,
                                       a.w_scale_stride = k / 128;
                                       if (gemm_fp8_sm90(&a, &g) != OK) exit(3);
                                   }) *
                         1e3;
        const int mode[6][3] = {{1, 0, 0}, {0, 0, 0}, {1, 3, 3}, {0, 3, 3}, {1, 5, 4}, {0, 5, 4}};
        const double q = median_ms(v.s, 9, [&] { quantise(v, m, k, false); }) * 1e3;
        for (int i = 0; i < 6; i++) lt[i] = lt_us(v, m, n, k, 1, mode[i][0], mode[i][1], mode[i][2], NULL);
        fprintf(
            stderr,
            "fp8 %6d x %5d T=%4d  by row %8.1f us (%6.1f TFLOP/s)  by block %8.1f (%6.1f)  quantisation %6.1f us; cuBLASLt fast/exact: scalar %.1f/%.1f, by row %.1f/%.1f, by block %.1f/%.1f us = %.0f/%.0f %.0f/%.0f %.0f/%.0f TFLOP/s\n",
            n, k, m, own[0], tf / own[0], own[1], tf / own[1], q, lt[0], lt[1], lt[2], lt[3], lt[4], lt[5],
            tf / lt[0], tf / lt[1], tf / lt[2], tf / lt[3], tf / lt[4], tf / lt[5]);
        printf(
            "{\"bench\":\"fp8_large\",\"n\":%d,\"k\":%d,\"t\":%d,\"us\":%.2f,\"block_us\":%.2f,\"quant_us\":%.2f,\"cublaslt_us\":[%.2f,%.2f,%.2f,%.2f,%.2f,%.2f]}\n",
            n, k, m, own[0], own[1], q, lt[0], lt[1], lt[2], lt[3], lt[4], lt[5]);
        fflush(stdout);
    }
}

int main(int argc, char **argv)
{
    world v;
    v.n_sm = n_sm_here();
    CUDA(cudaStreamCreate(&v.s));
    LT(cublasLtCreate(&v.lt));
    CUDA(cudaMalloc(&v.lt_work, LT_WORK));
    const int64_t w_bytes = (int64_t)ROTATE_BYTES + ((int64_t)32768 << 13), x_bytes = (int64_t)8192 * 16384,
                  y_bytes = (int64_t)8192 * 32768 * 2;
    CUDA(cudaMalloc(&v.w, w_bytes));
    CUDA(cudaMalloc(&v.x, x_bytes));
    CUDA(cudaMalloc(&v.rows, x_bytes * 2));
    CUDA(cudaMalloc(&v.y, y_bytes));
    CUDA(cudaMalloc(&v.scale, 32 << 20));
    fill_codes<<<4096, 256>>>(v.w, w_bytes, 1);
    fill_codes<<<4096, 256>>>(v.x, x_bytes, 2);
    fill_scales<<<4096, 256>>>(v.scale, 8 << 20);
    fill_random(v.rows, x_bytes, 3, 0, 1);
    CUDA(cudaDeviceSynchronize());
    const int shapes[][3] = {{6144, 4096, 0}, {4096, 4096, 0}, {24576, 4096, 1}, {4096, 12288, 0}};
    for (auto &sh : shapes) {
        if (argc < 2 || !strcmp(argv[1], "small")) few_rows(v, sh[0], sh[1], sh[2]);
        if (argc < 2 || !strcmp(argv[1], "large")) many_rows(v, sh[0], sh[1]);
    }
    return 0;
}
