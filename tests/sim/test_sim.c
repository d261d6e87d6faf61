/* sim, short: every trace of the simulator, its laws after every turn. `make sim` runs the long ones. */
#include "tests/sim/world.h"

#include "tests/base/cm.h"

enum { N = 3000, FEW = 800 };

static struct sim_result run(enum trace t, enum route_policy policy, bool age, int n)
{
    struct sim_conf c = {
        .trace = t, .policy = policy, .age = age, .target_ms = 40, .n = n, .load = 0.7, .seed = 9};
    return sim_run(&c);
}

static void every_trace_keeps_the_laws(void **st)
{
    (void)st;
    for (int t = 0; t < N_TRACES; t++) {
        struct sim_result r = run((enum trace)t, ROUTE_POLICY_BALANCE, true, N);
        print_message("%-10s ttft p50 %.0f p99 %.0f ms, itl p99 %.1f ms, %.0f tok/s\n", trace_name[t],
                      r.ttft50_ms, r.ttft99_ms, r.itl99_ms, r.tok_per_s);
        assert_int_equal(r.n_done, N);
        assert_true(r.error < 0.25);        /* the cost model found the machine */
        assert_true(r.itl99_ms < 40 * 1.5); /* the target, and what one smallest piece or a hiccup may add */
    }
}

static void the_same_trace_gives_the_same_run(void **st)
{
    (void)st;
    struct sim_result a = run(TRACE_BURSTS, ROUTE_POLICY_ORDER, true, FEW),
                      b = run(TRACE_BURSTS, ROUTE_POLICY_ORDER, true, FEW);
    assert_memory_equal(&a, &b, sizeof a);
}

static void age_bounds_the_longest_wait(void **st)
{
    (void)st;
    struct sim_result with = run(TRACE_AGENTS, ROUTE_POLICY_BALANCE, true, FEW),
                      without = run(TRACE_AGENTS, ROUTE_POLICY_BALANCE, false, FEW);
    assert_true(with.ttft_most_ms < without.ttft_most_ms);
}

/* More than the machine can do, of higher priority. The bound in admissions is looked at after every turn. */
static void low_priority_is_served_beside_a_crowd(void **st)
{
    (void)st;
    struct sim_result r[2];
    for (int age = 0; age < 2; age++) {
        struct sim_conf c = {.trace = TRACE_PRIORITIES,
                             .policy = ROUTE_POLICY_BALANCE,
                             .age = age,
                             .target_ms = 40,
                             .n = N / 2,
                             .load = 1.2,
                             .seed = 9};
        r[age] = sim_run(&c);
    }
    print_message("first tokens of low priority: %.0f ms at most, %.0f without ageing\n", r[1].low_most_ms,
                  r[0].low_most_ms);
    assert_true(r[1].low_most_ms < r[0].low_most_ms / 2);
}

static void a_burst_over_the_queue_is_served_or_refused(void **st)
{
    (void)st;
    struct sim_conf c = {.trace = TRACE_DOCUMENTS,
                         .policy = ROUTE_POLICY_ORDER,
                         .age = true,
                         .target_ms = 40,
                         .n = SIM_QUEUE + 1000,
                         .load = 1000,
                         .seed = 3};
    struct sim_result r = sim_run(&c);
    assert_true(r.n_refused > 0 && r.n_done >= SIM_QUEUE);
    assert_int_equal(r.n_done + r.n_refused, r.n_sent);
}

/* Without a target a step keeps to the stretch for streams that are senior to all its prompts (looked at in
 * every step). */
static void a_burst_does_not_wait_for_its_own_first_streams(void **st)
{
    (void)st;
    struct sim_result r[2];
    for (int burst = 0; burst < 2; burst++) {
        struct sim_conf c = {.trace = TRACE_BURSTS,
                             .policy = ROUTE_POLICY_ORDER,
                             .age = true,
                             .burst_ms = 100 * burst,
                             .n = FEW,
                             .load = 0.7,
                             .seed = 9};
        r[burst] = sim_run(&c);
    }
    assert_true(r[1].tok_per_s > 1.3 * r[0].tok_per_s && r[1].ttft50_ms < 0.5 * r[0].ttft50_ms);
    assert_true(r[1].itl99_ms < 100 * 1.2);
    print_message("bursts: %.0f tok/s, %.0f with time for bursts\n", r[0].tok_per_s, r[1].tok_per_s);
}

int main(void)
{
    const struct CMUnitTest t[] = {cmocka_unit_test(every_trace_keeps_the_laws),
                                   cmocka_unit_test(the_same_trace_gives_the_same_run),
                                   cmocka_unit_test(age_bounds_the_longest_wait),
                                   cmocka_unit_test(low_priority_is_served_beside_a_crowd),
                                   cmocka_unit_test(a_burst_over_the_queue_is_served_or_refused),
                                   cmocka_unit_test(a_burst_does_not_wait_for_its_own_first_streams)};
    return cmocka_run_group_tests(t, NULL, NULL);
}
