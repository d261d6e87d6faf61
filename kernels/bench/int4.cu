/* Products of weights of 4 bits with few rows: bytes of records a second. Weights rotate through more than L2
 * holds; each figure is the median over replays of a graph that runs every copy once, divided by the number
 * of copies. usage: bench_int4 [all] (else groups of 128 without zero points alone) */
#include "kernels/cuda/int4_gpu.h"
#include "kernels/bench/bench.cuh"

#include <string.h>

enum { ROTATE_BYTES = 400 << 20 };

static void few_rows(cudaStream_t s, int n_sm, int n, int k, bool gated, int group, bool zeros, void *x,
                     void *y)
{
    const int4_form f = {n, k, group, zeros};
    const int64_t bytes = int4_bytes(&f) + 255 & ~255;
    const int n_copy = (int)std::max<int64_t>(2, ROTATE_BYTES / bytes) / 2 * 2;
    unsigned char *w;
    CUDA(cudaMalloc(&w, (size_t)(bytes * n_copy)));
    for (int i = 0; i < n_copy; i++) fill_int4(w + i * bytes, &f, 0x1p-9f, (uint64_t)i);
    for (int m : {1, 8, 16, 32, 64}) {
        const double us = graph_us(s, n_copy, [&](int i) {
            gemm_gpu g = {s, n_sm};
            weight wt = {};
            wt.dt = DT_U4, wt.n = n, wt.k = k, wt.data = w + i * bytes, wt.impl = (void *)&f;
            gemm_args a = {};
            a.y = y, a.x = x, a.w = &wt, a.x_stride = k, a.y_stride = gated ? n / 2 : n, a.n_tok = m,
            a.decode = true;
            gemm_more more = {};
            more.second = i % 2, more.gated = gated;
            if (gemm_int4_small_sm90(&a, &more, &g) != OK) exit(3);
        });
        const double mb = (double)bytes * 1e-6; /* MB/us = TB/s */
        fprintf(stderr, "int4 %6d x %5d%s group %3d%s T=%2d  %7.2f us  %5.3f TB/s  (as bf16: %6.3f)\n", n, k,
                gated ? " gated" : "", group, zeros ? " zeros" : "", m, us, mb / us, 2e-6 * n * k / us);
        printf(
            "{\"bench\":\"int4\",\"n\":%d,\"k\":%d,\"t\":%d,\"gated\":%d,\"group\":%d,\"zeros\":%d,\"us\":%.3f,\"tbps\":%.4f}\n",
            n, k, m, gated, group, zeros, us, mb / us);
        fflush(stdout);
    }
    cudaFree(w);
}

int main(int argc, char **argv)
{
    const int n_sm = n_sm_here();
    cudaStream_t s;
    void *x, *y;
    CUDA(cudaStreamCreate(&s));
    CUDA(cudaMalloc(&x, 64 * 16384 * 2));
    CUDA(cudaMalloc(&y, 64 * 32768 * 2));
    fill_random(x, 64 * 16384, 2, 0, 0.5f);
    const int shapes[][3] = {{6144, 4096, 0}, {4096, 4096, 0}, {24576, 4096, 1}, {4096, 12288, 0}};
    for (int form = 0; form < (argc > 1 && !strcmp(argv[1], "all") ? 4 : 1); form++)
        for (auto &sh : shapes)
            few_rows(s, n_sm, sh[0], sh[1], sh[2], form < 2 ? 128 : form == 2 ? 64 : 32, form == 1, x, y);
    return 0;
}
