/* lanes: see lanes.h. Large jobs wait by start-time fair queueing: those of one client and one order of size
 * are a flow, a job's tag lies its own bytes behind the last of its flow, or behind the tag at which the lane
 * is, and the least tag goes first. So flows get equal shares of bytes, a job passes by ones of many times
 * its size, and none waits for ever. */
#include "server/api/lanes.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/check.h"

enum {
    LARGE_SHARE = 4, /* of the threads, large jobs take one in so many, and at least one */
    LARGE_NICE = 10  /* a tenth of a core where all are busy */
};

bool lanes_size_pool(int n_thread)
{
    char text[16];
    snprintf(text, sizeof text, "%d", n_thread);
    return setenv("UV_THREADPOOL_SIZE", text, 1) == 0;
}

void lanes_init(struct lanes *l, uv_loop_t *loop, int n_thread, size_t small_bytes)
{
    CHECK(n_thread >= 2);
    *l = (struct lanes){.loop = loop,
                        .small_bytes = small_bytes,
                        .most_large = n_thread < LARGE_SHARE ? 1 : n_thread / LARGE_SHARE};
    list_init(&l->waiting);
}

static void run_nicely(void *arg)
{
    struct lane_job *j = arg;
    setpriority(PRIO_PROCESS, 0,
                getpriority(PRIO_PROCESS, 0) +
                    LARGE_NICE); /* of this thread alone; where it fails, all share alike */
    j->run(j);
}

/* A large job takes seconds of a core, and gives way to the loop, the engine and small jobs. A thread cannot
 * take its niceness back without a privilege, so the job has one of its own, for which the pool's waits. */
static void run(uv_work_t *w)
{
    struct lane_job *j = w->data;
    uv_thread_t own;
    if (j->large && uv_thread_create(&own, run_nicely, j) == 0)
        CHECK(uv_thread_join(&own) == 0);
    else
        j->run(j);
}

static void fill(struct lanes *l);

static void after(uv_work_t *w, int status)
{
    struct lane_job *j = w->data;
    struct lanes *l = j->lanes;
    if (j->large) {
        l->n_large--;
        fill(l);
    }
    j->done(j, status == 0);
}

static void to_pool(struct lanes *l, struct lane_job *j)
{
    j->waits = false;
    CHECK(uv_queue_work(l->loop, &j->work, run, after) == 0); /* fails on a NULL callback only */
}

static void fill(struct lanes *l)
{
    while (l->n_large < l->most_large && !list_empty(&l->waiting)) {
        struct lane_job *first = NULL;
        LIST_EACH (n, &l->waiting) {
            struct lane_job *j = LIST_ITEM(n, struct lane_job, node);
            if (!first || j->tag < first->tag) first = j;
        }
        list_remove(&first->node);
        l->now = first->tag;
        l->n_large++;
        to_pool(l, first);
    }
}

static uint64_t flow_of(const struct lane_job *j)
{
    return j->client << 6 | (uint64_t)(63 - __builtin_clzll(j->bytes | 1));
}

void lanes_add(struct lanes *l, struct lane_job *j)
{
    j->lanes = l;
    j->work.data = j;
    j->large = j->bytes > l->small_bytes;
    list_init(&j->node);
    if (!j->large) {
        to_pool(l, j);
        return;
    }
    j->flow = flow_of(j);
    j->tag = l->now;
    LIST_EACH (n, &l->waiting) {
        const struct lane_job *other = LIST_ITEM(n, struct lane_job, node);
        if (other->flow == j->flow && other->tag > j->tag) j->tag = other->tag;
    }
    j->tag += j->bytes;
    j->waits = true;
    list_push_back(&l->waiting, &j->node);
    fill(l);
}

void lanes_drop(struct lane_job *j)
{
    if (!j->waits) {
        uv_cancel((uv_req_t *)&j->work); /* when a thread has it already, it runs to its end */
        return;
    }
    list_remove(&j->node);
    j->waits = false;
    j->done(j, false);
}
