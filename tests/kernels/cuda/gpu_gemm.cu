/* Small-batch products on the GPU against plain fp32 sums, over shapes, row counts, strides, bias and
 * residual. usage: gpu_gemm [small | tiny] (for the sanitizers) */
#include "kernels/cuda/gemm_gpu.h"
#include "kernels/cuda/gpu_ops.h"
#include "tests/kernels/cuda/gpu_test.cuh"

#include <cuda_bf16.h>
#include <math.h>
#include <string.h>
#include <vector>

typedef __nv_bfloat16 bf16;
enum { POISON = 0x7fc1 };

__global__ static void fill(bf16 *p, int64_t n, uint32_t seed, float size)
{
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x) {
        uint64_t x = ((uint64_t)seed << 40 ^ (uint64_t)i) * 0x9e3779b97f4a7c15ull;
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
        x = (x ^ x >> 27) * 0x94d049bb133111ebull;
        p[i] = __float2bfloat16(size * ((float)(uint32_t)(x >> 32) * 2.3283064e-10f - 0.5f));
    }
}
__global__ static void reference(float *y, const bf16 *x, const bf16 *w, const bf16 *bias, const bf16 *y0,
                                 int n, int k, int64_t x_stride, int64_t y_stride)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x, t = blockIdx.y;
    float v = 0;
    if (i >= n) return;
    for (int j = 0; j < k; j++)
        v += __bfloat162float(x[t * x_stride + j]) * __bfloat162float(w[(int64_t)i * k + j]);
    y[(int64_t)t * n + i] =
        v + (bias ? __bfloat162float(bias[i]) : 0) + (y0 ? __bfloat162float(y0[t * y_stride + i]) : 0);
}

struct problem {
    int n, k, rows;
    int64_t x_stride, y_stride;
    bf16 *x, *w, *y, *y0, *bias;
    float *ref;
    int n_sm;

    problem(int n_, int k_, int rows_) : n(n_), k(k_), rows(rows_), x_stride(k_ + 8), y_stride(n_ + 24)
    {
        CUDA(cudaMalloc(&x, (size_t)(rows * x_stride) * 2));
        CUDA(cudaMalloc(&w, (size_t)n * (size_t)k * 2));
        CUDA(cudaMalloc(&y, (size_t)(rows * y_stride) * 2));
        CUDA(cudaMalloc(&y0, (size_t)(rows * y_stride) * 2));
        CUDA(cudaMalloc(&bias, (size_t)n * 2));
        CUDA(cudaMalloc(&ref, (size_t)rows * (size_t)n * 4));
        cudaDeviceProp prop;
        CUDA(cudaGetDeviceProperties(&prop, 0));
        n_sm = prop.multiProcessorCount;
        fill<<<256, 256>>>(x, rows * x_stride, 1, 2);
        fill<<<1024, 256>>>(w, (int64_t)n * k, 2, 1);
        fill<<<256, 256>>>(y0, rows * y_stride, 3, 8);
        fill<<<64, 256>>>(bias, n, 4, 8);
        CUDA(cudaDeviceSynchronize());
    }
    ~problem()
    {
        for (void *p : {(void *)x, (void *)w, (void *)y, (void *)y0, (void *)bias, (void *)ref}) cudaFree(p);
    }
    /* Rows [t0, t0 + n_tok) alone. y starts as y0 (add) or poison. */
    std::vector<uint16_t> launch(int t0, int n_tok, bool with_bias, bool add)
    {
        static bool second; /* both kinds of CTAs */
        gemm_more more = {};
        more.second = second = !second;
        struct weight wt = {DT_BF16, n, k, w, NULL};
        gemm_args a = {y + t0 * y_stride,
                       x + t0 * x_stride,
                       &wt,
                       with_bias ? bias : NULL,
                       x_stride,
                       y_stride,
                       n_tok,
                       add,
                       true};
        gemm_gpu g = {0, n_sm};
        std::vector<uint16_t> v((size_t)(rows * y_stride), POISON);
        if (add)
            CUDA(cudaMemcpy(y, y0, v.size() * 2, cudaMemcpyDeviceToDevice));
        else
            CUDA(cudaMemcpy(y, v.data(), v.size() * 2, cudaMemcpyHostToDevice));
        if (gemm_small_sm90(&a, &more, &g) != OK) {
            printf("launch failed: %s\n", cudaGetErrorString(cudaGetLastError()));
            exit(2);
        }
        CUDA(cudaDeviceSynchronize());
        CUDA(cudaMemcpy(v.data(), y, v.size() * 2, cudaMemcpyDeviceToHost));
        return v;
    }
};

static float to_float(uint16_t x)
{
    uint32_t u = (uint32_t)x << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static void product_equals_sum(problem &p, int n_tok, bool bias, bool add)
{
    std::vector<uint16_t> got = p.launch(0, n_tok, bias, add), y0(got.size());
    reference<<<dim3((unsigned)(p.n + 127) / 128, (unsigned)n_tok), 128>>>(
        p.ref, p.x, p.w, bias ? p.bias : NULL, add ? p.y0 : NULL, p.n, p.k, p.x_stride, p.y_stride);
    std::vector<float> ref((size_t)n_tok * (size_t)p.n);
    CUDA(cudaMemcpy(ref.data(), p.ref, ref.size() * 4, cudaMemcpyDeviceToHost));
    CUDA(cudaMemcpy(y0.data(), p.y0, y0.size() * 2, cudaMemcpyDeviceToHost));
    double num = 0, den = 0;
    int touched = 0;
    for (int t = 0; t < p.rows; t++)
        for (int i = 0; i < p.y_stride; i++) {
            size_t at = (size_t)(t * p.y_stride + i);
            if (t < n_tok && i < p.n) {
                double r = ref[(size_t)t * (size_t)p.n + (size_t)i], d = to_float(got[at]) - r;
                num += d * d;
                den += r * r;
            } else {
                touched += got[at] != (add ? y0[at] : POISON);
            }
        }
    char text[160];
    snprintf(text, sizeof text,
             "N=%d K=%d T=%d bias=%d add=%d: relative error %.2e, %d elements outside written", p.n, p.k,
             n_tok, bias, add, sqrt(num / den), touched);
    check(sqrt(num / den) < 2.5e-3 && touched == 0, "product_equals_sum",
          text); /* bf16 store: 2^-9 / sqrt(3) = 1.1e-3 */
}

static void bits_do_not_hang_on_the_batch(problem &p)
{
    std::vector<uint16_t> all = p.launch(0, 64, false, false);
    check(all == p.launch(0, 64, false, false), "product_repeats_its_bits", "second launch differs");
    for (int n : {1, 2, 8, 9, 17, 33}) {
        bool same = true;
        for (int t0 = 0; t0 + n <= 64; t0 += n > 8 ? n : 13) {
            std::vector<uint16_t> part = p.launch(t0, n, false, false);
            for (int64_t i = t0 * p.y_stride; i < (t0 + n) * p.y_stride; i++)
                same &= part[(size_t)i] == all[(size_t)i];
        }
        char text[96];
        snprintf(text, sizeof text, "N=%d K=%d, %d rows at a time", p.n, p.k, n);
        check(same, "bits_do_not_hang_on_the_batch", text);
    }
}

/* Each product's x is what the one before it wrote: they begin beside its end, and have the bits of products
 * that wait for it. */
static void products_in_a_row_have_their_bits(int n, int n_tok)
{
    enum { PRODUCTS = 16, ROUNDS = 4 };
    problem p(n, n, 64);
    struct weight w = {DT_BF16, n, n, p.w, NULL};
    gemm_gpu g = {0, p.n_sm};
    std::vector<uint16_t> want;
    bool same = true;
    for (int round = 0; round < ROUNDS; round++) {
        CUDA(cudaMemcpy(p.y, p.y0, (size_t)(n_tok * p.y_stride) * 2, cudaMemcpyDeviceToDevice));
        for (int i = 0; i < PRODUCTS; i++) {
            gemm_args a = {i % 2 ? p.y : p.x,
                           i % 2 ? p.x : p.y,
                           &w,
                           NULL,
                           i % 2 ? p.x_stride : p.y_stride,
                           i % 2 ? p.y_stride : p.x_stride,
                           n_tok,
                           false,
                           true};
            gemm_more m = {};
            m.second = i % 2;
            if (gemm_small_sm90(&a, &m, &g) != OK) exit(2);
            if (round == 0) CUDA(cudaDeviceSynchronize());
        }
        CUDA(cudaDeviceSynchronize());
        std::vector<uint16_t> v((size_t)(n_tok * p.y_stride));
        CUDA(cudaMemcpy(v.data(), p.y, v.size() * 2, cudaMemcpyDeviceToHost));
        if (round == 0) want = v;
        same &= v == want;
    }
    char text[64];
    snprintf(text, sizeof text, "N=K=%d, %d rows", n, n_tok);
    check(same, "products_in_a_row_have_their_bits", text);
}

/* --- what a product does besides: the norm before it, the norm after it, silu(gate) * up */

static void run(const gemm_args &a, const gemm_more *more, const problem &p)
{
    static bool second;
    gemm_gpu g = {0, p.n_sm};
    gemm_more m = more ? *more : gemm_more{};
    m.second = second = !second;
    if (gemm_small_sm90(&a, &m, &g) != OK) {
        printf("launch failed: %s\n", cudaGetErrorString(cudaGetLastError()));
        exit(2);
    }
    CUDA(cudaDeviceSynchronize());
}
template <typename T> static std::vector<T> fetch(const void *p, size_t n)
{
    std::vector<T> v(n);
    CUDA(cudaMemcpy(v.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost));
    return v;
}
/* Zeroed device memory that lives as long as the test. */
struct mem {
    void *p;
    explicit mem(size_t bytes)
    {
        CUDA(cudaMalloc(&p, bytes));
        CUDA(cudaMemset(p, 0, bytes));
    }
    ~mem() { cudaFree(p); }
};

/* y and the squares and rows for the next product come of one launch; y has the bits it has without them. */
static void norm_after_a_product(problem &p, int t0, int n_tok)
{
    struct weight wt = {DT_BF16, p.n, p.k, p.w, NULL};
    const int tiles = gemm_small_tiles(p.n_sm, p.n);
    mem sum((size_t)(64 * tiles) * 4), normed((size_t)(64 * p.y_stride) * 2);
    gemm_args a = {p.y, p.x + t0 * p.x_stride, &wt, NULL, p.x_stride, p.y_stride, n_tok, true, true};
    gemm_more m = {};
    m.sum_out = (float *)sum.p;
    m.normed = normed.p;
    m.norm = p.bias;
    CUDA(cudaMemcpy(p.y, p.y0 + t0 * p.y_stride, (size_t)(n_tok * p.y_stride) * 2, cudaMemcpyDeviceToDevice));
    run(a, &m, p);
    auto y = fetch<uint16_t>(p.y, (size_t)(n_tok * p.y_stride)),
         nx = fetch<uint16_t>(normed.p, (size_t)(64 * p.y_stride)),
         norm = fetch<uint16_t>(p.bias, (size_t)p.n);
    auto s = fetch<float>(sum.p, (size_t)(64 * tiles));
    CUDA(cudaMemcpy(p.y, p.y0 + t0 * p.y_stride, (size_t)(n_tok * p.y_stride) * 2, cudaMemcpyDeviceToDevice));
    run(a, NULL, p);
    auto plain = fetch<uint16_t>(p.y, (size_t)(n_tok * p.y_stride));
    int wrong = 0, other = plain != y;
    double worst = 0;
    for (int t = 0; t < 64; t++) {
        double want = 0, got = 0;
        for (int i = 0; i < p.y_stride; i++) {
            bool in = t < n_tok && i < p.n;
            float v = in ? to_float(y[(size_t)(t * p.y_stride + i)]) : 0,
                  w = in ? v * to_float(norm[(size_t)i]) : 0;
            uint16_t b;
            bf16 r = __float2bfloat16(w);
            memcpy(&b, &r, 2);
            wrong += in ? nx[(size_t)(t * p.y_stride + i)] != b : nx[(size_t)(t * p.y_stride + i)] != 0;
            want += (double)v * v;
        }
        for (int i = 0; i < tiles; i++) got += s[(size_t)(t * tiles + i)];
        if (want > 0)
            worst = fmax(worst, fabs(got / want - 1));
        else
            wrong += got != 0;
    }
    char text[160];
    snprintf(text, sizeof text, "N=%d K=%d T=%d: y differs %d, normed wrong %d, squares off by %.1e", p.n,
             p.k, n_tok, other, wrong, worst);
    check(!other && wrong == 0 && worst < 1e-5, "norm_after_a_product", text);
}

/* Rows scaled by what the squares say: y (fp32) is the plain product times 1 / sqrt(mean + eps), and stands
 * alone in its bits. */
static void norm_before_a_product(problem &p)
{
    struct weight wt = {DT_BF16, p.n, p.k, p.w, NULL};
    const int tiles = gemm_small_tiles(p.n_sm, p.k), T = 64;
    mem sum((size_t)(T * tiles) * 4), y((size_t)T * (size_t)p.n * 4);
    std::vector<float> s((size_t)(T * tiles));
    for (size_t i = 0; i < s.size(); i++) s[i] = (float)(i * 7919 % 1009) * 0.37f;
    CUDA(cudaMemcpy(sum.p, s.data(), s.size() * 4, cudaMemcpyHostToDevice));
    gemm_args a = {y.p, p.x, &wt, NULL, p.x_stride, p.n, T, false, true, false, true};
    gemm_more m = {};
    m.sum_in = (const float *)sum.p;
    m.eps = 1e-6f;
    run(a, NULL, p);
    auto plain = fetch<float>(y.p, (size_t)T * (size_t)p.n);
    run(a, &m, p);
    auto all = fetch<float>(y.p, (size_t)T * (size_t)p.n);
    double worst = 0;
    for (int t = 0; t < T; t++) {
        double q = 0;
        for (int i = 0; i < tiles; i++) q += s[(size_t)(t * tiles + i)];
        double scale = 1 / sqrt(q / p.k + 1e-6);
        for (int i = 0; i < p.n; i++)
            worst = fmax(worst, fabs(all[(size_t)(t * p.n + i)] - plain[(size_t)(t * p.n + i)] * scale) /
                                    (fabs(plain[(size_t)(t * p.n + i)] * scale) + 1e-30));
    }
    bool same = true;
    for (int n : {1, 5, 16, 33}) {
        a.n_tok = n;
        a.x = p.x + 11 * p.x_stride;
        m.sum_in = (const float *)sum.p + 11 * tiles;
        run(a, &m, p);
        auto part = fetch<float>(y.p, (size_t)n * (size_t)p.n);
        same &= memcmp(part.data(), all.data() + (size_t)11 * (size_t)p.n, part.size() * 4) == 0;
    }
    char text[128];
    snprintf(text, sizeof text, "N=%d K=%d: off by %.1e, bits alone as among others %d", p.n, p.k, worst,
             same);
    check(worst < 1e-5 && same, "norm_before_a_product", text);
}

/* Gated products have the bits of the product and swiglu after it, for any number of rows. */
static void gated_is_product_then_swiglu(problem &p, int n_tok)
{
    const int f = p.n / 2;
    struct weight wt = {DT_BF16, p.n, p.k, p.w, NULL};
    mem gu((size_t)n_tok * (size_t)p.n * 2), want((size_t)n_tok * (size_t)f * 2),
        got((size_t)n_tok * (size_t)f * 2);
    gemm_args a = {gu.p, p.x, &wt, NULL, p.x_stride, p.n, n_tok, false, true};
    gemm_more m = {};
    m.gated = true;
    run(a, NULL, p);
    swiglu_args sw = {want.p, gu.p, p.n, f, n_tok, f};
    gpu_ctx ctx = {0, p.n_sm, DT_BF16, DT_BF16};
    if (swiglu_gpu(&sw, &ctx) != OK) exit(2);
    a.y = got.p;
    a.y_stride = f;
    run(a, &m, p);
    char text[96];
    snprintf(text, sizeof text, "N=%d K=%d T=%d", p.n, p.k, n_tok);
    check(fetch<uint16_t>(want.p, (size_t)n_tok * (size_t)f) ==
              fetch<uint16_t>(got.p, (size_t)n_tok * (size_t)f),
          "gated_is_product_then_swiglu", text);
}

static void more_around_a_product(const int n, const int k, const std::vector<int> &rows)
{
    problem p(n, k, 64);
    for (int n_tok : rows) norm_after_a_product(p, n_tok > 60 ? 0 : 3, n_tok);
    norm_before_a_product(p);
    if (n % 16 == 0)
        for (int n_tok : rows) gated_is_product_then_swiglu(p, n_tok);
}

int main(int argc, char **argv)
{
    const bool tiny = argc > 1 && !strcmp(argv[1], "tiny"),
               small = tiny || (argc > 1 && !strcmp(argv[1], "small"));
    const std::vector<int> rows =
        tiny ? std::vector<int>{8, 9, 17, 64} : std::vector<int>{1, 2, 7, 8, 9, 16, 17, 31, 32, 33, 64};
    /* clusters of two, single CTAs, single CTAs with several tiles */
    const int shapes[][2] = {{128, 64},    {1, 8},       {136, 72},     {1000, 576},
                             {8203, 72},   {16008, 72},  {40004, 24},   {257, 4096},
                             {6144, 4096}, {4096, 4096}, {4096, 14336}, {28672, 4096}};
    for (auto &s : shapes) {
        if (small && s[1] > 576) continue;
        problem p(s[0], s[1], 64);
        for (int n_tok : rows) {
            product_equals_sum(p, n_tok, false, false);
            product_equals_sum(p, n_tok, true, true);
        }
        if (!tiny && (s[0] <= 1000 || !small)) bits_do_not_hang_on_the_batch(p);
    }
    for (int n : {576, 4096, 16384})
        for (int n_tok : rows)
            if (!small || n == 576) products_in_a_row_have_their_bits(n, n_tok);
    const int around[][2] = {{128, 64},   {136, 72},   {576, 576},   {8208, 72},   {16016, 72},
                             {60000, 24}, {3072, 576}, {2560, 4096}, {4096, 4096}, {24576, 4096}};
    for (auto &s : around)
        if (!small || (s[1] <= 576 && s[0] != 3072)) more_around_a_product(s[0], s[1], rows);
    return report("gpu_gemm");
}
