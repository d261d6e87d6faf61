/* conn: one connection. First it stands at the gate, where its first header block is looked at without being
 * taken from the socket, so that who sends none costs no library memory; then the library has it. All its
 * deadlines are here: the library knows only inactivity, and a slow attacker is never inactive. Loop thread
 * only. */
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/http/guard.h"
#include "server/http/internal.h"
#include "server/http/recv.h"
#include "server/http/tcp.h"

enum {
    UNSENT_BYTES =
        16 << 10, /* what the kernel may hold unsent for a slow reader; the rest waits where it is counted */
    KEEPALIVE_S = 60,
    KEEPALIVE_STEP_S = 10,
    KEEPALIVE_TRIES = 3
};

static void set_option(int fd, int level, int option, int value)
{
    setsockopt(fd, level, option, &value, sizeof value);
}

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

static void close_poll(struct http_conn *c)
{
    if (c->poll_open && !uv_is_closing((uv_handle_t *)&c->poll))
        uv_close((uv_handle_t *)&c->poll, on_poll_closed);
}

static void drop(struct http_conn *c)
{
    close_poll(c);
    http_due_clear(&c->due);
    http_reader_unwatch(c);
    list_remove(&c->left);
    list_remove(&c->all);
    c->http->n_conn--;
    c->http->stats.connections_open--;
    c->dead = true;
    if (!c->poll_open) free(c);
}

/* Only while the socket is ours. */
static void close_at_gate(struct http_conn *c)
{
    close_poll(c);
    close(c->fd);
    drop(c);
}

static void refuse_at_gate(struct http_conn *c, const struct err_note *note)
{
    close_poll(c);
    c->http->stats.refused_early++;
    http_refuse_raw(c->http, c->fd, note);
    shutdown(c->fd, SHUT_WR);
    http_linger(c->http, c->fd);
    drop(c);
}

void http_conn_forget(struct http_conn *c)
{
    http_conn_count(c);
    drop(c);
}

void http_conn_close_all(struct http *h)
{
    LIST_EACH_SAFE (it, &h->conn) close_at_gate(LIST_ITEM(it, struct http_conn, all));
}

void http_conn_cut(struct http_conn *c) { shutdown(c->fd, SHUT_RDWR); }

/* --- the gate */

static void on_left(uv_poll_t *p, int status, int events);

/* The kernel's wake level is a wish: a queue near the socket's bound wakes us all the same. A block in many
 * small packets fills it long before its bytes do, as each packet counts with all its memory. So from then on
 * what was seen is taken after all, but for the bytes that make the block whole: the library waits for some.
 */
static bool hold_seen(struct http_conn *c)
{
    struct http_reader *r = &c->reader;
    const struct guard_bound max = http_header_bound(c->http);
    if (!r->held) r->held = malloc(frame_held_max(&max));
    if (!r->held) return false;
    ssize_t k = http_recv_kernel(c->fd, r->held + r->n_held, c->first.seen - r->n_held, MSG_DONTWAIT);
    if (k <= 0) return false;
    r->n_held += (size_t)k;
    set_option(c->fd, SOL_SOCKET, SO_RCVLOWAT, 1);
    return true;
}

/* The block is looked at, not taken, so the socket stays readable: the wake level is set above what was seen.
 * A wake without more bytes is then the peer's end, or the kernel asks for room. */
static void look(struct http_conn *c, bool peer_ended)
{
    struct http *h = c->http;
    const size_t n_held = c->reader.n_held;
    if (n_held > 0) memcpy(h->peek, c->reader.held, n_held);
    ssize_t k = recv(c->fd, h->peek + n_held, h->conf.max_header_bytes + 1 - n_held, MSG_PEEK | MSG_DONTWAIT);
    if (k < 0 && (errno == EAGAIN || errno == EINTR)) return;
    const size_t n = n_held + (k > 0 ? (size_t)k : 0);
    if (k <= 0 || n == c->first.seen) {
        if (k <= 0 || peer_ended || !hold_seen(c)) close_at_gate(c);
        return;
    }
    if (c->first.seen == 0) http_due_set(h, &c->due, DUE_HEADER);

    const struct guard_bound max = http_header_bound(h);
    struct err_note note;
    enum err e = guard_block(&c->first, h->peek, n, &max, &note);
    if (e == ERR_IO) {
        if (n_held == 0)
            set_option(c->fd, SOL_SOCKET, SO_RCVLOWAT, (int)k + 1);
        else if (!hold_seen(c))
            close_at_gate(c);
        return;
    }
    if (!e)
        e = guard_verdict(&c->first, (size_t)INT64_MAX,
                          &note); /* the body's limit comes after path and key */
    if (e) {
        refuse_at_gate(c, &note);
        return;
    }
    set_option(c->fd, SOL_SOCKET, SO_RCVLOWAT, 1);
    uv_poll_start(&c->poll, UV_DISCONNECT, on_left);
    if (!http_reader_watch(c) || !http_adopt(h, c->fd, c)) close_at_gate(c);
}

static void on_gate(uv_poll_t *p, int status, int events)
{
    struct http_conn *c = p->data;
    if (status < 0)
        close_at_gate(c);
    else
        look(c, events & UV_DISCONNECT);
}

void http_conn_open(struct http *h, int fd)
{
    struct http_conn *c = calloc(1, sizeof *c);
    if (!c || uv_poll_init(h->loop, &c->poll, fd) != 0) {
        log_line(LOG_WARN, "connection dropped", "reason=\"out of memory or descriptors\"");
        free(c);
        close(fd);
        return;
    }
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_BYTES);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_STEP_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_TRIES);
    c->http = h;
    c->fd = fd;
    c->poll.data = c;
    c->poll_open = true;
    h->n_handle++;
    list_init(&c->due.node);
    list_init(&c->left);
    list_push_back(&h->conn, &c->all);
    h->n_conn++;
    h->stats.connections_open++;
    http_due_set(h, &c->due, DUE_IDLE);
    uv_poll_start(&c->poll, UV_READABLE | UV_DISCONNECT, on_gate);
}

/* --- peers that leave */

/* The library may not notice: a suspended connection is not looked at, and an end that came together with the
 * last bytes gives no edge of its own. Any event is the end, an error as well, since nothing but the peer's
 * leaving is asked for. */
static void on_left(uv_poll_t *p, int status, int events)
{
    struct http_conn *c = p->data;
    (void)status, (void)events;
    uv_poll_stop(p);
    list_push_back(&c->http->left, &c->left);
    http_kick(c->http);
}

/* A peer that has closed its side gets no more from a handler at work, but an answer on its way is brought to
 * its end and bytes not yet read may hold a whole request. Where nothing of this is left, neither is the
 * connection. */
void http_conn_settle(struct http *h)
{
    LIST_EACH_SAFE (it, &h->left) {
        struct http_conn *c = LIST_ITEM(it, struct http_conn, left);
        int unread = 0;
        ioctl(c->fd, FIONREAD, &unread);
        if (c->call && c->call->with_handler)
            http_call_client_left(c->call);
        else if ((c->call && c->call->answered) || unread > 0)
            continue;
        else
            http_conn_cut(c);
        list_remove(&c->left);
    }
}

/* --- deadlines */

void http_conn_quiet(struct http_conn *c) { http_due_clear(&c->due); }
void http_conn_idle(struct http_conn *c)
{
    c->midway = http_reader_midway(&c->reader);
    http_due_set(c->http, &c->due, c->midway ? DUE_HEADER : DUE_IDLE);
}
void http_conn_reading(struct http_conn *c)
{
    c->midway = false;
    http_due_set(c->http, &c->due, DUE_BODY);
}

void http_conn_count(struct http_conn *c)
{
    uint64_t acked, received;
    http_tcp_count(c->fd, &acked, &received);
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
    if (c->acked != before || unconfirmed == 0) c->acked_ns = clock_ns();
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

static void too_slow(struct http_conn *c, const char *what, int ms)
{
    struct err_note note;
    err_set(&note, ERR_TIMEOUT, NULL, "the %s did not come within %d ms", what, ms);
    if (!c->mhd) {
        refuse_at_gate(c, &note);
        return;
    }
    http_refuse_raw(c->http, c->fd, &note);
    http_conn_cut(c);
}

void http_conn_expire(struct http_conn *c, enum due which)
{
    switch (which) {
    case DUE_IDLE:
        if (c->mhd)
            http_conn_cut(c);
        else
            close_at_gate(c);
        return;
    case DUE_HEADER:
        too_slow(c, "headers", c->http->conf.header_ms);
        return;
    case DUE_BODY:
        too_slow(c, "body", c->http->conf.body_ms);
        return;
    case DUE_STALL:
        look_for_stall(c);
        return;
    default:
        return;
    }
}
