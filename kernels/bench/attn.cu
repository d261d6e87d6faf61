/* Attention kernels, timed. Random data, shuffled pages, L2 flushed before every timed launch, median.
 * usage: bench_attn [prefill] [decode] [long] [routing] [choose] [mma]   (long: the 128k prefill rows too;
 * routing: layers against heads; choose: blocks chosen on the device, and attention over them) */
#include "kernels/cuda/attn_gpu.h"
#include "kernels/bench/bench.cuh"
#include "kernels/cuda/choose_gpu.h"

#include <cuda_bf16.h>
#include <math.h>
#include <string.h>
#include <random>

static enum attn_use use; /* mma: the kernels of devices without Hopper's */
static void *flush_d;
static const float UNIT = 1.7320508f; /* uniform numbers of variance 1 */

static void flush()
{
    read_all<<<1024, 256>>>((const uint4 *)flush_d, FLUSH_BYTES / 16, (uint32_t *)flush_d);
}

struct seq {
    int len, kind, sink, local;
    uint32_t full_kv = 0; /* ATTN_SPLIT: bit g: kv head g is full */
};

/* One launch's worth of sequences; decode: the last row of each, else all rows. */
struct setup {
    attn_args a;
    attn_gpu g;
    bool decode;
    double flop, bytes; /* products on visible pairs; K and V read, q and out */
    std::vector<void *> mem;

    void *alloc(size_t n)
    {
        void *p;
        CUDA(cudaMalloc(&p, n));
        mem.push_back(p);
        return p;
    }
    template <typename T> T *upload(const std::vector<T> &v)
    {
        T *p = (T *)alloc(v.size() * sizeof(T));
        CUDA(cudaMemcpy(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice));
        return p;
    }
    setup(const std::vector<seq> &seqs, bool decode_, int H, int G, int K)
        : decode(decode_), flop(0), bytes(0)
    {
        int n_page = 0, n_row = 0;
        for (const seq &s : seqs) n_page += (s.len + 127) / 128;
        std::vector<int32_t> order((size_t)n_page);
        for (int i = 0; i < n_page; i++) order[(size_t)i] = i;
        std::shuffle(order.begin(), order.end(), std::mt19937(7));
        std::vector<attn_seg> seg;
        int next = 0;
        for (const seq &s : seqs) {
            int nb = (s.len + 127) / 128;
            attn_seg x = {};
            x.row0 = n_row;
            x.n_row = decode ? 1 : s.len;
            x.pos0 = s.len - x.n_row;
            x.kind = s.kind;
            x.sink_blocks = s.sink;
            x.local_blocks = s.local;
            x.dense_from = s.len - 128;
            if (s.kind == ATTN_SPLIT) {
                std::vector<uint8_t> full((size_t)H);
                for (int h = 0; h < H; h++) full[(size_t)h] = s.full_kv >> (h / (H / G)) & 1;
                x.full_head = upload(full);
            }
            x.page = upload(std::vector<int32_t>(order.begin() + next, order.begin() + next + nb));
            next += nb;
            n_row += x.n_row;
            seg.push_back(x);
            for (int t = x.pos0; t < s.len; t++) {
                int i = t / 128;
                double keys = t + 1, few = i - s.local + 1 > s.sink
                                               ? s.sink * 128 + (s.local - 1) * 128 + t % 128 + 1
                                               : keys;
                double full_share = __builtin_popcount(s.full_kv) / (double)G;
                if (s.kind == ATTN_STREAMING || (s.kind == ATTN_TRIANGLE && t < x.dense_from)) keys = few;
                if (s.kind == ATTN_SPLIT) keys = full_share * keys + (1 - full_share) * few;
                flop += 4.0 * H * K * keys;
                bytes += 4.0 * H * K + (decode ? 4.0 * G * K * keys : 0);
            }
        }
        size_t pool_n = (size_t)n_page * (size_t)G * 2 * PAGE_TOK * (size_t)K,
               q_n = (size_t)n_row * (size_t)H * (size_t)K;
        a = {};
        void *pool = alloc(pool_n * 2), *q = alloc(q_n * 2);
        fill_random(pool, (int64_t)pool_n, 1, 0, UNIT);
        fill_random(q, (int64_t)q_n, 2, 0, UNIT);
        a.pool = pool;
        a.q = q;
        a.out = alloc(q_n * 2);
        a.q_stride = a.out_stride = (int64_t)H * K;
        a.seg = upload(seg);
        a.n_seg = (int)seg.size();
        a.n_head = H;
        a.n_kv = G;
        a.head = K;
        a.scale = 1.0f / sqrtf((float)K);
        a.decode = decode;
        cudaDeviceProp prop;
        CUDA(cudaGetDeviceProperties(&prop, 0));
        g = {};
        g.n_sm = prop.multiProcessorCount;
        g.n_row = n_row;
        g.n_page = n_page;
        g.max_row = (int)seg.size();
        g.act = DT_BF16;
        g.use = use;
        size_t n_work = attn_gpu_work_bytes(g.max_row, H, G, K);
        g.work = alloc(n_work);
        CUDA(cudaMemset(g.work, 0, n_work));
        CUDA(cudaDeviceSynchronize());
    }
    ~setup()
    {
        for (void *p : mem) cudaFree(p);
    }
    double ms(int repeats)
    {
        return median_ms(
            0, repeats,
            [&] {
                if ((decode ? attn_decode_gpu(&a, &g) : attn_prefill_gpu(&a, &g)) != OK) exit(3);
            },
            flush);
    }
};

static void row(const char *name, const std::vector<seq> &seqs, bool decode, int repeats, int K = 128)
{
    setup s(seqs, decode, 32, 8, K);
    double ms = s.ms(repeats), tf = s.flop / ms * 1e-9, tb = s.bytes / ms * 1e-9;
    fprintf(stderr, "%-34s %9.4f ms  %7.1f TFLOP/s  %6.3f TB/s\n", name, ms, tf, tb);
    printf("{\"bench\":\"attn\",\"name\":\"%s%s\",\"ms\":%.5f,\"%s\":%.4f,\"repeats\":%d}\n", name,
           use == ATTN_USE_MMA ? ", portable" : "", ms, decode ? "tbps" : "tflops", decode ? tb : tf,
           repeats);
    fflush(stdout);
}
static std::vector<seq> same(int n, int len, int kind)
{
    return std::vector<seq>((size_t)n, seq{len, kind, 1, 16});
}
static std::vector<seq> mixed(int n, int len, int every)
{
    std::vector<seq> v;
    for (int i = 0; i < n; i++) v.push_back({len, i % every ? ATTN_STREAMING : ATTN_FULL, 1, 16});
    return v;
}

/* Four layers of decode with a quarter of (request, layer, head) full: each request full in one layer of the
 * four, drawn at random; all requests in the same layer; and two random kv heads of eight full in every layer
 * for all requests. The sum over the layers. */
static void layers_against_heads(int n, int len)
{
    static const char *const by[3] = {"layers, random routes", "layers, one route", "heads"};
    std::mt19937 rng((uint32_t)n);
    std::vector<int> full_in;
    double ms[3] = {}, gb[3] = {}, most[3] = {};
    for (int i = 0; i < n; i++) full_in.push_back((int)(rng() % 4));
    for (int layer = 0; layer < 4; layer++) {
        uint32_t mask = 0;
        while (__builtin_popcount(mask) < 2) mask |= 1u << rng() % 8;
        for (int way = 0; way < 3; way++) {
            std::vector<seq> v;
            for (int i = 0; i < n; i++) {
                const bool full = layer == (way == 0 ? full_in[(size_t)i] : 0);
                v.push_back({len, way == 2 ? ATTN_SPLIT : full ? ATTN_FULL : ATTN_STREAMING, 1, 16, mask});
            }
            setup s(v, true, 32, 8, 128);
            double one = s.ms(51);
            ms[way] += one;
            gb[way] += s.bytes * 1e-9;
            most[way] = std::max(most[way], one);
        }
    }
    for (int way = 0; way < 3; way++) {
        fprintf(stderr,
                "decode B%d %dk, 75%% sparse by %-21s  four layers %8.4f ms, the longest %8.4f, %6.3f TB/s\n",
                n, len / 1024, by[way], ms[way], most[way], gb[way] / ms[way]);
        printf(
            "{\"bench\":\"routing\",\"batch\":%d,\"tokens\":%d,\"by\":\"%s\",\"ms\":%.5f,\"longest_ms\":%.5f,\"tbps\":%.4f}\n",
            n, len, by[way], ms[way], most[way], gb[way] / ms[way]);
    }
    fflush(stdout);
}

/* A prompt's choice of blocks by xattn's scores or FlexPrefill's, in pieces as the engine cuts it, and
 * attention over what was chosen. Random keys make even scores, so nine tenths of the blocks are kept:
 * attention's time says what a block costs, not what sparsity saves. */
static void choice(int len, int rule, float threshold)
{
    const int piece = 16384, H = 32, G = 8, K = 128, n_block = len / 128, words = (n_block + 63) / 64;
    setup s({{len, ATTN_FULL, 1, 16, 0}}, false, H, G, K);
    attn_seg seg;
    choose_args a = {};
    CUDA(cudaMemcpy(&seg, s.a.seg, sizeof seg, cudaMemcpyDeviceToHost));
    a.q_stride = s.a.q_stride;
    a.pool = s.a.pool;
    a.page = seg.page;
    a.n_prompt = len;
    a.n_head = H;
    a.n_kv = G;
    a.head = K;
    a.rule = rule;
    a.threshold = threshold;
    a.head_stride = words;
    a.block_stride = (int64_t)H * words;
    a.work_stride = choose_gpu_work(n_block, H);
    a.work = (float *)s.alloc((size_t)a.work_stride * 4);
    a.mean = (float *)s.alloc((size_t)G * (size_t)n_block * (size_t)K * 4);
    uint64_t *keep = (uint64_t *)s.alloc((size_t)n_block * (size_t)H * (size_t)words * 8);
    double ms = median_ms(
        0, 11,
        [&] {
            for (int at = 0; at < len; at += piece) {
                struct choose_gpu g = {0, DT_BF16, NULL, -1};
                a.pos0 = at;
                a.n_row = std::min(piece, len - at);
                a.q = (const __nv_bfloat16 *)s.a.q + at * a.q_stride;
                a.keep = keep + at / 128 * a.block_stride;
                if (choose_gpu(&a, &g) != OK) exit(3);
            }
        },
        flush);
    std::vector<uint64_t> got((size_t)n_block * (size_t)H * (size_t)words);
    CUDA(cudaMemcpy(got.data(), keep, got.size() * 8, cudaMemcpyDeviceToHost));
    double kept = 0, causal = 0.5 * n_block * (n_block + 1.0) * H;
    for (int b = 0; b < n_block; b++)
        for (int h = 0; h < H; h++)
            for (int w = 0; w <= b / 64; w++)
                kept += __builtin_popcountll(
                    got[((size_t)b * (size_t)H + (size_t)h) * (size_t)words + (size_t)w]);
    seg.kind = ATTN_LIST;
    seg.keep = keep;
    seg.keep_head_stride = a.head_stride;
    seg.keep_block_stride = a.block_stride;
    s.a.seg = s.upload(std::vector<attn_seg>(1, seg));
    double attn = s.ms(5);
    fprintf(
        stderr,
        "prefill %dk %s, threshold %.2f: choice %8.3f ms, attention over %4.1f%% of the blocks %8.3f ms\n",
        len / 1024, rule == CHOOSE_FLEX ? "flex" : "xattn", threshold, ms, 100 * kept / causal, attn);
    printf(
        "{\"bench\":\"choose\",\"tokens\":%d,\"rule\":%d,\"threshold\":%.2f,\"choice_ms\":%.4f,\"density\":%.4f,\"attention_ms\":%.4f}\n",
        len, rule, threshold, ms, kept / causal, attn);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    bool prefill = false, decode = false, extra = false, routing = false, choose = false;
    for (int i = 1; i < argc; i++) {
        prefill |= !strcmp(argv[i], "prefill");
        decode |= !strcmp(argv[i], "decode");
        extra |= !strcmp(argv[i], "long");
        routing |= !strcmp(argv[i], "routing");
        choose |= !strcmp(argv[i], "choose");
        if (!strcmp(argv[i], "mma")) use = ATTN_USE_MMA;
    }
    CUDA(cudaMalloc(&flush_d, FLUSH_BYTES));
    CUDA(cudaMemset(flush_d, 1, FLUSH_BYTES));
    if (prefill) {
        row("prefill full 4k", same(1, 4096, ATTN_FULL), false, 41);
        row("prefill full 8k", same(1, 8192, ATTN_FULL), false, 21);
        row("prefill full 32k", same(1, 32768, ATTN_FULL), false, 21);
        row("prefill streaming 8k", same(1, 8192, ATTN_STREAMING), false, 41);
        row("prefill streaming 32k", same(1, 32768, ATTN_STREAMING), false, 21);
        row("prefill streaming 128k", same(1, 131072, ATTN_STREAMING), false, 21);
    }
    if (prefill && extra) {
        row("prefill full 128k", same(1, 131072, ATTN_FULL), false, 5);
        row("prefill triangle 128k", same(1, 131072, ATTN_TRIANGLE), false, 11);
        row("prefill full 16 x 2k", same(16, 2048, ATTN_FULL), false, 21);
        row("prefill full 32k, K=64", same(1, 32768, ATTN_FULL), false, 11, 64);
    }
    if (decode) {
        row("decode B1 8k", same(1, 8192, ATTN_FULL), true, 101);
        row("decode B1 32k", same(1, 32768, ATTN_FULL), true, 101);
        row("decode B1 128k", same(1, 131072, ATTN_FULL), true, 51);
        row("decode B8 32k", same(8, 32768, ATTN_FULL), true, 51);
        row("decode B32 8k", same(32, 8192, ATTN_FULL), true, 51);
        row("decode B64 4k", same(64, 4096, ATTN_FULL), true, 51);
        row("decode B1, nothing to do", same(1, 128, ATTN_NONE), true, 101);
        row("decode B1 32k streaming", same(1, 32768, ATTN_STREAMING), true, 101);
        row("decode B32 8k streaming", same(32, 8192, ATTN_STREAMING), true, 51);
        row("decode B8 32k, 1 of 4 full", mixed(8, 32768, 4), true, 51);
        row("decode B32 16k, 1 of 4 full", mixed(32, 16384, 4), true, 51);
        row("decode B32 32k, 1 of 4 full", mixed(32, 32768, 4), true, 51);
        row("decode B256 1k", same(256, 1024, ATTN_FULL), true, 51);
        row("decode B8 32k, K=64", same(8, 32768, ATTN_FULL), true, 51, 64);
    }
    if (routing) {
        layers_against_heads(8, 32768);
        layers_against_heads(32, 32768);
    }
    if (choose)
        for (int len : {8192, 32768, 131072}) {
            choice(len, CHOOSE_XATTN, 0.9f);
            choice(len, CHOOSE_XATTN, 0.3f);
            choice(len, CHOOSE_FLEX, 0.95f);
        }
    return 0;
}
