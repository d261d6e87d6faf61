/* call: one request from its headers to the end of its answer. Loop thread only.
 *
 * Two hold a call: the library, from the first access callback to the completed callback, and the handler,
 * from its start until it has answered (or let go after on_gone). Whoever lets go last frees it. While the
 * handler thinks, the connection is suspended; handlers are never told of a client's leaving from inside the
 * library's own call stack. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "server/http/guard.h"
#include "server/http/internal.h"
#include "server/json/out.h"

/* --- its life */

static struct http_call *call_new(struct http *h, struct MHD_Connection *mhd)
{
    struct http_call *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->http = h;
    c->mhd = mhd;
    c->conn = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    c->conn->call = c;
    c->key_i = -1;
    c->start_ns = clock_ns();
    snprintf(c->id, sizeof c->id, "req_%08x%08x", h->id_salt, (unsigned)h->next_call++);
    strbuf_init(&c->out);
    list_init(&c->gone_node);
    list_init(&c->room_node);
    list_init(&c->ping.node);
    h->n_live_call++;
    h->stats.calls_total++;
    return c;
}

void http_call_release(struct http_call *c)
{
    if (c->mhd || c->with_handler) return;
    struct http *h = c->http;
    list_remove(&c->gone_node);
    list_remove(&c->room_node);
    http_due_clear(&c->ping);
    http_body_free(c->body);
    free(c->rest);
    strbuf_fini(&c->out);
    if (c->response) MHD_destroy_response(c->response);
    free(c);
    h->n_live_call--;
    http_maybe_done(h);
}

/* --- clients that leave */

void http_call_client_left(struct http_call *c)
{
    if (c->gone) return;
    c->gone = true;
    if (c->with_handler) list_push_back(&c->http->gone, &c->gone_node);
    if (c->conn) http_conn_cut(c->conn);
    http_call_resume(c); /* so that the library comes by and sees it */
    http_kick(c->http);
}

void http_call_tell(struct http *h)
{
    while (!list_empty(&h->gone)) {
        struct http_call *c = LIST_ITEM(h->gone.next, struct http_call, gone_node);
        list_remove(&c->gone_node);
        if (c->gone_told || !c->on_gone) continue;
        c->gone_told = true;
        c->on_gone(c->gone_arg);
    }
    while (!list_empty(&h->room)) {
        struct http_call *c = LIST_ITEM(h->room.next, struct http_call, room_node);
        list_remove(&c->room_node);
        if (c->with_handler && c->on_room) c->on_room(c->room_arg);
    }
}

void http_call_resume(struct http_call *c)
{
    if (!c->suspended || !c->mhd) return;
    c->suspended = false;
    MHD_resume_connection(c->mhd);
    http_kick(c->http);
}

/* --- answers */

void http_error_body(struct strbuf *b, const struct err_note *note) { json_out_error(b, note); }

static enum MHD_Result queue_response(struct http_call *c)
{
    struct MHD_Response *r = c->response;
    c->response = NULL;
    enum MHD_Result ok = MHD_queue_response(c->mhd, (unsigned)c->status, r);
    MHD_destroy_response(r);
    http_conn_writing(c->conn);
    return ok;
}

void http_call_finish(struct http_call *c)
{
    CHECK(c->with_handler);
    c->with_handler = false;
    c->http->n_call--;
    list_remove(&c->gone_node);
    list_remove(&c->room_node);
    http_due_clear(&c->ping);
    http_call_release(c);
}

void http_call_set_response(struct http_call *c, int status, struct MHD_Response *r)
{
    CHECK(!c->answered);
    c->answered = true;
    c->status = status;
    c->http->stats.by_status[status / 100]++;
    if (c->gone || !c->mhd || !r) {
        if (r) MHD_destroy_response(r);
        if (!r) http_call_client_left(c); /* out of memory: the connection is closed */
        return;
    }
    MHD_add_response_header(r, "X-Request-Id", c->id);
    c->response = r;
    http_call_resume(c);
}

struct MHD_Response *http_with_header(struct MHD_Response *r, const char *name, const char *value)
{
    if (!r || MHD_add_response_header(r, name, value) == MHD_YES) return r;
    MHD_destroy_response(r);
    return NULL;
}

static struct MHD_Response *with_header_lines(struct MHD_Response *r, const char *lines)
{
    while (r && lines && *lines) {
        const char *end = strstr(lines, "\r\n"), *colon = strchr(lines, ':');
        CHECK(end && colon && colon < end);
        char name[64], value[512];
        const char *v = colon + 1 + strspn(colon + 1, " ");
        snprintf(name, sizeof name, "%.*s", (int)(colon - lines), lines);
        snprintf(value, sizeof value, "%.*s", (int)(end - v), v);
        r = http_with_header(r, name, value);
        lines = end + 2;
    }
    return r;
}

static struct MHD_Response *response_new(const char *content_type, const char *body, size_t n,
                                         const char *extra)
{
    struct MHD_Response *r =
        MHD_create_response_from_buffer(n, (void *)(uintptr_t)body, MHD_RESPMEM_MUST_COPY);
    return with_header_lines(http_with_header(r, "Content-Type", content_type), extra);
}

static struct MHD_Response *error_response(const struct http_call *c, const struct err_note *note,
                                           int retry_after_s)
{
    char extra[160];
    int n = 0;
    struct strbuf b;
    strbuf_init(&b);
    http_error_body(&b, note);
    extra[0] = '\0';
    if (retry_after_s >= 0) n = snprintf(extra, sizeof extra, "Retry-After: %d\r\n", retry_after_s);
    char *at = extra + n;
    size_t room = sizeof extra - (size_t)n;
    if (note->code == ERR_UNAUTHORIZED) snprintf(at, room, "WWW-Authenticate: Bearer\r\n");
    if (note->code == ERR_METHOD && c->allow[0]) snprintf(at, room, "Allow: %s\r\n", c->allow);
    if (c->unframed) snprintf(at, room, "Connection: close\r\n");
    struct MHD_Response *r =
        strbuf_failed(&b) ? NULL : response_new("application/json", b.data, b.len, extra);
    strbuf_fini(&b);
    return r;
}

void http_call_overtake(struct http_call *c, const struct err_note *note)
{
    if (c->overtaken || c->gone) return;
    c->overtaken = true;
    if (c->streaming)
        http_stream_fail(c, note);
    else
        http_call_set_response(c, err_status(note->code), error_response(c, note, 1));
}

void http_reply(struct http_call *c, int status, const char *content_type, const char *body, size_t n,
                const char *extra)
{
    if (!c->overtaken) http_call_set_response(c, status, response_new(content_type, body, n, extra));
    http_call_finish(c);
}

void http_reply_error(struct http_call *c, const struct err_note *note, int retry_after_s)
{
    if (!c->overtaken)
        http_call_set_response(c, err_status(note->code), error_response(c, note, retry_after_s));
    http_call_finish(c);
}

void http_finish_gone(struct http_call *c)
{
    CHECK(c->gone);
    http_call_finish(c);
}

void http_set_gone(struct http_call *c, void (*on_gone)(void *), void *arg)
{
    c->on_gone = on_gone;
    c->gone_arg = arg;
    if (c->gone && !c->gone_told) {
        list_remove(&c->gone_node);
        list_push_back(&c->http->gone, &c->gone_node);
        http_kick(c->http);
    }
}

/* --- the first look at a request */

static enum MHD_Result see_header(void *arg, enum MHD_ValueKind kind, const char *key, size_t n_key,
                                  const char *value, size_t n_value)
{
    (void)kind;
    guard_header(arg, key, n_key, value ? value : "", value ? n_value : 0);
    return MHD_YES;
}

static enum http_method method_of(const char *word)
{
    if (!strcmp(word, "GET") || !strcmp(word, "HEAD")) /* RFC 9110, 9.3.2; the library leaves the body out */
        return HTTP_GET;
    if (!strcmp(word, "POST")) return HTTP_POST;
    if (!strcmp(word, "OPTIONS")) return HTTP_OPTIONS;
    return HTTP_OTHER;
}

static const char *method_name(enum http_method m)
{
    return m == HTTP_GET ? "GET, HEAD" : m == HTTP_POST ? "POST" : "OPTIONS";
}

static bool path_matches(const struct http_route *r, const char *url)
{
    size_t n = strlen(r->path);
    if (r->path[n - 1] != '*') return !strcmp(r->path, url);
    return !strncmp(r->path, url, n - 1) && url[n - 1] != '\0';
}

static enum err find_route(struct http_call *c, struct err_note *note)
{
    const struct http_conf *conf = &c->http->conf;
    bool path_known = false;
    for (int i = 0; i < conf->n_route; i++) {
        const struct http_route *r = &conf->route[i];
        if (!path_matches(r, c->url)) continue;
        if (r->method == method_of(c->method)) {
            c->route = r;
            return OK;
        }
        path_known = true;
        size_t n = strlen(c->allow);
        snprintf(c->allow + n, sizeof c->allow - n, "%s%s", n ? ", " : "", method_name(r->method));
    }
    if (path_known) return err_set(note, ERR_METHOD, NULL, "this path takes %s only", c->allow);
    return err_set(note, ERR_UNKNOWN_URL, NULL, "no such path; see GET / for what there is");
}

static enum err take_rest(struct http_call *c, struct err_note *note)
{
    size_t n = strlen(c->route->path);
    if (c->route->path[n - 1] != '*') return OK;
    const char *raw = c->url + n - 1;
    c->rest = malloc(strlen(raw) + 1);
    if (!c->rest) return err_set(note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
    if (!guard_unescape(c->rest, raw, strlen(raw)))
        return err_set(note, ERR_UNKNOWN_URL, NULL, "the path holds a bad escape");
    return OK;
}

static enum err check_key(struct http_call *c, const struct guard *g, struct err_note *note)
{
    if (c->http->conf.n_api_key == 0 || (c->route && c->route->open)) return OK;
    const char *sent = g->n_auth == 1 ? http_header(c, "Authorization") : NULL;
    c->key_i = http_keys_find(c->http, sent);
    if (c->key_i >= 0) return OK;
    const char *why = g->n_auth == 0  ? "no API key was sent: use \"Authorization: Bearer KEY\""
                      : g->n_auth > 1 ? "more than one Authorization header was sent"
                                      : "the API key is not valid";
    return err_set(note, ERR_UNAUTHORIZED, NULL, "%s", why);
}

static enum MHD_Result see_origin(void *arg, enum MHD_ValueKind kind, const char *key, size_t n_key,
                                  const char *value, size_t n_value)
{
    (void)kind;
    origin_header(arg, key, n_key, value, n_value);
    return MHD_YES;
}

static enum err check_origin(const struct http_call *c, struct err_note *note)
{
    struct origin_seen seen = {.page = method_of(c->method) == HTTP_GET && !strcmp(c->url, "/")};
    MHD_get_connection_values_n(c->mhd, MHD_HEADER_KIND, see_origin, &seen);
    return origin_verdict(&c->http->origin, &seen, note);
}

/* A page may send a form, or text, to anybody without asking first; JSON it may not. So a body says what it
 * is. */
static enum err check_media_type(const struct http_call *c, struct err_note *note)
{
    const char *coding = c->route->json_body ? http_header(c, "Content-Encoding") : NULL;
    const size_t n_identity = strlen("identity");
    if (coding && (strncasecmp(coding, "identity", n_identity) ||
                   coding[n_identity + strspn(coding + n_identity, " \t")]))
        return err_set(note, ERR_MEDIA_TYPE, NULL, "the body must come without a Content-Encoding");
    const char *type = c->route->json_body ? http_header(c, "Content-Type") : NULL;
    if (!type)
        return c->route->json_body && c->has_body
                   ? err_set(note, ERR_MEDIA_TYPE, NULL, "a body needs \"Content-Type: application/json\"")
                   : OK;
    size_t n = strcspn(type, "; \t");
    if (n == strlen("application/json") && !strncasecmp(type, "application/json", n)) return OK;
    return err_set(note, ERR_MEDIA_TYPE, NULL, "%s", err_text(ERR_MEDIA_TYPE));
}

static enum err examine(struct http_call *c, struct err_note *note)
{
    const struct http_conf *conf = &c->http->conf;
    struct guard g = {.at = 0};
    MHD_get_connection_values_n(c->mhd, MHD_HEADER_KIND, see_header, &g);
    c->has_body = g.body;

    enum err e = check_origin(c, note);
    if (!e) {
        enum err found = find_route(c, note);
        struct err_note key_note;
        e = check_key(c, &g, &key_note);
        if (e)
            *note = key_note; /* who has no key learns nothing of paths */
        else
            e = found;
    }
    if (!e) e = take_rest(c, note);
    if (!e) e = check_media_type(c, note);
    if (!e && g.length > conf->max_body_bytes)
        e = err_set(note, ERR_TOO_LARGE, NULL, "the request body exceeds %zu bytes", conf->max_body_bytes);
    return e;
}

/* --- the body */

/* A body that comes is kept only for a route that takes one. A refused call may have no route. */
static enum err take_body(struct http_call *c, const char *data, size_t n, struct err_note *note)
{
    if (c->refusal.code) return OK;
    if (n > c->http->conf.max_body_bytes - c->n_body)
        return err_set(note, ERR_TOO_LARGE, NULL, "the request body exceeds %zu bytes",
                       c->http->conf.max_body_bytes);
    if (!c->route->json_body) {
        c->n_body += n;
        return OK;
    }
    c->n_body += n;
    return http_body_add(c, data, n, note);
}

/* In the middle of a body the library takes no answer, so it is written past it, and the socket lingers. */
static enum MHD_Result refuse_midway(struct http_call *c, const struct err_note *note)
{
    struct http *h = c->http;
    c->status = err_status(note->code);
    http_refuse_raw(h, c->conn->fd, note);
    int fd = fcntl(c->conn->fd, F_DUPFD_CLOEXEC, 0);
    if (fd >= 0) http_linger(h, fd);
    return MHD_NO;
}

/* --- the library's callbacks */

static enum MHD_Result answer_refusal(struct http_call *c)
{
    int retry_s = err_status(c->refusal.code) == 503 ? 1 : -1;
    http_call_set_response(c, err_status(c->refusal.code), error_response(c, &c->refusal, retry_s));
    return c->response ? queue_response(c) : MHD_NO;
}

/* What the reader found wrong with this request, in its header block or later. */
static bool take_unframed(struct http_call *c)
{
    const struct err_note *note = http_reader_refusal(&c->conn->reader, c->number);
    if (!note || c->refusal.code) return false;
    c->refusal = *note;
    c->unframed = c->has_body = true; /* what follows is nobody's request, but it may be on its way */
    return true;
}

static enum MHD_Result begin(struct http *h, struct MHD_Connection *mhd, const char *url, const char *method,
                             void **slot)
{
    struct http_call *c = call_new(h, mhd);
    if (!c) return MHD_NO;
    *slot = c;
    c->url = url;
    c->method = method;
    c->number = ++c->conn->n_request;
    if (!take_unframed(c)) c->refusal.code = examine(c, &c->refusal);
    /* An answer now ends the connection, so only a refused body is worth it: the client need not send it all.
     */
    if (c->refusal.code && c->has_body) return answer_refusal(c);
    http_conn_reading(c->conn);
    return MHD_YES;
}

static enum MHD_Result dispatch(struct http_call *c)
{
    http_conn_quiet(c->conn);
    c->with_handler = true;
    c->http->n_call++;
    c->in_handler = true;
    c->route->handle(c, c->http->conf.app);
    c->in_handler = false;
    if (c->gone) return MHD_NO;
    if (c->response) return queue_response(c);
    c->suspended = true;
    MHD_suspend_connection(c->mhd);
    return MHD_YES;
}

enum MHD_Result http_call_access(void *http, struct MHD_Connection *mhd, const char *url, const char *method,
                                 const char *version, const char *data, size_t *n_data, void **slot)
{
    struct http *h = http;
    struct http_call *c = *slot;
    (void)version;
    if (!c) return begin(h, mhd, url, method, slot);
    if (*n_data > 0) {
        struct err_note note;
        if (take_body(c, data, *n_data, &note)) return refuse_midway(c, &note);
        *n_data = 0;
        return MHD_YES;
    }
    if (c->gone) return MHD_NO;
    if (c->response) return queue_response(c);
    if (!c->with_handler) take_unframed(c);
    if (c->refusal.code) return answer_refusal(c);
    if (!c->with_handler) return dispatch(c);
    c->suspended = true; /* woken for nothing */
    MHD_suspend_connection(mhd);
    return MHD_YES;
}

static void log_call(const struct http_call *c, bool whole)
{
    log_line(c->route && c->route->method == HTTP_POST ? LOG_INFO : LOG_DEBUG, "request",
             "id=%s method=%s path=%.128s status=%d whole=%s ms=%.1f", c->id, c->method, c->url, c->status,
             whole ? "yes" : "no", clock_ms_since(c->start_ns));
}

void http_call_completed(void *http, struct MHD_Connection *mhd, void **slot,
                         enum MHD_RequestTerminationCode why)
{
    struct http *h = http;
    struct http_call *c = *slot;
    (void)mhd;
    *slot = NULL;
    if (!c) return;
    bool whole = why == MHD_REQUEST_TERMINATED_COMPLETED_OK;
    if (!whole) h->stats.aborted++;
    log_call(c, whole);
    struct http_conn *conn = c->conn;
    if (whole && c->refusal.code && c->has_body) {
        int fd = fcntl(conn->fd, F_DUPFD_CLOEXEC, 0);
        if (fd >= 0) http_linger(h, fd);
    }
    http_conn_count(conn);
    http_conn_idle(conn);
    conn->call = NULL;
    c->conn = NULL;
    c->mhd = NULL;
    c->url = c->method = NULL;
    c->suspended = false;
    if (c->with_handler)
        http_call_client_left(c);
    else
        http_call_release(c);
}

/* --- what the handler sees */

const char *http_header(const struct http_call *c, const char *name)
{
    return c->mhd ? MHD_lookup_connection_value(c->mhd, MHD_HEADER_KIND, name) : NULL;
}

const char *http_path_rest(const struct http_call *c) { return c->rest ? c->rest : ""; }
const char *http_request_id(const struct http_call *c) { return c->id; }
int http_key_index(const struct http_call *c) { return c->key_i; }
