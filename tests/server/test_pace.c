/* Which of this process's threads had the processor, by a clock of the test's own: where it goes on for long
 * while they ran for a moment, others had it. */
#include "tests/base/cm.h"

#include <pthread.h>
#include <stdatomic.h>

#include "server/pace.h"

static const int64_t AGES = INT64_C(1000000000000000); /* ns, a million times what this test takes */

struct worker {
    pthread_t thread;
    bool named, waits;
    int door[2]; /* who waits reads there */
    atomic_bool stop;
    atomic_long turns;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    char c;
    if (w->named) pace_name_thread();
    atomic_fetch_add(&w->turns, 1);
    if (w->waits) return (void *)(intptr_t)read(w->door[0], &c, 1);
    while (!atomic_load(&w->stop)) atomic_fetch_add(&w->turns, 1);
    return NULL;
}

static void start(struct worker *w, bool named, bool waits)
{
    *w = (struct worker){.named = named, .waits = waits};
    assert_int_equal(pipe(w->door), 0);
    assert_int_equal(pthread_create(&w->thread, NULL, work, w), 0);
    while (atomic_load(&w->turns) < (waits ? 1 : 1000)) usleep(100);
}

static void stop(struct worker *w)
{
    atomic_store(&w->stop, true);
    assert_int_equal(write(w->door[1], "x", 1), 1);
    assert_int_equal(pthread_join(w->thread, NULL), 0);
    close(w->door[0]);
    close(w->door[1]);
}

/* The share of time that went on for ages, after a look. */
static double share_of_ages(struct pace *p)
{
    pace_look(p, 1);
    return pace_look(p, 1 + AGES);
}

static void a_thread_that_sleeps_wants_no_processor(void **state)
{
    (void)state;
    struct worker w;
    struct pace p;
    pace_open(&p);
    start(&w, true, true);
    double share = 0;
    while (share < 1) share = share_of_ages(&p); /* until it has come to its read */
    for (int i = 0; i < 100; i++) assert_true(share_of_ages(&p) == 1);
    assert_int_equal(p.n, 1);
    stop(&w);
    pace_close(&p);
}

static void a_thread_that_could_run_and_did_not_waits_for_the_processor(void **state)
{
    (void)state;
    struct worker sleeps, runs;
    struct pace p;
    pace_open(&p);
    start(&sleeps, true, true);
    start(&runs, true, false);
    for (int i = 0; i < 100; i++) {
        assert_true(share_of_ages(&p) < 0.001);
        assert_int_equal(p.n, 2);
    }
    stop(&runs);
    stop(&sleeps);
    pace_close(&p);
}

static void a_thread_that_ran_all_the_time_waited_for_nothing(void **state)
{
    (void)state;
    struct worker w;
    struct pace p;
    pace_open(&p);
    start(&w, true, false);
    assert_true(pace_look(&p, 1) == 1);
    for (long before = atomic_load(&w.turns); atomic_load(&w.turns) < before + 1000000;) usleep(100);
    assert_true(pace_look(&p, 1001) == 1);
    stop(&w);
    pace_close(&p);
}

static void threads_of_others_are_not_looked_at(void **state)
{
    (void)state;
    struct worker w;
    struct pace p;
    pace_open(&p);
    start(&w, false, false);
    for (int i = 0; i < 100; i++) assert_true(share_of_ages(&p) == 1);
    assert_int_equal(p.n, 0);
    stop(&w);
    pace_close(&p);
}

static void a_thread_that_is_new_or_gone_hinders_nothing(void **state)
{
    (void)state;
    struct worker a, b;
    struct pace p;
    pace_open(&p);
    start(&a, true, false);
    pace_look(&p, 1);
    stop(&a);
    struct pace other;
    pace_open(&other);
    do pace_look(&other, 1);
    while (other.n > 0); /* a thread stands there for a moment after its end */
    pace_close(&other);
    start(&b, true, false);
    assert_true(pace_look(&p, 1 + AGES) == 1);
    assert_int_equal(p.n, 1);
    assert_true(pace_look(&p, 1 + 2 * AGES) < 0.001);
    stop(&b);
    pace_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thread_that_sleeps_wants_no_processor),
        cmocka_unit_test(a_thread_that_could_run_and_did_not_waits_for_the_processor),
        cmocka_unit_test(a_thread_that_ran_all_the_time_waited_for_nothing),
        cmocka_unit_test(threads_of_others_are_not_looked_at),
        cmocka_unit_test(a_thread_that_is_new_or_gone_hinders_nothing),
    };
    return cmocka_run_group_tests_name("server/pace", tests, NULL, NULL);
}
