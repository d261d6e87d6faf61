/* state: what every file here asks of the listener's own state, and nothing above it. Loop thread only. */
#include <stdlib.h>
#include <sys/socket.h>

#include "server/http/internal.h"

void http_kick(struct http *h) { h->kicked = true; }

void http_maybe_done(struct http *h)
{
    if (!h->closing || h->n_handle > 0 || h->n_live_call > 0 || h->n_body > 0 || h->n_conn > 0 ||
        h->n_linger > 0)
        return;
    void (*done)(void *) = h->on_closed;
    void *arg = h->on_closed_arg;
    http_keys_fini(h);
    crowd_fini(&h->crowd);
    free(h->peek);
    free(h->by_fd);
    free(h);
    if (done) done(arg);
}

void http_handle_closed(uv_handle_t *handle)
{
    struct http *h = handle->data;
    h->n_handle--;
    http_maybe_done(h);
}

void http_conn_cut(struct http_conn *c) { shutdown(c->fd, SHUT_RDWR); }
