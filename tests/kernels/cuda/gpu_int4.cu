/* Weights of 4 bits on the GPU: products are the sums of what codes stand for, over shapes, row counts,
 * strides, groups, zero points, gates, bias, residual and norms; rows stand alone in their bits. Both the
 * kernel of Hopper and that of all devices.
 * usage: gpu_int4 [small] (for the sanitizers) */
#include "kernels/cuda/int4_gpu.h"
#include "tests/kernels/cuda/gpu_test.cuh"

#include <cuda_bf16.h>
#include <math.h>
#include <string.h>
#include <vector>

extern "C" {
#include "kernels/quant.h"
}

typedef __nv_bfloat16 bf16;
enum { POISON = 0x7fc1, ROWS = 64 };
static int n_sm;

static float draw(uint64_t seed, uint64_t i) /* -1 .. 1 */
{
    uint64_t x = (seed << 40 ^ i) * 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return (float)(int32_t)(x >> 32) * 0x1p-31f;
}

/* Device memory that lives as long as the test. */
template <typename T> struct mem {
    T *p;
    size_t n;
    explicit mem(size_t n_) : n(n_) { CUDA(cudaMalloc(&p, n * sizeof(T) + 16)); }
    mem(const mem &) = delete;
    ~mem() { cudaFree(p); }
    void put(const std::vector<T> &v)
    {
        CUDA(cudaMemcpy(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice));
    }
    std::vector<T> get(size_t count = 0) const
    {
        std::vector<T> v(count ? count : n);
        CUDA(cudaDeviceSynchronize());
        CUDA(cudaMemcpy(v.data(), p, v.size() * sizeof(T), cudaMemcpyDeviceToHost));
        return v;
    }
};

__global__ static void reference(double *y, double *size, const uint16_t *x, int64_t x_stride, const float *w,
                                 int n, int k)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x, t = blockIdx.y;
    if (i >= n) return;
    double sum = 0, abs = 0;
    for (int j = 0; j < k; j++) {
        const double v = (double)__uint_as_float((uint32_t)x[t * x_stride + j] << 16) * w[(int64_t)i * k + j];
        sum += v;
        abs += fabs(v);
    }
    y[(int64_t)t * n + i] = sum;
    size[(int64_t)t * n + i] = abs;
}

/* A weight as a file has it and as it is held, rows of x, what their product is. */
struct problem {
    int n, k, cols;
    bool zeros;
    int64_t x_stride, y_stride;
    int4_form form;
    weight host, held;
    std::vector<uint8_t> code, zero;
    std::vector<float> scale;
    mem<unsigned char> w;
    mem<uint16_t> x, bias, norm;
    std::vector<uint16_t> bias_h, norm_h;
    mem<float> y;
    std::vector<double> ref, size;

    problem(int n_, int k_, int cols_, bool zeros_)
        : n(n_), k(k_), cols(cols_), zeros(zeros_), x_stride(k_ + 16),
          y_stride((n_ + 7) / 8 * 8 + 24), form{n_, k_, int4_group(k_, cols_), zeros_}, host(), held(),
          code((size_t)n_ * (size_t)k_ / 2), zero((size_t)n_ * groups()), scale((size_t)n_ * groups()),
          w((size_t)int4_bytes(&form)), x((size_t)(ROWS * x_stride)), bias((size_t)n_), norm((size_t)n_),
          bias_h((size_t)n_), norm_h((size_t)n_), y((size_t)(ROWS * y_stride))
    {
        const uint64_t seed = (uint64_t)(n * 131 + k * 17 + cols + zeros);
        for (size_t i = 0; i < code.size(); i++) code[i] = (uint8_t)(128 + 128 * draw(seed, i));
        for (size_t i = 0; i < scale.size(); i++) {
            const float s = 0.02f * (1.05f + draw(seed + 1, i));
            scale[i] =
                i % 2 ? f32_from_bf16(f32_to_bf16(s)) : f32_from_f16((uint16_t)(0x2000 + (int)(700 * s)));
            zero[i] = (uint8_t)(8 + 7.99f * draw(seed + 2, i));
        }
        host = {DT_U4, n, k, code.data(), NULL, {1, cols, scale.data(), zeros ? zero.data() : NULL, NULL}};
        std::vector<unsigned char> packed(w.n);
        int4_clear(&form, packed.data());
        int4_pack(&form, 0, &host, NULL, packed.data());
        w.put(packed);
        held = {DT_U4, n, k, w.p, &form, {}};
        std::vector<uint16_t> xv(x.n, POISON);
        for (int t = 0; t < ROWS; t++)
            for (int i = 0; i < k; i++)
                xv[(size_t)(t * x_stride + i)] =
                    f32_to_bf16(draw(3, (uint64_t)(t * k + i)) * ldexpf(1, t % 5 - 2));
        x.put(xv);
        for (int i = 0; i < n; i++) {
            bias_h[(size_t)i] = f32_to_bf16(draw(4, (uint64_t)i));
            norm_h[(size_t)i] = f32_to_bf16(1 + draw(5, (uint64_t)i) / 2);
        }
        bias.put(bias_h);
        norm.put(norm_h);
        std::vector<float> value((size_t)n * (size_t)k);
        quant_scaled_to_f32(&host, 0, n, value.data());
        mem<float> value_d(value.size());
        mem<double> y_d((size_t)ROWS * (size_t)n), size_d((size_t)ROWS * (size_t)n);
        value_d.put(value);
        reference<<<dim3((unsigned)(n + 127) / 128, ROWS), 128>>>(y_d.p, size_d.p, x.p, x_stride, value_d.p,
                                                                  n, k);
        ref = y_d.get();
        size = size_d.get();
    }
    size_t groups() const { return (size_t)((k + cols - 1) / cols); }
    const char *name() const
    {
        static char text[96];
        snprintf(text, sizeof text, "N=%d K=%d cols=%d zeros=%d", n, k, cols, zeros);
        return text;
    }
    gemm_args args(int t0, int n_tok) const
    {
        gemm_args a = {};
        a.y = y.p, a.x = x.p + t0 * x_stride, a.w = &held, a.x_stride = x_stride, a.y_stride = y_stride,
        a.n_tok = n_tok, a.decode = true, a.y_f32 = true;
        return a;
    }
    bool portable = false;
    void launch(const gemm_args &a, gemm_more more = {})
    {
        static bool second; /* both kinds of CTAs */
        gemm_gpu g = {0, n_sm};
        more.second = second = !second;
        if ((portable ? gemm_int4_gpu(&a, &g) : gemm_int4_small_sm90(&a, &more, &g)) != OK) {
            printf("%s T=%d: launch failed: %s\n", name(), a.n_tok, cudaGetErrorString(cudaGetLastError()));
            exit(2);
        }
    }
    /* Rows [t0, t0 + n_tok) as fp32; what was not written holds poison. */
    std::vector<float> alone(int t0, int n_tok)
    {
        CUDA(cudaMemset(y.p, 0xff, y.n * 4));
        launch(args(t0, n_tok));
        return y.get((size_t)(n_tok * y_stride));
    }
};

static void product_is_the_sum(problem &p, int n_tok)
{
    auto got = p.alone(0, n_tok);
    double num = 0, den = 0, worst = 0;
    int touched = 0;
    for (int t = 0; t < n_tok; t++)
        for (int64_t i = 0; i < p.y_stride; i++) {
            const float v = got[(size_t)(t * p.y_stride + i)];
            if (i < p.n) {
                const double r = p.ref[(size_t)(t * p.n + i)], d = v - r, s = p.size[(size_t)(t * p.n + i)];
                num += d * d;
                den += r * r;
                worst = isnan(v) ? INFINITY : fmax(worst, fabs(d) / s);
            } else
                touched += f32_bits(v) != 0xffffffffu;
        }
    char text[192];
    snprintf(text, sizeof text,
             "%s T=%d: relative error %.2e, worst of a sum's size %.2e, %d outside written", p.name(), n_tok,
             sqrt(num / den), worst, touched);
    check(sqrt(num / den) < 5e-6 && worst < 1e-6 && touched == 0, "product_is_the_sum", text);
}

static void rows_stand_alone(problem &p, const std::vector<int> &counts)
{
    auto all = p.alone(0, ROWS);
    int wrong = 0;
    for (int n_tok : counts)
        for (int t0 : {0, ROWS - n_tok, (ROWS - n_tok) / 2}) {
            auto got = p.alone(t0, n_tok);
            for (int t = 0; t < n_tok; t++)
                wrong += memcmp(&got[(size_t)(t * p.y_stride)], &all[(size_t)((t0 + t) * p.y_stride)],
                                (size_t)p.n * 4) != 0;
        }
    char text[128];
    snprintf(text, sizeof text, "%s: %d rows differ", p.name(), wrong);
    check(wrong == 0, "rows_stand_alone", text);
}

static float silu_of(float x) { return x / (1.0f + expf(-x)); }

/* Stored as bf16, with a bias, added to what stood there: one rounding of the fp32 result. */
static void ends_round_once(problem &p, int n_tok, bool bias, bool add)
{
    auto sum = p.alone(0, n_tok);
    std::vector<uint16_t> y0((size_t)(n_tok * p.y_stride));
    for (size_t i = 0; i < y0.size(); i++) y0[i] = f32_to_bf16(5 * draw(8, i));
    mem<uint16_t> y(y0.size());
    y.put(y0);
    gemm_args a = p.args(0, n_tok);
    a.y = y.p, a.y_f32 = false, a.bias = bias ? p.bias.p : NULL, a.add = add;
    p.launch(a);
    auto got = y.get();
    int wrong = 0;
    for (int t = 0; t < n_tok; t++)
        for (int64_t i = 0; i < p.y_stride; i++) {
            const size_t at = (size_t)(t * p.y_stride + i);
            float v = i < p.n ? sum[at] : 0;
            if (i < p.n && bias) v += f32_from_bf16(p.bias_h[(size_t)i]);
            if (i < p.n && add) v += f32_from_bf16(y0[at]);
            wrong += got[at] != (i < p.n ? f32_to_bf16(v) : y0[at]);
        }
    char text[128];
    snprintf(text, sizeof text, "%s T=%d bias=%d add=%d: %d wrong", p.name(), n_tok, bias, add, wrong);
    check(wrong == 0, "ends_round_once", text);
}

/* Gates open what they stand beside; both as if they had been stored. */
static void gates_open(problem &p, int n_tok, bool bias)
{
    auto sum = p.alone(0, n_tok);
    const int half = p.n / 2;
    mem<uint16_t> y((size_t)(n_tok * p.y_stride));
    CUDA(cudaMemset(y.p, 0x55, y.n * 2));
    gemm_args a = p.args(0, n_tok);
    gemm_more more = {};
    a.y = y.p, a.y_f32 = false, a.bias = bias ? p.bias.p : NULL, more.gated = true;
    p.launch(a, more);
    auto got = y.get();
    int wrong = 0, touched = 0;
    double worst = 0;
    for (int t = 0; t < n_tok; t++)
        for (int64_t i = 0; i < p.y_stride; i++) {
            const size_t at = (size_t)(t * p.y_stride + i);
            if (i >= half) {
                touched += got[at] != 0x5555;
                continue;
            }
            float v[2];
            for (int h = 0; h < 2; h++) {
                v[h] = sum[at + (size_t)(h * half)];
                if (bias) v[h] += f32_from_bf16(p.bias_h[(size_t)(h * half + i)]);
                v[h] = f32_from_bf16(f32_to_bf16(v[h]));
            }
            const float want = silu_of(v[0]) * v[1], d = fabsf(f32_from_bf16(got[at]) - want);
            worst = fmax(worst, d);
            wrong +=
                !(d <= fabsf(want) * 0x1p-7f + 1e-6f); /* a gated tile is another: its sum may round else */
        }
    char text[160];
    snprintf(text, sizeof text, "%s T=%d bias=%d: %d wrong (worst %.2e), %d outside written", p.name(), n_tok,
             bias, wrong, worst, touched);
    check(wrong == 0 && touched == 0, "gates_open", text);
}

/* What a product leaves for the norm behind it, and what the next makes of it. */
static void norms_are_halved(problem &p, problem &next, int n_tok)
{
    if (next.k != p.n) exit(3);
    const int n_sum = gemm_small_tiles(n_sm, p.n);
    mem<uint16_t> y((size_t)(n_tok * p.y_stride)), normed((size_t)(n_tok * p.y_stride));
    mem<float> sums((size_t)(n_tok * n_sum)), z((size_t)(n_tok * next.y_stride));
    CUDA(cudaMemset(sums.p, 0xff, sums.n * 4));
    CUDA(cudaMemset(normed.p, 0x55, normed.n * 2));
    CUDA(cudaMemset(y.p, 0, y.n * 2));
    gemm_args a = p.args(0, n_tok);
    gemm_more more = {};
    a.y = y.p, a.y_f32 = false;
    more.sum_out = sums.p, more.normed = normed.p, more.norm = p.norm.p;
    p.launch(a, more);
    gemm_args b = next.args(0, n_tok);
    more = {};
    b.x = normed.p, b.x_stride = p.y_stride, b.y = z.p;
    more.sum_in = sums.p, more.eps = 1e-5f;
    next.launch(b, more);
    auto y_h = y.get(), normed_h = normed.get();
    auto sums_h = sums.get();
    auto z_h = z.get();
    int wrong = 0;
    double worst = 0;
    std::vector<float> value((size_t)next.n * (size_t)next.k);
    quant_scaled_to_f32(&next.host, 0, next.n, value.data());
    for (int t = 0; t < n_tok; t++) {
        double square = 0, got = 0;
        for (int i = 0; i < p.n; i++) {
            const float v = f32_from_bf16(y_h[(size_t)(t * p.y_stride + i)]);
            square += (double)v * v;
            wrong +=
                normed_h[(size_t)(t * p.y_stride + i)] != f32_to_bf16(v * f32_from_bf16(p.norm_h[(size_t)i]));
        }
        for (int i = 0; i < n_sum; i++) got += sums_h[(size_t)(t * n_sum + i)];
        wrong += !(fabs(got - square) <= 1e-5 * square);
        const double scale = 1 / sqrt(square / p.n + 1e-5);
        for (int i = 0; i < next.n; i += 7) {
            double s = 0, abs = 0;
            for (int j = 0; j < next.k; j++) {
                const double v = f32_from_bf16(normed_h[(size_t)(t * p.y_stride + j)]) *
                                 (double)value[(size_t)i * (size_t)next.k + (size_t)j];
                s += v;
                abs += fabs(v);
            }
            const float z_got = z_h[(size_t)(t * next.y_stride + i)];
            worst = isnan(z_got) ? INFINITY : fmax(worst, fabs(z_got - s * scale) / (abs * scale));
        }
    }
    char text[160];
    snprintf(text, sizeof text, "%s then N=%d T=%d: %d wrong, worst of a sum's size %.2e", p.name(), next.n,
             n_tok, wrong, worst);
    check(wrong == 0 && worst < 1e-5, "norms_are_halved", text);
}

/* Products that start while those before them end read what those wrote: a chain gives the bits of its
 * products one by one. */
static void chains_are_products(problem &p, int n_tok, int length)
{
    if (p.n != p.k) exit(3);
    std::vector<uint16_t> want;
    for (int turn = 0; turn < 4; turn++) {
        mem<uint16_t> y0((size_t)(n_tok * p.x_stride)), y1((size_t)(n_tok * p.x_stride));
        uint16_t *at[2] = {y0.p, y1.p};
        CUDA(cudaMemcpy(y0.p, p.x.p, y0.n * 2, cudaMemcpyDeviceToDevice));
        CUDA(cudaMemset(y1.p, 0, y1.n * 2));
        CUDA(cudaDeviceSynchronize());
        for (int i = 0; i < length; i++) {
            gemm_args a = p.args(0, n_tok);
            a.x = at[i % 2], a.y = at[(i + 1) % 2], a.x_stride = a.y_stride = p.x_stride, a.y_f32 = false;
            p.launch(a);
            if (turn == 0) CUDA(cudaDeviceSynchronize());
        }
        std::vector<uint16_t> got = length % 2 ? y1.get() : y0.get();
        if (turn == 0) want = got;
        int wrong = 0;
        for (int t = 0; t < n_tok; t++)
            for (int i = 0; i < p.n; i++)
                wrong += got[(size_t)(t * p.x_stride + i)] != want[(size_t)(t * p.x_stride + i)];
        char text[128];
        snprintf(text, sizeof text, "%s T=%d turn %d: %d wrong", p.name(), n_tok, turn, wrong);
        check(wrong == 0, "chains_are_products", text);
    }
}

/* What codes stand for, rounded once. */
static void rows_are_the_values(problem &p)
{
    int wrong = 0, touched = 0;
    std::vector<float> value((size_t)p.n * (size_t)p.k);
    quant_scaled_to_f32(&p.host, 0, p.n, value.data());
    const gemm_gpu g = {0, n_sm};
    for (int row0 = 0; row0 < p.n; row0 += (p.n / 3 / INT4_ROWS + 1) * INT4_ROWS)
        for (int n_row : {1, p.n - row0}) {
            mem<uint16_t> out((size_t)n_row * (size_t)p.k + 64);
            CUDA(cudaMemset(out.p, 0x55, out.n * 2));
            check(int4_rows_gpu(&p.held, row0, n_row, out.p, &g) == OK, "rows_are_the_values", p.name());
            auto got = out.get();
            for (size_t i = 0; i < got.size(); i++)
                if (i < (size_t)n_row * (size_t)p.k)
                    wrong += got[i] != f32_to_bf16(value[(size_t)row0 * (size_t)p.k + i]);
                else
                    touched += got[i] != 0x5555;
        }
    char text[160];
    snprintf(text, sizeof text, "%s: %d wrong, %d outside written", p.name(), wrong, touched);
    check(wrong == 0 && touched == 0, "rows_are_the_values", text);
}

static void rows_are_sorted()
{
    for (int k : {8, 264, 4096}) {
        const int n_tok = 5, stride = k + 8;
        std::vector<uint16_t> x((size_t)(n_tok * stride));
        std::vector<int32_t> order((size_t)k);
        for (size_t i = 0; i < x.size(); i++) x[i] = (uint16_t)(i * 40503);
        for (int i = 0; i < k; i++) order[(size_t)i] = (i * 37 + 5) % k; /* k has no factor 37 */
        mem<uint16_t> x_d(x.size()), out((size_t)(n_tok * k));
        mem<int32_t> order_d(order.size());
        x_d.put(x), order_d.put(order);
        const gemm_gpu g = {0, n_sm};
        check(int4_sort_gpu(out.p, x_d.p, stride, order_d.p, n_tok, k, &g) == OK, "rows_are_sorted",
              "launch");
        auto got = out.get();
        int wrong = 0;
        for (int t = 0; t < n_tok; t++)
            for (int i = 0; i < k; i++)
                wrong += got[(size_t)(t * k + i)] != x[(size_t)(t * stride + order[(size_t)i])];
        char text[64];
        snprintf(text, sizeof text, "K=%d: %d wrong", k, wrong);
        check(wrong == 0, "rows_are_sorted", text);
    }
}

static void refusals()
{
    problem p(64, 128, 32, false);
    gemm_gpu g = {0, n_sm};
    gemm_more gated = {};
    gated.gated = true;
    gemm_args a = p.args(0, 1), b = p.args(0, 65), c = p.args(0, 1), d = p.args(0, 1);
    weight odd = p.held;
    odd.n = 48;
    c.w = &odd;
    c.y_f32 = false;
    d.x_stride = 129;
    check(gemm_int4_small_sm90(&a, &gated, &g) == ERR_INVALID_VALUE, "refusals", "gates in fp32");
    check(gemm_int4_small_sm90(&b, NULL, &g) == ERR_INVALID_VALUE, "refusals", "65 rows");
    check(gemm_int4_small_sm90(&c, &gated, &g) == ERR_INVALID_VALUE, "refusals", "gates that share a record");
    check(gemm_int4_small_sm90(&d, NULL, &g) == ERR_INVALID_VALUE, "refusals", "rows of x off 16 bytes");
}

int main(int argc, char **argv)
{
    const bool small = argc > 1 && !strcmp(argv[1], "small");
    cudaDeviceProp prop;
    CUDA(cudaGetDeviceProperties(&prop, 0));
    n_sm = prop.multiProcessorCount;
    refusals();
    rows_are_sorted();
    const int shapes[][3] = {{16, 32, 32},       {17, 64, 32},    {48, 128, 128},    {200, 576, 64},
                             {576, 1536, 64},    {1000, 800, 32}, {1536, 576, 576},  {2048, 2048, 128},
                             {320, 264, 264},    {96, 1024, 512}, {6144, 4096, 128}, {25600, 256, 64},
                             {4096, 12288, 128}, {32000, 288, 32}};
    for (auto &s : shapes)
        for (int zeros = 0; zeros < 2; zeros++) {
            if (small && (int64_t)s[0] * s[1] > 200000) continue;
            problem p(s[0], s[1], s[2], zeros);
            rows_are_the_values(p);
            for (int portable = 0; portable < 2; portable++) {
                p.portable = portable;
                for (int t : {1, 2, 7, 8, 9, 16, 17, 32, 33, 64}) product_is_the_sum(p, t);
                if (s[0] <= 2048 || zeros)
                    rows_stand_alone(p, small ? std::vector<int>{1, 9, 33}
                                              : std::vector<int>{1, 3, 8, 13, 16, 24, 31, 40});
                for (int i = 0; i < 4; i++) ends_round_once(p, i % 2 ? 5 : 21, i & 1, i & 2);
            }
            p.portable = false;
            if (s[0] % 32 == 0)
                for (int i = 0; i < 2; i++) gates_open(p, i ? 3 : 19, i);
        }
    for (int t : {1, 6, 16, 30}) {
        problem p(576, 1536, 64, true), next(320, 576, 32, false), wide(2048, 512, 128, false),
            last(64, 2048, 64, true);
        norms_are_halved(p, next, t);
        norms_are_halved(wide, last, t);
    }
    if (!small) {
        problem square(4096, 4096, 128, false);
        for (int t : {1, 8, 16, 64}) chains_are_products(square, t, 40);
    }
    problem chain(256, 256, 64, true);
    chains_are_products(chain, 3, small ? 6 : 100);
    return report("gpu_int4");
}
