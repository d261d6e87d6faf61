/* Decode attention over pages of 8 bits, timed beside that over bf16 in the same run; what prefill pays to
 * widen pages. Qwen3-8B's heads: 32 of 8, 128 wide. usage: bench_kv_fp8 */
#include "kernels/bench/bench.cuh"
#include "kernels/cuda/kv_fp8_gpu.h"

#include <random>

enum { H = 32, G = 8, K = 128 };

__global__ static void fill_codes(uint8_t *p, int64_t n)
{
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x) {
        uint64_t x = (uint64_t)(i + 1) * 0x9e3779b97f4a7c15ull;
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
        const uint8_t c = (uint8_t)(x >> 40);
        p[i] = (c & 0x7f) == 0x7f ? c - 1 : c;
    }
}

int main(void)
{
    const int shapes[][2] = {{1, 8192},  {1, 32768}, {1, 131072}, {8, 32768},
                             {32, 8192}, {64, 4096}, {64, 1024}};
    const int n_sm = n_sm_here(), most = 8 * 32768 / 128;
    cudaStream_t s;
    void *wide, *q, *out, *work;
    kv_fp8_pool pool;
    uint4 *flush;
    uint32_t *sink;
    CUDA(cudaStreamCreate(&s));
    const int64_t codes = (int64_t)most * G * 2 * PAGE_TOK * K;
    CUDA(cudaMalloc(&pool.code, codes));
    CUDA(cudaMalloc(&pool.exp, codes / K));
    CUDA(cudaMalloc(&wide, codes * 2));
    CUDA(cudaMalloc(&q, 64 * H * K * 2));
    CUDA(cudaMalloc(&out, 64 * H * K * 2));
    CUDA(cudaMalloc(&work, attn_gpu_work_bytes(64, H, G, K)));
    CUDA(cudaMemset(work, 0, attn_gpu_work_bytes(64, H, G, K)));
    CUDA(cudaMalloc(&flush, FLUSH_BYTES));
    CUDA(cudaMemset(flush, 1, FLUSH_BYTES));
    CUDA(cudaMalloc(&sink, 4));
    fill_codes<<<4096, 256>>>(pool.code, codes);
    CUDA(cudaMemset(pool.exp, (uint8_t)-8, codes / K));
    fill_random(wide, codes, 1, 0, 1);
    fill_random(q, 64 * H * K, 2, 0, 1);
    for (auto &sh : shapes) {
        const int rows = sh[0], len = sh[1], nb = len / 128;
        std::vector<int32_t> order((size_t)(rows * nb));
        for (size_t i = 0; i < order.size(); i++) order[i] = (int32_t)i;
        std::shuffle(order.begin(), order.end(), std::mt19937(1));
        int32_t *page[2]; /* pages of bf16; halves of codes */
        attn_seg *seg[2];
        for (int k = 0; k < 2; k++) {
            std::vector<attn_seg> segs;
            for (int32_t &id : order) id |= k ? PAGE_CODES : 0;
            CUDA(cudaMalloc(&page[k], order.size() * 4));
            CUDA(cudaMemcpy(page[k], order.data(), order.size() * 4, cudaMemcpyHostToDevice));
            for (int i = 0; i < rows; i++) {
                attn_seg x = {};
                x.row0 = i, x.n_row = 1, x.pos0 = len - 1, x.kind = ATTN_FULL, x.local_blocks = 1,
                x.page = page[k] + i * nb, x.codes = k;
                segs.push_back(x);
            }
            CUDA(cudaMalloc(&seg[k], segs.size() * sizeof(attn_seg)));
            CUDA(cudaMemcpy(seg[k], segs.data(), segs.size() * sizeof(attn_seg), cudaMemcpyHostToDevice));
        }
        attn_args a = {};
        a.out = out, a.q = q, a.out_stride = a.q_stride = H * K, a.pool = wide, a.n_seg = rows, a.n_head = H,
        a.n_kv = G, a.head = K, a.scale = 0.0884f, a.decode = true;
        attn_gpu g = {};
        g.stream = s, g.n_sm = n_sm, g.n_row = 64, g.n_page = most, g.work = work, g.max_row = 64,
        g.act = DT_BF16;
        attn_args b = a;
        a.seg = seg[0];
        b.seg = seg[1];
        auto evict = [&] { read_all<<<1024, 256, 0, s>>>(flush, FLUSH_BYTES / 16, sink); };
        const double us = median_ms(
                              s, 15,
                              [&] {
                                  if (attn_decode_fp8_sm90(&b, &pool, &g) != OK) exit(3);
                              },
                              evict) *
                          1e3;
        const double bf = median_ms(
                              s, 15,
                              [&] {
                                  if (attn_decode_sm90(&a, &g) != OK) exit(3);
                              },
                              evict) *
                          1e3;
        const double mb = (double)rows * len * G * 2 * K * 1e-6; /* codes: MB/us = TB/s */
        gpu_ctx ctx = {s, n_sm, DT_BF16, DT_BF16};
        kv_fp8_widen_args w = {pool, page[1], wide, rows * nb, G, K};
        const double widen = median_ms(
                                 s, 9,
                                 [&] {
                                     if (kv_fp8_widen_sm90(&w, &ctx) != OK) exit(3);
                                 },
                                 evict) *
                             1e3;
        fprintf(
            stderr,
            "decode B%d x %d: 8 bits %7.2f us (%5.3f TB/s), bf16 %7.2f us (%5.3f TB/s), %4.2f x; widening all pages %7.2f us\n",
            rows, len, us, mb / us, bf, 2 * mb / bf, bf / us, widen);
        printf(
            "{\"bench\":\"kv_fp8\",\"rows\":%d,\"len\":%d,\"us\":%.3f,\"bf16_us\":%.3f,\"widen_us\":%.3f}\n",
            rows, len, us, bf, widen);
        fflush(stdout);
        for (int k = 0; k < 2; k++) cudaFree(page[k]), cudaFree(seg[k]);
    }
    return 0;
}
