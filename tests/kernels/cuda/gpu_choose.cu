/* Choice of blocks on the GPU against the plain C reference (choose_ref), over lengths, groups, rules and
 * cuts; unwritten page tails hold NaN. Both work on the same bf16 numbers, so they differ by the order of
 * fp32 sums alone.
 *
 * A query block's choice is clear where neither the last block that is kept nor the sum that ends the keeping
 * is near a tie: scores beside the cut differ by more than SCORE of themselves, and the kept sum crosses the
 * threshold by more than SUM of all on both sides. Where it is clear the sets must be equal. Where it is not
 * they must reach the threshold less SUM, with blocks that are no worse than those left out. usage:
 * gpu_choose [small | race]   (small: what compute-sanitizer can chew; race: what its racecheck can) */
#include "kernels/cuda/choose_gpu.h"
#include "tests/kernels/cuda/gpu_test.cuh"

#include <cuda_bf16.h>
#include <math.h>
#include <string.h>
#include <algorithm>
#include <random>
#include <vector>

extern "C" {
#include "tests/kernels/choose_ref.h"
}

typedef __nv_bfloat16 bf16;
static const double SCORE = 2e-5, SUM = 5e-6; /* fp32 products of 16 K numbers, exponentials, sums */

static int n_clear, n_set;
static bool f32; /* the kernels at hand */

/* A prompt: q as it comes out of RoPE, pages shuffled. Queries and keys share directions here and there, so
 * that scores are uneven. */
struct prompt {
    int H, G, K, len, n_block, words;
    int64_t stride;
    std::vector<bf16> q, pool;
    std::vector<int32_t> page;
    std::vector<float> q_wide, pool_wide;
    std::vector<void *> mem;
    void *q_d, *pool_d;
    int32_t *page_d;

    prompt(int H_, int G_, int K_, int len_, float sharp, uint32_t seed) : H(H_), G(G_), K(K_), len(len_)
    {
        std::mt19937 rng(seed);
        std::normal_distribution<float> normal;
        const bf16 nan = __float2bfloat16(NAN);
        n_block = (len + PAGE_TOK - 1) / PAGE_TOK;
        words = (n_block + 63) / 64;
        stride = (int64_t)H * K + 16;
        page.resize((size_t)n_block);
        for (int i = 0; i < n_block; i++) page[(size_t)i] = i;
        std::shuffle(page.begin(), page.end(), rng);
        q.assign((size_t)(len * stride), nan);
        pool.assign((size_t)n_block * (size_t)G * 2 * PAGE_TOK * (size_t)K, nan);
        std::vector<float> topic(
            (size_t)(n_block * K)); /* keys of a block lean to its topic, queries to those of some blocks */
        for (float &x : topic) x = normal(rng) * sharp;
        for (int t = 0; t < len; t++) {
            const int liked = (int)(rng() % (uint32_t)(t / PAGE_TOK + 1));
            for (int g = 0; g < G; g++)
                for (int d = 0; d < K; d++)
                    pool[(size_t)((((int64_t)page[(size_t)(t / PAGE_TOK)] * G + g) * 2 * PAGE_TOK +
                                   t % PAGE_TOK) *
                                      K +
                                  d)] = __float2bfloat16(normal(rng) + topic[(size_t)(t / PAGE_TOK * K + d)]);
            for (int i = 0; i < H * K; i++)
                q[(size_t)(t * stride + i)] =
                    __float2bfloat16(normal(rng) + topic[(size_t)(liked * K + i % K)]);
        }
        for (bf16 x : q) q_wide.push_back(__bfloat162float(x));
        for (bf16 x : pool) pool_wide.push_back(__bfloat162float(x));
        q_d = f32 ? (void *)upload(q_wide) : (void *)upload(q);
        pool_d = f32 ? (void *)upload(pool_wide) : (void *)upload(pool);
        page_d = upload(page);
    }
    ~prompt()
    {
        for (void *p : mem) cudaFree(p);
    }
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
    choose_args args(int rule, int pos0, int n_row) const
    {
        choose_args a = {};
        a.q_stride = stride;
        a.pos0 = pos0;
        a.n_row = n_row;
        a.n_prompt = len;
        a.n_head = H;
        a.n_kv = G;
        a.head = K;
        a.rule = rule;
        a.threshold = rule == CHOOSE_FLEX ? 0.95f : 0.9f;
        a.head_stride = words;
        a.block_stride = (int64_t)H * words;
        return a;
    }
    /* Sets of all query blocks, made in pieces of `piece` blocks with room for `pairs` scores at once (0: as
     * the engine has). */
    std::vector<uint64_t> device(int rule, int piece, int pairs = 0, attn_seg *seg = NULL, int kind = -1)
    {
        const size_t n = (size_t)n_block * (size_t)H * (size_t)words;
        std::vector<uint64_t> keep(n, 0xabcdabcdabcdabcdull);
        uint64_t *keep_d = upload(keep);
        choose_args a = args(rule, 0, 0);
        const int64_t work = pairs ? (int64_t)pairs * 8 * H : choose_gpu_work(n_block, H);
        a.q_stride = stride;
        a.pool = pool_d;
        a.page = page_d;
        a.work = (float *)alloc((size_t)work * 4);
        a.work_stride = work;
        a.mean = (float *)alloc((size_t)(G * n_block * K) * 4);
        CUDA(cudaMemset(a.work, 0xff, (size_t)work * 4)); /* NaN */
        for (int b = 0; b < n_block; b += piece) {
            a.pos0 = b * PAGE_TOK;
            a.n_row = std::min(piece * PAGE_TOK, len - a.pos0);
            a.q = (const char *)q_d + a.pos0 * stride * (f32 ? 4 : 2);
            a.keep = keep_d + b * a.block_stride;
            struct choose_gpu g = {0, f32 ? DT_F32 : DT_BF16, seg, kind};
            enum err e = choose_gpu(&a, &g);
            if (e != OK) {
                printf("launch: error %d, %s\n", (int)e, cudaGetErrorString(cudaGetLastError()));
                exit(2);
            }
        }
        CUDA(cudaDeviceSynchronize());
        CUDA(cudaMemcpy(keep.data(), keep_d, n * 8, cudaMemcpyDeviceToHost));
        return keep;
    }
    /* One query block of one head by the reference: its set, and its scores in score. */
    std::vector<uint64_t> reference(int rule, int h, int b, std::vector<float> &score)
    {
        struct op_ctx c = {1, DT_F32, NULL};
        std::vector<uint64_t> keep((size_t)words, 0);
        std::vector<float> work((size_t)choose_work(n_block, K) + 2 * (size_t)K + 16);
        choose_args a = args(rule, b * PAGE_TOK, std::min((int)PAGE_TOK, len - b * PAGE_TOK));
        const int per_kv = H / G, g = h / per_kv;
        std::vector<int32_t> only(
            page.size()); /* one head: its kv head's pages as those of a pool with one */
        a.n_head = a.n_kv = 1;
        for (size_t i = 0; i < page.size(); i++) only[i] = page[i] * G + g;
        a.q = q_wide.data() + b * PAGE_TOK * stride + h * K;
        a.pool = pool_wide.data();
        a.page = only.data();
        a.keep = keep.data();
        a.work = work.data();
        choose_ref(&c, &a);
        score.assign(work.begin(), work.begin() + b + 1);
        return keep;
    }
};

static bool has(const uint64_t *keep, int b) { return keep[b / 64] >> (b % 64) & 1; }

/* Sets `got` of a prompt against the reference's, for heads h0, h0 + step, ... */
static void compare(prompt &p, int rule, const std::vector<uint64_t> &got, int step)
{
    char text[256];
    for (int h = 0; h < p.H; h += step)
        for (int b = 0; b < p.n_block; b++) {
            std::vector<float> score;
            std::vector<uint64_t> want = p.reference(rule, h, b, score);
            const uint64_t *set = &got[(size_t)((int64_t)b * p.H + h) * (size_t)p.words];
            const int n = b + 1;
            const double goal = rule == CHOOSE_FLEX ? 0.95 : 0.9;
            double all = 0, kept = 0, got_kept = 0, least = 1e30, best_out = -1, got_least = 1e30,
                   got_out = -1;
            bool equal = true, forced = has(set, 0) && has(set, b);
            for (int i = 0; i < n; i++) {
                const double s = score[(size_t)i];
                const bool end = i == 0 || i == b;
                all += s;
                kept += has(want.data(), i) ? s : 0;
                got_kept += has(set, i) ? s : 0;
                equal &= has(want.data(), i) == has(set, i);
                if (!end && has(want.data(), i)) least = std::min(least, s);
                if (!end && !has(want.data(), i)) best_out = std::max(best_out, s);
                if (!end && has(set, i)) got_least = std::min(got_least, s);
                if (!end && !has(set, i)) got_out = std::max(got_out, s);
            }
            for (int i = n; i < (n + 63) / 64 * 64; i++)
                forced &= !has(set, i); /* the last word's later bits */
            const bool some = least < 1e30;
            const bool clear = (!some || (kept - least < (goal - SUM) * all &&
                                          (best_out < 0 || best_out < least * (1 - SCORE)))) &&
                               (kept > (goal + SUM) * all || best_out < 0);
            const bool near = (got_kept >= (goal - SUM) * all || got_out < 0) &&
                              got_out <= got_least * (1 + SCORE) &&
                              (got_least == 1e30 || got_kept - got_least <= (goal + SUM) * all);
            n_set++;
            n_clear += clear;
            snprintf(text, sizeof text, "%s rule %d H=%d G=%d K=%d len=%d head %d block %d: %s",
                     f32 ? "f32" : "bf16", rule, p.H, p.G, p.K, p.len, h, b,
                     !forced           ? "a forced block is missing, or one too many is there"
                     : clear && !equal ? "sets differ"
                                       : "a set that does not fit its scores");
            check(forced && (!clear || equal) && near, "choice_equals_reference", text);
        }
}

static void one(int H, int G, int K, int len, float sharp, uint32_t seed, int step)
{
    prompt p(H, G, K, len, sharp, seed);
    char text[128];
    for (int rule : {CHOOSE_XATTN, CHOOSE_FLEX}) {
        const std::vector<uint64_t> whole = p.device(rule, p.n_block);
        compare(p, rule, whole, step);
        snprintf(text, sizeof text, "%s rule %d H=%d G=%d K=%d len=%d", f32 ? "f32" : "bf16", rule, H, G, K,
                 len);
        check(whole == p.device(rule, p.n_block), "choice_repeats_its_bits", text);
        if (p.n_block > 1) {
            check(whole == p.device(rule, 1), "choice_does_not_hang_on_the_cut", text);
            check(whole == p.device(rule, (p.n_block + 2) / 3), "choice_does_not_hang_on_the_cut", text);
            check(whole == p.device(rule, p.n_block, p.n_block + 1), "choice_does_not_hang_on_the_room",
                  text);
        }
    }
}

/* Nothing is chosen where the run's kind turns out to be another. */
static void kind_is_heeded()
{
    prompt p(2, 1, 64, 300, 0.2f, 5);
    attn_seg s = {};
    s.kind = ATTN_STREAMING;
    attn_seg *seg = p.upload(std::vector<attn_seg>(1, s));
    for (int rule : {CHOOSE_XATTN, CHOOSE_FLEX}) {
        bool untouched = true;
        for (uint64_t x : p.device(rule, p.n_block, 0, seg, ATTN_LIST))
            untouched &= x == 0xabcdabcdabcdabcdull;
        check(untouched, "kind_is_heeded", "sets were written");
        check(p.device(rule, p.n_block, 0, seg, ATTN_STREAMING) == p.device(rule, p.n_block),
              "kind_is_heeded", "the right kind");
    }
}

static void bad_shapes_are_refused()
{
    prompt p(4, 2, 64, 300, 0.2f, 6);
    choose_args good = p.args(CHOOSE_XATTN, 0, 300);
    struct choose_gpu g = {0, f32 ? DT_F32 : DT_BF16, NULL, -1};
    float work;
    good.work = &work;
    good.work_stride = choose_gpu_work(p.n_block, 4);
    choose_args a = good;
    a.head = 96;
    check(choose_gpu(&a, &g) == ERR_INVALID_VALUE, "bad_shapes_are_refused", "head 96");
    a = good;
    a.n_head = 3;
    check(choose_gpu(&a, &g) == ERR_INVALID_VALUE, "bad_shapes_are_refused", "3 heads on 2 kv heads");
    a = good;
    a.n_row = 200;
    check(choose_gpu(&a, &g) == ERR_INVALID_VALUE, "bad_shapes_are_refused",
          "a run that ends inside a block before its prompt does");
    a = good;
    a.pos0 = 100;
    a.n_row = 200;
    check(choose_gpu(&a, &g) == ERR_INVALID_VALUE, "bad_shapes_are_refused",
          "a run that begins inside a block");
    a = good;
    a.work_stride = 8;
    check(choose_gpu(&a, &g) == ERR_INVALID_VALUE, "bad_shapes_are_refused", "no room for the scores");
}

static void all()
{
    uint32_t seed = 1;
    for (int K : {64, 128}) {
        for (int per_kv = 1; per_kv <= 8; per_kv++)
            for (int len : {1, 15, 17, 127, 128, 129, 700})
                one(per_kv, 1, K, len, len % 2 ? 0.15f : 0.02f, seed++, len > 500 ? 3 : 1);
        one(1, 1, K, 4097, 0.1f, seed++, 1);
        one(8, 1, K, 4097, 0.1f, seed++, 3);
        one(8, 2, K, 2065, 0.1f, seed++, 3);
        one(4, 2, K, 4097, 0.05f, seed++, 3);
    }
}
static void few()
{
    for (int K : {64, 128})
        for (int len : {1, 129, 300}) one(3, 1, K, len, 0.1f, (uint32_t)len, 1);
}

static void fewest()
{
    for (int K : {64, 128}) one(2, 1, K, 140, 0.1f, (uint32_t)K, 1);
}

int main(int argc, char **argv)
{
    const bool small = argc > 1 && !strcmp(argv[1], "small"), race = argc > 1 && !strcmp(argv[1], "race");
    for (int i = 0; i < 2; i++) {
        f32 = i;
        n_set = n_clear = 0;
        if (!race) {
            bad_shapes_are_refused();
            kind_is_heeded();
        }
        race ? fewest() : small ? few() : all();
        char text[64];
        snprintf(text, sizeof text, "%d of %d choices were clear", n_clear, n_set);
        printf("%s: %s\n", f32 ? "f32" : "bf16", text);
        check(race || n_clear > 0.95 * n_set, "most_choices_are_clear", text);
    }
    return report("gpu_choose");
}
