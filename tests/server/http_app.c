/* http_app: the network floor alone, with handlers that do what a test needs. Prints "port N" when it
 * listens.
 *
 *   usage: http_app [name=value ...]   header_ms body_ms idle_ms stall_ms ping_ms max_connections max_body
 * max_bodies client_bodies small_body max_fields host hosts pages keys GET  /open       no key needed GET
 * /hello      answered inside the handler GET  /id/{rest}  says what the * matched  GET  /count      calls,
 * handlers told, rooms, stats POST /echo       the body back POST /later the body back from the loop, 50 ms
 * later POST /wait       never answers; finishes when the client leaves POST /stream N frames (N: the body),
 * one a turn, with back pressure POST /slow       a frame every 20 ms, N of them POST /silent a stream that
 * says nothing for 1 s, then one frame POST /held       one frame, and nothing more until the client leaves
 * SIGTERM closes everything and exits 0. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "server/http/http.h"

struct app {
    uv_loop_t loop;
    uv_signal_t term;
    struct http *http;
    int told, rooms, open;
};

struct job {
    struct app *app;
    struct http_call *call;
    uv_timer_t timer;
    struct http_body *body;
    long left, total;
    bool slow;
};

static void job_free(uv_handle_t *t)
{
    struct job *j = t->data;
    j->app->open--;
    http_body_free(j->body);
    free(j);
}

static void job_end(struct job *j)
{
    if (!uv_is_closing((uv_handle_t *)&j->timer)) uv_close((uv_handle_t *)&j->timer, job_free);
}

static void on_gone(void *arg)
{
    struct job *j = arg;
    j->app->told++;
    http_finish_gone(j->call);
    job_end(j);
}

static struct job *job_new(struct http_call *c, void *app)
{
    struct job *j = calloc(1, sizeof *j);
    CHECK(j);
    j->app = app;
    j->app->open++;
    j->call = c;
    size_t n;
    j->body = http_body_take(c);
    j->left = j->total = strtol(http_body_text(j->body, &n), NULL, 10);
    uv_timer_init(&j->app->loop, &j->timer);
    j->timer.data = j;
    http_set_gone(c, on_gone, j);
    return j;
}

static void hello(struct http_call *c, void *app)
{
    (void)app;
    http_reply(c, 200, "text/plain", "hello\n", 6, NULL);
}

static void id(struct http_call *c, void *app)
{
    (void)app;
    http_reply(c, 200, "text/plain", http_path_rest(c), strlen(http_path_rest(c)), NULL);
}

static void count(struct http_call *c, void *arg)
{
    struct app *a = arg;
    const struct http_stats *s = http_stats(a->http);
    char text[256];
    int n = snprintf(
        text, sizeof text,
        "calls=%d told=%d rooms=%d open=%d connections=%d stalled=%d refused=%d evicted=%d body_bytes=%d",
        http_calls(a->http) - 1, a->told, a->rooms, a->open, (int)s->connections_open, (int)s->stalled,
        (int)s->refused_early, (int)s->evicted, (int)s->body_bytes);
    http_reply(c, 200, "text/plain", text, (size_t)n, NULL);
}

static void echo(struct http_call *c, void *app)
{
    (void)app;
    size_t n;
    const char *p = http_body(c, &n);
    http_reply(c, 200, "application/octet-stream", p, n, "X-Extra: yes\r\n");
}

static void on_later(uv_timer_t *t)
{
    struct job *j = t->data;
    size_t n;
    const char *p = http_body_text(j->body, &n);
    http_reply(j->call, 200, "application/octet-stream", p, n, NULL);
    job_end(j);
}

static void later(struct http_call *c, void *app)
{
    uv_timer_start(&job_new(c, app)->timer, on_later, 50, 0);
}
static void wait_for_ever(struct http_call *c, void *app) { job_new(c, app); }

static void on_frame(uv_timer_t *t)
{
    struct job *j = t->data;
    while (j->left > 0 && !http_stream_full(j->call)) {
        char frame[128];
        int n = snprintf(frame, sizeof frame, "data: {\"i\":%ld,\"pad\":\"abcdefghijklmnopqrstuvwxyz\"}\n\n",
                         j->total - j->left);
        http_stream_write(j->call, frame, (size_t)n);
        j->left--;
        if (j->slow) return;
    }
    if (j->left > 0) {
        uv_timer_stop(t);
        return;
    }
    http_stream_write(j->call, "data: [DONE]\n\n", 14);
    http_stream_end(j->call);
    job_end(j);
}

static void on_room(void *arg)
{
    struct job *j = arg;
    j->app->rooms++;
    if (!j->slow) uv_timer_start(&j->timer, on_frame, 0, 0);
}

static void start_stream(struct http_call *c, void *app, bool slow, uint64_t first_ms, uint64_t every_ms)
{
    struct job *j = job_new(c, app);
    j->slow = slow;
    http_stream_begin(c);
    http_stream_on_room(c, on_room, j);
    uv_timer_start(&j->timer, on_frame, first_ms, every_ms);
}

static void stream(struct http_call *c, void *app) { start_stream(c, app, false, 0, 0); }
static void slow(struct http_call *c, void *app) { start_stream(c, app, true, 20, 20); }
static void held(struct http_call *c, void *app)
{
    struct job *j = job_new(c, app);
    http_stream_begin(c);
    http_stream_write(j->call, "data: {}\n\n", 10);
}
static void silent(struct http_call *c, void *app) { start_stream(c, app, false, 1000, 0); }

static const struct http_route route[] = {
    {.method = HTTP_GET, .path = "/open", .open = true, .handle = hello},
    {.method = HTTP_GET, .path = "/hello", .handle = hello},
    {.method = HTTP_GET, .path = "/id/*", .handle = id},
    {.method = HTTP_GET, .path = "/count", .open = true, .handle = count},
    {.method = HTTP_POST, .path = "/echo", .json_body = true, .handle = echo},
    {.method = HTTP_POST, .path = "/later", .json_body = true, .handle = later},
    {.method = HTTP_POST, .path = "/wait", .json_body = true, .handle = wait_for_ever},
    {.method = HTTP_POST, .path = "/stream", .json_body = true, .handle = stream},
    {.method = HTTP_POST, .path = "/slow", .json_body = true, .handle = slow},
    {.method = HTTP_POST, .path = "/silent", .json_body = true, .handle = silent},
    {.method = HTTP_POST, .path = "/held", .json_body = true, .handle = held},
};

static void on_term(uv_signal_t *s, int number)
{
    struct app *a = s->data;
    (void)number;
    http_close(a->http, NULL, NULL);
    uv_close((uv_handle_t *)s, NULL);
}

static int setting(int argc, char **argv, const char *name, int otherwise)
{
    size_t n = strlen(name);
    for (int i = 1; i < argc; i++)
        if (!strncmp(argv[i], name, n) && argv[i][n] == '=') return atoi(argv[i] + n + 1);
    return otherwise;
}

static const char *words(int argc, char **argv, const char *name, const char *otherwise)
{
    size_t n = strlen(name);
    for (int i = 1; i < argc; i++)
        if (!strncmp(argv[i], name, n) && argv[i][n] == '=') return argv[i] + n + 1;
    return otherwise;
}

int main(int argc, char **argv)
{
    struct app a = {.http = NULL};
    static char first[] = "first-key", second[] = "second-key";
    struct key_row row[] = {{.key = first}, {.key = second}};
    const struct key_list keys = {.row = row, .n = setting(argc, argv, "keys", 0)};
    struct http_conf conf = {
        .host = words(argc, argv, "host", "127.0.0.1"),
        .socket_mode = 0600,
        .allowed_hosts = words(argc, argv, "hosts", "x,a"),
        .cors_origins = words(argc, argv, "pages", ""),
        .trusted_proxies = words(argc, argv, "trusted", ""),
        .max_connections = setting(argc, argv, "max_connections", 1000),
        .max_lingering = setting(argc, argv, "max_lingering", 64),
        .max_header_bytes = 16 << 10,
        .max_header_fields = setting(argc, argv, "max_fields", 256),
        .max_body_bytes = (size_t)setting(argc, argv, "max_body", 8 << 20),
        .max_bodies_bytes = (size_t)setting(argc, argv, "max_bodies", 64 << 20),
        .client_bodies_bytes = (size_t)setting(argc, argv, "client_bodies", 0),
        .small_body_bytes = (size_t)setting(argc, argv, "small_body", 32 << 10),
        .header_ms = setting(argc, argv, "header_ms", 10000),
        .body_ms = setting(argc, argv, "body_ms", 30000),
        .idle_ms = setting(argc, argv, "idle_ms", 60000),
        .write_stall_ms = setting(argc, argv, "stall_ms", 30000),
        .ping_ms = setting(argc, argv, "ping_ms", 10000),
        .drain_bytes = 16 << 20,
        .stream_buffer_bytes = 64 << 10,
        .route = route,
        .n_route = sizeof route / sizeof *route,
        .keys = &keys,
        .app = &a,
    };
    signal(SIGPIPE, SIG_IGN);
    log_set_level(setting(argc, argv, "debug", 0) ? LOG_DEBUG : LOG_WARN);
    uv_loop_init(&a.loop);
    struct err_note note;
    if (http_open(&a.http, &a.loop, &conf, &note)) {
        fprintf(stderr, "%s: %s\n", note.param, note.text);
        return 4;
    }
    uv_signal_init(&a.loop, &a.term);
    a.term.data = &a;
    uv_signal_start(&a.term, on_term, SIGTERM);
    printf("port %d\n", http_port(a.http));
    fflush(stdout);
    uv_run(&a.loop, UV_RUN_DEFAULT);
    CHECK(a.open == 0);
    CHECK(uv_loop_close(&a.loop) == 0);
    return 0;
}
