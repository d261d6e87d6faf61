#include "tests/base/cm.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

#include "base/clock.h"
#include "base/mailbox.h"

static int item[8]; /* only their addresses matter */

static void count_wake(void *arg) { atomic_fetch_add((atomic_int *)arg, 1); }

static void items_leave_in_the_order_they_came(void **state)
{
    (void)state;
    struct mailbox *m = mailbox_new(3, NULL, NULL);
    assert_null(mailbox_take(m));
    for (int round = 0; round < 5; round++) { /* the ring wraps */
        assert_true(mailbox_put(m, &item[0]));
        assert_true(mailbox_put(m, &item[1]));
        assert_int_equal(mailbox_len(m), 2);
        assert_ptr_equal(mailbox_take(m), &item[0]);
        assert_ptr_equal(mailbox_wait(m, 0), &item[1]);
    }
    assert_null(mailbox_take(m));
    mailbox_free(m);
    mailbox_free(NULL);
}

static void a_full_box_refuses(void **state)
{
    (void)state;
    atomic_int n_wake = 0;
    struct mailbox *m = mailbox_new(2, count_wake, &n_wake);
    assert_true(mailbox_put(m, &item[0]));
    assert_true(mailbox_put(m, &item[1]));
    assert_false(mailbox_put(m, &item[2]));
    assert_int_equal(mailbox_len(m), 2);
    assert_ptr_equal(mailbox_take(m), &item[0]);
    assert_true(mailbox_put(m, &item[3]));
    assert_ptr_equal(mailbox_take(m), &item[1]);
    assert_ptr_equal(mailbox_take(m), &item[3]);
    assert_int_equal(n_wake, 1);
    mailbox_free(m);
}

static void take_all_takes_up_to_n(void **state)
{
    (void)state;
    struct mailbox *m = mailbox_new(8, NULL, NULL);
    void *got[8] = {0};
    assert_int_equal(mailbox_take_all(m, got, 8), 0);
    for (int i = 0; i < 5; i++) assert_true(mailbox_put(m, &item[i]));
    assert_int_equal(mailbox_take_all(m, got, 3), 3);
    for (int i = 0; i < 3; i++) assert_ptr_equal(got[i], &item[i]);
    assert_int_equal(mailbox_take_all(m, got, 8), 2);
    for (int i = 0; i < 2; i++) assert_ptr_equal(got[i], &item[3 + i]);
    mailbox_free(m);
}

static void wake_is_called_when_an_empty_box_fills(void **state)
{
    (void)state;
    atomic_int n_wake = 0;
    struct mailbox *m = mailbox_new(4, count_wake, &n_wake);
    mailbox_put(m, &item[0]);
    mailbox_put(m, &item[1]);
    assert_int_equal(n_wake, 1);
    mailbox_take(m);
    mailbox_put(m, &item[2]);
    assert_int_equal(n_wake, 1);
    mailbox_take(m);
    mailbox_take(m);
    mailbox_put(m, &item[3]);
    assert_int_equal(n_wake, 2);
    mailbox_poke(m);
    assert_int_equal(n_wake, 2);
    mailbox_take(m);
    mailbox_free(m);
}

static struct mailbox *reentered;
static void take_in_wake(void *arg) { *(void **)arg = mailbox_take(reentered); }

static void wake_runs_outside_the_lock(void **state)
{
    (void)state;
    void *got = NULL;
    reentered = mailbox_new(1, take_in_wake, &got); /* would hang under the lock */
    assert_true(mailbox_put(reentered, &item[5]));
    assert_ptr_equal(got, &item[5]);
    mailbox_free(reentered);
}

static void a_wait_ends_at_its_time(void **state)
{
    (void)state;
    struct mailbox *m = mailbox_new(1, NULL, NULL);
    int64_t t0 = clock_ns();
    assert_null(mailbox_wait(m, 0));
    assert_null(mailbox_wait(m, 30));
    assert_true(clock_ns() - t0 >= 30000000);
    t0 = clock_ns();
    assert_null(mailbox_wait(m, 1100)); /* a carry into the seconds */
    assert_true(clock_ns() - t0 >= 1100000000);
    assert_true(mailbox_put(m, &item[0]));
    assert_ptr_equal(mailbox_wait(m, INT64_MAX), &item[0]);
    mailbox_free(m);
}

static void a_poke_ends_one_wait_and_is_not_lost(void **state)
{
    (void)state;
    struct mailbox *m = mailbox_new(2, NULL, NULL);
    mailbox_poke(m);
    mailbox_poke(m); /* pokes do not add up */
    assert_null(mailbox_wait(m, -1));
    assert_null(mailbox_wait(m, 1)); /* by its time */

    mailbox_put(m, &item[0]);
    mailbox_poke(m);
    assert_ptr_equal(mailbox_take(m), &item[0]); /* take is no wait and leaves the poke alone */
    assert_null(mailbox_wait(m, -1));

    mailbox_put(m, &item[1]);
    mailbox_poke(m);
    assert_null(mailbox_wait(m, -1));
    assert_ptr_equal(mailbox_wait(m, -1), &item[1]); /* the item is still there */
    mailbox_free(m);
}

/* a waits in its own thread; what its wait returned lands in got */
struct waiter {
    struct mailbox *m;
    void *got;
    atomic_bool done;
};

static void *wait_for_ever(void *arg)
{
    struct waiter *w = arg;
    w->got = mailbox_wait(w->m, -1);
    atomic_store(&w->done, true);
    return NULL;
}

static void a_sleeping_waiter_is_reached(void **state)
{
    (void)state;
    struct mailbox *m = mailbox_new(1, NULL, NULL);
    for (int poke = 0; poke < 2; poke++) {
        struct waiter w = {.m = m, .got = &item[7]};
        pthread_t t;
        assert_int_equal(pthread_create(&t, NULL, wait_for_ever, &w), 0);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        assert_false(atomic_load(&w.done)); /* nothing came: it sleeps */
        if (poke)
            mailbox_poke(m);
        else
            mailbox_put(m, &item[1]);
        pthread_join(t, NULL);
        assert_ptr_equal(w.got, poke ? NULL : &item[1]);
    }
    mailbox_free(m);
}

static void one_poke_ends_one_of_two_waits(void **state)
{
    (void)state;
    struct mailbox *m = mailbox_new(1, NULL, NULL);
    struct waiter w[2] = {{.m = m, .got = &item[7]}, {.m = m, .got = &item[7]}};
    pthread_t t[2];
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&t[i], NULL, wait_for_ever, &w[i]), 0);
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    mailbox_poke(m);
    while (!atomic_load(&w[0].done) && !atomic_load(&w[1].done)) sched_yield();
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    assert_int_equal(atomic_load(&w[0].done) + atomic_load(&w[1].done), 1);
    mailbox_put(m, &item[2]);
    for (int i = 0; i < 2; i++) pthread_join(t[i], NULL);
    bool first_got_it = w[0].got == &item[2];
    assert_ptr_equal(w[first_got_it ? 0 : 1].got, &item[2]);
    assert_null(w[first_got_it ? 1 : 0].got);
    mailbox_free(m);
}

enum { N_ITEMS = 20000, N_PRODUCERS = 2, CAPACITY = 16 };

static int sent[N_PRODUCERS][N_ITEMS];

struct producer {
    struct mailbox *m;
    int id;
};

static void *produce(void *arg)
{
    struct producer *p = arg;
    for (int i = 0; i < N_ITEMS; i++) {
        sent[p->id][i] = i;
        while (!mailbox_put(p->m, &sent[p->id][i])) sched_yield();
        if (i % 1000 == 0) mailbox_poke(p->m);
    }
    return NULL;
}

static void threads_lose_nothing_and_keep_each_ones_order(void **state)
{
    (void)state;
    struct mailbox *m = mailbox_new(CAPACITY, NULL, NULL);
    struct producer p[N_PRODUCERS] = {{m, 0}, {m, 1}};
    pthread_t t[N_PRODUCERS];
    int next[N_PRODUCERS] = {0}, n_got = 0;
    for (int i = 0; i < N_PRODUCERS; i++) assert_int_equal(pthread_create(&t[i], NULL, produce, &p[i]), 0);
    while (n_got < N_PRODUCERS * N_ITEMS) {
        int *x = mailbox_wait(m, -1);
        assert_true(mailbox_len(m) <= CAPACITY);
        if (!x) continue; /* a poke */
        int from = x >= sent[1];
        assert_int_equal(*x, next[from]);
        next[from]++;
        n_got++;
    }
    for (int i = 0; i < N_PRODUCERS; i++) pthread_join(t[i], NULL);
    assert_null(mailbox_take(m));
    mailbox_free(m);
}

static void free_full(void)
{
    struct mailbox *m = mailbox_new(1, NULL, NULL);
    mailbox_put(m, &item[0]);
    mailbox_free(m);
}

static void put_null(void) { mailbox_put(mailbox_new(1, NULL, NULL), NULL); }

static void losing_an_item_is_a_bug(void **state)
{
    (void)state;
    assert_check_fails(free_full, "mailbox_len(m) == 0");
    assert_check_fails(put_null, "item");
}

int main(void)
{
    alarm(60); /* a hang is a failure */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_leave_in_the_order_they_came),
        cmocka_unit_test(a_full_box_refuses),
        cmocka_unit_test(take_all_takes_up_to_n),
        cmocka_unit_test(wake_is_called_when_an_empty_box_fills),
        cmocka_unit_test(wake_runs_outside_the_lock),
        cmocka_unit_test(a_wait_ends_at_its_time),
        cmocka_unit_test(a_poke_ends_one_wait_and_is_not_lost),
        cmocka_unit_test(a_sleeping_waiter_is_reached),
        cmocka_unit_test(one_poke_ends_one_of_two_waits),
        cmocka_unit_test(threads_lose_nothing_and_keep_each_ones_order),
        cmocka_unit_test(losing_an_item_is_a_bug),
    };
    return cmocka_run_group_tests_name("base/mailbox", tests, NULL, NULL);
}
