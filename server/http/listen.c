/* listen: the listening sockets. What they accept goes to the gate (gate.c). Loop thread only. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "server/http/bind.h"
#include "server/http/internal.h"

enum { REST_MS = 100 }; /* pause after accept failed for lack of descriptors or memory */

static void on_listen(uv_poll_t *p, int status, int events);

static void on_rested(uv_timer_t *t)
{
    struct http *h = t->data;
    h->resting = false;
    for (int i = 0; i < h->bound.n; i++)
        if (h->listener[i].open) uv_poll_start(&h->listener[i].poll, UV_READABLE, on_listen);
}

static void rest(struct http *h, int why)
{
    log_line(LOG_WARN, "accept pauses", "error=%s connections=%d pause_ms=%d", strerror(why), h->n_conn,
             REST_MS);
    h->resting = true;
    for (int i = 0; i < h->bound.n; i++)
        if (h->listener[i].open) uv_poll_stop(&h->listener[i].poll);
    uv_timer_start(&h->rest_timer, on_rested, REST_MS, 0);
}

static void over_limit(struct http *h, int fd, const struct err_note *full)
{
    h->stats.refused_early++;
    http_refuse_raw(h, fd, NULL, full);
    shutdown(fd, SHUT_WR);
    http_linger(h, fd);
}

/* The lingering sockets are a reserve for those who ask, and so are the connections that only wait. What the
 * library closes comes back with its next run, before the loop sleeps. */
static bool give_descriptor_back(struct http *h, const struct err_note *full)
{
    return http_linger_close_oldest(h) || h->n_evicted > 0 || http_gate_make_room(h, full);
}

static int n_place(const struct http *h) { return h->n_conn - h->n_evicted; }
static bool is_full(const struct http *h) { return n_place(h) >= h->conf.max_connections; }

/* Whether somebody waits for its client or for us is known only when what has come is read. */
static bool make_room(struct http *h, const struct err_note *full, bool *read)
{
    if (!*read) http_library_turn(h);
    *read = true;
    if (!is_full(h) || http_gate_make_room(h, full)) return true;
    http_library_turn(h); /* all others came with this batch, and with whole requests */
    return !is_full(h) || http_gate_make_room(h, full) || n_place(h) < h->conf.max_connections + PLACES_OVER;
}

static void on_listen(uv_poll_t *p, int status, int events)
{
    const struct listener *l = p->data;
    struct http *h = l->http;
    struct err_note full;
    bool read = false;
    (void)status, (void)events;
    err_set(&full, ERR_OVERLOAD, NULL, "the server has all the %d connections it may have",
            h->conf.max_connections);
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        struct sockaddr_storage addr = {.ss_family = AF_UNSPEC};
        socklen_t n_addr = sizeof addr;
        int fd = accept4(l->bound->fd, (struct sockaddr *)&addr, &n_addr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EAGAIN || errno == EWOULDBLOCK) return;
            if (errno == EINTR || errno == ECONNABORTED || errno == EPROTO) continue;
            const int why = errno;
            if ((why != EMFILE && why != ENFILE) || !give_descriptor_back(h, &full)) {
                rest(h, why);
                return;
            }
            if (h->n_evicted > 0) return;
            continue;
        }
        h->stats.connections_total++;
        struct peer peer;
        peer_of_socket(&peer, &addr);
        if (is_full(h) && !make_room(h, &full, &read))
            over_limit(h, fd, &full);
        else
            http_gate_open(h, fd, l->bound, &peer);
    }
}

enum err http_listen_bind(struct http *h, struct err_note *note)
{
    return bind_all(&h->bound, h->conf.host, h->conf.port, h->conf.socket_mode, note);
}

bool http_listen_start(struct http *h)
{
    uv_timer_init(h->loop, &h->rest_timer);
    h->rest_timer.data = h;
    h->n_handle++;
    for (int i = 0; i < h->bound.n; i++) {
        struct listener *l = &h->listener[i];
        *l = (struct listener){.http = h, .bound = &h->bound.at[i], .open = true};
        if (uv_poll_init(h->loop, &l->poll, l->bound->fd) != 0) return false;
        l->poll.data = l;
        h->n_handle++;
        uv_poll_start(&l->poll, UV_READABLE, on_listen);
    }
    return true;
}

static void on_closed(uv_handle_t *handle)
{
    struct http *h = ((struct listener *)handle->data)->http;
    h->n_handle--;
    http_maybe_done(h);
}

void http_stop_accepting(struct http *h)
{
    for (int i = 0; i < h->bound.n; i++) {
        struct listener *l = &h->listener[i];
        if (!l->open) continue;
        l->open = false;
        uv_close((uv_handle_t *)&l->poll, on_closed);
        bind_close(l->bound);
    }
}

void http_listen_close(struct http *h)
{
    http_stop_accepting(h);
    uv_close((uv_handle_t *)&h->rest_timer, http_handle_closed);
}
