/* choose: the fast version keeps the blocks that the reference keeps, for both rules, head sizes and page
 * types, at every edge of length; a choice does not depend on the piece; nothing behind the prompt is read.
 * Sets whose sum lies within rounding of the threshold may differ in the block that crosses it, and are
 * counted. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/choose_pick.h"
#include "kernels/kv_page.h"
#include "kernels/quant.h"
#include "tests/base/cm.h"
#include "tests/kernels/choose_ref.h"

enum { G = 2, REP = 3, H = G * REP, PAGES = 12, SMAX = 1300, WORDS = 2, WORDS_ALL = H * PAGES * WORDS };

struct world {
    struct op_ctx c;
    int K, S;
    float *q, *work, *mean;
    int64_t stride;
    void *pool;
    int32_t page[PAGES];
};

static float rnd(uint32_t *s)
{
    *s = *s * 1664525u + 1013904223u;
    return (float)(int32_t)(*s >> 8) / 8388608.0f - 1.0f;
}

/* Keys and queries of a block share a direction, so that some blocks matter more than others. */
static float value(uint32_t *s, int t, int i, float own)
{
    uint32_t block = (uint32_t)(t / PAGE_TOK % 5 * 977 + i * 31 + 7);
    return rnd(&block) * own + rnd(s);
}

static struct world *open_world(int K, enum dtype kv, int S)
{
    struct world *o = calloc(1, sizeof *o);
    uint32_t seed = (uint32_t)(S * 31 + K);
    assert_int_equal(cpu_open(&o->c, 2, kv, 64, 64, 64, NULL), OK);
    o->K = K;
    o->S = S;
    size_t n = (size_t)SMAX * H * (size_t)K, e = (size_t)PAGES * G * 2 * PAGE_TOK * (size_t)K;
    o->stride = choose_work(PAGES, K);
    o->q = malloc(n * 4);
    o->work = malloc((size_t)o->stride * 2 * 4);
    o->mean = malloc((size_t)(G * PAGES * K) * 4);
    o->pool = malloc(e * 4);
    assert_true(o->q && o->work && o->mean && o->pool);
    for (int t = 0; t < SMAX; t++)
        for (int i = 0; i < H * K; i++)
            o->q[(size_t)(t * H * K + i)] = t < S ? 2 * value(&seed, t + 128 * (i / K), i % K, 2) : NAN;
    for (int b = 0; b < PAGES; b++) {
        o->page[b] = (b * 7 + 3) % PAGES;
        for (int g = 0; g < G; g++)
            for (int j = 0; j < PAGE_TOK; j++)
                for (int i = 0; i < K; i++) {
                    int64_t at = kv_half(o->page[b], G, g, 0, K) + kv_at_k(kv, K, j, i);
                    float v = b * PAGE_TOK + j < S ? value(&seed, b * PAGE_TOK + j, i, 1)
                                                   : NAN; /* not written yet */
                    if (kv == DT_F32)
                        ((float *)o->pool)[at] = v;
                    else
                        ((uint16_t *)o->pool)[at] = f32_to_bf16(v);
                }
    }
    return o;
}

static void close_world(struct world *o)
{
    cpu_close(&o->c);
    free(o->q);
    free(o->work);
    free(o->mean);
    free(o->pool);
    free(o);
}

typedef void choose_fn(struct op_ctx *, const struct choose_args *);

static void choose(struct world *o, choose_fn *fn, int rule, float threshold, int piece, uint64_t *keep)
{
    memset(keep, 0xff, WORDS_ALL * sizeof *keep);
    for (int t = 0; t < o->S; t += piece) {
        struct choose_args a = {.q = o->q + (size_t)t * (size_t)(H * o->K),
                                .q_stride = H * o->K,
                                .pool = o->pool,
                                .page = o->page,
                                .pos0 = t,
                                .n_row = o->S - t < piece ? o->S - t : piece,
                                .n_prompt = o->S,
                                .n_head = H,
                                .n_kv = G,
                                .head = o->K,
                                .rule = rule,
                                .threshold = threshold,
                                .keep = keep + t / PAGE_TOK * WORDS,
                                .head_stride = PAGES * WORDS,
                                .block_stride = WORDS,
                                .mean = o->mean,
                                .work = o->work,
                                .work_stride = o->stride};
        fn(&o->c, &a);
    }
}

static bool kept(const uint64_t *keep, int h, int qb, int b)
{
    return keep[h * PAGES * WORDS + qb * WORDS + b / 64] >> (b % 64) & 1;
}

struct count {
    int kept, rows, other;
};

static void compare(int K, enum dtype kv, int S, int rule, float threshold, struct count *n)
{
    static uint64_t ref[WORDS_ALL], fast[WORDS_ALL], part[WORDS_ALL];
    struct world *o = open_world(K, kv, S);
    choose(o, choose_ref, rule, threshold, SMAX / PAGE_TOK * PAGE_TOK + PAGE_TOK, ref);
    choose(o, choose_cpu, rule, threshold, SMAX / PAGE_TOK * PAGE_TOK + PAGE_TOK, fast);
    for (int piece = PAGE_TOK; piece <= 3 * PAGE_TOK; piece += 2 * PAGE_TOK) {
        choose(o, choose_cpu, rule, threshold, piece, part);
        assert_memory_equal(part, fast, sizeof part);
    }
    for (int h = 0; h < H; h++)
        for (int qb = 0; qb * PAGE_TOK < S; qb++) {
            int other = 0;
            assert_true(kept(fast, h, qb, 0) && kept(fast, h, qb, qb));
            for (int b = 0; b < 64; b++) {
                assert_true(b <= qb || !kept(fast, h, qb, b));
                other += kept(ref, h, qb, b) != kept(fast, h, qb, b);
                n->kept += kept(fast, h, qb, b);
            }
            assert_true(other <= 1);
            n->other += other;
            n->rows++;
        }
    close_world(o);
}

static void both_rules_keep_what_the_reference_keeps(void **st)
{
    (void)st;
    static const int S[] = {1, 15, 16, 17, 127, 128, 129, 255, 700, 1281};
    struct count n = {0};
    int most = 0;
    for (int i = 0; i < 10; i++)
        for (int rule = CHOOSE_XATTN; rule <= CHOOSE_FLEX; rule++) {
            int K = i % 3 == 0 ? 24 : i % 3 == 1 ? 64 : 16, blocks = (S[i] + PAGE_TOK - 1) / PAGE_TOK;
            compare(K, i % 2 ? DT_F32 : DT_BF16, S[i], rule, i == 8 ? 0.5f : 0.9f, &n);
            most += H * blocks * (blocks + 1) / 2;
        }
    assert_true(n.kept > 2 * n.rows && n.kept < most * 3 / 4); /* the choice chooses */
    assert_true(n.other * 100 <= n.rows);
}

/* From scores to a set, by hand. */
static void sets_take_falling_scores_and_the_one_that_crosses(void **st)
{
    (void)st;
    const float score[] = {0.05f, 0.20f, 0.10f, 0.30f, 0.20f, 0.05f, 0.10f};
    const struct {
        float threshold;
        uint64_t keep;
    } row[] = {{0.0f, 0x41}, {0.14f, 0x41}, {0.2f, 0x49}, {0.5f, 0x4b},
               {0.6f, 0x4b}, {0.7f, 0x5b},  {0.9f, 0x5f}, {1.0f, 0x7f}};
    int32_t order[8];
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        uint64_t keep = ~0ull;
        choose_pick(&keep, score, 7, row[i].threshold, order);
        assert_int_equal(keep, row[i].keep);
    }
    uint64_t one = 0, two = 0;
    choose_pick(&one, score, 1, 0.9f, order);
    choose_pick(&two, score, 2, 0.9f, order);
    assert_int_equal(one, 1);
    assert_int_equal(two, 3);
}

static void scores_that_are_not_numbers_keep_the_forced_blocks(void **st)
{
    (void)st;
    const float score[] = {NAN, NAN, NAN, NAN};
    int32_t order[8];
    uint64_t keep = 0;
    choose_pick(&keep, score, 4, 0.9f, order);
    assert_int_equal(keep, 9);
}

int main(void)
{
    const struct CMUnitTest t[] = {cmocka_unit_test(both_rules_keep_what_the_reference_keeps),
                                   cmocka_unit_test(sets_take_falling_scores_and_the_one_that_crosses),
                                   cmocka_unit_test(scores_that_are_not_numbers_keep_the_forced_blocks)};
    return cmocka_run_group_tests(t, NULL, NULL);
}
