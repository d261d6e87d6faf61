/* check: which settings a model's shape or this machine refuses, so that they are refused before weights are
 * read. Engine thread. */
#include <stdlib.h>

#include "base/heap.h"
#include "scheduler/route_ask.h"
#include "scheduler/scheduler.h"

static enum err check_swap(int64_t bytes, struct err_note *note)
{
    const int64_t host = heap_host_bytes();
    if (bytes < host) return OK;
    return err_set(note, ERR_CONFIG, "--swap-space-bytes",
                   "must be less than this machine's memory, %lld MiB", (long long)(host >> 20));
}

enum err scheduler_check(const struct scheduler_conf *conf, const struct engine_info *m,
                         struct err_note *note)
{
    uint8_t *bit = malloc((size_t)m->n_layer);
    if (!bit) return err_set(note, ERR_NOMEM, NULL, "no memory for the scheduler");
    enum err e = route_ask_parse(conf->route, m, bit, note);
    free(bit);
    return e ? e : check_swap(conf->swap_bytes, note);
}
