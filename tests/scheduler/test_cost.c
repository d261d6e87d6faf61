/* cost: the prices follow what is measured, and survive what is measured wrongly. */
#include <math.h>

#include "scheduler/cost.h"
#include "tests/base/cm.h"

static uint32_t rnd(uint32_t *s)
{
    *s = *s * 1664525u + 1013904223u;
    return *s >> 8;
}

static const struct engine_info MODEL = {.d_model = 576, .n_head = 9, .head = 64};
static const double TRUE_UNIT[COST_TERMS] = {0.05, 0.004, 0.0000009};

static struct cost_work some_piece(uint32_t *seed)
{
    int n = 128 * (1 + (int)(rnd(seed) % 4));
    double keys = rnd(seed) % 8000;
    return cost_piece(n, 1 + (int)(rnd(seed) % 5), keys);
}

static double true_ms(struct cost_work w, uint32_t *seed)
{
    double ms = 0;
    for (int i = 0; i < COST_TERMS; i++) ms += TRUE_UNIT[i] * w.x[i];
    return ms * (0.95 + 0.0001 * (rnd(seed) % 1000));
}

/* Mean relative error over fresh pieces. */
static double error_of(const struct cost *c, uint32_t *seed)
{
    double sum = 0;
    for (int i = 0; i < 200; i++) {
        struct cost_work w = some_piece(seed);
        sum += fabs(cost_ms(&c->prefill, w) / true_ms(w, seed) - 1);
    }
    return sum / 200;
}

static void prices_follow_the_steps_measured(void **st)
{
    (void)st;
    uint32_t seed = 1;
    struct cost c;
    cost_init(&c, &MODEL);
    assert_true(error_of(&c, &seed) > 1); /* the guess is far off */
    for (int i = 0; i < 20; i++) {
        struct cost_work w = some_piece(&seed);
        cost_learn(&c.prefill, w, true_ms(w, &seed));
    }
    assert_true(error_of(&c, &seed) < 0.2);
    for (int i = 0; i < 300; i++) {
        struct cost_work w = some_piece(&seed);
        cost_learn(&c.prefill, w, true_ms(w, &seed));
    }
    assert_true(error_of(&c, &seed) < 0.05);
    assert_true(c.prefill.error < 0.08);
}

static void hiccups_and_a_cold_start_do_little_harm(void **st)
{
    (void)st;
    uint32_t seed = 2;
    struct cost c;
    cost_init(&c, &MODEL);
    for (int i = 0; i < 400; i++) {
        struct cost_work w = some_piece(&seed);
        double ms = true_ms(w, &seed);
        cost_learn(&c.prefill, w, i < 2 ? ms * 30 : i % 50 == 49 ? ms * 100 : ms);
        if (i == 20) assert_true(error_of(&c, &seed) < 0.3);
        if (i > 50 && i % 50 == 49) assert_true(error_of(&c, &seed) < 0.3); /* just after a hiccup */
    }
    for (int i = 0; i < COST_TERMS; i++) assert_true(c.prefill.unit[i] > 0);
}

static void a_lasting_change_is_followed(void **st)
{
    (void)st;
    uint32_t seed = 3;
    struct cost c;
    cost_init(&c, &MODEL);
    for (int i = 0; i < 600; i++) {
        struct cost_work w = some_piece(&seed);
        cost_learn(&c.prefill, w, true_ms(w, &seed) * (i < 300 ? 10 : 1));
    }
    assert_true(error_of(&c, &seed) < 0.1);
}

static void equal_steps_keep_finite_prices(void **st)
{
    (void)st;
    struct cost c;
    cost_init(&c, &MODEL);
    for (int i = 0; i < 100000; i++) cost_learn(&c.decode, cost_rows(4, 1000), 7);
    assert_true(fabs(cost_ms(&c.decode, cost_rows(4, 1000)) - 7) < 0.1);
    double more = cost_ms(&c.decode, cost_rows(8, 2000));
    assert_true(more > 7 && more < 14.1);
    cost_learn(&c.decode, cost_rows(4, 1000), 0); /* an engine that does not measure */
    cost_learn(&c.decode, (struct cost_work){0}, 5);
    assert_true(isfinite(cost_ms(&c.decode, cost_rows(4, 1000))));
}

int main(void)
{
    const struct CMUnitTest t[] = {cmocka_unit_test(prices_follow_the_steps_measured),
                                   cmocka_unit_test(hiccups_and_a_cold_start_do_little_harm),
                                   cmocka_unit_test(a_lasting_change_is_followed),
                                   cmocka_unit_test(equal_steps_keep_finite_prices)};
    return cmocka_run_group_tests(t, NULL, NULL);
}
