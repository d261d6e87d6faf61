/* workers: see workers.h. */
#include "server/workers.h"

#include <stdlib.h>

#include "base/threads.h"

enum { WORKERS = 4, WORKERS_MOST = 1024 }; /* libuv's own default and bound */

static int n_worker(void)
{
    const char *set = getenv("UV_THREADPOOL_SIZE");
    const int n = set ? atoi(set) : WORKERS;
    return n < 1 ? 1 : n > WORKERS_MOST ? WORKERS_MOST : n;
}

static void nothing(uv_work_t *w) { (void)w; }

static void nothing_after(uv_work_t *w, int status)
{
    (void)w;
    (void)status;
}

enum err workers_open(uv_loop_t *loop, int n_more, struct err_note *note)
{
    static uv_work_t first; /* as long as the process: the loop may end without it */
    if (!threads_can_start(n_worker() + n_more) || uv_queue_work(loop, &first, nothing, nothing_after) != 0)
        return err_set(
            note, ERR_NOMEM, NULL,
            "%d more threads cannot be started: lower --prep-threads, or raise the limit of threads (ulimit -u, pids.max)",
            n_worker() + n_more);
    return OK;
}
