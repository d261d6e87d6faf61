/* gate: where a connection stands first. Its first header block is looked at without being taken from the
 * socket, so that who sends none costs no library memory; then the library has it (conn.c). Loop thread only.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/http/guard.h"
#include "server/http/internal.h"
#include "server/http/recv.h"

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

/* A unix socket has no count of what is unsent, so its buffer is that small. */
static void set_options(int fd, bool tcp)
{
    if (!tcp) {
        set_option(fd, SOL_SOCKET, SO_SNDBUF, UNSENT_BYTES);
        return;
    }
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_BYTES);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_STEP_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_TRIES);
}

/* Only while the socket is ours. */
static void close_at_gate(struct http_conn *c)
{
    http_conn_close_poll(c);
    close(c->fd);
    http_conn_drop(c);
}

static void tell_and_close(struct http_conn *c, const struct err_note *note)
{
    http_conn_close_poll(c);
    http_refuse_raw(c->http, c->fd, NULL, note);
    shutdown(c->fd, SHUT_WR);
    http_linger(c->http, c->fd);
    http_conn_drop(c);
}

static void refuse_at_gate(struct http_conn *c, const struct err_note *note)
{
    c->http->stats.refused_early++;
    tell_and_close(c, note);
}

void http_gate_close_all(struct http *h)
{
    LIST_EACH_SAFE (it, &h->conn) close_at_gate(LIST_ITEM(it, struct http_conn, all));
}

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
 * A wake without more bytes is then the peer's end, or the kernel asks for room. False: nothing is there. */
static bool look(struct http_conn *c, bool peer_ended)
{
    struct http *h = c->http;
    const size_t n_held = c->reader.n_held;
    if (n_held > 0) memcpy(h->peek, c->reader.held, n_held);
    ssize_t k = recv(c->fd, h->peek + n_held, h->conf.max_header_bytes + 1 - n_held, MSG_PEEK | MSG_DONTWAIT);
    if (k < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    const size_t n = n_held + (k > 0 ? (size_t)k : 0);
    if (k <= 0 || n == c->first.seen) {
        if (k <= 0 || peer_ended || !hold_seen(c)) close_at_gate(c);
        return true;
    }
    if (c->first.seen == 0) http_conn_wait(c, DUE_HEADER);

    const struct guard_bound max = http_header_bound(h);
    struct err_note note;
    enum err e = guard_block(&c->first, h->peek, n, &max, &note);
    if (e == ERR_IO) {
        if (n_held == 0)
            set_option(c->fd, SOL_SOCKET, SO_RCVLOWAT, (int)k + 1);
        else if (!hold_seen(c))
            close_at_gate(c);
        return true;
    }
    if (!e)
        e = guard_verdict(&c->first, (size_t)INT64_MAX,
                          &note); /* the body's limit comes after path and key */
    if (e) {
        refuse_at_gate(c, &note);
        return true;
    }
    set_option(c->fd, SOL_SOCKET, SO_RCVLOWAT, 1);
    http_conn_watch_left(c);
    if (!http_reader_watch(c) || !http_adopt(h, c->fd, c)) close_at_gate(c);
    return true;
}

/* What has come since the last look may make a request whole. */
static bool catch_up(struct http_conn *c)
{
    const size_t known = c->mhd ? 0 : c->first.seen - c->reader.n_held;
    if ((c->mhd && c->place.what != CROWD_NEXT) || (size_t)http_conn_unread(c) <= known) return false;
    if (!c->mhd) return look(c, false);
    crowd_wait(&c->http->crowd, &c->place, CROWD_HEAD, clock_ns()); /* the library is about to read it */
    return true;
}

/* Who was silent for long learns nothing new by an answer, and the library expects none between requests. */
static void give_way(struct http_conn *c, const struct err_note *full)
{
    if (c->place.what == CROWD_FIRST && clock_ns() < c->place.until_ns) {
        refuse_at_gate(c, full);
        return;
    }
    c->http->stats.evicted++;
    if (c->mhd)
        http_conn_evict(c, full);
    else if (c->place.what == CROWD_HEAD)
        tell_and_close(c, full);
    else
        close_at_gate(c);
}

bool http_gate_make_room(struct http *h, const struct err_note *full)
{
    const int n = h->n_conn - h->n_evicted;
    struct crowd_member *m;
    while (h->n_conn - h->n_evicted == n && (m = crowd_first(&h->crowd, clock_ns()))) {
        struct http_conn *c = LIST_ITEM(m, struct http_conn, place);
        if (!catch_up(c)) give_way(c, full);
    }
    return h->n_conn - h->n_evicted < n;
}

static void on_gate(uv_poll_t *p, int status, int events)
{
    struct http_conn *c = p->data;
    if (status < 0)
        close_at_gate(c);
    else
        look(c, events & UV_DISCONNECT);
}

static void on_due(struct due_node *n, enum due which)
{
    struct http_conn *c = LIST_ITEM(n, struct http_conn, due);
    struct err_note note;
    if (which == DUE_FRESH) {
        close_at_gate(c);
        return;
    }
    http_conn_late(c, which, &note);
    refuse_at_gate(c, &note);
}

void http_gate_open(struct http *h, int fd, const struct bound *from, const struct peer *peer)
{
    struct http_conn *c = calloc(1, sizeof *c);
    const struct peer_who who = peer_who(peer);
    /* Whom a proxy's connection is for is told by a request's headers. */
    if (!c || !crowd_enter(&h->crowd, &c->place, peer_is_trusted(&h->trusted, peer) ? NULL : &who) ||
        uv_poll_init(h->loop, &c->poll, fd) != 0) {
        log_line(LOG_WARN, "connection dropped", "reason=\"out of memory or descriptors\"");
        if (c) crowd_leave(&h->crowd, &c->place);
        free(c);
        close(fd);
        return;
    }
    set_options(fd, !from->path);
    c->http = h;
    c->fd = fd;
    c->peer = *peer;
    c->loopback = from->loopback;
    c->tcp = !from->path;
    c->poll.data = c;
    c->poll_open = true;
    h->n_handle++;
    list_init(&c->due.node);
    c->due.expire = on_due;
    list_init(&c->left);
    list_push_back(&h->conn, &c->all);
    h->n_conn++;
    h->stats.connections_open++;
    http_conn_wait(c, DUE_FRESH);
    uv_poll_start(&c->poll, UV_READABLE | UV_DISCONNECT, on_gate);
    look(c, false); /* the request has come with it, as a rule, and a client that sent a whole one gives way
                       to nobody */
}
