/* Attention on the GPU against its definition, over lengths, groups, kinds and cuts; unwritten page tails
 * hold NaN. usage: gpu_attn [small | race] [sm90 | mma | f32]   (small: what compute-sanitizer can chew;
 * race: what its racecheck can) */
#include "kernels/cuda/attn_gpu.h"
#include "tests/kernels/cuda/gpu_attn_ref.h"
#include "tests/kernels/cuda/gpu_test.cuh"

#include <string.h>
#include <algorithm>
#include <random>
#include <vector>

typedef __nv_bfloat16 bf16;
enum { POISON = 0x7fc1 }; /* a NaN no kernel writes by chance */

static enum attn_use use; /* the kernels at hand; BEST: those of fp32 */

/* One number of N(0, 1) from a key, the same on both sides. */
__host__ __device__ static float draw(uint32_t a, uint32_t b)
{
    uint64_t x = ((uint64_t)a << 32 | b) * 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    x ^= x >> 31;
    float u = ((uint32_t)x + 0.5f) * 2.3283064e-10f, v = (uint32_t)(x >> 32) * 2.3283064e-10f;
    return sqrtf(-2 * logf(u)) * cosf(6.2831853f * v);
}
__global__ static void fill_u16(uint16_t *p, int64_t n, uint16_t v)
{
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x)
        p[i] = v;
}
__global__ static void fill_rows(bf16 *p, int64_t n, uint32_t seed)
{
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x)
        p[i] = __float2bfloat16(draw(seed, (uint32_t)i));
}
__global__ static void widen(float *to, const bf16 *p, int64_t n)
{
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x)
        to[i] = __bfloat162float(p[i]);
}
/* K and V of positions below len; grid (len, kv heads). */
__global__ static void fill_kv(bf16 *pool, const int32_t *page, int n_kv, int head, uint32_t seed)
{
    int j = blockIdx.x, g = blockIdx.y;
    int64_t at = (((int64_t)page[j / 128] * n_kv + g) * 2 * PAGE_TOK + j % 128) * head;
    for (int d = threadIdx.x; d < 2 * head; d += blockDim.x)
        pool[at + (d < head ? d : (PAGE_TOK - 1) * head + d)] =
            __float2bfloat16(draw(seed * 64 + g, (uint32_t)(j * 2 * head + d)));
}

struct run {
    int kind, len, pos0, n_row; /* n_row rows from pos0; keys 0..len-1 are written */
    int sink, local;
    uint32_t seed;
    int list_share; /* percent of blocks kept; < 0: lists are empty */
};

/* Everything one launch needs. Pages lie shuffled; those that no row sees are marked as freed. */
struct world {
    int H, G, K, n_row, n_page;
    int64_t stride;
    std::vector<attn_seg> seg;
    attn_seg *seg_d;
    bf16 *pool, *q, *out;
    float *ref;
    void *work;
    int max_row;
    std::vector<void *> mem;

    void *alloc(size_t n)
    {
        void *p;
        CUDA(cudaMalloc(&p, n ? n : 16));
        mem.push_back(p);
        return p;
    }
    template <typename T> T *upload(const std::vector<T> &v)
    {
        T *p = (T *)alloc(v.size() * sizeof(T));
        CUDA(cudaMemcpy(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice));
        return p;
    }
    world(int H_, int G_, int K_, const std::vector<run> &runs, bool gaps = true)
        : H(H_), G(G_), K(K_), n_row(0), n_page(0)
    {
        stride = (int64_t)H * K + 16;
        for (const run &r : runs) n_page += (r.len + 127) / 128;
        std::vector<int32_t> order((size_t)n_page);
        for (int i = 0; i < n_page; i++) order[(size_t)i] = i;
        std::shuffle(order.begin(), order.end(), std::mt19937(7));
        size_t pool_n = (size_t)n_page * (size_t)G * 2 * PAGE_TOK * (size_t)K;
        pool = (bf16 *)alloc(pool_n * 2);
        fill_u16<<<512, 256>>>((uint16_t *)pool, (int64_t)pool_n, POISON);
        int next = 0;
        for (const run &r : runs) {
            attn_seg s = {};
            s.row0 = n_row;
            s.n_row = r.n_row;
            s.pos0 = r.pos0;
            s.kind = r.kind;
            s.sink_blocks = r.sink;
            s.local_blocks = r.local;
            s.dense_from = r.len - std::min(128, r.len - 1);
            n_row += r.n_row + (gaps ? 3 : 0);
            int nb = (r.len + 127) / 128;
            std::vector<int32_t> page(order.begin() + next, order.begin() + next + nb);
            next += nb;
            int32_t *page_d = upload(page);
            fill_kv<<<dim3((unsigned)r.len, (unsigned)G), 128>>>(pool, page_d, G, K, r.seed);
            CUDA(cudaDeviceSynchronize());
            if (r.kind == ATTN_LIST) make_list(s, r.list_share, r.seed);
            if (r.kind == ATTN_SPLIT) { /* whole kv heads: every third, from one that changes */
                std::vector<uint8_t> full((size_t)H);
                for (int h = 0; h < H; h++) full[(size_t)h] = (h / (H / G) + r.seed) % 3 == 0;
                s.full_head = upload(full);
            }
            if (r.kind == ATTN_STREAMING)
                for (int b = r.sink; b <= r.pos0 / 128 - r.local; b++) page[(size_t)b] = -1;
            CUDA(cudaMemcpy(page_d, page.data(), page.size() * 4, cudaMemcpyHostToDevice));
            s.page = page_d;
            seg.push_back(s);
        }
        seg_d = upload(seg);
        q = (bf16 *)alloc((size_t)n_row * (size_t)stride * 2);
        out = (bf16 *)alloc((size_t)n_row * (size_t)stride * 2);
        ref = (float *)alloc((size_t)n_row * (size_t)H * (size_t)K * 4);
        CUDA(cudaMemset(ref, 0, (size_t)n_row * (size_t)H * (size_t)K * 4));
        fill_u16<<<256, 256>>>((uint16_t *)q, n_row * stride, POISON);
        for (size_t i = 0; i < runs.size(); i++)
            fill_rows<<<256, 256>>>(q + seg[i].row0 * stride, runs[i].n_row * stride,
                                    runs[i].seed + 1000003u);
        max_row = (int)seg.size();
        size_t n_work = attn_gpu_work_bytes(max_row, H, G, K);
        work = alloc(n_work);
        CUDA(cudaMemset(work, 0, n_work));
        CUDA(cudaDeviceSynchronize());
    }
    ~world()
    {
        for (void *p : mem) cudaFree(p);
    }
    void make_list(attn_seg &s, int share, uint32_t seed)
    {
        std::mt19937 rng(seed);
        int first = s.pos0 / 128, last = (s.pos0 + s.n_row - 1) / 128;
        std::vector<int32_t> off, list;
        for (int h = 0; h < H; h++) {
            for (int i = first; i <= last; i++) {
                off.push_back((int32_t)list.size());
                for (int b = 0; b <= i; b++) /* now and then without the diagonal block */
                    if (share >= 0 && ((b == i && rng() % 4) || (int)(rng() % 100) < share))
                        list.push_back(b);
            }
            off.push_back((int32_t)list.size());
        }
        s.list_off = upload(off);
        s.list = upload(list);
        if (seed % 2 == 0) return;
        int n_q = last - first + 1, words = last / 64 + 1; /* the same as bits, which come first */
        std::vector<uint64_t> keep((size_t)(H * n_q * words), 0);
        for (int h = 0; h < H; h++)
            for (int i = 0; i < n_q; i++)
                for (int x = off[(size_t)(h * (n_q + 1) + i)]; x < off[(size_t)(h * (n_q + 1) + i + 1)]; x++)
                    keep[(size_t)((h * n_q + i) * words + list[(size_t)x] / 64)] |= 1ull
                                                                                    << list[(size_t)x] % 64;
        s.keep = upload(keep);
        s.keep_block_stride = words;
        s.keep_head_stride = (int64_t)n_q * words;
    }
    attn_args args(bool decode) const
    {
        attn_args a = {};
        a.out = out;
        a.q = q;
        a.out_stride = a.q_stride = stride;
        a.pool = pool;
        a.seg = seg_d;
        a.n_seg = (int)seg.size();
        a.n_head = H;
        a.n_kv = G;
        a.head = K;
        a.scale = 1.0f / sqrtf((float)K);
        a.decode = decode;
        return a;
    }
    attn_gpu gpu() const
    {
        cudaDeviceProp prop;
        CUDA(cudaGetDeviceProperties(&prop, 0));
        attn_gpu g = {};
        g.n_sm = prop.multiProcessorCount;
        g.n_row = n_row;
        g.n_page = n_page;
        g.work = work;
        g.max_row = max_row;
        g.act = use == ATTN_USE_BEST ? DT_F32 : DT_BF16;
        g.use = use;
        return g;
    }
    void start(attn_args a, bool decode)
    {
        attn_gpu g = gpu();
        enum err e = decode ? attn_decode_gpu(&a, &g) : attn_prefill_gpu(&a, &g);
        if (e != OK) {
            printf("launch: error %d, %s\n", (int)e, cudaGetErrorString(cudaGetLastError()));
            exit(2);
        }
        CUDA(cudaDeviceSynchronize());
    }
    /* Bits of out: uint16_t of bf16, or uint32_t of the same problem in fp32. */
    template <typename T> std::vector<T> launch(bool decode)
    {
        attn_args a = args(decode);
        int64_t n = n_row * stride;
        std::vector<T> v((size_t)n);
        if (sizeof(T) == 2) {
            fill_u16<<<256, 256>>>((uint16_t *)out, n, POISON);
            start(a, decode);
            CUDA(cudaMemcpy(v.data(), out, v.size() * 2, cudaMemcpyDeviceToHost));
            return v;
        }
        int64_t pool_n = (int64_t)n_page * G * 2 * PAGE_TOK * K;
        float *wide;
        CUDA(cudaMalloc(&wide, (size_t)(pool_n + 2 * n) * 4));
        widen<<<1024, 256>>>(wide, pool, pool_n);
        widen<<<1024, 256>>>(wide + pool_n, q, n);
        fill_u16<<<256, 256>>>((uint16_t *)(wide + pool_n + n), 2 * n, POISON);
        a.pool = wide;
        a.q = wide + pool_n;
        a.out = wide + pool_n + n;
        start(a, decode);
        CUDA(cudaMemcpy(v.data(), a.out, v.size() * 4, cudaMemcpyDeviceToHost));
        CUDA(cudaFree(wide));
        return v;
    }
    std::vector<float> reference()
    {
        for (size_t i = 0; i < seg.size(); i++) {
            const int n_key = seg[i].pos0 + seg[i].n_row;
            const bool few = n_key <= REF_MAX_KEYS;
            float *score = few ? NULL : (float *)alloc((size_t)seg[i].n_row * (size_t)H * (size_t)n_key * 4);
            if (seg[i].n_row > 0)
                ref_attn<<<dim3((unsigned)seg[i].n_row, (unsigned)H), 128, few ? (size_t)n_key * 4 : 0>>>(
                    args(false), (int)i, ref, score, n_key);
        }
        CUDA(cudaDeviceSynchronize());
        std::vector<float> v((size_t)n_row * (size_t)H * (size_t)K);
        CUDA(cudaMemcpy(v.data(), ref, v.size() * 4, cudaMemcpyDeviceToHost));
        return v;
    }
};

static float to_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static float to_float(uint16_t x) { return to_float((uint32_t)x << 16); }
static uint16_t poison(uint16_t) { return POISON; }
static uint32_t poison(uint32_t) { return (uint32_t)POISON << 16 | POISON; }

/* Every run's rows near the reference, every other element untouched. */
template <typename T>
static void compare_as(world &w, const char *law, bool decode, double rel_most, double bound)
{
    static const char *kinds[] = {"full", "streaming", "triangle", "list", "none", "split"};
    std::vector<T> got = w.launch<T>(decode);
    std::vector<float> ref = w.reference();
    std::vector<char> owned((size_t)w.n_row, 0);
    char text[256];
    for (const attn_seg &s : w.seg) {
        double num = 0, den = 0, worst = 0;
        for (int r = s.row0; r < s.row0 + s.n_row; r++) {
            owned[(size_t)r] = 1;
            for (int c = 0; c < w.H * w.K; c++) {
                double g = to_float(got[(size_t)(r * w.stride + c)]),
                       f = ref[(size_t)r * (size_t)(w.H * w.K) + (size_t)c];
                num += (g - f) * (g - f);
                den += f * f;
                double err = fabs(g - f) / (bound + bound * fabs(f));
                worst = err > worst || err != err ? err : worst;
            }
        }
        double rel = den > 0 ? sqrt(num / den) : sqrt(num);
        snprintf(
            text, sizeof text,
            "H=%d G=%d K=%d %s pos0=%d rows=%d sink=%d local=%d: relative error %.2e, worst %.2f of bound",
            w.H, w.G, w.K, kinds[s.kind], s.pos0, s.n_row, s.sink_blocks, s.local_blocks, rel, worst);
        check(rel < rel_most && worst < 1, law, text);
    }
    int touched = 0;
    for (int r = 0; r < w.n_row; r++)
        for (int c = 0; c < (int)w.stride; c++)
            if (!owned[(size_t)r] || c >= w.H * w.K)
                touched += got[(size_t)(r * w.stride + c)] != poison(T());
    snprintf(text, sizeof text, "H=%d G=%d K=%d: %d elements outside the rows were written", w.H, w.G, w.K,
             touched);
    check(touched == 0, law, text);
}

static void compare(world &w, const char *law, bool decode)
{
    if (use == ATTN_USE_BEST)
        compare_as<uint32_t>(w, law, decode, 3e-6, 1e-5); /* sums in another order, exp2 */
    else
        compare_as<uint16_t>(w, law, decode, 4e-3, 0.02);
}

/* The oracle itself, on the CPU in double. */
static void oracle_is_right()
{
    world w(4, 2, 64, {{ATTN_STREAMING, 700, 0, 700, 1, 2, 5, 0}, {ATTN_FULL, 150, 0, 150, 0, 1, 6, 0}});
    std::vector<float> ref = w.reference();
    size_t pool_n = (size_t)w.n_page * (size_t)w.G * 2 * PAGE_TOK * (size_t)w.K;
    std::vector<uint16_t> pool(pool_n), q((size_t)(w.n_row * w.stride));
    CUDA(cudaMemcpy(pool.data(), w.pool, pool_n * 2, cudaMemcpyDeviceToHost));
    CUDA(cudaMemcpy(q.data(), w.q, q.size() * 2, cudaMemcpyDeviceToHost));
    attn_args a = w.args(false);
    double worst = 0;
    for (attn_seg s : w.seg) {
        std::vector<int32_t> page((size_t)(s.pos0 + s.n_row + 127) / 128);
        CUDA(cudaMemcpy(page.data(), s.page, page.size() * 4, cudaMemcpyDeviceToHost));
        s.page = page.data();
        for (int r = 0; r < s.n_row; r += 37)
            for (int h = 0; h < w.H; h++) {
                std::vector<double> acc((size_t)w.K, 0);
                double l = 0;
                for (int j = 0; j <= s.pos0 + r; j++) {
                    if (!ref_sees(s, s.pos0 + r, j, h)) continue;
                    int64_t at = ref_key(a, s, j, h / (w.H / w.G));
                    double x = 0;
                    for (int d = 0; d < w.K; d++)
                        x += (double)to_float(q[(size_t)((s.row0 + r) * w.stride + h * w.K + d)]) *
                             to_float(pool[(size_t)(at + d)]);
                    x = exp(x * a.scale);
                    l += x;
                    for (int d = 0; d < w.K; d++)
                        acc[(size_t)d] += x * to_float(pool[(size_t)(at + PAGE_TOK * w.K + d)]);
                }
                for (int d = 0; d < w.K; d++)
                    worst = std::max(
                        worst,
                        fabs(
                            acc[(size_t)d] / l -
                            ref[((size_t)(s.row0 + r) * (size_t)w.H + (size_t)h) * (size_t)w.K + (size_t)d]));
            }
    }
    char text[64];
    snprintf(text, sizeof text, "largest difference %.2e", worst);
    check(worst < 1e-5, "oracle_is_right", text);
}

static std::vector<run> prefill_runs(const std::vector<int> &lens)
{
    std::vector<run> v;
    uint32_t seed = 1;
    for (int n : lens) {
        v.push_back({ATTN_FULL, n, 0, n, 0, 1, seed++, 0});
        v.push_back({ATTN_STREAMING, n, 0, n, 1, 2, seed++, 0});
        v.push_back({ATTN_STREAMING, n, 0, n, 0, 1, seed++, 0});
        v.push_back({ATTN_STREAMING, n, 0, n, 1, 16, seed++, 0});
        v.push_back({ATTN_STREAMING, n, 0, n, 1, 40, seed++, 0}); /* all of any length here */
        v.push_back({ATTN_TRIANGLE, n, 0, n, 1, 3, seed++, 0});
        v.push_back({ATTN_LIST, n, 0, n, 0, 1, seed++, 30});
        v.push_back({ATTN_LIST, n, 0, n, 0, 1, seed++, -1});
        v.push_back({ATTN_NONE, n, 0, n, 0, 1, seed++, 0});
        v.push_back({ATTN_SPLIT, n, 0, n, 1, 2, seed++, 0});
        v.push_back({ATTN_SPLIT, n, n / 2, n - n / 2, 1, 1, seed++, 0});
        if (n > 128) { /* later pieces of a prompt, cut anywhere */
            v.push_back({ATTN_FULL, n, n - 100, 100, 0, 1, seed++, 0});
            v.push_back({ATTN_STREAMING, n, n / 2 + 3, n - n / 2 - 3, 2, 3, seed++, 0});
            v.push_back({ATTN_TRIANGLE, n, n / 3, n - n / 3, 1, 2, seed++, 0});
            v.push_back({ATTN_LIST, n, n / 3, n - n / 3, 0, 1, seed++, 40});
        }
    }
    return v;
}
static std::vector<run> decode_runs(const std::vector<int> &lens)
{
    std::vector<run> v;
    uint32_t seed = 1;
    for (int n : lens) {
        v.push_back({ATTN_FULL, n, n - 1, 1, 0, 1, seed++, 0});
        v.push_back({ATTN_STREAMING, n, n - 1, 1, 1, 2, seed++, 0});
        v.push_back({ATTN_STREAMING, n, n - 1, 1, 0, 1, seed++, 0});
        v.push_back({ATTN_FULL, n, n - 1, 0, 1, 16, seed++, 0}); /* a padding slot */
        v.push_back({ATTN_STREAMING, n, n - 1, 1, 1, 16, seed++, 0});
        v.push_back({ATTN_STREAMING, n, n - 1, 1, 1, 80, seed++, 0}); /* all of any length here */
        v.push_back({ATTN_TRIANGLE, n, n - 1, 1, 1, 3, seed++, 0});
        v.push_back({ATTN_NONE, n, n - 1, 1, 0, 1, seed++, 0});
        for (int i = 0; i < 3;
             i++) /* each with other kv heads full, one of them with none where there are few */
            v.push_back({ATTN_SPLIT, n, n - 1, 1, 1, 2, seed++, 0});
    }
    return v;
}

/* A prompt's rows have the same bits in one piece and in pieces, beside others and alone. */
template <typename T> static void prefill_bits_do_not_hang_on_the_cut(int H, int G, int K, int len)
{
    const int kinds[] = {ATTN_FULL, ATTN_STREAMING, ATTN_TRIANGLE, ATTN_LIST, ATTN_SPLIT};
    for (int kind : kinds) {
        world whole(H, G, K, {{kind, len, 0, len, 1, 2, 9, 40}});
        std::vector<T> a = whole.template launch<T>(false), again = whole.template launch<T>(false);
        check(a == again, "prefill_repeats_its_bits", "second launch differs");
        for (int piece : {100, 128, 333}) {
            std::vector<attn_seg> cut;
            attn_seg s = whole.seg[0];
            for (int p = 0; p < len; p += piece) {
                s.row0 = s.pos0 = p;
                s.n_row = std::min(piece, len - p);
                if (s.keep) s.keep = whole.seg[0].keep + p / 128 * s.keep_block_stride;
                cut.push_back(s);
            }
            std::vector<attn_seg> keep = whole.seg;
            attn_seg *keep_d = whole.seg_d;
            whole.seg = cut;
            whole.seg_d = whole.upload(cut);
            std::vector<T> b = whole.template launch<T>(false);
            char text[96];
            snprintf(text, sizeof text, "H=%d G=%d K=%d kind %d pieces of %d", H, G, K, kind, piece);
            check(a == b, "prefill_bits_do_not_hang_on_the_cut", text);
            whole.seg = keep;
            whole.seg_d = keep_d;
        }
    }
}

/* A decoding row has the same bits alone, in any batch, and again. */
template <typename T>
static void decode_bits_do_not_hang_on_the_batch(int H, int G, int K, const std::vector<run> &runs)
{
    world w(H, G, K, runs);
    std::vector<T> all = w.template launch<T>(true), again = w.template launch<T>(true);
    check(all == again, "decode_repeats_its_bits", "second launch differs");
    std::vector<attn_seg> keep = w.seg;
    for (size_t n : {(size_t)1, (size_t)2, (size_t)17}) {
        for (size_t i = 0; i < keep.size(); i += n) {
            w.seg.assign(keep.begin() + (long)i, keep.begin() + (long)std::min(i + n, keep.size()));
            std::reverse(w.seg.begin(), w.seg.end());
            w.seg_d = w.upload(w.seg);
            std::vector<T> part = w.template launch<T>(true);
            bool same = true;
            for (const attn_seg &s : w.seg)
                for (int64_t x = s.row0 * w.stride; x < (s.row0 + s.n_row) * w.stride; x++)
                    same &= part[(size_t)x] == all[(size_t)x];
            char text[96];
            snprintf(text, sizeof text, "H=%d G=%d K=%d rows from %zu, batch of %zu", H, G, K, i, n);
            check(same, "decode_bits_do_not_hang_on_the_batch", text);
        }
    }
}

/* Rows of so many blocks to decode, the last one not full; every other with some kv heads that see 17 blocks
 * alone. */
static std::vector<run> rows_of_blocks(const std::vector<int> &blocks)
{
    std::vector<run> v;
    uint32_t seed = 70;
    for (int n : blocks)
        v.push_back({n % 2 ? ATTN_FULL : ATTN_SPLIT, n * 128 - 7, n * 128 - 8, 1, 1, 16, seed++, 0});
    return v;
}

static void bad_shapes_are_refused()
{
    world w(4, 2, 64, {{ATTN_FULL, 10, 0, 10, 0, 1, 3, 0}});
    attn_args a = w.args(false);
    attn_gpu g = w.gpu();
    a.head = 96;
    check(attn_prefill_gpu(&a, &g) == ERR_INVALID_VALUE && attn_decode_gpu(&a, &g) == ERR_INVALID_VALUE,
          "bad_shapes_are_refused", "head 96");
    a = w.args(false);
    a.n_head = 3;
    check(attn_prefill_gpu(&a, &g) == ERR_INVALID_VALUE, "bad_shapes_are_refused", "3 heads on 2 kv heads");
    a = w.args(true);
    a.n_head = 32;
    check(attn_decode_gpu(&a, &g) == ERR_INVALID_VALUE, "bad_shapes_are_refused", "16 heads a kv head");
}

static void few()
{
    for (int K : {64, 128}) {
        world p(2, 1, K, prefill_runs({1, 129, 300}));
        compare(p, "prefill_equals_definition", false);
        world d(4, 1, K, decode_runs({1, 128, 700}));
        compare(d, "decode_equals_definition", true);
    }
}

static void fewest()
{
    for (int K : {64, 128}) {
        world p(2, 1, K,
                {{ATTN_FULL, 200, 0, 200, 0, 1, 1, 0},
                 {ATTN_STREAMING, 300, 130, 170, 1, 1, 2, 0},
                 {ATTN_LIST, 140, 0, 140, 0, 1, 3, 50},
                 {ATTN_SPLIT, 140, 0, 140, 0, 1, 4, 0}});
        compare(p, "prefill_equals_definition", false);
        world d(4, 2, K,
                {{ATTN_FULL, 1200, 1199, 1, 0, 1, 1, 0},
                 {ATTN_STREAMING, 300, 299, 1, 1, 1, 2, 0},
                 {ATTN_SPLIT, 700, 699, 1, 1, 1, 3, 0}});
        compare(d, "decode_equals_definition", true);
    }
}

static void all()
{
    const int shapes[][2] = {{1, 1}, {2, 1}, {3, 1}, {4, 1}, {5, 1}, {6, 1}, {7, 1}, {8, 1}, {4, 4}, {16, 4}};
    bad_shapes_are_refused();
    for (int K : {64, 128}) {
        for (auto &s : shapes) {
            world p(s[0], s[1], K, prefill_runs({1, 127, 128, 129, 1000}));
            compare(p, "prefill_equals_definition", false);
            world d(s[0], s[1], K, decode_runs({1, 127, 128, 129, 1000, 4097, 8192}));
            compare(d, "decode_equals_definition", true);
            world l(s[0], s[1], K, prefill_runs({4097}));
            compare(l, "prefill_equals_definition", false);
        }
        /* one piece and two; even pieces and such that are not; more than 40; the most there can be, and
         * longer ones */
        const std::vector<int> blocks = {7, 8, 9, 16, 17, 33, 64, 65, 321, 511, 512, 513, 600};
        world e(8, 2, K, rows_of_blocks(blocks));
        compare(e, "decode_equals_definition", true);
        world p(32, 8, K, prefill_runs({4097}));
        compare(p, "prefill_equals_definition", false);
        if (use == ATTN_USE_BEST) {
            prefill_bits_do_not_hang_on_the_cut<uint32_t>(8, 2, K, 1500);
            decode_bits_do_not_hang_on_the_batch<uint32_t>(32, 8, K,
                                                           decode_runs({1, 128, 129, 1000, 4097, 8192}));
            decode_bits_do_not_hang_on_the_batch<uint32_t>(8, 2, K, rows_of_blocks(blocks));
        } else {
            prefill_bits_do_not_hang_on_the_cut<uint16_t>(8, 2, K, 1500);
            decode_bits_do_not_hang_on_the_batch<uint16_t>(32, 8, K,
                                                           decode_runs({1, 128, 129, 1000, 4097, 8192}));
            decode_bits_do_not_hang_on_the_batch<uint16_t>(8, 2, K, rows_of_blocks(blocks));
        }
    }
}

/* Every kernel that this device can run: Hopper's, those of capability 8.0, those of fp32. */
int main(int argc, char **argv)
{
    cudaDeviceProp prop;
    CUDA(cudaGetDeviceProperties(&prop, 0));
    const struct {
        enum attn_use use;
        const char *name;
        bool runs;
    } kernels[] = {{ATTN_USE_SM90, "sm90", prop.major == 9 && prop.minor == 0},
                   {ATTN_USE_MMA, "mma", true},
                   {ATTN_USE_BEST, "f32", true}};
    const char *size = argc > 1 ? argv[1] : "";
    if (strcmp(size, "race")) oracle_is_right();
    for (auto &k : kernels) {
        if (!k.runs || (argc > 2 && strcmp(argv[2], k.name))) continue;
        int failed = n_fail, checked = n_check;
        use = k.use;
        !strcmp(size, "race") ? fewest() : !strcmp(size, "small") ? few() : all();
        printf("%s: %d checks, %d failed\n", k.name, n_check - checked, n_fail - failed);
    }
    return report("gpu_attn");
}
