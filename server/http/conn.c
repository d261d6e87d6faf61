/* conn: one connection that the library has, from the gate (gate.c) to its end. All its deadlines are here:
 * the library knows only inactivity, and a slow attacker is never inactive. Loop thread only. */
#include <linux/sockios.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/http/internal.h"
#include "server/http/tcp.h"

/* --- the end of it */

static void on_poll_closed(uv_handle_t *handle)
{
    struct http_conn *c = handle->data;
    struct http *h = c->http;
    c->poll_open = false;
    if (c->dead) free(c);
    h->n_handle--;
    http_maybe_done(h);
}

void http_conn_close_poll(struct http_conn *c)
{
    if (c->poll_open && !uv_is_closing((uv_handle_t *)&c->poll))
        uv_close((uv_handle_t *)&c->poll, on_poll_closed);
}

void http_conn_drop(struct http_conn *c)
{
    http_conn_close_poll(c);
    http_due_clear(&c->due);
    crowd_leave(&c->http->crowd, &c->place);
    http_reader_unwatch(c);
    list_remove(&c->left);
    list_remove(&c->all);
    c->http->n_conn--;
    c->http->n_evicted -= c->evicted;
    c->http->stats.connections_open -= !c->evicted;
    c->dead = true;
    if (!c->poll_open) free(c);
}

void http_conn_forget(struct http_conn *c)
{
    http_conn_count(c);
    http_conn_drop(c);
}

int http_conn_unread(const struct http_conn *c)
{
    int n = 0;
    ioctl(c->fd, FIONREAD, &n);
    return n;
}

/* The library closes it in its next run: until then it counts as evicted, not as open. */
void http_conn_evict(struct http_conn *c, const struct err_note *full)
{
    if (c->place.what != CROWD_NEXT) http_refuse_raw(c->http, c->fd, c->call, full);
    if (c->call) c->call->status = err_status(full->code);
    c->evicted = true;
    c->http->n_evicted++;
    c->http->stats.connections_open--;
    http_due_clear(&c->due);
    crowd_go_on(&c->http->crowd, &c->place);
    http_conn_cut(c);
    http_kick(c->http);
}

/* --- peers that leave */

/* The library may not notice: a suspended connection is not looked at, and an end that came together with the
 * last bytes gives no edge of its own. Any event is the end, an error as well, since nothing but the peer's
 * leaving is asked for. */
static void on_left(uv_poll_t *p, int status, int events)
{
    struct http_conn *c = p->data;
    struct pollfd now = {.fd = c->fd, .events = POLLRDHUP};
    (void)status, (void)events;
    uv_poll_stop(p);
    c->left_by = poll(&now, 1, 0) == 1 && !(now.revents & (POLLERR | POLLHUP)) ? "fin" : "reset";
    list_push_back(&c->http->left, &c->left);
    http_kick(c->http);
}

void http_conn_watch_left(struct http_conn *c) { uv_poll_start(&c->poll, UV_DISCONNECT, on_left); }

/* A peer that has closed its side gets no more from a handler at work, but an answer on its way is brought to
 * its end and bytes not yet read may hold a whole request. Where nothing of this is left, neither is the
 * connection. */
void http_conn_settle(struct http *h)
{
    LIST_EACH_SAFE (it, &h->left) {
        struct http_conn *c = LIST_ITEM(it, struct http_conn, left);
        if (c->call && c->call->with_handler)
            http_call_client_left(c->call);
        else if ((c->call && c->call->answered) || http_conn_unread(c) > 0)
            continue;
        else
            http_conn_cut(c);
        list_remove(&c->left);
    }
}

/* --- deadlines */

static void be_served(struct http_conn *c)
{
    if (c->call && c->call->aside)
        crowd_go_on(&c->http->crowd, &c->place);
    else
        crowd_serve(&c->http->crowd, &c->place);
}

void http_conn_quiet(struct http_conn *c)
{
    http_due_clear(&c->due);
    be_served(c);
}

void http_conn_wait(struct http_conn *c, enum due which)
{
    static const enum crowd_for what[] = {[DUE_FRESH] = CROWD_FIRST,
                                          [DUE_IDLE] = CROWD_NEXT,
                                          [DUE_HEADER] = CROWD_HEAD,
                                          [DUE_BODY] = CROWD_BODY};
    http_due_set(c->http, &c->due, which);
    if (!c->evicted) crowd_wait(&c->http->crowd, &c->place, what[which], clock_ns());
}

void http_conn_idle(struct http_conn *c)
{
    c->midway = http_reader_midway(&c->reader);
    http_conn_wait(c, c->midway ? DUE_HEADER : DUE_IDLE);
}

void http_conn_reading(struct http_conn *c)
{
    c->midway = false;
    http_conn_wait(c, DUE_BODY);
}

void http_conn_progress(struct http_conn *c)
{
    if (c->place.waits) crowd_wait(&c->http->crowd, &c->place, CROWD_BODY, clock_ns());
}

void http_conn_count(struct http_conn *c)
{
    uint64_t acked, received;
    if (c->tcp)
        http_tcp_count(c->fd, &acked, &received);
    else
        acked = c->sent, received = c->taken;
    if (acked > c->acked) {
        c->http->stats.bytes_out += acked - c->acked;
        c->acked = acked;
    }
    if (received > c->received) {
        c->http->stats.bytes_in += received - c->received;
        c->received = received;
    }
}

void http_conn_writing(struct http_conn *c)
{
    http_conn_count(c);
    c->acked_ns = clock_ns();
    be_served(c);
    http_due_set(c->http, &c->due, DUE_STALL);
}

/* Progress is what the peer has confirmed, not what the kernel has buffered. Nothing to confirm is no stall.
 */
static void look_for_stall(struct http_conn *c)
{
    struct http *h = c->http;
    uint64_t before = c->acked;
    int unconfirmed = 0;
    http_conn_count(c);
    ioctl(c->fd, SIOCOUTQ, &unconfirmed);
    const bool moved = c->acked != before || unconfirmed == 0 || (!c->tcp && unconfirmed != c->unconfirmed);
    c->unconfirmed = unconfirmed;
    if (moved) c->acked_ns = clock_ns();
    if (clock_ns() - c->acked_ns < (int64_t)h->conf.write_stall_ms * 1000000) {
        http_due_set(h, &c->due, DUE_STALL);
        return;
    }
    h->stats.stalled++;
    log_line(LOG_INFO, "client stalled", "id=%s unconfirmed_bytes=%d", c->call ? c->call->id : "-",
             unconfirmed);
    /* What it did not read in all that time is not kept for it in the kernel either. */
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    if (c->call) http_call_client_left(c->call);
    http_conn_cut(c);
}

void http_conn_late(const struct http_conn *c, enum due which, struct err_note *note)
{
    const struct http_conf *conf = &c->http->conf;
    const bool body = which == DUE_BODY;
    err_set(note, ERR_TIMEOUT, NULL, "the %s did not come within %d ms", body ? "body" : "headers",
            body ? conf->body_ms : conf->header_ms);
}

static void on_due(struct due_node *n, enum due which)
{
    struct http_conn *c = LIST_ITEM(n, struct http_conn, due);
    struct err_note note;
    if (which == DUE_STALL) {
        look_for_stall(c);
        return;
    }
    if (which != DUE_IDLE) {
        http_conn_late(c, which, &note);
        http_refuse_raw(c->http, c->fd, c->call, &note);
    }
    http_conn_cut(c);
}

void http_conn_taken(struct http_conn *c, struct MHD_Connection *mhd)
{
    c->mhd = mhd;
    c->due.expire = on_due;
    crowd_go_on(&c->http->crowd, &c->place); /* a whole header block is there for the library to read */
}
