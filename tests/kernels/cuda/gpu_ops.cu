/* The small operations on the GPU against the CPU's, over shapes, edges and both types of
 * activations. usage: gpu_ops [small | race [bf16|f32|sample]]   (small: what compute-sanitizer can chew;
 * race: what its racecheck can) */
#include "kernels/cuda/gpu_ops.h"
#include "kernels/philox.h"
#include "tests/kernels/cuda/gpu_test.cuh"

extern "C" {
#include "kernels/cpu/cpu.h"
}
#include <cuda_bf16.h>
#include <math.h>
#include <string.h>
#include <algorithm>
#include <random>
#include <vector>

typedef __nv_bfloat16 bf16;
static bool small;
static std::mt19937 rng(1);
static struct op_ctx host = {1, DT_F32, NULL};

/* --- numbers of either type, on both sides */

template <typename T> static T from_f32(float x) { return (T)x; }
template <> bf16 from_f32<bf16>(float x) { return __float2bfloat16(x); }
static float f32(float x) { return x; }
static float f32(bf16 x) { return __bfloat162float(x); }
template <typename T> static enum dtype type_of() { return sizeof(T) == 4 ? DT_F32 : DT_BF16; }
template <typename T> static const char *name_of() { return sizeof(T) == 4 ? "f32" : "bf16"; }

/* A device array with GUARD poisoned elements behind it. */
enum { GUARD = 64 };
template <typename T> struct array {
    size_t n;
    T *p;
    explicit array(size_t n_) : n(n_)
    {
        CUDA(cudaMalloc(&p, (n + GUARD) * sizeof(T)));
        CUDA(cudaMemset(p, 0xff, (n + GUARD) * sizeof(T))); /* NaN */
    }
    explicit array(const std::vector<T> &v) : array(v.size()) { put(v); }
    array(const array &) = delete;
    ~array() { cudaFree(p); }
    void put(const std::vector<T> &v)
    {
        CUDA(cudaMemcpy(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice));
    }
    std::vector<T> get() const
    {
        std::vector<T> v(n + GUARD);
        CUDA(cudaDeviceSynchronize());
        CUDA(cudaMemcpy(v.data(), p, (n + GUARD) * sizeof(T), cudaMemcpyDeviceToHost));
        for (size_t i = n * sizeof(T); i < v.size() * sizeof(T); i++)
            if (((unsigned char *)v.data())[i] != 0xff) {
                check(false, "nothing_is_written_behind_an_array", "guard touched");
                break;
            }
        v.resize(n);
        return v;
    }
};
template <typename T> static std::vector<float> floats(const std::vector<T> &v)
{
    std::vector<float> f(v.size());
    for (size_t i = 0; i < v.size(); i++) f[i] = f32(v[i]);
    return f;
}
template <typename T> static std::vector<T> random_of(size_t n, float spread, float mean = 0)
{
    std::uniform_real_distribution<float> u(mean - spread, mean + spread);
    std::vector<T> v(n);
    for (auto &x : v) x = from_f32<T>(u(rng));
    return v;
}

/* One rounding of the type apart, and what fp32 sums in another order differ by. NaN in ref: not written,
 * must still be NaN. */
template <typename T>
static void expect_near(const std::vector<T> &got, const std::vector<float> &ref, const char *law,
                        const char *detail)
{
    const double eps = sizeof(T) == 4 ? 4e-6 : 1.0 / 256;
    double worst = 0;
    size_t bad = 0;
    for (size_t i = 0; i < ref.size(); i++) {
        if (isnan(ref[i])) {
            bad += !isnan(f32(got[i]));
            continue;
        }
        double d = fabs((double)f32(got[i]) - (double)ref[i]), most = eps * fabs((double)ref[i]) + 4e-6;
        worst = fmax(worst, d);
        bad += !(d <= most);
    }
    char text[256];
    snprintf(text, sizeof text, "%s %s: %zu of %zu off, worst %.3e", name_of<T>(), detail, bad, ref.size(),
             worst);
    check(bad == 0 && got.size() == ref.size(), law, text);
}
template <typename T> static bool same_bits(const T *a, const T *b, size_t n)
{
    return !memcmp(a, b, n * sizeof(T));
}

template <typename T, typename KV = T> static gpu_ctx context()
{
    return {0, 132, type_of<T>(), type_of<KV>()};
}
static void launched(enum err e)
{
    if (e != OK) {
        printf("launch failed (%d): %s\n", e, cudaGetErrorString(cudaGetLastError()));
        exit(2);
    }
}
static char *fmt(const char *f, int a, int b, int c, int d)
{
    static char text[160];
    snprintf(text, sizeof text, f, a, b, c, d);
    return text;
}

/* --- ops */

template <typename T, typename W> static void embed_and_gather_move_rows(int n_tok, int d)
{
    const int n = 50;
    std::vector<W> table = random_of<W>((size_t)(n * d), 2);
    std::vector<int32_t> id((size_t)n_tok), row((size_t)n_tok);
    for (int t = 0; t < n_tok; t++) {
        id[(size_t)t] = t % 17 == 5 ? (t % 2 ? n : -3) : (int)(rng() % n);
        row[(size_t)t] = t % 5 == 3 ? -1 : (int)(rng() % n);
    }
    array<W> w(table);
    array<T> out((size_t)(n_tok * d)), moved((size_t)(n_tok * d)), x(random_of<T>((size_t)(n * (d + 8)), 2));
    array<int32_t> id_g(id), row_g(row);
    weight wt = {type_of<W>(), n, d, w.p, NULL};
    embed_args a = {out.p, &wt, id_g.p, n_tok, d};
    gather_args b = {moved.p, x.p, row_g.p, d + 8, n_tok, d};
    gpu_ctx g = context<T>();
    launched(embed_gpu(&a, &g));
    launched(gather_gpu(&b, &g));
    std::vector<T> xs = x.get(), m = moved.get();
    std::vector<float> ref((size_t)(n_tok * d));
    bool same = true;
    for (int t = 0; t < n_tok; t++)
        for (int i = 0; i < d; i++) {
            int v = id[(size_t)t], r = row[(size_t)t];
            ref[(size_t)(t * d + i)] =
                v < 0 || v >= n ? 0 : f32(from_f32<T>(f32(table[(size_t)(v * d + i)])));
            same &= r < 0 ? isnan(f32(m[(size_t)(t * d + i)]))
                          : same_bits(&m[(size_t)(t * d + i)], &xs[(size_t)(r * (d + 8) + i)], 1);
        }
    check(floats(out.get()) == ref, "embed_equals_the_table", fmt("T=%d D=%d", n_tok, d, 0, 0));
    check(same, "gather_moves_rows", fmt("T=%d D=%d", n_tok, d, 0, 0));
}

template <typename T> static void rmsnorm_equals_reference(int n_tok, int d, bool res, bool x)
{
    const int64_t stride = d + 16, rs = d + 8;
    std::vector<T> xv = random_of<T>((size_t)(n_tok * stride), 3), rv = random_of<T>((size_t)(n_tok * rs), 3),
                   wv = random_of<T>((size_t)d, 1, 1);
    std::vector<float> y((size_t)(n_tok * d)), out(y.size()), sum = floats(rv), wf = floats(wv);
    for (int t = 0; t < n_tok; t++)
        for (int i = 0; i < d; i++) {
            float *r = &sum[(size_t)(t * rs + i)], add = f32(xv[(size_t)(t * stride + i)]);
            if (res && x) *r = f32(from_f32<T>(*r + add));
            y[(size_t)(t * d + i)] = res ? *r : add;
        }
    rmsnorm_args ra = {out.data(), NULL, y.data(), wf.data(), d, 0, n_tok, d, 1e-6f};
    rmsnorm_cpu(&host, &ra);
    array<T> xg(xv), rg(rv), wg(wv), og(y.size());
    rmsnorm_args a = {og.p, res ? rg.p : NULL, x ? xg.p : NULL, wg.p, stride, rs, n_tok, d, 1e-6f};
    gpu_ctx g = context<T>();
    launched(rmsnorm_gpu(&a, &g));
    std::vector<T> all = og.get();
    expect_near(all, out, "rmsnorm_equals_reference", fmt("T=%d D=%d res=%d x=%d", n_tok, d, res, x));
    if (res) check(floats(rg.get()) == sum, "rmsnorm_adds_into_res", fmt("T=%d D=%d", n_tok, d, 0, 0));
    rg.put(rv);
    a = {og.p,
         res ? rg.p + (n_tok - 1) * rs : NULL,
         x ? xg.p + (n_tok - 1) * stride : NULL,
         wg.p,
         stride,
         rs,
         1,
         d,
         1e-6f};
    launched(rmsnorm_gpu(&a, &g));
    check(same_bits(og.get().data(), &all[(size_t)((n_tok - 1) * d)], (size_t)d), "rmsnorm_row_is_its_own",
          fmt("T=%d D=%d", n_tok, d, 0, 0));
}

template <typename T> static void swiglu_equals_reference(int n_tok, int f)
{
    std::vector<T> gu = random_of<T>((size_t)(n_tok * (2 * f + 8)), 6);
    gu[0] = from_f32<T>(-300), gu[1] = from_f32<T>(-90), gu[2] = from_f32<T>(300);
    std::vector<float> in = floats(gu), ref((size_t)(n_tok * f));
    swiglu_args ra = {ref.data(), in.data(), 2 * f + 8, f, n_tok, f};
    swiglu_cpu(&host, &ra);
    array<T> gg(gu), og(ref.size());
    swiglu_args a = {og.p, gg.p, 2 * f + 8, f, n_tok, f};
    gpu_ctx g = context<T>();
    launched(swiglu_gpu(&a, &g));
    expect_near(og.get(), ref, "swiglu_equals_reference", fmt("T=%d F=%d", n_tok, f, 0, 0));
}

template <typename T, typename KV>
static void qkrope_equals_reference(int n_tok, int H, int G, int K, bool norm, bool raw)
{
    const int stride = (H + 2 * G) * K + 8, n_page = n_tok / PAGE_TOK + 3;
    std::vector<T> qkv = random_of<T>((size_t)(n_tok * stride), 2), qn = random_of<T>((size_t)K, 1, 1),
                   kn = random_of<T>((size_t)K, 1, 1);
    std::vector<float> rope((size_t)((n_tok + 300) * K)), in = floats(qkv), qnf = floats(qn),
                                                          knf = floats(kn);
    std::vector<int32_t> pos((size_t)n_tok), page((size_t)n_tok), order((size_t)n_page);
    for (int i = 0; i < n_page; i++) order[(size_t)i] = i;
    std::shuffle(order.begin(), order.end(), rng);
    for (size_t i = 0; i + 1 < rope.size(); i += 2) {
        rope[i] = cosf((float)i);
        rope[i + 1] = sinf((float)i);
    }
    for (int t = 0; t < n_tok; t++) { /* pages in any order; some tokens are not written */
        pos[(size_t)t] = t + 100;
        page[(size_t)t] = t % 7 == 3 ? -1 : order[(size_t)((t + 100) / PAGE_TOK)];
    }
    std::vector<float> q((size_t)(n_tok * H * K)), q_raw(q),
        pool((size_t)(n_page * G * 2 * PAGE_TOK * K), NAN);
    op_ctx c = {1, DT_F32, NULL};
    qkrope_args ra = {in.data(),
                      stride,
                      q.data(),
                      raw ? q_raw.data() : NULL,
                      pool.data(),
                      page.data(),
                      pos.data(),
                      rope.data(),
                      norm ? qnf.data() : NULL,
                      norm ? knf.data() : NULL,
                      1e-6f,
                      n_tok,
                      H,
                      G,
                      K};
    qkrope_cpu(&c, &ra);
    array<T> qkv_g(qkv), q_g(q.size()), raw_g(q.size()), qn_g(qn), kn_g(kn);
    array<KV> pool_g(pool.size());
    array<int32_t> page_g(page), pos_g(pos);
    array<float> rope_g(rope);
    qkrope_args a = {qkv_g.p,
                     stride,
                     q_g.p,
                     raw ? raw_g.p : NULL,
                     pool_g.p,
                     page_g.p,
                     pos_g.p,
                     rope_g.p,
                     norm ? qn_g.p : NULL,
                     norm ? kn_g.p : NULL,
                     1e-6f,
                     n_tok,
                     H,
                     G,
                     K};
    gpu_ctx g = context<T, KV>();
    launched(qkrope_gpu(&a, &g));
    const char *what = fmt("T=%d H=%d G=%d K=%d", n_tok, H, G, K);
    std::vector<T> got = q_g.get();
    expect_near(got, q, "qkrope_rotates_q", what);
    expect_near(pool_g.get(), pool, "qkrope_writes_its_pages_alone", what);
    if (raw) expect_near(raw_g.get(), q_raw, "qkrope_keeps_q_before_rope", what);
    a.qkv = qkv_g.p + (n_tok - 1) * stride, a.pool = NULL, a.pos = pos_g.p + n_tok - 1, a.n_tok = 1,
    a.page = NULL;
    launched(qkrope_gpu(&a, &g));
    check(same_bits(q_g.get().data(), &got[(size_t)((n_tok - 1) * H * K)], (size_t)(H * K)),
          "qkrope_row_is_its_own", what);
}

/* --- router */

struct host_router {
    std::vector<float> m[5], b[5];
    struct router_weights w;
    host_router(int K, int n_out)
    {
        const int n[5] = {8 * K, 2 * K, 4 * K, K, n_out}, k[5] = {K, 8 * K, 2 * K, 4 * K, K};
        for (int i = 0; i < 5; i++) {
            m[i] = random_of<float>((size_t)(n[i] * k[i]), 1.7f / sqrtf((float)k[i]));
            b[i] = random_of<float>((size_t)n[i], 0.2f);
            w.w[i] = m[i].data();
            w.b[i] = b[i].data();
        }
        w.n_out = n_out;
    }
};

template <typename T>
static void router_equals_reference(int H, int K, int P, int n_out, std::vector<int> len)
{
    host_router h(K, n_out);
    const int n = (int)len.size();
    int n_row = 0;
    std::vector<router_gpu_prompt> prompt((size_t)n);
    for (int i = 0; i < n; i++) {
        prompt[(size_t)i] = {n_row, len[(size_t)i], n - i, i == 1 ? 0.5f : 0.0f};
        n_row += len[(size_t)i];
    }
    const int64_t stride = H * K + 8;
    std::vector<T> q = random_of<T>((size_t)(n_row * stride), 2, 0.3f);
    std::vector<float> qf = floats(q), margin((size_t)(n + 1), NAN);
    array<T> q_g(q);
    array<router_gpu_prompt> prompt_g(prompt);
    array<float> margin_g((size_t)(n + 1)), alone_g((size_t)(n + 1));
    std::vector<attn_seg> seg((size_t)(n + 1));
    for (auto &s : seg) s.kind = -1;
    array<attn_seg> seg_g(seg);
    array<float> sum_g((size_t)(n * K));
    std::vector<array<float> *> held;
    router_gpu_args a = {q_g.p,      stride,    prompt_g.p,   n, P, H, K, h.w, seg_g.p, false,
                         margin_g.p, ATTN_FULL, ATTN_TRIANGLE};
    for (int i = 0; i < 5; i++) {
        held.push_back(new array<float>(h.m[i]));
        a.w.w[i] = held.back()->p;
        held.push_back(new array<float>(h.b[i]));
        a.w.b[i] = held.back()->p;
    }
    gpu_ctx g = context<T>();
    launched(router_gpu(&a, &g));
    std::vector<float> unkept = margin_g.get();
    seg_g.put(seg);
    a.head_sum = sum_g.p;
    launched(router_gpu(&a, &g));
    std::vector<float> got = margin_g.get(), kept = sum_g.get();
    std::vector<attn_seg> kinds = seg_g.get();
    for (int i = 0; i < n; i++) {
        std::vector<float> sum((size_t)K);
        int rows = len[(size_t)i], p = P < rows ? P : rows, run = prompt[(size_t)i].run;
        if (rows == 0) {
            check(isnan(got[(size_t)run]) && kinds[(size_t)run].kind == -1, "router_skips_empty_prompts",
                  "written");
            continue;
        }
        pool_args first = {sum.data(), &qf[(size_t)(prompt[(size_t)i].row0 * stride)], stride, p, H, K},
                  last = first;
        last.q = (const float *)first.q + (rows - p) * stride;
        check(!memcmp(&unkept[(size_t)run], &got[(size_t)run], 4), "router_decides_alike_where_sums_are_kept",
              "bits differ");
        std::vector<float> exact((size_t)K);
        for (int k = 0; k < K; k++) {
            double d = 0;
            for (int r = 0; r < p * H; r++)
                d += (double)qf[(size_t)((prompt[(size_t)i].row0 + r / H) * stride + r % H * K + k)];
            exact[(size_t)k] = (float)d;
        }
        expect_near(std::vector<float>(kept.begin() + i * K, kept.begin() + (i + 1) * K), exact,
                    "router_keeps_the_sum_of_the_first_rows", "kept sum");
        pool_cpu(&host, &first);
        pool_cpu(&host, &last);
        float ref;
        router_args ra = {sum.data(), (float)(2 * p) * (float)H, &h.w, K, prompt[(size_t)i].bias, &ref};
        router_cpu(&host, &ra);
        char text[160];
        snprintf(text, sizeof text, "%s H=%d K=%d P=%d n=%d: %.6f, reference %.6f", name_of<T>(), H, K, P,
                 rows, got[(size_t)run], ref);
        check(fabsf(got[(size_t)run] - ref) < 1e-4f, "router_equals_reference", text);
        check(kinds[(size_t)run].kind == (got[(size_t)run] > 0 ? ATTN_FULL : ATTN_TRIANGLE),
              "router_writes_the_kind", text);
        a.prompt = prompt_g.p + i, a.n_prompt = 1, a.margin = alone_g.p, a.head_sum = NULL;
        launched(router_gpu(&a, &g));
        check(same_bits(&alone_g.get()[(size_t)run], &got[(size_t)run], 1), "router_decides_a_prompt_alone",
              text);
    }
    /* Those that have P rows or more go on behind rows that are not there, once with as many of them left as
     * may be, once with P; the others begin. */
    for (int all = 0; all < 2; all++) {
        std::vector<router_gpu_prompt> behind = prompt;
        std::vector<T> rest = q;
        for (int i = 0; i < n; i++) {
            router_gpu_prompt &r = behind[(size_t)i];
            const int gone = all ? r.n_row - P : std::min(P, r.n_row - P);
            if (gone <= 0) continue;
            std::fill_n(rest.begin() + r.row0 * stride, gone * stride, from_f32<T>(NAN));
            r.row0 += gone, r.n_row -= gone, r.resumed = 1;
        }
        array<T> rest_g(rest);
        array<router_gpu_prompt> behind_g(behind);
        array<float> again_g((size_t)(n + 1));
        a.q_raw = rest_g.p, a.prompt = behind_g.p, a.n_prompt = n, a.margin = again_g.p, a.head_sum = sum_g.p;
        launched(router_gpu(&a, &g));
        check(same_bits(again_g.get().data(), got.data(), (size_t)(n + 1)),
              "router_decides_alike_behind_kept_sums",
              fmt("H=%d K=%d P=%d T of %d bytes", H, K, P, (int)sizeof(T)));
        check(same_bits(sum_g.get().data(), kept.data(), (size_t)(n * K)), "router_reads_kept_sums",
              fmt("H=%d K=%d P=%d T of %d bytes", H, K, P, (int)sizeof(T)));
    }
    for (auto *p : held) delete p;
}

/* --- sample */

struct setting {
    float temperature, top_p, min_p;
    int32_t top_k, n_top;
    float presence, frequency, repetition;
    int n_bias, n_ban, n_allow, force;
    bool masked; /* every third token may come */
};
static const setting settings[] = {
    {0, 1, 0, 0, 5, 0, 0, 1, 0, 0, 0, -1},
    {0, 1, 0, 0, 20, 0.5f, 0.3f, 1.2f, 9, 5, 0, -1},
    {1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, -1},
    {1, 0.9f, 0, 0, 1, 0, 0, 1, 0, 0, 0, -1},
    {0.7f, 0.95f, 0, 40, 0, 0, 0, 1, 0, 0, 0, -1},
    {1.3f, 1, 0.05f, 0, 0, 0, 0, 1, 0, 0, 0, -1},
    {5, 0.5f, 0, 0, 0, 0, 0, 1, 0, 0, 0, -1},
    {3, 0.8f, 0.01f, 20000, 0, 0, 0, 1, 0, 0, 0, -1},
    {1, 1e-4f, 0, 0, 0, 0, 0, 1, 0, 0, 0, -1},
    {1, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, -1},
    {1, 0.9f, 0, 0, 3, 0.4f, 0.2f, 1.3f, 20, 20, 0, -1},
    {1, 0.9f, 0, 0, 3, 0, 0, 1, 3, 2, 30, -1},
    {0, 1, 0, 0, 2, 0, 0, 1, 0, 0, 7, -1},
    {0.8f, 1, 0, 0, 4, 0, 0, 1, 0, 0, 0, 11},
    {0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, -1},
    {0, 1, 0, 0, 3, 0, 0, 1, 0, 0, 0, -1, true},
    {1, 0.9f, 0, 0, 3, 0.4f, 0.2f, 1.3f, 20, 20, 0, -1, true},
    {0.7f, 0.95f, 0, 40, 0, 0, 0, 1, 0, 0, 0, -1, true},
};
enum { N_SETTING = sizeof settings / sizeof settings[0] };
enum shape { SHARP, BROAD, TIES, ONE_NAN, ONE_INF, ALL_MINUS_INF, SOME_MINUS_INF, N_SHAPE };

static std::vector<float> logits_of(enum shape s, int V)
{
    std::normal_distribution<float> n(0, s == SHARP ? 3.0f : 1.0f);
    std::vector<float> l((size_t)V);
    for (auto &x : l) x = s == TIES ? floorf(2 * n(rng)) : n(rng);
    if (s == SHARP) l[(size_t)(V / 3)] = 16, l[(size_t)(V / 2)] = 15;
    if (s == TIES) l[(size_t)(V - 1)] = l[5] = 12;
    if (s == ONE_NAN || s == ONE_INF) l[(size_t)(V - 2)] = s == ONE_NAN ? NAN : INFINITY;
    for (int i = 0; i < V && (s == ALL_MINUS_INF || s == SOME_MINUS_INF); i++)
        if (s == ALL_MINUS_INF || i % 50) l[(size_t)i] = -INFINITY;
    return l;
}

/* What a sort and sums in double draw from the weights p: the reference adds thousands of weights in fp32,
 * which in rows of 150 thousand can move the end of a set by a token. */
static int32_t drawn_by_sorting(const sample_row &r, const std::vector<float> &p)
{
    std::vector<int32_t> id;
    for (int32_t i = 0; i < (int32_t)p.size(); i++)
        if (p[(size_t)i] > 0 && p[(size_t)i] >= r.min_p) id.push_back(i);
    std::stable_sort(id.begin(), id.end(), [&](int32_t a, int32_t b) { return p[(size_t)a] > p[(size_t)b]; });
    if (r.top_k > 0 && (size_t)r.top_k < id.size()) id.resize((size_t)r.top_k);
    double total = 0, sum = 0, at = 0;
    for (int32_t i : id) total += (double)p[(size_t)i];
    size_t n = 0;
    while (n < id.size() && (r.top_p >= 1 || sum < (double)r.top_p * total))
        sum += (double)p[(size_t)id[n++]];
    id.resize(n);
    std::sort(id.begin(), id.end());
    const double u = philox_uniform(r.seed, (uint64_t)r.pos) * sum;
    for (int32_t i : id)
        if ((at += (double)p[(size_t)i]) > u) return i;
    return id.back();
}
static double exact_log_sum_exp(const std::vector<float> &l)
{
    double max = -INFINITY, sum = 0;
    for (float x : l) max = fmax(max, (double)x);
    for (float x : l) sum += exp((double)x - max);
    return max + log(sum);
}

static bool near_logprob(float got, float logit, double lse)
{
    return logit == -INFINITY ? got == -INFINITY : fabs((double)got - ((double)logit - lse)) <= 1e-5;
}

/* want: the token to expect. */
static void same_out(const sample_out &a, const sample_out &b, int32_t want, const std::vector<float> &l,
                     double lse, const char *what)
{
    char text[256];
    snprintf(text, sizeof text, "%s: id %d bad %d logprob %.6f, expected %d, reference %d %d %.6f", what,
             a.id, a.bad, a.logprob, want, b.id, b.bad, b.logprob);
    check(a.id == want && a.bad == b.bad && a.none == b.none && a.n_top == b.n_top,
          "sample_draws_the_reference's_token", text);
    if (!isfinite(lse)) return;
    bool near = near_logprob(a.logprob, l[(size_t)a.id], lse);
    for (int i = 0; i < b.n_top; i++)
        near &= a.top_id[i] == b.top_id[i] && near_logprob(a.top_logprob[i], l[(size_t)a.top_id[i]], lse);
    check(near, "sample_tells_logprobs_of_raw_logits", text);
}

static void sample_equals_reference(int V, enum shape shape, int draws)
{
    const int n = N_SETTING * draws;
    std::vector<float> l = logits_of(shape, V), all, value;
    std::vector<int32_t> ids;
    std::vector<sample_row> row((size_t)n);
    std::vector<sample_gpu_row> gpu((size_t)n + 1);
    ids.reserve((size_t)n * (400 + (size_t)V / 32)), value.reserve((size_t)n * 40);
    auto list = [&](int count, const int32_t **host, int64_t *off) {
        *off = (int64_t)ids.size();
        *host = ids.data() + ids.size();
        for (int i = 0; i < count; i++)
            ids.push_back((int32_t)(i % 9 == 8 ? ids.back()
                                               : (int)(rng() % (unsigned)(i % 2    ? V
                                                                          : 20 < V ? 20
                                                                                   : V)))); /* some twice */
    };
    for (int i = 0; i < n; i++) {
        const setting &s = settings[i % N_SETTING];
        sample_gpu_row &d = gpu[(size_t)i];
        sample_row &r = row[(size_t)i];
        r = {s.temperature,      s.top_p, s.min_p, s.top_k, s.presence, s.frequency, s.repetition,
             (uint64_t)i * 7919, i,       s.n_top};
        bool penalty = s.repetition != 1;
        r.n_hist = penalty ? 200 : 0, r.n_prompt = penalty ? 120 : 0, r.n_bias = s.n_bias, r.n_ban = s.n_ban,
        r.n_allow = s.n_allow;
        r.force_id = s.force;
        d = {1,
             r.pos,
             r.top_k,
             r.n_top,
             r.force_id,
             r.temperature,
             r.top_p,
             r.min_p,
             r.presence,
             r.frequency,
             r.repetition,
             r.n_hist,
             r.n_prompt,
             r.n_bias,
             r.n_ban,
             r.n_allow,
             s.masked ? (V + 31) / 32 : 0,
             r.seed,
             0,
             0,
             0,
             0,
             0,
             0};
        list(r.n_hist, &r.hist, &d.hist);
        list(r.n_bias, &r.bias_id, &d.bias_id);
        d.bias_value = (int64_t)value.size();
        r.bias_value = value.data() + value.size();
        for (int j = 0; j < r.n_bias; j++) value.push_back((float)(int)(rng() % 8) - 3.5f);
        list(r.n_ban, &r.ban_id, &d.ban_id);
        list(r.n_allow, &r.allow_id, &d.allow_id);
        d.mask = (int64_t)ids.size();
        r.mask = s.masked ? (const uint32_t *)(ids.data() + ids.size()) : NULL;
        for (int j = 0; j < d.n_mask; j++) ids.push_back((int32_t)(0x49249249u << j % 3));
        all.insert(all.end(), l.begin(), l.end());
    }
    all.insert(all.end(), l.begin(), l.end());
    gpu[(size_t)n].on = 0;
    std::vector<float> work((size_t)(2 * V));
    std::vector<sample_out> ref((size_t)n);
    std::vector<int32_t> want((size_t)n);
    int n_apart = 0;
    for (int i = 0; i < n; i++) {
        sample_args ra = {l.data(), V, &row[(size_t)i], &ref[(size_t)i], work.data(), 1, V};
        sample_cpu(&host, &ra);
        want[(size_t)i] = ref[(size_t)i].id;
        sample_row &r = row[(size_t)i];
        if (ref[(size_t)i].bad || r.force_id >= 0 || r.temperature == 0) continue;
        sample_row whole = r;
        sample_out none;
        whole.top_p = 1, whole.top_k = 0, whole.min_p = 0;
        ra.row = &whole, ra.out = &none;
        sample_cpu(&host, &ra); /* leaves the weights in work */
        want[(size_t)i] = drawn_by_sorting(r, std::vector<float>(work.begin(), work.begin() + V));
        n_apart += want[(size_t)i] != ref[(size_t)i].id;
    }
    if (n_apart)
        printf(
            "V=%d shape=%d: the reference's fp32 sums sample another token than exact sums in %d of %d rows\n",
            V, shape, n_apart, n);
    check(n_apart == 0 || V > 5000, "reference_draws_by_exact_sums",
          fmt("V=%d shape=%d: %d of %d apart", V, shape, n_apart, n));
    if (ids.empty()) ids.push_back(0);
    if (value.empty()) value.push_back(0);
    array<float> l_g(all), work_g((size_t)(n + 1) * 2 * (size_t)V), value_g(value);
    array<int32_t> ids_g(ids);
    array<sample_gpu_row> row_g(gpu);
    array<sample_out> out_g((size_t)n + 1);
    sample_gpu_args a = {l_g.p, V, row_g.p, ids_g.p, value_g.p, out_g.p, work_g.p, n + 1, V};
    gpu_ctx g = context<float>();
    launched(sample_gpu(&a, &g));
    std::vector<sample_out> got = out_g.get();
    const double lse =
        shape == ONE_NAN || shape == ONE_INF || shape == ALL_MINUS_INF ? NAN : exact_log_sum_exp(l);
    for (int i = 0; i < n; i++)
        same_out(got[(size_t)i], ref[(size_t)i], want[(size_t)i], l, lse,
                 fmt("V=%d shape=%d setting=%d draw=%d", V, shape, i % N_SETTING, i / N_SETTING));
    check(got[(size_t)n].id == -1, "sample_skips_padding_slots", "written");
    a.logits = l_g.p + (int64_t)(n - 1) * V, a.row = row_g.p + n - 1, a.n_row = 1, a.out = out_g.p;
    launched(sample_gpu(&a, &g));
    sample_out one = out_g.get()[0];
    check(one.id == got[(size_t)(n - 1)].id && same_bits(&one.logprob, &got[(size_t)(n - 1)].logprob, 1),
          "sample_row_is_its_own", "bits differ");
}

template <typename T> static void fewest_of_type()
{
    embed_and_gather_move_rows<T, bf16>(7, 576);
    rmsnorm_equals_reference<T>(7, 576, true, true);
    rmsnorm_equals_reference<T>(2, 4096, false, true);
    swiglu_equals_reference<T>(7, 576);
    qkrope_equals_reference<T, T>(7, 9, 3, 64, true, true);
    qkrope_equals_reference<T, T>(7, 4, 1, 128, true, true);
    router_equals_reference<T>(2, 16, 3, 1, {5, 6, 7});
    router_equals_reference<T>(3, 64, 20, 2, {1, 7, 50});
}

template <typename T> static void all_of_type()
{
    for (int n_tok : {1, 7, 127, 128, 129, small ? 130 : 4097})
        for (int d : {8, 576, 4096})
            if (!small || n_tok * d < 200000) {
                embed_and_gather_move_rows<T, bf16>(n_tok, d);
                embed_and_gather_move_rows<T, float>(n_tok, d);
                rmsnorm_equals_reference<T>(n_tok, d, false, true);
                rmsnorm_equals_reference<T>(n_tok, d, true, true);
                rmsnorm_equals_reference<T>(n_tok, d, true, false);
                swiglu_equals_reference<T>(n_tok, d);
            }
    for (int d : {2048, 2056, 8192, 16384}) rmsnorm_equals_reference<T>(3, d, true, true);
    const int head[][3] = {{9, 3, 64}, {4, 1, 128}, {2, 2, 16}, {8, 1, 256}, {3, 1, 40}, {5, 5, 96}};
    for (auto &h : head)
        for (int n_tok : {1, 7, 129, small ? 130 : 1300}) {
            qkrope_equals_reference<T, T>(n_tok, h[0], h[1], h[2], true, true);
            qkrope_equals_reference<T, T>(n_tok, h[0], h[1], h[2], false, false);
        }
    for (int K : {64, 128})
        for (int H = 1; H <= 8 && !small; H++)
            for (int n_tok : {1, 127, 128, 129, 4097})
                qkrope_equals_reference<T, T>(n_tok, H, 1, K, H % 2, n_tok % 2);
    qkrope_equals_reference<T, bf16>(128, 4, 2, 64, true, true);
    if (!small) qkrope_equals_reference<T, T>(4097, 32, 8, 128, true, true);
    router_equals_reference<T>(9, 64, 100, 2, {1, 7, 0, 99, 150, 200, 700});
    router_equals_reference<T>(32, 128, 100, 2, {128, 129, small ? 130 : 4097});
    for (int K : {64, 128})
        for (int H = 1; H <= 8 && !small; H++)
            router_equals_reference<T>(H, K, 100, H % 2 ? 2 : 1, {1, 127, 128, 129, 4097});
    router_equals_reference<T>(2, 16, 3, 1, {5, 6, 7});
    router_equals_reference<T>(3, 96, 150, 2, {300});
    router_equals_reference<T>(4, 256, 10, 1, {25});
}

int main(int argc, char **argv)
{
    const bool race = argc > 1 && !strcmp(argv[1], "race");
    small = race || (argc > 1 && !strcmp(argv[1], "small"));
    auto wanted = [&](const char *part) { return argc < 3 || !strcmp(argv[2], part); };
    if (wanted("bf16")) race ? fewest_of_type<bf16>() : all_of_type<bf16>();
    if (wanted("f32")) race ? fewest_of_type<float>() : all_of_type<float>();
    for (int s = 0; s < N_SHAPE && wanted("sample"); s++) {
        sample_equals_reference(100, (enum shape)s, 1);
        sample_equals_reference(5000, (enum shape)s, small ? 1 : 8);
        if (!small) sample_equals_reference(151936, (enum shape)s, s < 2 ? 8 : 1);
    }
    return report("gpu_ops");
}
