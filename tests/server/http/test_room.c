/* Who gives way at the limit of connections: the real door in this process, with ages that the test sets. */
#include "tests/base/cm.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "server/http/internal.h"

enum { MOST = 4, MAX_TURNS = 100000 };

static const char ask[] = "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";

static void hello(struct http_call *c, void *app)
{
    (void)app;
    http_reply(c, 200, "text/plain", "hello\n", 6, NULL);
}

static const struct http_route route[] = {
    {.method = HTTP_GET, .path = "/hello", .open = true, .handle = hello}};

static const struct http_conf conf = {
    .host = "127.0.0.1",
    .max_connections = MOST,
    .max_lingering = 64,
    .max_header_fields = 16,
    .max_header_bytes = 4096,
    .max_body_bytes = 4096,
    .max_bodies_bytes = 1 << 20,
    .small_body_bytes = 1 << 16,
    .header_ms = 600000,
    .body_ms = 600000,
    .idle_ms = 600000,
    .write_stall_ms = 600000,
    .ping_ms = 600000,
    .drain_bytes = 1 << 20,
    .stream_buffer_bytes = 1 << 16,
    .route = route,
    .n_route = 1,
};

struct world {
    uv_loop_t loop;
    struct http *h;
};

static int open_world(void **state)
{
    static struct world w;
    struct err_note note;
    uv_loop_init(&w.loop);
    assert_int_equal(http_open(&w.h, &w.loop, &conf, &note), OK);
    *state = &w;
    return 0;
}

static int close_world(void **state)
{
    struct world *w = *state;
    http_close(w->h, NULL, NULL);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    return 0;
}

static void turns_until(struct world *w, uint64_t total)
{
    for (int i = 0; i < MAX_TURNS && w->h->stats.connections_total < total; i++)
        uv_run(&w->loop, UV_RUN_NOWAIT);
    for (int i = 0; i < 4; i++) uv_run(&w->loop, UV_RUN_NOWAIT);
    assert_int_equal(w->h->stats.connections_total, total);
}

static int connect_to(struct world *w)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)http_port(w->h)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static int fresh(struct world *w)
{
    int fd = connect_to(w);
    turns_until(w, w->h->stats.connections_total + 1);
    return fd;
}

/* What has come; -1: nothing yet, 0: the end. */
static ssize_t got(struct world *w, int fd, char *buf, size_t n)
{
    ssize_t k = -1;
    for (int i = 0; i < 50 && k < 0; i++) {
        uv_run(&w->loop, UV_RUN_NOWAIT);
        k = recv(fd, buf, n - 1, MSG_DONTWAIT);
        if (k < 0) assert_int_equal(errno, EAGAIN);
    }
    buf[k > 0 ? k : 0] = '\0';
    return k;
}

static int status(struct world *w, int fd)
{
    char buf[2048];
    ssize_t k = got(w, fd, buf, sizeof buf);
    for (int i = 0; i < MAX_TURNS && k < 0; i++) k = got(w, fd, buf, sizeof buf);
    return k > 0 ? atoi(buf + 9) : 0;
}

static int answer(struct world *w, int fd)
{
    assert_int_equal(send(fd, ask, sizeof ask - 1, MSG_NOSIGNAL), sizeof ask - 1);
    return status(w, fd);
}

static int idle(struct world *w)
{
    int fd = fresh(w);
    assert_int_equal(answer(w, fd), 200);
    return fd;
}

static bool is_open(struct world *w, int fd)
{
    char buf[2048];
    return got(w, fd, buf, sizeof buf) == -1;
}

static bool is_closed_silently(struct world *w, int fd)
{
    char buf[2048];
    ssize_t k = -1;
    for (int i = 0; i < MAX_TURNS && k < 0; i++) k = got(w, fd, buf, sizeof buf);
    return k == 0;
}

/* All that wait have waited for so much longer. */
static void let_pass(struct world *w, int64_t ms)
{
    for (int list = DUE_FRESH; list <= DUE_IDLE; list++)
        LIST_EACH (it, &w->h->due[list]) LIST_ITEM(it, struct due_node, node)->at_ns -= ms * 1000000;
}

/* For ever, however slow this machine is. */
static int young(struct world *w)
{
    const int fd = fresh(w);
    LIST_EACH (it, &w->h->due[DUE_FRESH]) LIST_ITEM(it, struct due_node, node)->at_ns = INT64_MAX / 2;
    return fd;
}

static void close_all(const int *fd, int n)
{
    for (int i = 0; i < n; i++) close(fd[i]);
}

/* --- laws */

static void between_requests_goes_before_who_has_just_connected(void **state)
{
    struct world *w = *state;
    const int fd[] = {young(w), young(w), idle(w), idle(w), young(w), young(w)};
    assert_true(is_closed_silently(w, fd[2]) && is_closed_silently(w, fd[3]));
    assert_int_equal(w->h->stats.evicted, 2);
    assert_int_equal(w->h->stats.refused_early, 0);
    for (int i = 0; i < 6; i++)
        if (i != 2 && i != 3) assert_int_equal(answer(w, fd[i]), 200);
    close_all(fd, 6);
}

static void among_many_that_have_just_connected_the_first_is_told(void **state)
{
    struct world *w = *state;
    enum { N = 3 * MOST };
    int fd[N];
    for (int i = 0; i < N; i++) fd[i] = young(w);
    for (int i = 0; i < N - MOST; i++) assert_int_equal(status(w, fd[i]), 503);
    for (int i = N - MOST; i < N; i++) assert_int_equal(answer(w, fd[i]), 200);
    assert_int_equal(w->h->stats.refused_early, N - MOST);
    assert_int_equal(w->h->stats.evicted, 0);
    close_all(fd, N);
}

static void what_was_silent_for_long_goes_by_age_whether_it_asked_or_not(void **state)
{
    struct world *w = *state;
    int fd[2 * MOST];
    for (int i = 0; i < MOST; i++) {
        fd[i] = i % 2 ? idle(w) : fresh(w);
        let_pass(w, 2000);
    }
    for (int i = 0; i < MOST; i++) {
        fd[MOST + i] = fresh(w);
        assert_true(is_closed_silently(w, fd[i]));
        for (int k = i + 1; k <= MOST + i; k++) assert_true(is_open(w, fd[k]));
    }
    assert_int_equal(w->h->stats.evicted, MOST);
    close_all(fd, 2 * MOST);
}

static void who_has_sent_a_byte_gives_way_to_nobody(void **state)
{
    struct world *w = *state;
    int fd[MOST + 1];
    for (int i = 0; i < MOST; i++) {
        fd[i] = i % 2 ? idle(w) : fresh(w);
        assert_int_equal(send(fd[i], ask, 5, 0), 5);
    }
    let_pass(w, 2000);
    fd[MOST] = fresh(w);
    assert_int_equal(status(w, fd[MOST]), 503);
    for (int i = 0; i < MOST; i++) {
        assert_int_equal(send(fd[i], ask + 5, sizeof ask - 6, 0), sizeof ask - 6);
        assert_int_equal(status(w, fd[i]), 200);
    }
    close_all(fd, MOST + 1);
}

/* All of it comes between two turns, so nothing of it is looked at before the limit is met. */
static void a_request_that_came_with_a_crowd_is_answered(void **state)
{
    struct world *w = *state;
    enum { N = 10 * MOST };
    int fd[N], n_ok = 0;
    for (int i = 0; i < N; i++) {
        fd[i] = connect_to(w);
        if (i % 2) assert_int_equal(send(fd[i], ask, sizeof ask - 1, 0), sizeof ask - 1);
    }
    turns_until(w, N);
    for (int i = 1; i < N; i += 2) {
        const int s = status(w, fd[i]);
        assert_true(s == 200 || s == 503);
        n_ok += s == 200;
    }
    assert_true(n_ok >= MOST);
    close_all(fd, N);
}

int main(void)
{
    log_set_level(LOG_ERROR);
#define LAW(f) cmocka_unit_test_setup_teardown(f, open_world, close_world)
    const struct CMUnitTest tests[] = {
        LAW(between_requests_goes_before_who_has_just_connected),
        LAW(among_many_that_have_just_connected_the_first_is_told),
        LAW(what_was_silent_for_long_goes_by_age_whether_it_asked_or_not),
        LAW(who_has_sent_a_byte_gives_way_to_nobody),
        LAW(a_request_that_came_with_a_crowd_is_answered),
    };
    return cmocka_run_group_tests_name("server/http/room", tests, NULL, NULL);
}
