/* lanes: which job the worker pool gets next. The pool (libuv's, one for the process) takes jobs in the order
 * in which they come. Here small ones go to it at once; of large ones, so few are in it at a time that
 * threads are left for the small, and the rest waits here. A large one in work gives way to all other
 * threads. Loop thread. */
#ifndef FLUXD_SERVER_API_LANES_H
#define FLUXD_SERVER_API_LANES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/list.h"

struct lanes {
    uv_loop_t *loop;
    size_t small_bytes;  /* a job of more is large */
    int most_large;      /* in the pool at once */
    int n_large;         /* in the pool */
    struct list waiting; /* struct lane_job, in no order */
    uint64_t now;        /* tag of the last large job that went to the pool */
};

/* One job: the caller's memory, zeroed, from lanes_add until done. */
struct lane_job {
    size_t bytes;                              /* of the body: how much work it may be */
    uint64_t client;                           /* large jobs of one client take turns with those of others */
    void (*run)(struct lane_job *);            /* on a thread of the pool */
    void (*done)(struct lane_job *, bool ran); /* on the loop, last; false: nobody ran it */

    struct lanes *lanes; /* the rest is lanes' own */
    struct list node;
    uv_work_t work;
    bool large, waits;
    uint64_t flow, tag;
};

bool lanes_size_pool(int n_thread); /* before the pool is first used by anyone; false: no memory */

void lanes_init(struct lanes *l, uv_loop_t *loop, int n_thread, size_t small_bytes);
void lanes_add(struct lanes *l, struct lane_job *j);

/* Nobody wants its result any more. One that waits here is done before this returns; else done comes as ever.
 */
void lanes_drop(struct lane_job *j);

#endif
