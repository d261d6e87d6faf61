/* Products by cuBLASLt on the GPU against plain fp32 sums, for the rows of prompts and of decode, in bf16 and
 * fp32, with bias and residual; a row's bits alone and among any number of others; and what the calling
 * thread allocates for them. usage: gpu_lt [small] */
#include "tests/kernels/cuda/gpu_test.cuh"

#include <cuda_bf16.h>
#include <dlfcn.h>
#include <math.h>
#include <string.h>
#include <vector>

extern "C" {
#include "kernels/cuda/gemm_lt.h"
#include "tests/kernels/count_malloc.h"
}

__host__ __device__ static float wide(float x) { return x; }
__host__ __device__ static float wide(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ static void put(float *p, float v) { *p = v; }
__device__ static void put(__nv_bfloat16 *p, float v) { *p = __float2bfloat16(v); }

template <typename T> __global__ static void fill(T *p, int64_t n, uint32_t seed, float size)
{
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x) {
        uint64_t x = ((uint64_t)seed << 40 ^ (uint64_t)i) * 0x9e3779b97f4a7c15ull;
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
        x = (x ^ x >> 27) * 0x94d049bb133111ebull;
        put(p + i, size * ((float)(uint32_t)(x >> 32) * 2.3283064e-10f - 0.5f));
    }
}
/* In double, so that fp32's own sums are what is judged. */
template <typename T>
__global__ static void reference(double *y, const T *x, const T *w, const T *bias, const T *y0, int n, int k)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x, t = blockIdx.y;
    if (i >= n) return;
    double v = 0;
    for (int j = 0; j < k; j++)
        v += (double)wide(x[(int64_t)t * k + j]) * (double)wide(w[(int64_t)i * k + j]);
    y[(int64_t)t * n + i] =
        v + (bias ? (double)wide(bias[i]) : 0) + (y0 ? (double)wide(y0[(int64_t)t * n + i]) : 0);
}

enum { GUARD_ROWS = 2 };

template <typename T> struct problem {
    int n, k, most;
    T *x, *w, *y, *y0, *bias;
    double *ref;
    struct gemm_lt *lt;
    struct weight wt;

    problem(struct gemm_lt *lt_, int n_, int k_, int most_) : n(n_), k(k_), most(most_), lt(lt_)
    {
        CUDA(cudaMalloc(&x, (size_t)most * (size_t)k * sizeof(T)));
        CUDA(cudaMalloc(&w, (size_t)n * (size_t)k * sizeof(T)));
        CUDA(cudaMalloc(&y, (size_t)(most + GUARD_ROWS) * (size_t)n * sizeof(T)));
        CUDA(cudaMalloc(&y0, (size_t)most * (size_t)n * sizeof(T)));
        CUDA(cudaMalloc(&bias, (size_t)n * sizeof(T)));
        CUDA(cudaMalloc(&ref, (size_t)most * (size_t)n * sizeof(double)));
        fill<<<256, 256>>>(x, (int64_t)most * k, 1, 2);
        fill<<<1024, 256>>>(w, (int64_t)n * k, 2, 1);
        fill<<<256, 256>>>(y0, (int64_t)most * n, 3, 8);
        fill<<<64, 256>>>(bias, n, 4, 8);
        CUDA(cudaDeviceSynchronize());
        wt = {};
        wt.dt = sizeof(T) == 4 ? DT_F32 : DT_BF16;
        wt.n = n;
        wt.k = k;
        wt.data = w;
    }
    ~problem()
    {
        for (void *p : {(void *)x, (void *)w, (void *)y, (void *)y0, (void *)bias, (void *)ref}) cudaFree(p);
    }
    /* Rows [first, first + n_tok) of x to the first rows of y, which starts as poison, or as y0's rows. */
    std::vector<T> launch(int first, int n_tok, bool with_bias, bool add, bool decode)
    {
        std::vector<T> v((size_t)(n_tok + GUARD_ROWS) * (size_t)n);
        gemm_args a = {};
        a.y = y;
        a.x = x + (int64_t)first * k;
        a.w = &wt;
        a.bias = with_bias ? bias : NULL;
        a.x_stride = k;
        a.y_stride = n;
        a.n_tok = n_tok;
        a.add = add;
        a.decode = decode;
        CUDA(cudaMemset(y, 0xff, v.size() * sizeof(T)));
        if (add)
            CUDA(cudaMemcpy(y, y0 + (int64_t)first * n, (size_t)n_tok * (size_t)n * sizeof(T),
                            cudaMemcpyDeviceToDevice));
        char text[160];
        snprintf(text, sizeof text, "%s N=%d K=%d T=%d bias=%d add=%d decode=%d",
                 sizeof(T) == 4 ? "f32" : "bf16", n, k, n_tok, with_bias, add, decode);
        check(gemm_lt_plan(lt, &a) == OK, "every_shape_has_an_algorithm", text);
        check(gemm_lt(lt, &a) == OK, "the_algorithm_takes_any_number_of_rows", text);
        CUDA(cudaDeviceSynchronize());
        CUDA(cudaMemcpy(v.data(), y, v.size() * sizeof(T), cudaMemcpyDeviceToHost));
        return v;
    }
};

template <typename T>
static void product_equals_sum(problem<T> &p, int n_tok, bool bias, bool add, bool decode)
{
    std::vector<T> got = p.launch(0, n_tok, bias, add, decode);
    std::vector<double> ref((size_t)n_tok * (size_t)p.n);
    reference<<<dim3((unsigned)(p.n + 127) / 128, (unsigned)n_tok), 128>>>(
        p.ref, p.x, p.w, bias ? p.bias : NULL, add ? p.y0 : NULL, p.n, p.k);
    CUDA(cudaMemcpy(ref.data(), p.ref, ref.size() * 8, cudaMemcpyDeviceToHost));
    double num = 0, den = 0;
    bool untouched = true;
    for (size_t i = 0; i < ref.size(); i++) {
        double d = (double)wide(got[i]) - ref[i];
        num += d * d;
        den += ref[i] * ref[i];
    }
    for (size_t i = ref.size() * sizeof(T); i < got.size() * sizeof(T); i++)
        untouched &= ((const unsigned char *)got.data())[i] == 0xff;
    char text[192];
    snprintf(text, sizeof text,
             "%s N=%d K=%d T=%d bias=%d add=%d decode=%d: relative error %.2e, rows behind %s",
             sizeof(T) == 4 ? "f32" : "bf16", p.n, p.k, n_tok, bias, add, decode, sqrt(num / den),
             untouched ? "untouched" : "written");
    /* bf16 store: 2^-9 / sqrt(3) = 1.1e-3; fp32 sums of K terms of either sign, one after the other: at most
     * about 2^-24 sqrt(K) */
    check(sqrt(num / den) < (sizeof(T) == 4 ? 6e-8 * sqrt(p.k) : 2.5e-3) && untouched, "product_equals_sum",
          text);
}

template <typename T> static void bits_do_not_hang_on_the_batch(problem<T> &p, bool decode)
{
    const int most = decode ? 256 : p.most, rows[] = {1, 2, 17, 64, 127, 128, 129, 1000};
    std::vector<T> all = p.launch(0, most, false, false, decode),
                   again = p.launch(0, most, false, false, decode);
    check(!memcmp(all.data(), again.data(), (size_t)most * (size_t)p.n * sizeof(T)),
          "product_repeats_its_bits", "second launch differs");
    for (int n : rows) {
        bool same = true;
        for (int first : {0, 37, most - n}) {
            if (n > most || first + n > most) continue;
            std::vector<T> part = p.launch(first, n, false, false, decode);
            same &=
                !memcmp(part.data(), &all[(size_t)first * (size_t)p.n], (size_t)n * (size_t)p.n * sizeof(T));
        }
        char text[128];
        snprintf(text, sizeof text, "%s N=%d K=%d decode=%d, %d rows at a time",
                 sizeof(T) == 4 ? "f32" : "bf16", p.n, p.k, decode, n);
        check(same, "bits_do_not_hang_on_the_batch", text);
    }
}

/* Each shape is seen once, with one row; after that no number of rows has us ask for memory. What is left is
 * cuBLASLt's own: its bf16 kernels for Hopper (algorithm 66, the only one it proposes) copy a string of 40 to
 * 50 bytes twice in each call. Descriptions made anew would be five more allocations and 632 bytes. */
template <typename T>
static void products_describe_nothing_anew(struct gemm_lt *lt, std::vector<problem<T> *> &problems)
{
    const int rows[] = {1, 2, 3, 17, 64, 100, 127, 128, 129, 255, 256, 300, 1000, 2048, 4097};
    struct malloc_count all = {};
    int n_product = 0;
    for (bool first : {true, false})
        for (problem<T> *p : problems)
            for (int n_tok : rows)
                for (int kind = 0; kind < 6; kind++) {
                    gemm_args a = {};
                    a.y = p->y;
                    a.x = p->x;
                    a.w = &p->wt;
                    a.bias = kind / 2 == 1 ? p->bias : NULL;
                    a.x_stride = p->k;
                    a.y_stride = p->n;
                    a.n_tok = n_tok;
                    a.add = kind / 2 == 2;
                    a.decode = kind % 2;
                    if (n_tok > (a.decode ? 256 : p->most) || (first && n_tok > 1)) continue;
                    malloc_count_begin();
                    enum err e = gemm_lt(lt, &a);
                    struct malloc_count one = malloc_count_end();
                    CUDA(cudaDeviceSynchronize());
                    if (e != OK)
                        check(false, "the_algorithm_takes_any_number_of_rows", "counting allocations");
                    if (first) {
                        check(one.n > 0, "making_a_shape_allocates", "nothing was counted");
                        continue;
                    }
                    if (all.n == 0) all.first_asker = one.first_asker;
                    all.n += one.n;
                    all.bytes += one.bytes;
                    n_product++;
                }
    Dl_info who = {};
    if (all.n > 0) dladdr(all.first_asker, &who);
    char text[256];
    snprintf(text, sizeof text, "%s: %lld allocations, %lld bytes in %d products; the first by %s",
             sizeof(T) == 4 ? "f32" : "bf16", (long long)all.n, (long long)all.bytes, n_product,
             who.dli_fname ? who.dli_fname : "nobody");
    printf("%s\n", text);
    check(all.n <= n_product * (sizeof(T) == 4 ? 0 : 3) && all.bytes <= n_product * 160,
          "products_describe_nothing_anew", text);
}

/* One open library a type: it keeps an algorithm for each of up to 32 shapes. */
template <typename T> static void all_of_type(bool small)
{
    const int shapes[][2] = {{960, 576}, {576, 1536}, {6144, 4096}, {4096, 12288}};
    struct gemm_lt *lt = NULL;
    struct err_note note = {};
    if (gemm_lt_open(&lt, 0, &note) != OK) {
        printf("%s\n", note.text);
        exit(2);
    }
    std::vector<problem<T> *> problems;
    for (auto &s : shapes) {
        if (small && s[1] > 1000) continue;
        problem<T> &p = *problems.emplace_back(new problem<T>(lt, s[0], s[1], small ? 300 : 4097));
        for (int n_tok : {1, 127, 128, 129, small ? 300 : 4097}) {
            product_equals_sum(p, n_tok, false, false, false);
            product_equals_sum(p, n_tok, true, false, false);
            product_equals_sum(p, n_tok, false, true, false);
        }
        for (int n_tok : {1, 2, 17, 64, 256}) {
            product_equals_sum(p, n_tok, false, false, true);
            product_equals_sum(p, n_tok, true, false, true);
            product_equals_sum(p, n_tok, false, true, true);
        }
        bits_do_not_hang_on_the_batch(p, false);
        bits_do_not_hang_on_the_batch(p, true);
    }
    gemm_lt_close(lt);
    if (gemm_lt_open(&lt, 0, &note) != OK) exit(2);
    products_describe_nothing_anew(lt, problems); /* on a library that has seen no shape yet */
    gemm_lt_close(lt);
    for (problem<T> *p : problems) delete p;
}

int main(int argc, char **argv)
{
    const bool small = argc > 1 && !strcmp(argv[1], "small");
    all_of_type<__nv_bfloat16>(small);
    all_of_type<float>(small);
    return report("gpu_lt");
}
