/* FP8 on the GPU: rows' codes have the bits of the plain C (kernels/quant_fp8.h), products are the sums of
 * what codes stand for, over shapes, row counts, strides, both kinds of scales, gates, bias and residual;
 * rows stand alone in their bits. usage: gpu_fp8 [small | tiny] (for the sanitizers) | lt (chains and
 * cuBLASLt alone) */
#include "kernels/cuda/fp8_gpu.h"
#include "kernels/cuda/gpu_ops.h"
#include "tests/kernels/cuda/gpu_test.cuh"

#include <cuda_bf16.h>
#include <math.h>
#include <string.h>
#include <utility>
#include <vector>

extern "C" {
#include "kernels/cuda/gemm_lt.h"
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
static uint16_t bf16_bits(float f)
{
    bf16 b = __float2bfloat16(f);
    uint16_t u;
    memcpy(&u, &b, 2);
    return u;
}
static float bf16_value(uint16_t u)
{
    uint32_t w = (uint32_t)u << 16;
    float f;
    memcpy(&f, &w, 4);
    return f;
}

/* Device memory that lives as long as the test. */
template <typename T> struct mem {
    T *p;
    size_t n;
    explicit mem(size_t n_) : n(n_)
    {
        CUDA(cudaMalloc(&p, n * sizeof(T) + 16));
        CUDA(cudaMemset(p, 0, n * sizeof(T) + 16));
    }
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

/* --- rows to codes */

static bool same_scale(float a, float b) { return memcmp(&a, &b, 4) == 0 || (isnan(a) && isnan(b)); }
/* A NaN's sign is the processor's affair. */
static bool same_code(uint8_t a, uint8_t b) { return a == b || ((a & 0x7f) == 0x7f && (b & 0x7f) == 0x7f); }

/* Rows of all sizes, of zeros, of tiny numbers, with a NaN, with an infinity. */
static std::vector<uint16_t> odd_rows(int n_tok, int width, int64_t stride, uint64_t seed)
{
    std::vector<uint16_t> x((size_t)(n_tok * stride), POISON);
    for (int t = 0; t < n_tok; t++) {
        const float size = t % 8 == 1   ? 0
                           : t % 8 == 2 ? ldexpf(1, -126)
                           : t % 8 == 3 ? 1e30f
                                        : ldexpf(1, (t * 7) % 40 - 20);
        for (int i = 0; i < width; i++)
            x[(size_t)(t * stride + i)] = bf16_bits(size * draw(seed + (uint64_t)t, (uint64_t)i));
        if (t % 8 == 4) x[(size_t)(t * stride + (t * 37) % width)] = 0x7fc0;
        if (t % 8 == 5) x[(size_t)(t * stride + (t * 53) % width)] = t % 16 == 5 ? 0x7f80 : 0xff80;
    }
    return x;
}

/* One scale for all rows, as a checkpoint fixes it. */
static void fixed_scales_are_kept(int d, int n_tok, float fixed)
{
    std::vector<uint16_t> x = odd_rows(n_tok, d, d, 5);
    mem<uint16_t> x_d(x.size());
    mem<uint8_t> code((size_t)(n_tok * d));
    mem<float> scale((size_t)n_tok);
    x_d.put(x);
    quant_fp8_args a = {code.p, scale.p, x_d.p, NULL, d, d, n_tok, n_tok, d, 0, false, false, fixed};
    gemm_gpu g = {0, n_sm};
    if (quant_fp8_sm90(&a, &g) != OK) exit(2);
    auto got = code.get();
    auto got_scale = scale.get();
    int wrong = 0;
    for (int t = 0; t < n_tok; t++) {
        wrong += got_scale[(size_t)t] != fixed;
        for (int i = 0; i < d; i++)
            wrong += !same_code(got[(size_t)(t * d + i)],
                                fp8_from_f32(bf16_value(x[(size_t)(t * d + i)]) * (1 / fixed)));
    }
    char text[96];
    snprintf(text, sizeof text, "d=%d T=%d scale %g: %d wrong", d, n_tok, fixed, wrong);
    check(wrong == 0, "fixed_scales_are_kept", text);
}

/* from: 0 rows as they are, 1 normed, 2 gated */
static void codes_are_the_references(int d, int n_tok, int from, bool block)
{
    const int width = from == 2 ? 2 * d : d, groups = block ? fp8_groups(d) : 1;
    const int64_t stride = width + 8, code_stride = (d + 15) / 16 * 16 + 16;
    std::vector<uint16_t> x = odd_rows(n_tok, width, stride, 11 + (uint64_t)from), w((size_t)d);
    for (int i = 0; i < d; i++) w[(size_t)i] = bf16_bits(1 + draw(99, (uint64_t)i));
    mem<uint16_t> x_d(x.size()), w_d(w.size()), plain((size_t)(n_tok * d));
    mem<uint8_t> code((size_t)(n_tok * code_stride));
    mem<float> scale((size_t)((n_tok + 3) * groups));
    x_d.put(x);
    w_d.put(w);
    CUDA(cudaMemset(code.p, 0x55, code.n));
    CUDA(cudaMemset(scale.p, 0x55, scale.n * 4));
    gpu_ctx ctx = {0, n_sm, DT_BF16, DT_BF16};
    rmsnorm_args norm = {};
    norm.out = plain.p, norm.x = x_d.p, norm.w = w_d.p, norm.x_stride = stride, norm.n_tok = n_tok,
    norm.d = d, norm.eps = 1e-6f;
    swiglu_args sw = {plain.p, x_d.p, stride, d, n_tok, d};
    gather_args copy = {};
    std::vector<int32_t> row((size_t)n_tok);
    for (int t = 0; t < n_tok; t++) row[(size_t)t] = t;
    mem<int32_t> row_d(row.size());
    row_d.put(row);
    copy.out = plain.p, copy.x = x_d.p, copy.row = row_d.p, copy.x_stride = stride, copy.n_row = n_tok,
    copy.d = d;
    if (from == 1 && d > 16384) return; /* rmsnorm_gpu takes no wider row */
    const enum err e = from == 0   ? gather_gpu(&copy, &ctx)
                       : from == 1 ? rmsnorm_gpu(&norm, &ctx)
                                   : swiglu_gpu(&sw, &ctx);
    quant_fp8_args a = {code.p,      scale.p, x_d.p,     from == 1 ? w_d.p : NULL,
                        code_stride, stride,  n_tok + 3, n_tok,
                        d,           1e-6f,   block,     from == 2};
    gemm_gpu g = {0, n_sm};
    if (e != OK || quant_fp8_sm90(&a, &g) != OK) {
        printf("launch failed: %s\n", cudaGetErrorString(cudaGetLastError()));
        exit(2);
    }
    auto got = code.get();
    auto got_scale = scale.get();
    auto rows = plain.get();
    std::vector<float> v((size_t)d), want_scale((size_t)groups);
    std::vector<uint8_t> want((size_t)d);
    int wrong = 0, touched = 0;
    for (int t = 0; t < n_tok; t++) {
        for (int i = 0; i < d; i++) v[(size_t)i] = bf16_value(rows[(size_t)(t * d + i)]);
        fp8_row_ref(want.data(), want_scale.data(), v.data(), d, block);
        for (int i = 0; i < d; i++) wrong += !same_code(got[(size_t)(t * code_stride + i)], want[(size_t)i]);
        for (int i = 0; i < groups; i++)
            wrong += !same_scale(got_scale[(size_t)(i * (n_tok + 3) + t)], want_scale[(size_t)i]);
        for (int64_t i = d; i < code_stride; i++) touched += got[(size_t)(t * code_stride + i)] != 0x55;
    }
    char text[128];
    snprintf(text, sizeof text, "d=%d T=%d from=%d block=%d: %d wrong, %d outside written", d, n_tok, from,
             block, wrong, touched);
    check(wrong == 0 && touched == 0, "codes_are_the_references", text);
}

/* --- products */

__device__ static double value(uint8_t c)
{
    const int exp = c >> 3 & 15, man = c & 7;
    double x = exp ? ldexp(8.0 + man, exp - 10) : man * 0x1p-9;
    if ((c & 0x7f) == 0x7f) x = nan("");
    return c & 0x80 ? -x : x;
}
/* Any codes but NaN, small ones seldom. */
__global__ static void fill_codes(uint8_t *p, int64_t n)
{
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x) {
        uint64_t x = ((uint64_t)i + 77) * 0x9e3779b97f4a7c15ull;
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
        x = (x ^ x >> 27) * 0x94d049bb133111ebull;
        const uint8_t c = (uint8_t)(x >> 40);
        const uint8_t d = x >> 60 ? c | 0x40 : c;
        p[i] = (d & 0x7f) == 0x7f ? d - 1 : d;
    }
}
__global__ static void reference(double *y, gemm_fp8_args a, double *size)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x, t = blockIdx.y, groups = fp8_groups(a.k);
    if (i >= a.n) return;
    double sum = 0, abs = 0;
    for (int b = 0; b < groups; b++) {
        double part = 0, part_abs = 0;
        for (int k = b * FP8_BLOCK; k < min((b + 1) * FP8_BLOCK, a.k); k++) {
            const double v = value(a.x[t * a.x_stride + k]) * value(a.w[(int64_t)i * a.k + k]);
            part += v;
            part_abs += fabs(v);
        }
        const double s = a.block ? (double)a.x_scale[b * a.x_scale_stride + t] *
                                       a.w_scale[i / FP8_BLOCK * a.w_scale_stride + b]
                                 : 1.0;
        sum += part * s;
        abs += part_abs * s;
    }
    const double s = a.block ? 1.0 : (double)a.x_scale[t] * a.w_scale[i];
    y[(int64_t)t * a.n + i] = sum * s;
    size[(int64_t)t * a.n + i] = abs * s;
}

typedef enum err (*product)(const gemm_fp8_args *, gemm_gpu *);

/* cuBLASLt's: scales begin at 16 bytes, those by block lie one row's count apart. */
static struct gemm_lt *lt;
static enum err gemm_fp8_by_lt(const gemm_fp8_args *a, gemm_gpu *)
{
    static float *scale;
    gemm_fp8_args b = *a;
    if (!scale) CUDA(cudaMalloc(&scale, 4 << 20));
    CUDA(cudaMemcpy2D(scale, (size_t)a->n_tok * 4, a->x_scale, (size_t)a->x_scale_stride * 4,
                      (size_t)a->n_tok * 4, (size_t)(a->block ? fp8_groups(a->k) : 1),
                      cudaMemcpyDeviceToDevice));
    b.x_scale = scale;
    b.x_scale_stride = a->n_tok;
    return gemm_lt_fp8(lt, &b);
}

struct problem {
    int n, k, rows, groups;
    bool block;
    int64_t x_stride, y_stride;
    mem<uint8_t> x, w;
    mem<float> x_scale, w_scale, y;
    mem<uint16_t> bias;
    std::vector<uint16_t> bias_h;
    std::vector<double> ref, size; /* without bias */
    product run;
    const char *name;
    bool f32 = true; /* what alone() asks for; not: bf16 */

    problem(int n_, int k_, bool block_, product run_, const char *name_, int rows_ = ROWS)
        : n(n_), k(k_), rows(rows_), groups(block_ ? fp8_groups(k_) : 1), block(block_), x_stride(k_ + 16),
          y_stride((n_ + 7) / 8 * 8 + 24), x((size_t)(rows_ * x_stride)), w((size_t)n_ * (size_t)k_),
          x_scale((size_t)(rows_ * groups)),
          w_scale(block_ ? (size_t)(fp8_groups(n_) * scale_stride()) : (size_t)n_),
          y((size_t)(rows_ * y_stride)), bias((size_t)n_), bias_h((size_t)n_), run(run_), name(name_)
    {
        std::vector<uint8_t> xv(x.n);
        std::vector<float> xs(x_scale.n), ws(w_scale.n);
        for (size_t i = 0; i < xv.size(); i++) xv[i] = fp8_from_f32(448 * draw(1, i) * draw(2, i));
        fill_codes<<<1024, 256>>>(w.p, (int64_t)w.n);
        for (size_t i = 0; i < xs.size(); i++) xs[i] = 0.01f * (1.5f + draw(4, i));
        for (size_t i = 0; i < ws.size(); i++) ws[i] = 0.01f * (1.5f + draw(5, i));
        for (size_t i = 0; i < bias_h.size(); i++) bias_h[i] = bf16_bits(100 * draw(6, i));
        x.put(xv), x_scale.put(xs), w_scale.put(ws), bias.put(bias_h);
        mem<double> y_d((size_t)rows * (size_t)n), size_d((size_t)rows * (size_t)n);
        gemm_fp8_args a = args(0, rows);
        reference<<<dim3((unsigned)(n + 127) / 128, (unsigned)rows), 128>>>(y_d.p, a, size_d.p);
        ref = y_d.get();
        size = size_d.get();
    }
    int scale_stride() const { return (fp8_groups(k) + 3) / 4 * 4; }
    gemm_fp8_args args(int t0, int n_tok) const
    {
        gemm_fp8_args a = {};
        a.y = y.p, a.x = x.p + t0 * x_stride, a.x_scale = x_scale.p + t0, a.w = w.p, a.w_scale = w_scale.p;
        a.x_stride = x_stride, a.y_stride = y_stride, a.n_tok = n_tok, a.n = n, a.k = k, a.block = block,
        a.x_scale_stride = rows, a.w_scale_stride = scale_stride();
        return a;
    }
    void launch(gemm_fp8_args a)
    {
        static bool second; /* both kinds of CTAs */
        gemm_gpu g = {0, n_sm};
        a.second = second = !second;
        if (run(&a, &g) != OK) {
            printf("%s N=%d K=%d T=%d: launch failed: %s\n", name, a.n, a.k, a.n_tok,
                   cudaGetErrorString(cudaGetLastError()));
            exit(2);
        }
    }
    /* Rows [t0, t0 + n_tok) as fp32; what was not written holds poison. */
    std::vector<float> alone(int t0, int n_tok)
    {
        gemm_fp8_args a = args(t0, n_tok);
        a.y_f32 = f32;
        CUDA(cudaMemset(y.p, 0xff, y.n * 4));
        launch(a);
        std::vector<float> v = y.get((size_t)(n_tok * y_stride));
        if (f32) return v;
        std::vector<uint16_t> half(v.size());
        memcpy(half.data(), v.data(), half.size() * 2);
        for (size_t i = 0; i < v.size(); i++) {
            const uint32_t u = half[i] == 0xffff ? 0xffffffffu : (uint32_t)half[i] << 16;
            memcpy(&v[i], &u, 4);
        }
        return v;
    }
};

/* Of 32 products that the tensor cores add up at once each keeps what is above 2^-13 of the largest: about
 * 2e-4 of a sum. */
static double worst_error; /* of a sum, over the sum of its terms' sizes */
static void product_is_the_sum(problem &p, int n_tok)
{
    auto got = p.alone(0, n_tok);
    double num = 0, den = 0, worst = 0;
    int touched = 0;
    uint32_t u;
    for (int t = 0; t < n_tok; t++)
        for (int64_t i = 0; i < p.y_stride; i++) {
            const float v = got[(size_t)(t * p.y_stride + i)];
            if (i < p.n) {
                const double r = p.ref[(size_t)(t * p.n + i)], d = v - r, s = p.size[(size_t)(t * p.n + i)];
                num += d * d;
                den += r * r;
                worst = fmax(worst, s > 0 ? fabs(d) / s : fabs(d));
                worst = isnan(v) ? INFINITY : worst;
            } else {
                memcpy(&u, &v, 4);
                touched += u != 0xffffffffu;
            }
        }
    worst_error = fmax(worst_error, worst);
    char text[192];
    snprintf(
        text, sizeof text,
        "%s N=%d K=%d T=%d block=%d: relative error %.2e, worst of a sum's size %.2e, %d elements outside written",
        p.name, p.n, p.k, n_tok, p.block, sqrt(num / den), worst, touched);
    check(sqrt(num / den) < (p.f32 ? 5e-4 : 2.5e-3) && worst < (p.f32 ? 2e-3 : 6e-3) && touched == 0,
          "product_is_the_sum", text);
}

/* Stored as bf16, with a bias, added to what stood there: one rounding of the fp32 result. */
static void ends_round_once(problem &p, int n_tok, bool bias, bool add)
{
    auto sum = p.alone(0, n_tok);
    std::vector<uint16_t> y0((size_t)(n_tok * p.y_stride));
    for (size_t i = 0; i < y0.size(); i++) y0[i] = bf16_bits(50 * draw(8, i));
    mem<uint16_t> y(y0.size());
    y.put(y0);
    gemm_fp8_args a = p.args(0, n_tok);
    a.y = y.p;
    a.bias = bias ? p.bias.p : NULL;
    a.add = add;
    p.launch(a);
    auto got = y.get();
    int wrong = 0;
    for (int t = 0; t < n_tok; t++)
        for (int64_t i = 0; i < p.y_stride; i++) {
            const size_t at = (size_t)(t * p.y_stride + i);
            float v = i < p.n ? sum[at] : 0;
            if (i < p.n && bias) v += bf16_value(p.bias_h[(size_t)i]);
            if (i < p.n && add) v += bf16_value(y0[at]);
            wrong += got[at] != (i < p.n ? bf16_bits(v) : y0[at]);
        }
    char text[128];
    snprintf(text, sizeof text, "%s N=%d K=%d T=%d block=%d bias=%d add=%d: %d wrong", p.name, p.n, p.k,
             n_tok, p.block, bias, add, wrong);
    check(wrong == 0, "ends_round_once", text);
}

/* Where an order of roundings is not ours: within one of bf16. */
static void ends_are_near(problem &p, int n_tok, bool bias, bool add)
{
    std::vector<uint16_t> y0((size_t)(n_tok * p.y_stride));
    for (size_t i = 0; i < y0.size(); i++) y0[i] = bf16_bits(50 * draw(8, i));
    mem<uint16_t> y(y0.size());
    y.put(y0);
    gemm_fp8_args a = p.args(0, n_tok);
    a.y = y.p;
    a.bias = bias ? p.bias.p : NULL;
    a.add = add;
    p.launch(a);
    auto got = y.get();
    double worst = 0;
    for (int t = 0; t < n_tok; t++)
        for (int i = 0; i < p.n; i++) {
            const size_t at = (size_t)(t * p.y_stride + i);
            const double v = p.ref[(size_t)(t * p.n + i)] + (bias ? bf16_value(p.bias_h[(size_t)i]) : 0) +
                             (add ? bf16_value(y0[at]) : 0),
                         d = fabs(bf16_value(got[at]) - v);
            worst =
                fmax(worst, isnan(d) ? INFINITY : d / (fabs(v) / 128 + p.size[(size_t)(t * p.n + i)] * 1e-3));
        }
    char text[128];
    snprintf(text, sizeof text, "%s N=%d K=%d T=%d block=%d bias=%d add=%d: %.2f of a rounding", p.name, p.n,
             p.k, n_tok, p.block, bias, add, worst);
    check(worst < 1, "ends_are_near", text);
}

static void bits_do_not_depend_on_the_batch(problem &p, const std::vector<int> &rows)
{
    auto all = p.alone(0, p.rows);
    check(memcmp(all.data(), p.alone(0, p.rows).data(), all.size() * 4) == 0, "product_repeats_its_bits",
          p.name);
    for (int n : rows) {
        bool same = true;
        for (int t0 = 0; t0 + n <= p.rows; t0 += n > 8 ? n : p.rows / 5 + 1) {
            auto part = p.alone(t0, n);
            same &= memcmp(part.data(), all.data() + t0 * p.y_stride, part.size() * 4) == 0;
        }
        char text[96];
        snprintf(text, sizeof text, "%s N=%d K=%d block=%d, %d rows at a time", p.name, p.n, p.k, p.block, n);
        check(same, "bits_do_not_depend_on_the_batch", text);
    }
}

/* A row of NaN, another with NaN for its scale: they have NaN, the others their bits. */
static void broken_rows_stay_alone(problem &p)
{
    auto want = p.alone(0, p.rows);
    auto x = p.x.get();
    auto xs = p.x_scale.get();
    std::vector<uint8_t> broken = x;
    std::vector<float> scale = xs;
    broken[(size_t)(3 * p.x_stride + p.k / 2)] = 0x7f;
    scale[5] = NAN;
    p.x.put(broken);
    p.x_scale.put(scale);
    auto got = p.alone(0, p.rows);
    p.x.put(x);
    p.x_scale.put(xs);
    int wrong = 0;
    for (int t = 0; t < p.rows; t++)
        for (int i = 0; i < p.n; i++) {
            const size_t at = (size_t)(t * p.y_stride + i);
            wrong += t == 3 || t == 5 ? !isnan(got[at]) : memcmp(&got[at], &want[at], 4) != 0;
        }
    char text[96];
    snprintf(text, sizeof text, "%s N=%d K=%d block=%d: %d wrong", p.name, p.n, p.k, p.block, wrong);
    check(wrong == 0, "broken_rows_stay_alone", text);
}

/* Gated products have the bits of the product stored as bf16 and swiglu after it. */
static void gated_is_product_then_swiglu(problem &p, int n_tok)
{
    const int f = p.n / 2;
    mem<uint16_t> gu((size_t)(n_tok * p.n)), want((size_t)(n_tok * f)), got((size_t)(n_tok * f));
    gemm_fp8_args a = p.args(0, n_tok);
    a.y = gu.p;
    a.y_stride = p.n;
    p.launch(a);
    swiglu_args sw = {want.p, gu.p, p.n, f, n_tok, f};
    gpu_ctx ctx = {0, n_sm, DT_BF16, DT_BF16};
    if (swiglu_gpu(&sw, &ctx) != OK) exit(2);
    a.y = got.p;
    a.y_stride = f;
    a.gated = true;
    p.launch(a);
    char text[96];
    snprintf(text, sizeof text, "%s N=%d K=%d T=%d block=%d", p.name, p.n, p.k, n_tok, p.block);
    check(want.get() == got.get(), "gated_is_product_then_swiglu", text);
}

/* Each product's rows are the codes of what the one before it wrote: kernels begin beside one another's ends,
 * and have the bits of kernels that wait for one another. */
static void chains_have_their_bits(int n, int n_tok, bool block, product run)
{
    enum { PRODUCTS = 12, ROUNDS = 4 };
    problem p(n, n, block, run, "chain", n_tok);
    mem<uint16_t> y((size_t)(n_tok * n));
    mem<uint8_t> code((size_t)(n_tok * n));
    mem<float> scale((size_t)(n_tok * p.groups));
    gemm_gpu g = {0, n_sm};
    std::vector<uint16_t> want;
    bool same = true;
    for (int round = 0; round < ROUNDS; round++) {
        gemm_fp8_args first = p.args(0, n_tok);
        first.y = y.p;
        first.y_stride = n;
        p.launch(first);
        for (int i = 0; i < PRODUCTS; i++) {
            quant_fp8_args q = {code.p, scale.p, y.p, NULL, n, n, n_tok, n_tok, n, 0, block, false};
            gemm_fp8_args a = first;
            a.x = code.p, a.x_scale = scale.p, a.x_stride = n;
            if (quant_fp8_sm90(&q, &g) != OK) exit(2);
            if (round == 0) CUDA(cudaDeviceSynchronize());
            p.launch(a);
            if (round == 0) CUDA(cudaDeviceSynchronize());
        }
        auto v = y.get();
        if (round == 0) want = v;
        same &= v == want;
    }
    char text[64];
    snprintf(text, sizeof text, "N=K=%d, %d rows, block=%d", n, n_tok, block);
    check(same, "chains_have_their_bits", text);
}

/* The double sums that the other tests compare with are those of the plain C. */
static void reference_is_the_plain_one(void)
{
    for (int block = 0; block < 2; block++) {
        problem p(136, 400, block, gemm_fp8_small_sm90, "reference", 4);
        auto x = p.x.get(), w = p.w.get();
        auto xs = p.x_scale.get(), ws = p.w_scale.get();
        std::vector<float> y((size_t)(4 * p.n));
        gemm_fp8_args a = p.args(0, 4);
        a.y = y.data(), a.x = x.data(), a.w = w.data(), a.x_scale = xs.data(), a.w_scale = ws.data(),
        a.y_stride = p.n;
        gemm_fp8_ref(&a);
        double worst = 0;
        for (size_t i = 0; i < y.size(); i++) worst = fmax(worst, fabs(y[i] - p.ref[i]) / p.size[i]);
        check(worst < 1e-7, "reference_is_the_plain_one", block ? "by block" : "by row");
    }
}

static void shapes_are_refused(void)
{
    problem p(64, 64, false, gemm_fp8_small_sm90, "refused");
    gemm_gpu g = {0, n_sm};
    gemm_fp8_args a = p.args(0, 8);
    a.k = 63;
    check(gemm_fp8_small_sm90(&a, &g) == ERR_INVALID_VALUE, "shapes_are_refused", "K = 63");
    a = p.args(0, 8), a.n_tok = 65;
    check(gemm_fp8_small_sm90(&a, &g) == ERR_INVALID_VALUE, "shapes_are_refused", "65 rows");
    a = p.args(0, 8), a.x_stride = 72;
    check(gemm_fp8_small_sm90(&a, &g) == ERR_INVALID_VALUE, "shapes_are_refused",
          "rows that do not begin at 16 bytes");
}

/* What kernels do one after another, and what the library does. */
static void chains_and_library(bool small)
{
    for (int n : {576, 4096})
        for (int block = 0; block < 2; block++)
            for (int n_tok : {1, 16, 64})
                if (!small || n == 576) chains_have_their_bits(n, n_tok, block, gemm_fp8_small_sm90);
    for (auto &s : {std::pair<int, int>{256, 576}, {6144, 4096}, {4096, 12288}})
        for (int block = 0; block < 2; block++) {
            if (small && s.second > 576) continue;
            problem p(s.first, s.second, block, gemm_fp8_by_lt, "cuBLASLt", 600);
            p.f32 = false;
            for (int n_tok : {4, 8, 64, 128, 132, 256, 600}) product_is_the_sum(p, n_tok);
            for (int n_tok : {1, 7, 257})
                if (!block) product_is_the_sum(p, n_tok);
            ends_are_near(p, 256, false, true);
            ends_are_near(p, 256, true, false);
            bits_do_not_depend_on_the_batch(p, block ? std::vector<int>{4, 12, 64, 132, 256}
                                                     : std::vector<int>{1, 7, 12, 64, 133, 256});
            broken_rows_stay_alone(p);
        }
}

int main(int argc, char **argv)
{
    const bool tiny = argc > 1 && !strcmp(argv[1], "tiny"),
               small = tiny || (argc > 1 && !strcmp(argv[1], "small"));
    const std::vector<int> rows =
        tiny ? std::vector<int>{1, 8, 9, 17, 64} : std::vector<int>{1, 2, 7, 8, 9, 16, 17, 31, 32, 33, 64};
    cudaDeviceProp prop;
    CUDA(cudaGetDeviceProperties(&prop, 0));
    n_sm = prop.multiProcessorCount;
    struct err_note note = {};
    if (gemm_lt_open(&lt, 0, &note) != OK) {
        printf("%s\n", note.text);
        return 2;
    }
    if (argc > 1 && !strcmp(argv[1], "lt")) {
        chains_and_library(false);
        return report("gpu_fp8");
    }
    reference_is_the_plain_one();
    shapes_are_refused();
    for (int d : {8, 128, 136, 576, 1000, 4096, 12288, 14336, 32768})
        for (int from = 0; from < 3; from++)
            for (int block = 0; block < 2; block++)
                if (!small || d <= 1000) codes_are_the_references(d, d > 20000 ? 8 : 40, from, block);
    for (int d : {128, 1000, 4096}) fixed_scales_are_kept(d, 24, d == 128 ? 1.0f : 0.0156f);
    const int shapes[][2] = {{128, 128},   {1, 16},       {136, 144},    {1000, 576},  {8203, 80},
                             {12800, 144}, {16008, 80},   {40008, 32},   {257, 4096},  {6144, 4096},
                             {4096, 4096}, {4096, 12288}, {24576, 4096}, {28672, 4096}};
    for (auto &s : shapes)
        for (int block = 0; block < 2; block++) {
            if (small && (s[1] > 576 || s[0] > 20000 || (tiny && s[0] > 13000))) continue;
            problem p(s[0], s[1], block, gemm_fp8_small_sm90, "small");
            for (int n_tok : rows) product_is_the_sum(p, n_tok);
            for (int n_tok : {8, 9, 33})
                for (int more = 0; more < 4; more++)
                    if (!tiny || more % 3 == 0) ends_round_once(p, n_tok, more & 1, more & 2);
            if (!tiny && (s[0] <= 1000 || !small)) bits_do_not_depend_on_the_batch(p, {1, 2, 8, 9, 17, 33});
            broken_rows_stay_alone(p);
            if (s[0] % 16 == 0)
                for (int n_tok : rows) gated_is_product_then_swiglu(p, n_tok);
        }
    const int large[][3] = {{8, 16, 300},      {136, 144, 300},   {1000, 576, 600},
                            {6144, 576, 1500}, {4096, 4096, 300}, {2048, 12288, 300}};
    for (auto &s : large)
        for (int block = 0; block < 2; block++) {
            if (small && (s[1] > 576 || s[0] > 1000 || (tiny && s[0] > 136))) continue;
            problem p(s[0], s[1], block, gemm_fp8_sm90, "large", s[2]);
            for (int n_tok : {1, 64, 127, 128, 129, 256, 257, s[2]}) product_is_the_sum(p, n_tok);
            for (int more = 0; more < 4; more++) ends_round_once(p, s[2] - 7, more & 1, more & 2);
            if (!tiny) bits_do_not_depend_on_the_batch(p, {1, 33, 64, 130, 290});
            broken_rows_stay_alone(p);
        }
    chains_and_library(small);
    printf("worst error of a sum over the size of its terms: %.2e\n", worst_error);
    gemm_lt_close(lt);
    return report("gpu_fp8");
}
