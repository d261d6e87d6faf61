/* Laws of the lanes, on the real pool: jobs are counted and held at gates; no law asks a clock. */
#include "tests/base/cm.h"

#include <stdatomic.h>
#include <sys/resource.h>

#include "server/api/lanes.h"

enum { THREADS = 4, SMALL = 100, JOBS = 64 };

static uv_loop_t loop;
static struct lanes lanes;

struct job {
    struct lane_job lane;
    int name, n_done;
    int nice;
    bool gated, ran;
};

static struct job job[JOBS];
static int n_job, order[JOBS], n_order; /* names of those that ran, in the order of their ends */
static atomic_int large_now, large_peak, in_gate;
static uv_sem_t gate;
static void (*each_done)(struct job *);

static void run(struct lane_job *l)
{
    struct job *j = LIST_ITEM(l, struct job, lane);
    const bool large = l->bytes > SMALL;
    const int now = large ? atomic_fetch_add(&large_now, 1) + 1 : 0;
    if (now > atomic_load(&large_peak)) atomic_store(&large_peak, now);
    j->nice = getpriority(PRIO_PROCESS, 0);
    if (j->gated) {
        atomic_fetch_add(&in_gate, 1);
        uv_sem_wait(&gate);
    }
    if (large) atomic_fetch_sub(&large_now, 1);
}

static void done(struct lane_job *l, bool ran)
{
    struct job *j = LIST_ITEM(l, struct job, lane);
    j->n_done++;
    j->ran = ran;
    if (ran) order[n_order++] = j->name;
    if (each_done) each_done(j);
}

static struct job *add(int name, size_t bytes, uint64_t client, bool gated)
{
    struct job *j = &job[n_job++];
    *j = (struct job){
        .name = name, .gated = gated, .lane = {.bytes = bytes, .client = client, .run = run, .done = done}};
    lanes_add(&lanes, &j->lane);
    return j;
}

static void open_gate(int n)
{
    while (n-- > 0) uv_sem_post(&gate);
}

static void turn_until(const int *count, int want)
{
    while (*count < want) uv_run(&loop, UV_RUN_ONCE);
}

static int begin(void **state)
{
    (void)state;
    n_job = n_order = 0;
    each_done = NULL;
    atomic_store(&large_peak, 0);
    atomic_store(&in_gate, 0);
    lanes_init(&lanes, &loop, THREADS, SMALL);
    return uv_sem_init(&gate, 0);
}

static int end(void **state)
{
    (void)state;
    open_gate(JOBS); /* also behind a law that failed */
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_sem_destroy(&gate);
    for (int i = 0; i < n_job; i++)
        if (job[i].n_done != 1) return 1; /* each exactly once, whatever became of it */
    return lanes.n_large == 0 && list_empty(&lanes.waiting) ? 0 : 1;
}

static void small_jobs_end_while_all_large_ones_stand_still(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) add(i, SMALL + 1 + (size_t)i * 1000, (uint64_t)i % 3, true);
    for (int i = 0; i < 20; i++) add(100 + i, SMALL, 0, false);
    turn_until(&n_order, 20);
    for (int i = 0; i < 20; i++) assert_true(order[i] >= 100);
    while (atomic_load(&in_gate) == 0) uv_sleep(1); /* on a busy machine it has not begun yet */
    assert_int_equal(atomic_load(&large_now), 1);
    open_gate(20);
    turn_until(&n_order, 40);
    assert_int_equal(atomic_load(&large_peak), 1);
}

static void large_jobs_have_at_least_one_thread_and_a_quarter_of_many(void **state)
{
    (void)state;
    static const int want[][2] = {{2, 1}, {3, 1}, {4, 1}, {7, 1}, {8, 2}, {64, 16}};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        struct lanes l;
        lanes_init(&l, &loop, want[i][0], SMALL);
        assert_int_equal(l.most_large, want[i][1]);
    }
}

static void large_jobs_give_way_and_small_ones_do_not(void **state)
{
    (void)state;
    const int own = getpriority(PRIO_PROCESS, 0);
    for (int i = 0; i < 3 * THREADS; i++)
        add(i, i % 2 ? SMALL + 1 : SMALL, 0,
            false); /* each thread of the pool has had large ones before small ones */
    turn_until(&n_order, 3 * THREADS);
    for (int i = 0; i < 3 * THREADS; i++)
        assert_int_equal(job[i].nice, i % 2 ? (own + 10 > 19 ? 19 : own + 10) : own);
}

static void a_job_passes_by_those_of_many_times_its_size(void **state)
{
    (void)state;
    add(0, 80000, 1, true);
    for (int i = 1; i < 8; i++) add(i, 80000, 1, false);
    add(50, 2000, 1, false); /* of the same client */
    open_gate(1);
    turn_until(&n_order, 9);
    assert_int_equal(order[0], 0);
    assert_int_equal(order[1], 50);
}

static void clients_take_turns(void **state)
{
    (void)state;
    add(0, 5000, 1, true);
    for (int i = 1; i < 10; i++) add(i, 5000, 1, false);
    add(100, 5000, 2, false);
    add(101, 5000, 2, false);
    add(102, 5000, 2, false);
    open_gate(1);
    turn_until(&n_order, 13);
    int last = 0; /* at which place the second client is through: after as many of the first, and one more */
    for (int i = 0; i < 13; i++)
        if (order[i] >= 100) last = i;
    assert_true(last <= 7);
}

static int n_more;
static void add_another(struct job *j)
{
    if (j->name != 7 && n_more-- > 0) add(1, 300, (uint64_t)n_more % 2, false);
}

static void none_waits_for_ever(void **state)
{
    (void)state;
    each_done = add_another;
    n_more = 40;
    add(0, 300, 0, true);
    add(7, 3000, 3, false);
    for (int i = 0; i < 4; i++) add(1, 300, (uint64_t)i, false);
    open_gate(1);
    turn_until(&n_order, 46);
    int at = 0;
    while (order[at] != 7) at++;
    assert_true(at <= 35); /* 10 bytes of others for each flow's share pass by, no more */
}

static void who_leaves_while_waiting_is_never_run(void **state)
{
    (void)state;
    struct job *first = add(0, 5000, 1, true), *left[10];
    for (int i = 0; i < 10; i++) left[i] = add(1 + i, 5000, 1, false);
    struct job *last = add(99, 5000, 1, false);
    for (int i = 0; i < 10; i++) {
        lanes_drop(&left[i]->lane);
        assert_int_equal(left[i]->n_done, 1); /* at once: the body is freed before its turn */
        assert_false(left[i]->ran);
    }
    open_gate(1);
    turn_until(&n_order, 2);
    assert_true(first->ran && last->ran);
}

static void who_leaves_in_the_pool_is_done_once(void **state)
{
    (void)state;
    struct job *runs = add(0, 5000, 1, true);
    while (atomic_load(&in_gate) == 0) uv_sleep(1);
    lanes_drop(&runs->lane);
    assert_int_equal(runs->n_done, 0);
    struct job *next = add(1, 5000, 1, false);
    open_gate(1);
    turn_until(&n_order, 2);
    assert_true(next->ran);
    struct job *small[8];
    for (int i = 0; i < 8; i++) small[i] = add(10 + i, 1, 1, false);
    for (int i = 0; i < 8; i++) lanes_drop(&small[i]->lane);
    /* end() counts that each came home once */
}

int main(void)
{
    if (!lanes_size_pool(THREADS)) return 1;
    if (uv_loop_init(&loop) != 0) return 1;
#define LAW(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        LAW(small_jobs_end_while_all_large_ones_stand_still),
        LAW(large_jobs_have_at_least_one_thread_and_a_quarter_of_many),
        LAW(large_jobs_give_way_and_small_ones_do_not),
        LAW(a_job_passes_by_those_of_many_times_its_size),
        LAW(clients_take_turns),
        LAW(none_waits_for_ever),
        LAW(who_leaves_while_waiting_is_never_run),
        LAW(who_leaves_in_the_pool_is_done_once),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return uv_loop_close(&loop) == 0 ? failed : 1;
}
