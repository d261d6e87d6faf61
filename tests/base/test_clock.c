#include "tests/base/cm.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "base/clock.h"

static void time_never_goes_back(void **state)
{
    (void)state;
    int64_t t = clock_ns();
    assert_true(t > 0);
    for (int i = 0; i < 10000; i++) {
        int64_t u = clock_ns();
        assert_true(u >= t);
        t = u;
    }
}

static void the_unit_is_what_the_name_says(void **state)
{
    (void)state;
    int64_t t0 = clock_ns();
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    int64_t before = clock_ns() - t0;
    double ms = clock_ms_since(t0);
    int64_t after = clock_ns() - t0;
    assert_true(before >= 20000000); /* a sleep is never shorter */
    assert_true(ms >= (double)before * 1e-6 && ms <= (double)after * 1e-6);
}

static void wall_time_is_the_epochs(void **state)
{
    (void)state;
    int64_t before = (int64_t)time(NULL), now = clock_wall_s(), after = (int64_t)time(NULL);
    /* time() reads the coarse clock, which lags by up to a tick */
    assert_in_range((uintmax_t)now, (uintmax_t)before, (uintmax_t)after + 1);
}

/* --- standstill: each in a child, because a pulse never ends */

#define MS INT64_C(1000000)

static int64_t monotonic(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void sleep_ms(int64_t ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * MS}, NULL);
}

static void stand_still_without_a_pulse(void)
{
    int64_t t0 = clock_ns();
    sleep_ms(2 * CLOCK_STILL_MS);
    if (clock_ns() - t0 < 2 * CLOCK_STILL_MS * MS) _exit(1);
}

static void stand_still_with_a_pulse(void)
{
    clock_pulse();
    for (int i = 0; i < 3; i++) {
        int64_t t0 = clock_ns(), m0 = monotonic();
        sleep_ms(2 * CLOCK_STILL_MS); /* nobody reads it */
        int64_t told = clock_ns() - t0, real = monotonic() - m0;
        if (told < CLOCK_PULSE_MS * MS || told > CLOCK_PULSE_MS * MS + real - 2 * CLOCK_STILL_MS * MS)
            _exit(1);
    }
}

static void assert_child_ends_well(void (*fn)(void))
{
    char out[256];
    assert_int_equal(run_child(fn, out, sizeof out), 0);
}

static void without_a_pulse_all_time_counts(void **state)
{
    (void)state;
    assert_child_ends_well(stand_still_without_a_pulse);
}

static void of_a_standstill_one_pulse_counts(void **state)
{
    (void)state;
    assert_child_ends_well(stand_still_with_a_pulse);
}

static atomic_bool over;

/* Reads all the time: what it reads never goes back, and never leaps as far as a stop lasts. */
static void *read_on(void *bad)
{
    for (int64_t t = clock_ns(), u; !atomic_load(&over); t = u) {
        u = clock_ns();
        if (u < t || u - t >= 3 * CLOCK_STILL_MS * MS) *(bool *)bad = true;
    }
    return NULL;
}

/* However many threads see the end of a stop, it is taken away once. */
static void read_while_stopped(void)
{
    enum { N = 4, STOPS = 6 };
    pthread_t t[N];
    bool bad[N] = {false};
    int64_t stood = 0;
    clock_pulse();
    const int64_t t0 = clock_ns(), m0 = monotonic();
    for (int i = 0; i < N; i++) pthread_create(&t[i], NULL, read_on, &bad[i]);
    for (int i = 0; i < STOPS; i++) {
        const int64_t before = monotonic();
        const pid_t me = getpid(), other = fork(); /* who stops us goes on */
        if (other == 0) {
            kill(me, SIGSTOP);
            sleep_ms(3 * CLOCK_STILL_MS);
            kill(me, SIGCONT);
            _exit(0);
        }
        waitpid(other, NULL, 0);
        if (monotonic() - before >= 3 * CLOCK_STILL_MS * MS) stood += 3 * CLOCK_STILL_MS * MS;
        sleep_ms(20);
    }
    atomic_store(&over, true);
    for (int i = 0; i < N; i++) pthread_join(t[i], NULL);
    const int64_t told = clock_ns() - t0, real = monotonic() - m0;
    for (int i = 0; i < N; i++)
        if (bad[i]) _exit(1);
    if (told > real - stood + STOPS * CLOCK_STILL_MS * MS || told < STOPS * 20 * MS) _exit(2);
}

static void stops_count_once_for_all_threads(void **state)
{
    (void)state;
    assert_child_ends_well(read_while_stopped);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_never_goes_back),
        cmocka_unit_test(the_unit_is_what_the_name_says),
        cmocka_unit_test(wall_time_is_the_epochs),
        cmocka_unit_test(without_a_pulse_all_time_counts),
        cmocka_unit_test(of_a_standstill_one_pulse_counts),
        cmocka_unit_test(stops_count_once_for_all_threads),
    };
    return cmocka_run_group_tests_name("base/clock", tests, NULL, NULL);
}
