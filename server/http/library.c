/* library: libmicrohttpd as a guest of the libuv loop. Loop thread only.
 *
 * It has no thread and no listening socket of its own: connections pass the gate (gate.c) and are then handed
 * over. Its epoll descriptor is watched by the loop. Whatever gives it work outside of that - a resumed
 * connection, a new socket - only sets a mark, and one MHD_run happens before the loop goes to sleep. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/check.h"
#include "base/log.h"
#include "server/http/internal.h"
#include "server/http/recv.h"

enum {
    RUN_BATCH = 16,          /* MHD_run per turn while it says there is more to do */
    FIELD_BYTES = 64,        /* what the library allocates for a header line, a query parameter or a cookie */
    RESPONSE_ROOM = 32 << 10 /* library memory of a connection beyond its headers: the send buffer */
};

/* --- its turns */

static ssize_t on_read(void *http, int fd, void *buf, size_t n)
{
    struct http *h = http;
    struct http_conn *c = fd < h->n_by_fd ? h->by_fd[fd] : NULL;
    if (!c) return http_recv_kernel(fd, buf, n, 0);
    ssize_t k = http_reader_read(c, buf, n);
    if (k > 0) c->taken += (uint64_t)k;
    if (!c->call && !c->midway && http_reader_midway(&c->reader)) {
        int why = errno;
        http_conn_idle(c);
        errno = why;
    }
    return k;
}

static void on_sent(void *http, int fd, size_t n)
{
    const struct http *h = http;
    if (fd < h->n_by_fd && h->by_fd[fd]) h->by_fd[fd]->sent += n;
}

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
        http_recv_enter(on_read, on_sent, h);
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

void http_library_turn(struct http *h)
{
    if (!h->stopped) run_library(h);
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

/* --- its connections */

/* The only parameter that travels in a field: the library calls on_connection from inside MHD_add_connection
 * and passes nothing of ours. */
bool http_adopt(struct http *h, int fd, struct http_conn *c)
{
    struct sockaddr_storage addr;
    socklen_t n = sizeof addr;
    if (getpeername(fd, (struct sockaddr *)&addr, &n) != 0) return false; /* it left already */
    h->adopting = c;
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
    http_conn_taken(h->adopting, mhd);
    *slot = h->adopting;
}

/* --- start and stop */

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

bool http_library_open(struct http *h)
{
    h->mhd = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG, 0, NULL,
        NULL, http_call_access, h, MHD_OPTION_EXTERNAL_LOGGER, library_log, NULL, MHD_OPTION_NOTIFY_COMPLETED,
        http_call_completed, h, MHD_OPTION_NOTIFY_CONNECTION, on_connection, h, MHD_OPTION_UNESCAPE_CALLBACK,
        keep_escapes, NULL, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)h->conf.max_connections + 2u * ACCEPT_BATCH, MHD_OPTION_CONNECTION_TIMEOUT, 0u,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        2 * (h->conf.max_header_bytes + (size_t)h->conf.max_header_fields * FIELD_BYTES) + RESPONSE_ROOM,
        MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
    return h->mhd != NULL;
}

bool http_library_start(struct http *h)
{
    int epoll_fd = MHD_get_daemon_info(h->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    if (uv_poll_init(h->loop, &h->mhd_poll, epoll_fd) != 0) return false;
    uv_timer_init(h->loop, &h->again_timer);
    uv_prepare_init(h->loop, &h->prepare);
    h->mhd_poll.data = h->again_timer.data = h->prepare.data = h;
    h->n_handle += 3;
    uv_poll_start(&h->mhd_poll, UV_READABLE, on_mhd_readable);
    uv_prepare_start(&h->prepare, on_prepare);
    return true;
}

/* A connection that is suspended when the library stops would abort the process: all are resumed first. */
void http_library_stop(struct http *h)
{
    uv_close((uv_handle_t *)&h->mhd_poll, http_handle_closed); /* before its descriptor goes */
    uv_close((uv_handle_t *)&h->again_timer, http_handle_closed);
    uv_close((uv_handle_t *)&h->prepare, http_handle_closed);
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
