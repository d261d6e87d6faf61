/* hist: the histograms of struct scheduler_stats. Each is written by one thread and read by any. */
#include <math.h>

#include "scheduler/scheduler.h"

const double sched_hist_bound_s[HIST_BUCKETS] = {0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02,
                                                 0.03,  0.05,  0.075, 0.1,   0.15,   0.25, 0.5,   1,
                                                 2,     4,     8,     15,    30,     60,   120,   INFINITY};
const double sched_hist_bound_n[HIST_BUCKETS] = {
    1,    2,    5,     10,    20,    50,     100,    200,    500,    1000,    2000,    3000,
    5000, 7500, 10000, 20000, 50000, 100000, 150000, 200000, 500000, 1000000, 2000000, INFINITY};

static void put(struct sched_hist *h, int i, int64_t v)
{
    atomic_fetch_add_explicit(&h->bucket[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum, (uint64_t)(v > 0 ? v : 0), memory_order_relaxed);
    atomic_fetch_add_explicit(&h->count, 1, memory_order_release);
}

void sched_hist_time(struct sched_hist *h, int64_t ns)
{
    int i = 0;
    while ((double)ns * 1e-9 > sched_hist_bound_s[i]) i++;
    put(h, i, ns);
}

void sched_hist_count(struct sched_hist *h, int64_t n)
{
    int i = 0;
    while ((double)n > sched_hist_bound_n[i]) i++;
    put(h, i, n);
}
