/* listen: the listening socket. What it accepts goes to the gate (gate.c). Loop thread only. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "server/http/internal.h"

enum {
    ACCEPT_BATCH = 64, /* sockets taken per turn, so that accepting never starves the streams */
    REST_MS = 100      /* pause after accept failed for lack of descriptors or memory */
};

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

static void take_in(struct http *h, int fd, const struct err_note *full)
{
    h->stats.connections_total++;
    if (h->n_conn - h->n_evicted >= h->conf.max_connections && !http_gate_make_room(h, full))
        over_limit(h, fd, full);
    else
        http_gate_open(h, fd);
}

static void on_listen(uv_poll_t *p, int status, int events)
{
    struct http *h = p->data;
    struct err_note full;
    (void)status, (void)events;
    err_set(&full, ERR_OVERLOAD, NULL, "the server has all the %d connections it may have",
            h->conf.max_connections);
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        int fd = accept4(h->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
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
        take_in(h, fd, &full);
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

enum err http_listen_bind(struct http *h, struct err_note *note)
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

void http_listen_start(struct http *h)
{
    uv_poll_init(h->loop, &h->listen_poll, h->listen_fd);
    uv_timer_init(h->loop, &h->rest_timer);
    h->listen_poll.data = h->rest_timer.data = h;
    h->n_handle += 2;
    uv_poll_start(&h->listen_poll, UV_READABLE, on_listen);
}

void http_stop_accepting(struct http *h)
{
    if (h->listen_fd < 0) return;
    uv_close((uv_handle_t *)&h->listen_poll, http_handle_closed);
    close(h->listen_fd);
    h->listen_fd = -1;
}

void http_listen_close(struct http *h)
{
    http_stop_accepting(h);
    uv_close((uv_handle_t *)&h->rest_timer, http_handle_closed);
}
