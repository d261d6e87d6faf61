/* http: the listener, and libmicrohttpd as a guest of the libuv loop. Loop thread only.
 *
 * The library has no thread and no listening socket of its own: connections are accepted here, pass the gate
 * (conn.c), and are then handed over. Its epoll descriptor is watched by the loop. Whatever gives it work
 * outside of that - a resumed connection, a new socket - only sets a mark, and one MHD_run happens before the
 * loop goes to sleep. */
#include "server/http/http.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "server/http/internal.h"
#include "server/http/recv.h"

enum {
    ACCEPT_BATCH = 64,       /* sockets taken per turn, so that accepting never starves the streams */
    RUN_BATCH = 16,          /* MHD_run per turn while it says there is more to do */
    REST_MS = 100,           /* pause after accept failed for want of descriptors or memory */
    FIELD_BYTES = 64,        /* what the library allocates for a header line, a query parameter or a cookie */
    RESPONSE_ROOM = 32 << 10 /* library memory of a connection beyond its headers: the send buffer */
};

/* --- moments */

void http_due_clear(struct due_node *n) { list_remove(&n->node); }

static void on_due(uv_timer_t *t);

static void arm_due_timer(struct http *h)
{
    int64_t first = INT64_MAX;
    for (int i = 0; i < N_DUE; i++)
        if (!list_empty(&h->due[i])) {
            int64_t at = LIST_ITEM(h->due[i].next, struct due_node, node)->at_ns;
            if (at < first) first = at;
        }
    if (first == INT64_MAX || h->stopped) {
        uv_timer_stop(&h->due_timer);
        return;
    }
    int64_t wait_ms = (first - clock_ns() + 999999) / 1000000;
    uv_update_time(h->loop);
    uv_timer_start(&h->due_timer, on_due, (uint64_t)(wait_ms > 0 ? wait_ms : 0), 0);
}

void http_due_set(struct http *h, struct due_node *n, enum due which)
{
    list_remove(&n->node);
    n->at_ns = clock_ns() + h->due_len_ns[which];
    list_push_back(&h->due[which], &n->node);
    /* Only a list that was empty can bring the next moment nearer. A timer that fires too early looks again.
     */
    if (h->due[which].next == &n->node) arm_due_timer(h);
}

static void on_due(uv_timer_t *t)
{
    struct http *h = t->data;
    int64_t now = clock_ns();
    for (int i = 0; i < N_DUE; i++) {
        while (!list_empty(&h->due[i])) {
            struct due_node *n = LIST_ITEM(h->due[i].next, struct due_node, node);
            if (n->at_ns > now) break;
            list_remove(&n->node);
            if (i == DUE_PING)
                http_stream_ping(LIST_ITEM(n, struct http_call, ping));
            else if (i == DUE_LINGER)
                http_linger_expire(n);
            else
                http_conn_expire(LIST_ITEM(n, struct http_conn, due), (enum due)i);
        }
    }
    arm_due_timer(h);
}

/* --- the library in the loop */

static void on_again(uv_timer_t *t) { http_kick(t->data); }

/* The library may say that it has more to do at once. It gets a bounded number of turns, then the loop's
 * others go first. */
static void run_library(struct http *h)
{
    CHECK(!h->running);
    MHD_UNSIGNED_LONG_LONG wait_ms = 1;
    for (int i = 0; i < RUN_BATCH && !h->stopped; i++) {
        h->kicked = false;
        h->running = true;
        http_recv_enter(http_reader_read, h);
        MHD_run(h->mhd);
        http_recv_leave();
        h->running = false;
        http_conn_settle(h);
        http_call_tell(h);
        if (h->stopped) return;
        wait_ms = 1;
        if (!h->kicked && (MHD_get_timeout(h->mhd, &wait_ms) != MHD_YES || wait_ms != 0)) return;
    }
    uv_timer_start(&h->again_timer, on_again, 0, 0);
}

static void on_mhd_readable(uv_poll_t *p, int status, int events)
{
    (void)status, (void)events;
    http_kick(p->data);
}

static void on_prepare(uv_prepare_t *p)
{
    struct http *h = p->data;
    if (h->kicked && !h->stopped) run_library(h);
}

void http_kick(struct http *h) { h->kicked = true; }

bool http_adopt(struct http *h, int fd, struct http_conn *c)
{
    struct sockaddr_storage addr;
    socklen_t n = sizeof addr;
    if (getpeername(fd, (struct sockaddr *)&addr, &n) != 0) return false; /* it left already */
    h->adopting = c; /* for on_connection, which runs inside the next call */
    bool taken = MHD_add_connection(h->mhd, fd, (struct sockaddr *)&addr, n) == MHD_YES;
    if (!taken && h->adopting) http_conn_forget(c); /* the library has closed the socket without a word */
    h->adopting = NULL;
    http_kick(h);
    return true;
}

static void on_connection(void *arg, struct MHD_Connection *mhd, void **slot,
                          enum MHD_ConnectionNotificationCode what)
{
    struct http *h = arg;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        struct http_conn *c = *slot;
        *slot = NULL;
        if (h->adopting == c) h->adopting = NULL;
        if (c) http_conn_forget(c);
        return;
    }
    CHECK(h->adopting);
    h->adopting->mhd = mhd;
    *slot = h->adopting;
}

/* Nothing is unescaped: paths are matched as they came, so %00 or %2e cannot change what a path means. */
static size_t keep_escapes(void *arg, struct MHD_Connection *mhd, char *s)
{
    (void)arg, (void)mhd;
    return strlen(s);
}

static void library_log(void *arg, const char *fmt, va_list ap)
{
    (void)arg;
    char text[256];
    vsnprintf(text, sizeof text, fmt, ap);
    text[strcspn(text, "\r\n")] = '\0';
    log_line(LOG_DEBUG, "http library", "says=\"%s\"", text);
}

/* --- accepting */

static void on_listen(uv_poll_t *p, int status, int events);

static void on_rested(uv_timer_t *t)
{
    struct http *h = t->data;
    h->resting = false;
    if (h->listen_fd >= 0) uv_poll_start(&h->listen_poll, UV_READABLE, on_listen);
}

static void rest(struct http *h, int why)
{
    log_line(LOG_WARN, "accept pauses", "error=%s connections=%d pause_ms=%d", strerror(why), h->n_conn,
             REST_MS);
    h->resting = true;
    uv_poll_stop(&h->listen_poll);
    uv_timer_start(&h->rest_timer, on_rested, REST_MS, 0);
}

static void over_limit(struct http *h, int fd)
{
    h->stats.refused_early++;
    struct err_note note;
    err_set(&note, ERR_OVERLOAD, NULL, "the server has all the %d connections it may have",
            h->conf.max_connections);
    http_refuse_raw(h, fd, &note);
    shutdown(fd, SHUT_WR);
    http_linger(h, fd);
}

static void on_listen(uv_poll_t *p, int status, int events)
{
    struct http *h = p->data;
    (void)status, (void)events;
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        int fd = accept4(h->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EAGAIN || errno == EWOULDBLOCK) return;
            if (errno == EINTR || errno == ECONNABORTED || errno == EPROTO) continue;
            const int why = errno; /* the lingering sockets are a reserve for those who ask */
            if ((why == EMFILE || why == ENFILE) && http_linger_close_oldest(h)) continue;
            rest(h, why);
            return;
        }
        h->stats.connections_total++;
        if (h->n_conn >= h->conf.max_connections)
            over_limit(h, fd);
        else
            http_conn_open(h, fd);
    }
}

static int listen_on(const struct addrinfo *ai)
{
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0) return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

static bool is_loopback(const struct sockaddr_storage *addr)
{
    if (addr->ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)addr)->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    const struct in6_addr *a = &((const struct sockaddr_in6 *)addr)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(a) || (IN6_IS_ADDR_V4MAPPED(a) && a->s6_addr[12] == IN_LOOPBACKNET);
}

static enum err open_socket(struct http *h, struct err_note *note)
{
    const char *host = !strcmp(h->conf.host, "localhost") ? "127.0.0.1" : h->conf.host;
    char port[16];
    struct addrinfo hint = {.ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV,
                            .ai_socktype = SOCK_STREAM},
                    *ai = NULL;
    snprintf(port, sizeof port, "%d", h->conf.port);
    if (getaddrinfo(host, port, &hint, &ai) != 0)
        return err_set(note, ERR_CONFIG, "--host", "\"%s\" is not a numeric address", h->conf.host);
    h->listen_fd = listen_on(ai);
    int why = errno;
    freeaddrinfo(ai);
    if (h->listen_fd < 0)
        return err_set(note, ERR_IO, "--port", "cannot listen on %s port %d: %s", host, h->conf.port,
                       strerror(why));

    struct sockaddr_storage addr;
    socklen_t n = sizeof addr;
    getsockname(h->listen_fd, (struct sockaddr *)&addr, &n);
    h->loopback = is_loopback(&addr);
    h->port = ntohs(addr.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&addr)->sin6_port
                                               : ((struct sockaddr_in *)&addr)->sin_port);
    return OK;
}

/* --- open and close */

static void init_moments(struct http *h)
{
    const int ms[N_DUE] = {
        [DUE_IDLE] = h->conf.idle_ms, [DUE_HEADER] = h->conf.header_ms,
        [DUE_BODY] = h->conf.body_ms, [DUE_STALL] = h->conf.write_stall_ms / 4 + 1,
        [DUE_LINGER] = 1000,          [DUE_PING] = h->conf.ping_ms,
    };
    for (int i = 0; i < N_DUE; i++) {
        list_init(&h->due[i]);
        h->due_len_ns[i] = (int64_t)ms[i] * 1000000;
    }
    list_init(&h->conn);
    list_init(&h->linger);
    list_init(&h->left);
    list_init(&h->gone);
    list_init(&h->room);
}

static struct MHD_Daemon *start_library(struct http *h)
{
    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG, 0, NULL,
        NULL, http_call_access, h, MHD_OPTION_EXTERNAL_LOGGER, library_log, NULL, MHD_OPTION_NOTIFY_COMPLETED,
        http_call_completed, h, MHD_OPTION_NOTIFY_CONNECTION, on_connection, h, MHD_OPTION_UNESCAPE_CALLBACK,
        keep_escapes, NULL, MHD_OPTION_CONNECTION_LIMIT, (unsigned)h->conf.max_connections + 16u,
        MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        2 * (h->conf.max_header_bytes + (size_t)h->conf.max_header_fields * FIELD_BYTES) + RESPONSE_ROOM,
        MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
}

static void start_handles(struct http *h)
{
    int epoll_fd = MHD_get_daemon_info(h->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    uv_poll_init(h->loop, &h->listen_poll, h->listen_fd);
    uv_poll_init(h->loop, &h->mhd_poll, epoll_fd);
    uv_timer_init(h->loop, &h->due_timer);
    uv_timer_init(h->loop, &h->rest_timer);
    uv_timer_init(h->loop, &h->again_timer);
    uv_prepare_init(h->loop, &h->prepare);
    h->listen_poll.data = h->mhd_poll.data = h->due_timer.data = h->rest_timer.data = h->again_timer.data =
        h->prepare.data = h;
    h->n_handle = 6;
    uv_poll_start(&h->listen_poll, UV_READABLE, on_listen);
    uv_poll_start(&h->mhd_poll, UV_READABLE, on_mhd_readable);
    uv_prepare_start(&h->prepare, on_prepare);
}

enum err http_open(struct http **out, uv_loop_t *loop, const struct http_conf *conf, struct err_note *note)
{
    *out = NULL;
    struct http *h = calloc(1, sizeof *h);
    if (!h) return err_set(note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
    h->conf = *conf;
    h->loop = loop;
    h->listen_fd = -1;
    init_moments(h);
    body_room_init(&h->bodies, conf->small_body_bytes, conf->max_bodies_bytes,
                   body_room_share(conf->client_bodies_bytes, conf->max_bodies_bytes, conf->max_body_bytes));
    h->peek = malloc(conf->max_header_bytes + 1);
    enum err e = h->peek && http_keys_init(h) ? http_recv_prove(note)
                                              : err_set(note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
    if (!e) e = open_socket(h, note);
    if (!e && !(h->mhd = start_library(h)))
        e = err_set(note, ERR_IO, "--port", "the HTTP library does not start: %s", strerror(errno));
    if (e) goto fail;
    h->origin = (struct origin_rules){
        .host = (h->loopback && conf->n_api_key == 0) || (conf->allowed_hosts && *conf->allowed_hosts),
        .origin = conf->n_api_key == 0,
        .hosts = conf->allowed_hosts,
        .pages = conf->cors_origins,
    };
    uint8_t salt[16];
    hash_random_key(salt);
    memcpy(&h->id_salt, salt, sizeof h->id_salt);
    start_handles(h);
    *out = h;
    return OK;
fail:
    if (h->listen_fd >= 0) close(h->listen_fd);
    free(h->key_hash);
    free(h->peek);
    free(h);
    return e;
}

int http_port(const struct http *h) { return h->port; }

bool http_is_loopback(const struct http *h) { return h->loopback; }

int http_calls(const struct http *h) { return h->n_call; }

int http_answering(const struct http *h) { return h->n_live_call; }

const struct http_stats *http_stats(struct http *h)
{
    h->stats.body_bytes = h->bodies.small_bytes + h->bodies.big_bytes;
    return &h->stats;
}

void http_stop_accepting(struct http *h)
{
    if (h->listen_fd < 0) return;
    uv_close((uv_handle_t *)&h->listen_poll, http_handle_closed);
    close(h->listen_fd);
    h->listen_fd = -1;
}

void http_maybe_done(struct http *h)
{
    if (!h->closing || h->n_handle > 0 || h->n_live_call > 0 || h->n_body > 0 || h->n_conn > 0 ||
        h->n_linger > 0)
        return;
    void (*done)(void *) = h->on_closed;
    void *arg = h->on_closed_arg;
    free(h->key_hash);
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

void http_end_calls(struct http *h, const struct err_note *note)
{
    LIST_EACH (it, &h->conn) {
        struct http_call *c = LIST_ITEM(it, struct http_conn, all)->call;
        if (c && c->with_handler) http_call_overtake(c, note);
    }
}

/* A connection that is suspended when the library stops would abort the process: all are resumed first. */
static void stop_library(struct http *h)
{
    LIST_EACH (it, &h->conn) {
        struct http_call *c = LIST_ITEM(it, struct http_conn, all)->call;
        if (c && c->suspended) {
            c->suspended = false;
            MHD_resume_connection(c->mhd);
        }
    }
    h->stopped = true;
    MHD_stop_daemon(h->mhd);
    h->mhd = NULL;
}

void http_close(struct http *h, void (*done)(void *), void *arg)
{
    CHECK(!h->running && !h->closing);
    h->closing = true;
    h->on_closed = done;
    h->on_closed_arg = arg;
    http_stop_accepting(h);
    uv_close((uv_handle_t *)&h->mhd_poll, http_handle_closed); /* before its descriptor goes */
    stop_library(h);
    http_conn_close_all(h);
    http_linger_close_all(h);
    uv_close((uv_handle_t *)&h->due_timer, http_handle_closed);
    uv_close((uv_handle_t *)&h->rest_timer, http_handle_closed);
    uv_close((uv_handle_t *)&h->again_timer, http_handle_closed);
    uv_close((uv_handle_t *)&h->prepare, http_handle_closed);
    http_call_tell(h);
}
