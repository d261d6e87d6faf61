/* workers: libuv's pool, which prepares requests. Loop thread. */
#ifndef FLUXD_SERVER_WORKERS_H
#define FLUXD_SERVER_WORKERS_H

#include <uv.h>

#include "base/err.h"

/* Has the pool start its threads now, and makes sure that n_more can still be started; ERR_NOMEM where the
 * limits do not allow so many. Left to itself the pool starts with the first request, and aborts the process
 * where it may not. */
enum err workers_open(uv_loop_t *loop, int n_more, struct err_note *note);

#endif
