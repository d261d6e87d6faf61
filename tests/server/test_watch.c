#include "tests/base/cm.h"

#include "server/watch.h"

#define MS INT64_C(1000000)

/* A process, its engine and the watch over it, by a clock of our own. */
struct world {
    struct watch w;
    int64_t now, beat;
    bool hangs;    /* the engine gives no sign of life */
    double share;  /* of the processor that the engine wants */
    int64_t ran;   /* what it had of it since `hangs` */
    int64_t found; /* when the watch said so; 0: not yet */
};

static struct world world_of(int64_t limit_ms)
{
    struct world x = {.now = 12345 * MS, .beat = 1, .share = 1};
    watch_init(&x.w, limit_ms);
    return x;
}

static double share_of(void *world, int64_t now_ns)
{
    (void)now_ns;
    return ((const struct world *)world)->share;
}

/* The next tick comes after that long. */
static void tick_after(struct world *x, int64_t ns)
{
    x->now += ns;
    if (!x->hangs) x->beat = x->now;
    x->ran = x->hangs ? x->ran + (int64_t)((double)ns * x->share) : 0;
    if (watch_tick(&x->w, x->now, x->beat, share_of, x) && !x->found) x->found = x->now;
}

static void run(struct world *x, int64_t ms)
{
    for (const int64_t end = x->now + ms * MS; x->now < end;) tick_after(x, x->w.tick_ns);
}

static const int64_t limits_ms[] = {1, 10, 100, 600, 1000, 10000, 120000, 86400000};
#define N_LIMITS (sizeof limits_ms / sizeof *limits_ms)

static void an_engine_that_lives_is_never_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_LIMITS; i++) {
        struct world x = world_of(limits_ms[i]);
        run(&x, 3 * limits_ms[i] < 600000 ? 3 * limits_ms[i] : 600000);
        assert_int_equal(x.found, 0);
    }
}

static void a_step_that_is_shorter_than_the_limit_is_never_found(void **state)
{
    (void)state;
    for (size_t i = 2; i < N_LIMITS; i++) {
        struct world x = world_of(limits_ms[i]);
        for (int step = 0; step < 20; step++) {
            x.hangs = true;
            run(&x, limits_ms[i] * 3 / 4);
            x.hangs = false;
            run(&x, 1);
        }
        assert_int_equal(x.found, 0);
    }
}

static void a_hang_is_found_after_the_limit_and_before_twice_that(void **state)
{
    (void)state;
    for (size_t i = 2; i < N_LIMITS; i++) {
        struct world x = world_of(limits_ms[i]);
        run(&x, 100);
        x.hangs = true;
        const int64_t since = x.now;
        run(&x, 2 * limits_ms[i]);
        assert_true(x.found - since >= limits_ms[i] * MS && x.found - since < 2 * limits_ms[i] * MS);
    }
}

static void stops_of_any_length_and_number_end_nothing(void **state)
{
    (void)state;
    static const int64_t share_of_limit[] = {1, 2, 3, 10, 600}; /* tenths, from far below to far above */
    for (size_t i = 0; i < N_LIMITS; i++)
        for (size_t k = 0; k < sizeof share_of_limit / sizeof *share_of_limit; k++) {
            struct world x = world_of(limits_ms[i]);
            for (int stop = 0; stop < 200; stop++) {
                x.hangs = true; /* a step that the stop interrupts */
                tick_after(&x, x.w.tick_ns + limits_ms[i] * MS / 10 * share_of_limit[k]);
                tick_after(&x, x.w.tick_ns);
                x.hangs = false;
                tick_after(&x, x.w.tick_ns);
            }
            assert_int_equal(x.found, 0);
        }
}

/* A step that gets no time at all between stops: only the ticks come by. */
static void twenty_stops_within_one_step_end_nothing(void **state)
{
    (void)state;
    for (size_t i = 2; i < N_LIMITS; i++)
        for (int64_t share = 3; share <= 40; share++) { /* tenths of the limit */
            struct world x = world_of(limits_ms[i]);
            run(&x, 100);
            x.hangs = true;
            for (int stop = 0; stop < 20; stop++) tick_after(&x, limits_ms[i] * MS / 10 * share);
            assert_int_equal(x.found, 0);
        }
}

static void a_hang_that_spans_stops_is_found_within_two_limits_after_the_last(void **state)
{
    (void)state;
    for (size_t i = 2; i < N_LIMITS; i++)
        for (int n_stop = 1; n_stop <= 20; n_stop++) {
            struct world x = world_of(limits_ms[i]);
            run(&x, 100);
            x.hangs = true;
            run(&x, limits_ms[i] / 2);
            for (int stop = 0; stop < n_stop; stop++) tick_after(&x, limits_ms[i] * MS * (1 + stop % 3));
            assert_int_equal(x.found, 0);
            const int64_t continued = x.now;
            run(&x, 2 * limits_ms[i]);
            assert_true(x.found - continued >= limits_ms[i] / 2 * MS &&
                        x.found - continued <= 2 * limits_ms[i] * MS);
        }
}

/* A loaded machine: every tick comes late by half its length, or by its whole. It takes longer by as much. */
static void late_ticks_do_not_hide_a_hang(void **state)
{
    (void)state;
    for (size_t i = 2; i < N_LIMITS; i++)
        for (int64_t halves = 1; halves <= 2; halves++) {
            struct world x = world_of(limits_ms[i]);
            run(&x, 100);
            x.hangs = true;
            const int64_t since = x.now;
            while (!x.found && x.now < since + 4 * limits_ms[i] * MS)
                tick_after(&x, x.w.tick_ns + halves * x.w.tick_ns / 2);
            assert_true(x.found - since <= limits_ms[i] * MS * (2 + halves) / 2 + 4 * x.w.tick_ns);
        }
}

/* Other programs have the processor, and the ticks come on time all the same. */
static void a_step_that_waits_for_the_processor_is_never_found(void **state)
{
    (void)state;
    static const double share[] = {0, 0.001, 0.03, 0.25};
    for (size_t i = 2; i < N_LIMITS; i++)
        for (size_t k = 0; k < sizeof share / sizeof *share; k++) {
            struct world x = world_of(limits_ms[i]);
            run(&x, 100);
            x.hangs = true;
            x.share = share[k];
            for (int tick = 0; tick < 2000 && x.ran < limits_ms[i] * MS * 3 / 4; tick++)
                tick_after(&x, x.w.tick_ns);
            assert_int_equal(x.found, 0);
        }
}

static void a_hang_that_turns_round_and_round_is_found_when_it_has_run_for_the_limit(void **state)
{
    (void)state;
    static const double share[] = {1, 0.9, 0.5, 0.1};
    for (size_t i = 2; i < N_LIMITS - 1; i++)
        for (size_t k = 0; k < sizeof share / sizeof *share; k++) {
            struct world x = world_of(limits_ms[i]);
            run(&x, 100);
            x.hangs = true;
            x.share = share[k];
            while (!x.found && x.ran < 2 * limits_ms[i] * MS) tick_after(&x, x.w.tick_ns);
            assert_true(x.found && x.ran >= limits_ms[i] * MS * 9 / 10 && x.ran < 2 * limits_ms[i] * MS);
        }
}

static void want_of_the_processor_before_a_hang_does_not_hide_it(void **state)
{
    (void)state;
    for (size_t i = 2; i < N_LIMITS; i++) {
        struct world x = world_of(limits_ms[i]);
        run(&x, 100);
        x.hangs = true;
        x.share = 0;
        run(&x, 3 * limits_ms[i]);
        assert_int_equal(x.found, 0);
        x.share = 1;
        const int64_t since = x.now;
        run(&x, 2 * limits_ms[i]);
        assert_true(x.found - since >= limits_ms[i] * MS / 2 && x.found - since < 2 * limits_ms[i] * MS);
    }
}

static void without_a_limit_nothing_is_found(void **state)
{
    (void)state;
    struct world x = world_of(0);
    x.hangs = true;
    run(&x, 1000000);
    assert_int_equal(x.found, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_engine_that_lives_is_never_found),
        cmocka_unit_test(a_step_that_is_shorter_than_the_limit_is_never_found),
        cmocka_unit_test(a_hang_is_found_after_the_limit_and_before_twice_that),
        cmocka_unit_test(stops_of_any_length_and_number_end_nothing),
        cmocka_unit_test(twenty_stops_within_one_step_end_nothing),
        cmocka_unit_test(a_hang_that_spans_stops_is_found_within_two_limits_after_the_last),
        cmocka_unit_test(late_ticks_do_not_hide_a_hang),
        cmocka_unit_test(a_step_that_waits_for_the_processor_is_never_found),
        cmocka_unit_test(a_hang_that_turns_round_and_round_is_found_when_it_has_run_for_the_limit),
        cmocka_unit_test(want_of_the_processor_before_a_hang_does_not_hide_it),
        cmocka_unit_test(without_a_limit_nothing_is_found),
    };
    return cmocka_run_group_tests_name("server/watch", tests, NULL, NULL);
}
