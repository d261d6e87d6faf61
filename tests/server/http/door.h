/* The real door in this process: a server with few places, and clients on other addresses of this machine. */
#ifndef FLUXD_TESTS_SERVER_HTTP_DOOR_H
#define FLUXD_TESTS_SERVER_HTTP_DOOR_H

#include "tests/base/cm.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "server/http/internal.h"

enum { MOST = 4, HELD_MOST = 64, MAX_TURNS = 100000 };

static const char ask[] = "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";

static inline void hello(struct http_call *c, void *app)
{
    (void)app;
    http_reply(c, 200, "text/plain", "hello\n", 6, NULL);
}

/* Calls that their handler keeps, until the test answers them. */
struct held {
    struct http_call *call[HELD_MOST];
    int n;
};

static inline void note_gone(void *arg)
{
    (void)arg;
    fail_msg("a call that is being answered was cut");
}

static inline void hold(struct http_call *c, void *app)
{
    struct held *held = app;
    held->call[held->n++] = c;
    http_set_gone(c, note_gone, NULL);
}

static inline void answer_held(struct held *held)
{
    for (int i = 0; i < held->n; i++) http_reply(held->call[i], 200, "text/plain", "held\n", 5, NULL);
    held->n = 0;
}

static const struct http_route route[] = {
    {.method = HTTP_GET, .path = "/hello", .handle = hello},
    {.method = HTTP_POST, .path = "/hello", .json_body = true, .handle = hello},
    {.method = HTTP_GET, .path = "/state", .open = true, .handle = hello},
    {.method = HTTP_GET, .path = "/hold", .handle = hold},
    {.method = HTTP_POST, .path = "/secret", .json_body = true, .handle = hello},
};

struct world {
    uv_loop_t loop;
    struct http *h;
    struct held held;
};

static inline void open_door(struct world *w, int most, const struct key_list *keys, const char *trusted)
{
    const struct http_conf conf = {
        .host = "127.0.0.1",
        .max_connections = most,
        .max_lingering = 64,
        .max_header_fields = 16,
        .max_header_bytes = 4096,
        .max_body_bytes = 1 << 20,
        .max_bodies_bytes = 1 << 24,
        .small_body_bytes = 1 << 16,
        .header_ms = 600000,
        .body_ms = 600000,
        .idle_ms = 600000,
        .write_stall_ms = 600000,
        .ping_ms = 600000,
        .drain_bytes = 1 << 20,
        .stream_buffer_bytes = 1 << 16,
        .route = route,
        .n_route = sizeof route / sizeof *route,
        .keys = keys,
        .trusted_proxies = trusted,
        .app = &w->held,
    };
    struct err_note note;
    w->held.n = 0;
    uv_loop_init(&w->loop);
    assert_int_equal(http_open(&w->h, &w->loop, &conf, &note), OK);
}

static inline int open_world(void **state)
{
    static struct world w;
    open_door(&w, MOST, NULL, NULL);
    *state = &w;
    return 0;
}

static inline int close_world(void **state)
{
    struct world *w = *state;
    http_close(w->h, NULL, NULL);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    return 0;
}

static inline void turn(struct world *w) { uv_run(&w->loop, UV_RUN_NOWAIT); }

static inline void turns_until(struct world *w, uint64_t total)
{
    for (int i = 0; i < MAX_TURNS && w->h->stats.connections_total < total; i++) turn(w);
    for (int i = 0; i < 4; i++) turn(w);
    assert_int_equal(w->h->stats.connections_total, total);
}

/* From 127.0.0.host. */
static inline int connect_from(struct world *w, unsigned host)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)http_port(w->h)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000000 + host)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof from), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static inline void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static inline int fresh_from(struct world *w, unsigned host, const char *text)
{
    int fd = connect_from(w, host);
    say(fd, text);
    turns_until(w, w->h->stats.connections_total + 1);
    return fd;
}

static inline int fresh(struct world *w) { return fresh_from(w, 1, ""); }

/* What has come; -1: nothing yet, 0: the end. A connection with bytes that the server never read ends by a
 * reset. */
static inline ssize_t got(struct world *w, int fd, char *buf, size_t n)
{
    ssize_t k = -1;
    for (int i = 0; i < 50 && k < 0; i++) {
        turn(w);
        k = recv(fd, buf, n - 1, MSG_DONTWAIT);
        if (k < 0 && errno == ECONNRESET) k = 0;
        if (k < 0) assert_int_equal(errno, EAGAIN);
    }
    buf[k > 0 ? k : 0] = '\0';
    return k;
}

static inline int status(struct world *w, int fd)
{
    char buf[2048];
    ssize_t k = got(w, fd, buf, sizeof buf);
    for (int i = 0; i < MAX_TURNS && k < 0; i++) k = got(w, fd, buf, sizeof buf);
    return k > 0 ? atoi(buf + 9) : 0;
}

static inline int answer(struct world *w, int fd)
{
    say(fd, ask);
    return status(w, fd);
}

static inline int idle_from(struct world *w, unsigned host)
{
    int fd = fresh_from(w, host, "");
    assert_int_equal(answer(w, fd), 200);
    return fd;
}

static inline int idle(struct world *w) { return idle_from(w, 1); }

static inline bool is_open(struct world *w, int fd)
{
    char buf[2048];
    return got(w, fd, buf, sizeof buf) == -1;
}

static inline bool is_closed_silently(struct world *w, int fd)
{
    char buf[2048];
    ssize_t k = -1;
    for (int i = 0; i < MAX_TURNS && k < 0; i++) k = got(w, fd, buf, sizeof buf);
    return k == 0;
}

/* All that wait have waited for so much longer. */
static inline void let_pass(struct world *w, int64_t ms)
{
    LIST_EACH (it, &w->h->conn) LIST_ITEM(it, struct http_conn, all)->place.until_ns -= ms * 1000000;
}

static inline void close_all(const int *fd, int n)
{
    for (int i = 0; i < n; i++) close(fd[i]);
}

#endif
