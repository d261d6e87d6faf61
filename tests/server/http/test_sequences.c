/* Random sequences of requests, mutated, pipelined and cut, through the whole network floor in this process.
 * A second reading of the same bytes (reference.h) says how many of them are requests; nothing else may be
 * answered.
 *
 *   usage: test_http_sequences [sequences [seed]] */
#include "tests/base/cm.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "server/http/http.h"
#include "server/http/frame.h"
#include "tests/server/http/reference.h"

enum { STREAM_BYTES = 8192, ANSWER_BYTES = 1 << 17, MAX_TURNS = 20000, QUIET_TURNS = 3, RULES_FOR_ONE = 20 };

static long n_sequence = 2000;
static uint64_t seed = 1;

/* --- the server */

static void hello(struct http_call *c, void *app)
{
    (void)app;
    http_reply(c, 200, "text/plain", "hello\n", 6, NULL);
}

static void echo(struct http_call *c, void *app)
{
    (void)app;
    size_t n;
    const char *p = http_body(c, &n);
    http_reply(c, 200, "application/octet-stream", p, n, NULL);
}

static const struct http_route route[] = {
    {.method = HTTP_GET, .path = "/hello", .open = true, .handle = hello},
    {.method = HTTP_POST, .path = "/echo", .json_body = true, .handle = echo},
};

static const struct http_conf conf = {
    .host = "127.0.0.1",
    .max_connections = 1000,
    .max_header_fields = REF_MAX_FIELDS,
    .max_header_bytes = REF_MAX_HEAD,
    .max_body_bytes = REF_MAX_BODY,
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
    .n_route = sizeof route / sizeof *route,
};

/* --- the client's bytes */

struct text {
    char p[STREAM_BYTES];
    size_t n;
};

static uint64_t state;
static unsigned pick(unsigned n)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)(state >> 33) % n;
}

static void put(struct text *t, const char *p, size_t n)
{
    n = n < STREAM_BYTES - t->n ? n : STREAM_BYTES - t->n;
    memcpy(t->p + t->n, p, n);
    t->n += n;
}
static void say(struct text *t, const char *s) { put(t, s, strlen(s)); }

static void insert(struct text *t, size_t at, const char *p, size_t n)
{
    if (t->n + n > STREAM_BYTES) return;
    memmove(t->p + at + n, t->p + at, t->n - at);
    memcpy(t->p + at, p, n);
    t->n += n;
}

static void put_body(struct text *t, size_t n)
{
    static const char inner[] =
        "GET /hello HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"; /* what a smuggler would put there */
    for (size_t i = 0; i < n; i++) put(t, inner + i % (sizeof inner - 1), 1);
}

static void put_chunks(struct text *t)
{
    static const char *const tail[] = {"", ";a", ";a=\"b\"", ";\t x"};
    char line[64];
    for (unsigned i = pick(5); i > 0; i--) {
        size_t n = 1 + pick(90);
        snprintf(line, sizeof line, pick(2) ? "%zx%s\r\n" : "%05zX%s\r\n", n, tail[pick(4)]);
        say(t, line);
        put_body(t, n);
        say(t, "\r\n");
    }
    say(t, pick(4) ? "0\r\n" : "000;z\r\n");
    static const char *const trailer[] = {"Authorization: x\r\n", "x-api-key: x\r\n", "X-Api-Kay: x\r\n"};
    for (unsigned i = pick(3) == 0 ? 1 + pick(pick(4) ? 3 : 26) : 0; i > 0; i--) say(t, "X-Trailer: 1\r\n");
    if (pick(12) == 0) say(t, trailer[pick(3)]);
    say(t, "\r\n");
}

static void put_request(struct text *t)
{
    static const char *const more[] = {"X-A: b\r\n",
                                       "Cookie: a=b; c\r\n",
                                       "Expect: 100-continue\r\n",
                                       "Expect:100-Continue \t\r\n",
                                       "Connection: close\r\n",
                                       "Connection: keep-alive\r\n",
                                       "Accept:\r\n",
                                       "X-Long: \t caf\xe9 \t\r\n",
                                       "Content-Length: 0\r\n"};
    static const char *const get[] = {"GET /hello HTTP/1.1\r\n", "HEAD /hello HTTP/1.1\r\n",
                                      "GET /hello HTTP/1.0\r\n", "GET /nope?a&b HTTP/1.1\r\n",
                                      "PUT /echo HTTP/1.1\r\n"};
    bool post = pick(2);
    unsigned kind = pick(4);
    say(t, pick(12) ? "" : "\r\n");
    say(t, post ? "POST /echo HTTP/1.1\r\nContent-Type: application/json\r\n" : get[pick(5)]);
    say(t, "Host: 127.0.0.1\r\n");
    for (unsigned i = pick(3) * pick(3); i > 0; i--) say(t, more[pick(pick(4) ? 4 : 9)]);
    if (!post && kind > 0) {
        say(t, "\r\n");
        return;
    }
    if (kind < 2) {
        char line[64];
        size_t n = pick(20) ? pick(120) : pick(400);
        snprintf(line, sizeof line, "Content-Length: %zu\r\n\r\n", n);
        say(t, line);
        put_body(t, n);
    } else {
        say(t, "Transfer-Encoding: chunked\r\n\r\n");
        put_chunks(t);
    }
}

static void mutate(struct text *t)
{
    static const char *const piece[] = {"\r\n",
                                        "\n",
                                        "\r",
                                        " ",
                                        "\t",
                                        ":",
                                        ";",
                                        "0",
                                        "1",
                                        "\r\n\r\n",
                                        "Content-Length: 0\r\n",
                                        "Content-Length: 5\r\n",
                                        "Transfer-Encoding: chunked\r\n",
                                        "Transfer-Encoding: identity\r\n",
                                        "Host: b\r\n",
                                        " folded\r\n",
                                        "\tContent-Length: 9\r\n",
                                        "Content-Length:\r\n 7\r\n",
                                        "0\r\n\r\n",
                                        "5\r\nhello\r\n",
                                        "ffffffffffffffff",
                                        "Expect: x\r\n",
                                        "\xff",
                                        "HTTP/1.1",
                                        "%",
                                        "GET /hello HTTP/1.1\r\n",
                                        "a:\r\na:\r\na:\r\na:\r\na:\r\na:\r\na:\r\na:\r\na:\r\na:\r\n"};
    size_t at = pick((unsigned)t->n + 1);
    if (pick(2)) { /* the beginning of a line */
        const char *lf = memchr(t->p + at, '\n', t->n - at);
        at = lf ? (size_t)(lf + 1 - t->p) : at;
    }
    size_t left = t->n - at, k = 1 + pick(pick(4) ? 4 : 60);
    k = k < left ? k : left;
    char copy[64];
    switch (pick(5)) {
    case 0:
        if (at < t->n) t->p[at] = (char)pick(256);
        break;
    case 1:
        memmove(t->p + at, t->p + at + k, left - k);
        t->n -= k;
        break;
    case 2:
        memcpy(copy, t->p + at, k);
        insert(t, pick((unsigned)t->n + 1), copy, k);
        break;
    default: {
        const char *s = piece[pick(sizeof piece / sizeof *piece)];
        insert(t, at, s, strlen(s));
    }
    }
}

static void make_sequence(struct text *t, long number)
{
    state = (seed << 32 | (uint64_t)number) * 0x9e3779b97f4a7c15u | 1;
    for (int k = 0; k < 4; k++) pick(2);
    t->n = 0;
    for (unsigned i = 1 + pick(5); i > 0; i--) put_request(t);
    for (unsigned i = pick(2) ? 0 : 1 + pick(3); i > 0; i--) mutate(t);
}

/* --- one sequence */

struct client {
    uv_loop_t *loop;
    int fd;
    struct text sent;
    char got[ANSWER_BYTES + 1];
    size_t n_got;
    bool ended;
};

static void take(struct client *c)
{
    while (!c->ended) {
        ssize_t k = recv(c->fd, c->got + c->n_got, ANSWER_BYTES - c->n_got, MSG_DONTWAIT);
        if (k < 0 && errno == EAGAIN) return;
        if (k <= 0)
            c->ended = true;
        else
            c->n_got += (size_t)k;
    }
}

static void turn(struct client *c)
{
    uv_run(c->loop, UV_RUN_NOWAIT);
    take(c);
}

static void send_part(struct client *c, const char *p, size_t n)
{
    for (unsigned turns = 0; n > 0 && turns < MAX_TURNS && !c->ended; turns++) {
        ssize_t k = send(c->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (k < 0 && errno != EAGAIN) return; /* refused already */
        p += k > 0 ? k : 0;
        n -= k > 0 ? (size_t)k : 0;
        turn(c);
    }
}

static void send_cut(struct client *c)
{
    size_t at = 0, mean = pick(3) == 0 ? STREAM_BYTES : 1 + pick(pick(40) ? 400 : 3);
    while (at < c->sent.n) {
        size_t k = 1 + (mean == STREAM_BYTES ? mean : pick((unsigned)(2 * mean)));
        k = k < c->sent.n - at ? k : c->sent.n - at;
        send_part(c, c->sent.p + at, k);
        at += k;
    }
}

/* How many whole final answers stand there, and what is wrong with them by the reference: NULL, nothing. */
static const char *judge(const struct client *c, const struct ref *ref, int *n_answer, bool *over)
{
    const char *at = c->got, *end = c->got + c->n_got;
    *n_answer = 0;
    *over = false;
    while (at < end) {
        const char *blank = memmem(at, (size_t)(end - at), "\r\n\r\n", 4);
        if (!blank) break;
        int status = atoi(at + 9);
        if (memcmp(at, "HTTP/1.1 ", 9) != 0) return "not an answer";
        const char *body = blank + 4, *length = memmem(at, (size_t)(blank - at), "\r\nContent-Length: ", 18);
        if (status == 100) {
            at = body;
            continue;
        }
        const struct ref_request *r = *n_answer < ref->n ? &ref->request[*n_answer] : NULL;
        bool head = *n_answer <= ref->n && ref->request[*n_answer].head;
        size_t n = length && !head ? strtoul(length + 18, NULL, 10) : 0;
        if ((size_t)(end - body) < n) break;
        if (*over) return "an answer behind the last one";
        if (!r && (ref->end == REF_OPEN || *n_answer > ref->n)) return "an answer to what is no request";
        if (!r && (status < 400 || (!head && n < 9) || (!head && memcmp(body, "{\"error\"", 8) != 0)))
            return "no error where one is due";
        if (r && r->sure &&
            (status != 200 || (!r->head && (n != r->n_body || memcmp(body, r->body, n) != 0))))
            return "a good request without its answer";
        *over = !r || (r->close && !r->close_unclear) || (r->has_body && status >= 400);
        ++*n_answer;
        at = body + n;
    }
    return NULL;
}

static bool unclear(const struct ref *ref)
{
    for (int i = 0; i < ref->n; i++)
        if (ref->request[i].close_unclear) return true;
    return false;
}

static void fail_with(const struct client *c, const char *why, long number, const struct ref *ref)
{
    fprintf(stderr, "sequence %ld of seed %llu: %s; %d requests, end %d\nsent: ", number,
            (unsigned long long)seed, why, ref->n, (int)ref->end);
    for (size_t i = 0; i < c->sent.n; i++)
        fprintf(stderr,
                c->sent.p[i] >= ' ' && c->sent.p[i] < 0x7f ? "%c"
                : c->sent.p[i] == '\n'                     ? "\\n\n"
                                                           : "\\x%02x",
                (unsigned char)c->sent.p[i]);
    fprintf(stderr, "\ngot: %.*s\n", (int)c->n_got, c->got);
    fail();
}

static int connect_from(long number, int port)
{
    /* Another loopback address for each: no port of a closed connection is in the way. */
    struct sockaddr_in from = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(0x7f000002u + (uint32_t)(number % 0xfffff0))};
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    assert_true(fd >= 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof from), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

/* A turn in which the client still waits. True: it brought bytes, or some that the client sent are not yet
 * confirmed. Small packets wait in the client's kernel for the delayed confirmation of those before them, up
 * to 200 ms: no turn of the server hastens that. */
static bool wait_turn(struct client *c, bool patiently)
{
    const size_t before = c->n_got;
    int unconfirmed = 0;
    turn(c);
    ioctl(c->fd, SIOCOUTQ, &unconfirmed);
    if (c->n_got != before) return true;
    if (patiently) usleep(100);
    return unconfirmed > 0 && !c->ended;
}

static void run_one(struct client *c, int port, long number)
{
    static struct ref ref;
    c->n_got = 0;
    c->ended = false;
    make_sequence(&c->sent, number);
    ref_read(&ref, c->sent.p, c->sent.n);
    c->fd = connect_from(number, port);
    send_cut(c);

    int n = 0, quiet = 0;
    bool over = false, lax = unclear(&ref);
    for (int idle = 0, waits = 0; quiet < QUIET_TURNS; waits++) {
        idle = wait_turn(c, waits >= 50) ? 0 : idle + 1;
        const char *why = judge(c, &ref, &n, &over);
        if (why) fail_with(c, why, number, &ref);
        bool done = over ? c->ended : lax || (n >= ref.n && ref.end != REF_REFUSED);
        quiet = done ? quiet + 1 : 0;
        if (idle == MAX_TURNS || waits == 50 * MAX_TURNS)
            fail_with(c, c->ended ? "ended without an answer" : "an answer is missing", number, &ref);
    }
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(c->fd);
    uv_run(c->loop, UV_RUN_NOWAIT);
}

/* The rules alone, without a network: the same number of requests, the same end. */
static void the_rules_read_what_the_reference_reads(void **arg)
{
    (void)arg;
    static struct client c;
    static struct ref ref;
    const struct guard_bound max = {.n_byte = REF_MAX_HEAD, .n_field = REF_MAX_FIELDS};
    for (long i = 0; i < n_sequence * RULES_FOR_ONE; i++) {
        make_sequence(&c.sent, i);
        ref_read(&ref, c.sent.p, c.sent.n);
        struct frame f = {.at = FRAME_HEAD};
        struct err_note note;
        enum err e = OK;
        size_t pass = 0, have = 0;
        while (have < c.sent.n && !e) {
            have += 1 + pick(200);
            have = have < c.sent.n ? have : c.sent.n;
            char *copy = malloc(have - pass + 1); /* a sanitizer sees a read behind its end */
            memcpy(copy, c.sent.p + pass, have - pass);
            pass += frame_pass(&f, copy, have - pass, &max, &e, &note);
            free(copy);
            if (!e && have - pass >= frame_held_max(&max)) fail_with(&c, "more is held than may be", i, &ref);
        }
        if (!ref.over && f.n_request != (uint64_t)ref.n + (ref.end != REF_OPEN))
            fail_with(&c, "another number of requests", i, &ref);
        if (!ref.over && (e != OK) != (ref.end == REF_REFUSED))
            fail_with(&c, e ? "refused" : "not refused", i, &ref);
    }
}

static void nothing_but_requests_is_answered(void **arg)
{
    (void)arg;
    static struct client c;
    uv_loop_t loop;
    struct http *h;
    struct err_note note;
    uv_loop_init(&loop);
    assert_int_equal(http_open(&h, &loop, &conf, &note), OK);
    c.loop = &loop;
    for (long i = 0; i < n_sequence; i++) {
        run_one(&c, http_port(h), i);
    }
    http_close(h, NULL, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

int main(int argc, char **argv)
{
    log_set_level(LOG_ERROR);
    n_sequence = argc > 1 ? atol(argv[1]) : n_sequence;
    seed = argc > 2 ? (uint64_t)atoll(argv[2]) : seed;
    const struct CMUnitTest test[] = {
        cmocka_unit_test(the_rules_read_what_the_reference_reads),
        cmocka_unit_test(nothing_but_requests_is_answered),
    };
    return cmocka_run_group_tests(test, NULL, NULL);
}
