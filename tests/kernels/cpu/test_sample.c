/* sample: greedy, the truncations and penalties against a plain sort-based version, and the draw's
 * frequencies. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/philox.h"
#include "tests/base/cm.h"

enum { V = 1000 };

static float logits[V], work[2 * V];

static struct sample_row row(void)
{
    return (struct sample_row){.temperature = 1, .top_p = 1, .repetition = 1, .force_id = -1};
}

static struct sample_out one(const struct sample_row *r)
{
    struct op_ctx c = {.n_thread = 1};
    struct sample_out o;
    struct sample_args a = {
        .logits = logits, .logits_stride = V, .row = r, .out = &o, .work = work, .n_row = 1, .vocab = V};
    sample_cpu(&c, &a);
    return o;
}

static void fill(uint32_t seed)
{
    for (int i = 0; i < V; i++) {
        seed = seed * 1664525u + 1013904223u;
        logits[i] = (float)(int32_t)seed * 0x1p-29f;
    }
}

static double logprob(int id)
{
    double max = -INFINITY, sum = 0;
    for (int i = 0; i < V; i++) max = fmax(max, (double)logits[i]);
    for (int i = 0; i < V; i++) sum += exp((double)logits[i] - max);
    return (double)logits[id] - max - log(sum);
}

static void greedy_takes_the_first_best_and_tells_its_logprob(void **st)
{
    (void)st;
    fill(1);
    logits[400] = logits[700] = 9;
    struct sample_row r = row();
    r.temperature = 0;
    r.n_top = 5;
    struct sample_out o = one(&r);
    assert_int_equal(o.id, 400);
    assert_true(fabs((double)o.logprob - logprob(400)) < 1e-5);
    assert_int_equal(o.n_top, 5);
    assert_int_equal(o.top_id[0], 400);
    assert_int_equal(o.top_id[1], 700);
    assert_true(o.top_logprob[0] == o.logprob);
    for (int i = 1; i < 5; i++) assert_true(o.top_logprob[i] <= o.top_logprob[i - 1]);
    const float tiny[] = {1e-10f, 1e-40f};
    for (int i = 0; i < 2; i++) {
        r.temperature = tiny[i];
        assert_int_equal(one(&r).id, 400);
    }
}

static int by_weight(const void *a, const void *b)
{
    const int *x = a, *y = b;
    return logits[*x] > logits[*y] ? -1 : logits[*x] < logits[*y] ? 1 : *x - *y;
}

/* The set a sorted implementation keeps. */
static void expect_set(const struct sample_row *r, bool *in)
{
    int id[V];
    double p[V], sum = 0, kept = 0;
    for (int i = 0; i < V; i++) id[i] = i;
    qsort(id, V, sizeof *id, by_weight);
    int n = 0;
    for (int i = 0; i < V; i++) {
        p[i] = exp(((double)logits[id[i]] - (double)logits[id[0]]) / (double)r->temperature);
        if (p[i] >= (double)r->min_p * p[0] && (r->top_k <= 0 || i < r->top_k)) {
            n = i + 1;
            sum += p[i];
        }
    }
    memset(in, 0, V);
    for (int i = 0; i < n && kept < (double)r->top_p * sum; i++) {
        in[id[i]] = true;
        kept += p[i];
    }
}

static void truncations_keep_the_sorted_set(void **st)
{
    (void)st;
    const struct {
        float t, top_p, min_p;
        int k;
    } set[] = {{1, 0.5f, 0, 0},       {0.7f, 0.9f, 0, 40}, {1.3f, 1, 0.05f, 0}, {1, 1, 0, 3},
               {2, 0.3f, 0.01f, 100}, {1, 1e-4f, 0, 0},    {1, 1, 0, 1}};
    for (int k = 0; k < 7; k++) {
        fill((uint32_t)k + 10);
        struct sample_row r = row();
        bool in[V], seen[V] = {0};
        r.temperature = set[k].t;
        r.top_p = set[k].top_p;
        r.min_p = set[k].min_p;
        r.top_k = set[k].k;
        expect_set(&r, in);
        int n_in = 0, n_seen = 0;
        for (int i = 0; i < 4000; i++) {
            r.pos = i;
            int id = one(&r).id;
            assert_true(in[id]);
            seen[id] = true;
        }
        for (int i = 0; i < V; i++) {
            n_in += in[i];
            n_seen += seen[i];
        }
        assert_true(n_in > 30 || n_seen == n_in); /* small sets are met whole */
    }
}

static void draws_follow_the_weights(void **st)
{
    (void)st;
    for (int i = 0; i < V; i++) logits[i] = -INFINITY;
    logits[3] = 0;
    logits[500] = logf(3);
    struct sample_row r = row();
    int n = 0;
    for (int i = 0; i < 20000; i++) {
        r.pos = i;
        r.seed = 42;
        int id = one(&r).id;
        assert_true(id == 3 || id == 500);
        n += id == 500;
    }
    assert_true(abs(n - 15000) < 250); /* 4 sigma */
}

static void seeds_and_positions_decide_alone(void **st)
{
    (void)st;
    fill(5);
    struct sample_row r = row();
    r.seed = 7;
    r.pos = 9;
    int id = one(&r).id, other = 0;
    for (int i = 0; i < 50; i++) {
        assert_int_equal(one(&r).id, id);
        struct sample_row q = r;
        q.seed = (uint64_t)i + 1000;
        other += one(&q).id != id;
    }
    assert_true(other > 10);
    /* Philox4x32-10's published vector: counter and key all zero begins with 6627e8d5 e169c58d */
    assert_true(philox_uniform(0, 0) == (double)(0x6627e8d5e169c58dull >> 11) * 0x1p-53);
}

static void penalties_bias_and_bans_bend_the_choice(void **st)
{
    (void)st;
    for (int i = 0; i < V; i++) logits[i] = 0;
    logits[10] = 5;
    logits[20] = 4.5f;
    logits[30] = -1;
    int32_t hist[] = {10, 10, 20, 10};
    struct sample_row r = row();
    r.temperature = 0;
    r.hist = hist;
    r.n_hist = 4;
    r.n_prompt = 1; /* the answer is 10 20 10 */
    assert_int_equal(one(&r).id, 10);
    r.frequency = 0.4f; /* 10: 5 - 0.8, 20: 4.5 - 0.4 */
    assert_int_equal(one(&r).id, 10);
    r.frequency = 0.6f; /* 3.8 against 3.9 */
    assert_int_equal(one(&r).id, 20);
    r.frequency = 0;
    r.presence = 1;
    assert_int_equal(one(&r).id, 10);
    r.n_hist = 2; /* only 10 was answered */
    assert_int_equal(one(&r).id, 20);
    r.presence = 0;
    r.repetition = 2; /* prompt counts too: 10 -> 2.5 */
    assert_int_equal(one(&r).id, 20);
    r.repetition = 1;
    const int32_t b[] = {30}, ban[] = {10, 20};
    const float v[] = {100};
    r.bias_id = b;
    r.bias_value = v;
    r.n_bias = 1;
    assert_int_equal(one(&r).id, 30);
    r.n_bias = 0;
    r.ban_id = ban;
    r.n_ban = 2;
    assert_int_equal(one(&r).id, 0);
    r.n_ban = 0;
    r.allow_id = b;
    r.n_allow = 1;
    assert_int_equal(one(&r).id, 30);
    r.n_ban = 1;
    r.ban_id = b; /* nothing is left */
    assert_true(one(&r).bad && one(&r).none);
}

static void put(uint32_t *mask, int id, bool on)
{
    mask[id / 32] = (mask[id / 32] & ~(1u << id % 32)) | (uint32_t)on << id % 32;
}

/* Sampling under a mask is sampling where the other logits are -inf; logprobs are of the raw ones. */
static void a_mask_refuses_tokens_whatever_else_is_asked_for(void **st)
{
    (void)st;
    enum { WORDS = (V + 31) / 32 };
    uint32_t mask[WORDS];
    float raw[V];
    const int32_t hist[] = {3, 4, 4, 9}, bias[] = {5, 6}, ban[] = {7},
                  allow[] = {1, 4, 5, 6, 7, 8, 40, 41, 42};
    const float value[] = {4, -3};
    for (int k = 0; k < 400; k++) {
        struct sample_row r = row();
        fill((uint32_t)k + 1);
        memcpy(raw, logits, sizeof raw);
        r.temperature = k % 3 ? 1.0f : 0;
        r.top_k = k % 5 ? 0 : 20;
        r.top_p = k % 7 ? 1.0f : 0.8f;
        r.min_p = k % 11 ? 0 : 0.1f;
        r.seed = (uint64_t)k;
        r.n_top = 3;
        if (k % 2) r.hist = hist, r.n_hist = 4, r.n_prompt = 1, r.presence = 0.5f, r.repetition = 1.3f;
        if (k % 4 == 1) r.bias_id = bias, r.bias_value = value, r.n_bias = 2, r.ban_id = ban, r.n_ban = 1;
        if (k % 8 == 3) r.allow_id = allow, r.n_allow = 9;
        for (int i = 0; i < V; i++)
            put(mask, i, ((unsigned)i * 2654435761u + (unsigned)k * 40503u) >> 29 < 3 || i == 42);
        r.mask = mask;
        const struct sample_out got = one(&r);
        for (int i = 0; i < V; i++)
            if (!(mask[i / 32] >> i % 32 & 1)) logits[i] = -INFINITY;
        r.mask = NULL;
        const struct sample_out want = one(&r);
        assert_false(got.bad || want.bad);
        assert_int_equal(got.id, want.id);
        assert_true(mask[got.id / 32] >> got.id % 32 & 1);
        memcpy(logits, raw, sizeof raw);
        r.force_id = got.id;
        const struct sample_out plain = one(&r);
        assert_true(got.logprob == plain.logprob && got.n_top == plain.n_top);
        assert_memory_equal(got.top_id, plain.top_id, sizeof(int32_t) * 3);
    }
    struct sample_row r = row();
    memset(mask, 0xff, sizeof mask);
    const struct sample_out open = one(&r);
    r.mask = mask;
    assert_int_equal(one(&r).id, open.id);
    memset(mask, 0, sizeof mask);
    assert_true(one(&r).bad && one(&r).none);
    logits[2] = NAN;
    assert_true(one(&r).bad && !one(&r).none);
}

static void what_is_not_finite_is_bad(void **st)
{
    (void)st;
    struct sample_row r = row();
    fill(3);
    logits[V - 1] = NAN;
    assert_true(one(&r).bad);
    logits[V - 1] = INFINITY;
    assert_true(one(&r).bad);
    logits[V - 1] = -INFINITY;
    assert_false(one(&r).bad);
}

int main(void)
{
    const struct CMUnitTest t[] = {cmocka_unit_test(greedy_takes_the_first_best_and_tells_its_logprob),
                                   cmocka_unit_test(truncations_keep_the_sorted_set),
                                   cmocka_unit_test(draws_follow_the_weights),
                                   cmocka_unit_test(seeds_and_positions_decide_alone),
                                   cmocka_unit_test(penalties_bias_and_bans_bend_the_choice),
                                   cmocka_unit_test(a_mask_refuses_tokens_whatever_else_is_asked_for),
                                   cmocka_unit_test(what_is_not_finite_is_bad)};
    return cmocka_run_group_tests(t, NULL, NULL);
}
