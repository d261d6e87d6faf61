/* Pages of 8 bits on the GPU: written codes have the bits of the plain C however the rows come, widened pages
 * are what codes stand for, decode attention over them is attention over the widened pages, by its
 * definition. Unwritten page tails hold NaN. usage: gpu_kv_fp8 [small] (for the sanitizers) */
#include "kernels/cuda/kv_fp8_gpu.h"
#include "tests/kernels/cuda/gpu_attn_ref.h"
#include "tests/kernels/cuda/gpu_test.cuh"

#include <string.h>
#include <algorithm>
#include <map>
#include <random>
#include <vector>

typedef __nv_bfloat16 bf16;
enum { POISON = 0x7fc1 };
static int n_sm;

static float draw(uint64_t seed, uint64_t i) /* about N(0, 1) */
{
    float sum = 0;
    for (int k = 0; k < 4; k++) {
        uint64_t x = (seed << 40 ^ (i * 4 + (uint64_t)k)) * 0x9e3779b97f4a7c15ull;
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
        x = (x ^ x >> 27) * 0x94d049bb133111ebull;
        sum += (float)(int32_t)(x >> 32) * 0x1p-31f;
    }
    return sum * 0.87f;
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

struct run {
    int kind, len, n_row; /* the row at len - 1, or a padding slot */
    int sink, local;
};

struct world {
    int H, G, K, n_tok = 0, n_page = 0, n_row;
    int64_t stride, half; /* half: numbers of a page's K or V */
    std::vector<run> runs;
    std::vector<uint16_t> k, v; /* [token][G][K] */
    std::vector<int32_t> page, pos;
    std::vector<attn_seg> seg;
    std::vector<void *> mem;
    uint16_t *k_d, *v_d, *q, *out;
    int32_t *page_d, *pos_d, *all_d, *entry_d;     /* entries of halves, beside half numbers */
    std::map<const int32_t *, int32_t *> codes_of; /* a run's pages as entries of halves */
    kv_fp8_pool pool;
    bf16 *wide;
    void *work;

    void *alloc(size_t n)
    {
        void *p;
        CUDA(cudaMalloc(&p, n ? n : 16));
        mem.push_back(p);
        return p;
    }
    template <typename T> T *upload(const std::vector<T> &x)
    {
        T *p = (T *)alloc(x.size() * sizeof(T));
        CUDA(cudaMemcpy(p, x.data(), x.size() * sizeof(T), cudaMemcpyHostToDevice));
        return p;
    }
    template <typename T> std::vector<T> fetch(const void *p, size_t n)
    {
        std::vector<T> x(n);
        CUDA(cudaDeviceSynchronize());
        CUDA(cudaMemcpy(x.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost));
        return x;
    }
    ~world()
    {
        for (void *p : mem) cudaFree(p);
    }
    world(int H_, int G_, int K_, const std::vector<run> &r)
        : H(H_), G(G_), K(K_), n_row((int)r.size()), stride((int64_t)H_ * K_ + 16),
          half((int64_t)PAGE_TOK * K_), runs(r)
    {
        std::vector<int32_t> order, all;
        for (const run &x : runs) n_page += (x.len + 127) / 128;
        for (int i = 0; i < n_page; i++) order.push_back(i), all.push_back(i);
        std::shuffle(order.begin(), order.end(), std::mt19937(7));
        int next = 0;
        for (size_t i = 0; i < runs.size(); i++) {
            const int nb = (runs[i].len + 127) / 128;
            std::vector<int32_t> mine(order.begin() + next, order.begin() + next + nb);
            next += nb;
            for (int j = 0; j < runs[i].len; j++) {
                page.push_back(mine[(size_t)j / 128]);
                pos.push_back(j);
            }
            attn_seg s = {};
            s.row0 = (int)i, s.n_row = runs[i].n_row, s.pos0 = runs[i].len - 1, s.kind = runs[i].kind,
            s.sink_blocks = runs[i].sink, s.local_blocks = runs[i].local;
            s.page = upload(mine);
            for (int32_t &id : mine) id |= PAGE_CODES;
            codes_of[s.page] = upload(mine);
            if (s.kind == ATTN_SPLIT) {
                std::vector<uint8_t> full((size_t)H);
                for (int h = 0; h < H; h++) full[(size_t)h] = (h / (H / G) + (int)i) % 3 == 0;
                s.full_head = upload(full);
            }
            seg.push_back(s);
        }
        n_tok = (int)page.size();
        for (int64_t i = 0; i < (int64_t)n_tok * G * K;
             i++) { /* rows of many sizes, values more than keys; some of zeros */
            const int row = (int)(i / K);
            k.push_back(bf16_bits(row % 97 == 5 ? 0 : draw(1, (uint64_t)i) * ldexpf(1, row % 3 - 1)));
            v.push_back(bf16_bits(row % 89 == 5 ? 0 : draw(2, (uint64_t)i) * ldexpf(1, row * 7 % 9 - 4)));
        }
        for (int32_t &id : all) id |= PAGE_CODES;
        std::vector<int32_t> entry = page;
        for (int32_t &id : entry) id |= PAGE_CODES;
        entry_d = upload(entry);
        k_d = upload(k), v_d = upload(v), page_d = upload(page), pos_d = upload(pos), all_d = upload(all);
        pool.code = (uint8_t *)alloc((size_t)(n_page * G * 2) * (size_t)half);
        pool.exp = (int8_t *)alloc((size_t)(n_page * G * 2 * PAGE_TOK));
        wide = (bf16 *)alloc((size_t)(n_page * G * 2) * (size_t)half * 2);
        std::vector<uint16_t> qv((size_t)(n_row * stride), POISON);
        for (int t = 0; t < n_row; t++)
            for (int i = 0; i < H * K; i++)
                qv[(size_t)(t * stride + i)] =
                    bf16_bits(draw(3, (uint64_t)(t * H * K + i)) * ldexpf(1, i / K % 4));
        q = upload(qv);
        out = (uint16_t *)alloc((size_t)(n_row * stride) * 2);
        work = alloc(attn_gpu_work_bytes(n_row, H, G, K));
        CUDA(cudaMemset(work, 0, attn_gpu_work_bytes(n_row, H, G, K)));
        clear();
        write(0, n_tok);
        kv_fp8_widen_args w = {pool, all_d, wide, n_page, G, K};
        gpu_ctx ctx = {0, n_sm, DT_BF16, DT_BF16};
        if (kv_fp8_widen_sm90(&w, &ctx) != OK) exit(2);
        CUDA(cudaDeviceSynchronize());
    }
    void clear() /* NaN */
    {
        CUDA(cudaMemset(pool.code, 0xff, (size_t)(n_page * G * 2) * (size_t)half));
        CUDA(cudaMemset(pool.exp, 0x55, (size_t)(n_page * G * 2 * PAGE_TOK)));
    }
    void write(int t0, int n)
    {
        kv_fp8_write_args a = {pool,
                               k_d + (int64_t)t0 * G * K,
                               v_d + (int64_t)t0 * G * K,
                               (int64_t)G * K,
                               page_d + t0,
                               pos_d + t0,
                               n,
                               G,
                               K};
        gpu_ctx ctx = {0, n_sm, DT_BF16, DT_BF16};
        if (kv_fp8_write_sm90(&a, &ctx) != OK) {
            printf("write failed: %s\n", cudaGetErrorString(cudaGetLastError()));
            exit(2);
        }
    }
    std::vector<uint8_t> bytes()
    {
        auto code = fetch<uint8_t>(pool.code, (size_t)(n_page * G * 2) * (size_t)half),
             exp = fetch<uint8_t>(pool.exp, (size_t)(n_page * G * 2 * PAGE_TOK));
        code.insert(code.end(), exp.begin(), exp.end());
        return code;
    }
    attn_args args() const
    {
        attn_args a = {};
        a.out = out, a.q = q, a.out_stride = a.q_stride = stride, a.pool = wide;
        a.n_head = H, a.n_kv = G, a.head = K, a.scale = 1.0f / sqrtf((float)K), a.decode = true;
        return a;
    }
    /* Rows of these runs. */
    std::vector<uint16_t> launch(const std::vector<attn_seg> &s)
    {
        attn_args a = args();
        attn_gpu g = {};
        std::vector<attn_seg> mine = s;
        for (attn_seg &x : mine) x.page = codes_of[x.page], x.codes = 1;
        a.seg = upload(mine);
        a.n_seg = (int)s.size();
        g.n_sm = n_sm, g.n_row = n_row, g.n_page = n_page, g.work = work, g.max_row = n_row, g.act = DT_BF16;
        std::vector<uint16_t> poison((size_t)(n_row * stride), POISON);
        CUDA(cudaMemcpy(out, poison.data(), poison.size() * 2, cudaMemcpyHostToDevice));
        if (attn_decode_fp8_sm90(&a, &pool, &g) != OK) {
            printf("launch failed: %s\n", cudaGetErrorString(cudaGetLastError()));
            exit(2);
        }
        return fetch<uint16_t>(out, poison.size());
    }
    std::vector<float> reference()
    {
        float *ref = (float *)alloc((size_t)n_row * (size_t)(H * K) * 4);
        attn_args a = args();
        a.seg = upload(seg);
        a.n_seg = n_row;
        CUDA(cudaMemset(ref, 0, (size_t)n_row * (size_t)(H * K) * 4));
        for (int i = 0; i < n_row; i++) {
            const bool few = runs[(size_t)i].len <= REF_MAX_KEYS;
            float *score = few ? NULL : (float *)alloc((size_t)H * (size_t)runs[(size_t)i].len * 4);
            if (runs[(size_t)i].n_row)
                ref_attn<<<dim3(1, (unsigned)H), 128, few ? (size_t)runs[(size_t)i].len * 4 : 0>>>(
                    a, i, ref, score, runs[(size_t)i].len);
        }
        return fetch<float>(ref, (size_t)n_row * (size_t)(H * K));
    }
};

static void pages_hold_the_reference(world &w)
{
    auto got = w.bytes();
    std::vector<uint8_t> want(got.size()), code((size_t)w.K);
    std::vector<float> x((size_t)w.K);
    const size_t exps = (size_t)(w.n_page * w.G * 2) * (size_t)w.half;
    memset(want.data(), 0xff, exps);
    memset(want.data() + exps, 0x55, want.size() - exps);
    for (int t = 0; t < w.n_tok; t++)
        for (int g = 0; g < w.G; g++)
            for (int h = 0; h < 2; h++) {
                for (int i = 0; i < w.K; i++)
                    x[(size_t)i] = bf16_value((h ? w.v : w.k)[(size_t)((t * w.G + g) * w.K + i)]);
                const size_t at = (size_t)((w.page[(size_t)t] * w.G + g) * 2 + h) * PAGE_TOK +
                                  (size_t)w.pos[(size_t)t] % PAGE_TOK;
                kv_fp8_row_ref(want.data() + at * (size_t)w.K, (int8_t *)want.data() + exps + at, x.data(),
                               w.K);
            }
    check(got == want, "pages_hold_the_reference", "all at once");
    std::vector<uint16_t> wide = w.fetch<uint16_t>(w.wide, exps);
    int wrong = 0;
    for (int t = 0; t < w.n_tok; t++)
        for (int g = 0; g < 2 * w.G; g++) {
            const size_t at =
                (size_t)(w.page[(size_t)t] * w.G * 2 + g) * PAGE_TOK + (size_t)w.pos[(size_t)t] % PAGE_TOK;
            for (int i = 0; i < w.K; i++)
                wrong += bf16_value(wide[at * (size_t)w.K + (size_t)i]) !=
                         kv_fp8_value(want[at * (size_t)w.K + (size_t)i], (int8_t)want[exps + at]);
        }
    check(wrong == 0, "widened_pages_are_what_codes_stand_for", "");
    for (int piece : {1, 37, 128}) { /* from the end, so that pages fill from their ends too */
        if (piece == 1 && w.n_tok > 3000) continue;
        w.clear();
        for (int t = (w.n_tok - 1) / piece * piece; t >= 0; t -= piece)
            w.write(t, std::min(piece, w.n_tok - t));
        check(w.bytes() == want, "pages_do_not_depend_on_the_pieces", "");
    }
}

static void odd_rows_are_the_reference(int K)
{
    world w(4, 2, K, {{ATTN_FULL, 40, 1, 0, 1}});
    std::vector<uint16_t> k = w.k;
    for (int t = 0; t < 40; t++)
        for (int i = 0; i < 2 * K; i++)
            k[(size_t)(t * 2 * K + i)] =
                t < 8 && i == 3 * t ? (t % 2 ? 0x7f80 : 0xffc0)
                                    : bf16_bits(draw(4, (uint64_t)(t * 2 * K + i)) * ldexpf(1, t * 6 - 120));
    CUDA(cudaMemcpy(w.k_d, k.data(), k.size() * 2, cudaMemcpyHostToDevice));
    w.write(0, 40);
    auto got = w.bytes();
    std::vector<float> x((size_t)K);
    std::vector<uint8_t> code((size_t)K);
    int8_t exp;
    int wrong = 0;
    const size_t exps = (size_t)(w.n_page * w.G * 2) * (size_t)w.half;
    for (int t = 0; t < 40; t++)
        for (int g = 0; g < 2; g++) {
            for (int i = 0; i < K; i++) x[(size_t)i] = bf16_value(k[(size_t)((t * 2 + g) * K + i)]);
            kv_fp8_row_ref(code.data(), &exp, x.data(), K);
            const size_t at = (size_t)g * 2 * PAGE_TOK + (size_t)t;
            wrong += (int8_t)got[exps + at] != exp;
            for (int i = 0; i < K; i++) {
                const uint8_t c = got[at * (size_t)K + (size_t)i];
                wrong += c != code[(size_t)i] && ((c & 0x7f) != 0x7f || (code[(size_t)i] & 0x7f) != 0x7f);
            }
        }
    char text[48];
    snprintf(text, sizeof text, "K=%d: %d wrong", K, wrong);
    check(wrong == 0, "odd_rows_are_the_reference", text);
}

/* qkrope to pages of codes: queries have the bits that it gives beside bf16 pages, pages are the codes of
 * those. */
static void qkrope_writes_the_codes_of_its_bf16_pages(int H, int G, int K, bool norms, int n_tok)
{
    world w(H, G, K, {{ATTN_FULL, n_tok, 1, 0, 1}}); /* its pages are written anew */
    const int64_t width = (int64_t)(H + 2 * G) * K, halves = (int64_t)w.n_page * G * 2;
    std::vector<uint16_t> qkv, norm;
    std::vector<float> rope;
    for (int64_t i = 0; i < n_tok * width; i++)
        qkv.push_back(bf16_bits(draw(5, (uint64_t)i) * ldexpf(1, (int)(i / K) % 5)));
    for (int i = 0; i < 2 * K; i++) norm.push_back(bf16_bits(1 + draw(6, (uint64_t)i) / 4));
    for (int i = 0; i < n_tok * K / 2; i++) rope.push_back(cosf((float)i)), rope.push_back(sinf((float)i));
    uint16_t *qkv_d = w.upload(qkv), *norm_d = w.upload(norm),
             *q[2] = {(uint16_t *)w.alloc((size_t)(n_tok * H * K) * 2),
                      (uint16_t *)w.alloc((size_t)(n_tok * H * K) * 2)};
    qkrope_args a = {};
    a.qkv = qkv_d, a.qkv_stride = width, a.q = q[0], a.pool = w.wide, a.page = w.page_d, a.pos = w.pos_d,
    a.rope = w.upload(rope);
    a.q_norm = norms ? norm_d : NULL, a.k_norm = norms ? norm_d + K : NULL, a.eps = 1e-6f, a.n_tok = n_tok,
    a.n_head = H, a.n_kv = G, a.head = K;
    gpu_ctx ctx = {0, n_sm, DT_BF16, DT_BF16};
    w.clear();
    enum err e = qkrope_gpu(&a, &ctx);
    a.q = q[1];
    a.page = w.entry_d;
    if (e != OK || qkrope_fp8_gpu(&a, &w.pool, &ctx) != OK) exit(2);
    auto got = w.bytes();
    auto wide = w.fetch<uint16_t>(w.wide, (size_t)(halves * w.half));
    std::vector<uint8_t> code((size_t)K);
    std::vector<float> x((size_t)K);
    int wrong =
        w.fetch<uint16_t>(q[0], (size_t)(n_tok * H * K)) != w.fetch<uint16_t>(q[1], (size_t)(n_tok * H * K));
    for (int t = 0; t < n_tok; t++)
        for (int g = 0; g < 2 * G; g++) {
            const size_t at =
                ((size_t)w.page[(size_t)t] * (size_t)(2 * G) + (size_t)g) * PAGE_TOK + (size_t)t % PAGE_TOK;
            int8_t exp;
            for (int i = 0; i < K; i++) x[(size_t)i] = bf16_value(wide[at * (size_t)K + (size_t)i]);
            kv_fp8_row_ref(code.data(), &exp, x.data(), K);
            wrong += memcmp(code.data(), &got[at * (size_t)K], (size_t)K) != 0 ||
                     (int8_t)got[(size_t)(halves * w.half) + at] != exp;
        }
    char text[96];
    snprintf(text, sizeof text, "H=%d G=%d K=%d norms=%d T=%d: %d wrong", H, G, K, norms, n_tok, wrong);
    check(wrong == 0, "qkrope_writes_the_codes_of_its_bf16_pages", text);
}

static void decode_is_attention_over_the_values(world &w)
{
    auto got = w.launch(w.seg);
    auto ref = w.reference();
    const char *kinds[] = {"full", "streaming", "triangle", "list", "none", "split"};
    for (int i = 0; i < w.n_row; i++) {
        double num = 0, den = 0, worst = 0, size = 0;
        int touched = 0;
        for (int64_t c = 0; c < w.stride; c++) {
            const uint16_t u = got[(size_t)(i * w.stride + c)];
            if (!w.runs[(size_t)i].n_row || c >= w.H * w.K) {
                touched += u != POISON;
                continue;
            }
            const double f = ref[(size_t)(i * w.H * w.K + c)], g = bf16_value(u);
            num += (g - f) * (g - f);
            den += f * f;
            size = std::max(size, fabs(f));
            worst = fabs(g - f) > worst || g != g ? fabs(g - f) : worst;
        }
        const double rel = den > 0 ? sqrt(num / den) : sqrt(num);
        char text[200];
        snprintf(text, sizeof text,
                 "H=%d G=%d K=%d %s length %d: relative error %.2e, worst %.2e of %.2e, %d outside written",
                 w.H, w.G, w.K, kinds[w.runs[(size_t)i].kind], w.runs[(size_t)i].len, rel, worst, size,
                 touched);
        check(rel < 3e-3 && worst <= 0.01 * size + 1e-6 && touched == 0,
              "decode_is_attention_over_the_values", text);
    }
}

static void rows_stand_alone(world &w)
{
    auto all = w.launch(w.seg);
    check(all == w.launch(w.seg), "decode_repeats_its_bits", "second launch differs");
    bool same = true;
    for (int i = 0; i < w.n_row; i++) {
        auto one = w.launch({w.seg[(size_t)i]});
        same &= !memcmp(one.data() + i * w.stride, all.data() + i * w.stride, (size_t)(w.H * w.K) * 2);
    }
    std::vector<attn_seg> turned(w.seg.rbegin(), w.seg.rend());
    char text[48];
    snprintf(text, sizeof text, "H=%d G=%d K=%d", w.H, w.G, w.K);
    check(same && w.launch(turned) == all, "rows_stand_alone", text);
}

static std::vector<run> runs_of(const std::vector<int> &lens)
{
    std::vector<run> v;
    for (int n : lens) {
        v.push_back({ATTN_FULL, n, 1, 0, 1});
        v.push_back({ATTN_STREAMING, n, 1, 1, 2});
        v.push_back({ATTN_FULL, n, 0, 1, 16}); /* a padding slot */
        v.push_back({ATTN_STREAMING, n, 1, 0, 1});
        v.push_back({ATTN_NONE, n, 1, 0, 1});
        v.push_back({ATTN_SPLIT, n, 1, 1, 2});
    }
    return v;
}

int main(int argc, char **argv)
{
    const bool small = argc > 1 && !strcmp(argv[1], "small");
    cudaDeviceProp prop;
    CUDA(cudaGetDeviceProperties(&prop, 0));
    n_sm = prop.multiProcessorCount;
    const int shapes[][3] = {{32, 8, 128}, {8, 8, 128}, {16, 2, 128}, {12, 4, 64}, {9, 3, 64}, {8, 1, 64}};
    for (auto &s : shapes) {
        if (small && s[0] > 16) continue;
        world w(s[0], s[1], s[2],
                runs_of(small ? std::vector<int>{1, 130, 1300}
                              : std::vector<int>{1, 2, 31, 128, 129, 300, 1024, 1100, 5000}));
        pages_hold_the_reference(w);
        decode_is_attention_over_the_values(w);
        rows_stand_alone(w);
        odd_rows_are_the_reference(s[2]);
        for (int n_tok : {1, 130, small ? 130 : 1000})
            qkrope_writes_the_codes_of_its_bf16_pages(s[0], s[1], s[2], n_tok % 4 == 0, n_tok);
    }
    if (!small) {
        world w(32, 8, 128,
                {{ATTN_FULL, 70000, 1, 0, 1}, {ATTN_STREAMING, 9000, 1, 1, 16}, {ATTN_FULL, 20001, 1, 0, 1}});
        decode_is_attention_over_the_values(w);
        rows_stand_alone(w);
    }
    return report("gpu_kv_fp8");
}
