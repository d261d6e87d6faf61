/* rank: the cut that the tables of families.c ask for makes layers that ranks can compute by themselves, up
 * to the sums behind the products with O and down. */
#include "tests/base/cm.h"

#include <string.h>

#include "engine/rank.h"

static struct spec shape(int n_head, int n_kv, int f)
{
    return (struct spec){
        .d = 40, .n_head = n_head, .n_kv = n_kv, .head = 16, .f = f, .n_vocab = 101, .n_layer = 1};
}

static const struct {
    int n_head, n_kv, f, n_rank;
} cases[] = {{8, 2, 64, 1}, {8, 2, 64, 2},   {8, 2, 64, 4}, {8, 2, 64, 8},
             {9, 3, 72, 3}, {12, 12, 96, 6}, {4, 1, 32, 4}};
enum { N_CASE = sizeof cases / sizeof *cases };

/* How many ranks have each cell of a tensor; a rank's part lies inside of it. */
static void assert_held(const struct spec *s, int n_rank, enum shard shard, int n, int k, int times)
{
    int *held = test_calloc((size_t)n * (size_t)k, sizeof *held);
    for (int i = 0; i < n_rank; i++) {
        const struct rank_cut c = rank_cut(s, (struct rank){i, n_rank}, shard, n, k);
        assert_true(c.n0 >= 0 && c.n >= 0 && c.n0 + c.n <= n && c.k0 >= 0 && c.k > 0 && c.k0 + c.k <= k);
        for (int row = c.n0; row < c.n0 + c.n; row++)
            for (int col = c.k0; col < c.k0 + c.k; col++) held[row * k + col]++;
    }
    for (int i = 0; i < n * k; i++) assert_int_equal(held[i], times);
    test_free(held);
}

static void ranks_together_hold_every_tensor(void **state)
{
    (void)state;
    for (int c = 0; c < N_CASE; c++) {
        const struct spec s = shape(cases[c].n_head, cases[c].n_kv, cases[c].f);
        const int n = cases[c].n_rank, share = n > s.n_kv ? n / s.n_kv : 1;
        assert_int_equal(rank_check(&s, n, NULL), OK);
        const int times[] = {
            [SHARD_ALL] = n, [SHARD_OUT] = 1, [SHARD_KV] = share, [SHARD_IN] = 1, [SHARD_FIRST] = 1};
        for (int i = 0; i < n_matrix_part; i++)
            assert_held(&s, n, matrix_parts[i].shard, spec_dim(&s, matrix_parts[i].n),
                        spec_dim(&s, matrix_parts[i].k), times[matrix_parts[i].shard]);
        for (int i = 0; i < n_vector_part; i++)
            assert_held(&s, n, vector_parts[i].shard, spec_dim(&s, vector_parts[i].n), 1,
                        times[vector_parts[i].shard]);
        for (int i = 0; i < TOP_COUNT; i++)
            assert_held(&s, n, top_shards[i], s.n_vocab, s.d, times[top_shards[i]]);
    }
}

static struct rank_cut cut_of(const struct spec *s, struct rank r, enum dim n, enum dim k)
{
    for (int i = 0; i < n_matrix_part; i++)
        if (matrix_parts[i].n == n && matrix_parts[i].k == k)
            return rank_cut(s, r, matrix_parts[i].shard, spec_dim(s, n), spec_dim(s, k));
    fail();
    return (struct rank_cut){0};
}

/* Each query head of a rank finds its kv head there, at the place that a model of the rank's size would give
 * it. */
static void a_rank_attends_by_itself(void **state)
{
    (void)state;
    for (int c = 0; c < N_CASE; c++) {
        const struct spec s = shape(cases[c].n_head, cases[c].n_kv, cases[c].f);
        for (int i = 0; i < cases[c].n_rank; i++) {
            const struct rank r = {i, cases[c].n_rank};
            const struct rank_cut q = cut_of(&s, r, DIM_Q, DIM_D), kv = cut_of(&s, r, DIM_KV, DIM_D);
            assert_int_equal(q.n0 % s.head + q.n % s.head + kv.n0 % s.head + kv.n % s.head, 0);
            const int n_q = q.n / s.head, n_kv = kv.n / s.head;
            assert_true(n_kv > 0 && n_q % n_kv == 0);
            for (int h = 0; h < n_q; h++)
                assert_int_equal((q.n0 / s.head + h) / (s.n_head / s.n_kv),
                                 kv.n0 / s.head + h / (n_q / n_kv));
        }
    }
}

/* What one product of a rank makes, the next one takes; columns and rows of every other one are whole. */
static void products_of_a_rank_fit_each_other(void **state)
{
    (void)state;
    for (int c = 0; c < N_CASE; c++) {
        const struct spec s = shape(cases[c].n_head, cases[c].n_kv, cases[c].f);
        for (int i = 0; i < cases[c].n_rank; i++) {
            const struct rank r = {i, cases[c].n_rank};
            const struct rank_cut q = cut_of(&s, r, DIM_Q, DIM_D), o = cut_of(&s, r, DIM_D, DIM_Q),
                                  gate = cut_of(&s, r, DIM_F, DIM_D), down = cut_of(&s, r, DIM_D, DIM_F);
            assert_int_equal(q.n0, o.k0);
            assert_int_equal(q.n, o.k);
            assert_int_equal(gate.n0, down.k0);
            assert_int_equal(gate.n, down.k);
            assert_int_equal(gate.n % 8, 0);
            assert_true(q.k == s.d && gate.k == s.d && o.n == s.d && down.n == s.d);
        }
    }
}

static void what_cannot_be_cut_is_refused(void **state)
{
    (void)state;
    const struct {
        struct spec s;
        int n_rank;
        const char *says;
    } bad[] = {{shape(8, 2, 64), 0, "at least one"},
               {shape(8, 2, 64), 3, "8 query heads"},
               {shape(12, 4, 96), 6, "4 kv heads and 6 ranks"},
               {shape(8, 2, 40), 2, "feed-forward"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err_note note = {0};
        assert_int_equal(rank_check(&bad[i].s, bad[i].n_rank, &note), ERR_CONFIG);
        assert_non_null(strstr(note.text, bad[i].says));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_together_hold_every_tensor),
        cmocka_unit_test(a_rank_attends_by_itself),
        cmocka_unit_test(products_of_a_rank_fit_each_other),
        cmocka_unit_test(what_cannot_be_cut_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
