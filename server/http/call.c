/* call: one request as the library calls for it, from its headers to the end of its answer. Loop thread only.
 *
 * While the handler thinks, the connection is suspended; handlers are never told of a client's leaving from
 * inside the library's own call stack. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/http/internal.h"

static struct http_call *call_new(struct http *h, struct MHD_Connection *mhd)
{
    struct http_call *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->http = h;
    c->mhd = mhd;
    c->conn = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    c->conn->call = c;
    c->client = c->conn->peer;
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

/* --- the body */

/* A body that comes is kept only for a route that takes one. A refused call may have no route. */
static enum err take_body(struct http_call *c, const char *data, size_t n, struct err_note *note)
{
    enum { PROGRESS_BYTES = 16 << 10 }; /* a body that comes byte by byte makes none */
    if (c->refusal.code) return OK;
    if ((c->n_body + n) / PROGRESS_BYTES > c->n_body / PROGRESS_BYTES) http_conn_progress(c->conn);
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
    http_refuse_raw(h, c->conn->fd, c, note);
    int fd = fcntl(c->conn->fd, F_DUPFD_CLOEXEC, 0);
    if (fd >= 0) http_linger(h, fd);
    return MHD_NO;
}

/* How the server is can be asked when all places are taken. */
static bool stands_aside(const struct http_call *c)
{
    const struct http_route *r = c->route;
    return r && r->method == HTTP_GET && (r->open || r->scrape) && c->http->n_aside < PLACES_OVER;
}

/* Who is being answered gives way to nobody, so one address never has all places that way. */
static bool exceeds_places(struct http_call *c, struct err_note *note)
{
    enum { PART = 16 }; /* others have at least one place of so many */
    struct http *h = c->http;
    const int n = h->conf.max_connections, share = n - n / PART;
    c->aside = stands_aside(c);
    h->n_aside += c->aside;
    if (c->aside || (crowd_served(&c->conn->place) < share && h->crowd.n_served < n)) return false;
    if (h->crowd.n_served < n)
        err_set(note, ERR_OVERLOAD, NULL,
                "%d requests of this address are being answered, which is its share of max-connections",
                share);
    else
        err_set(note, ERR_OVERLOAD, NULL, "the server has all the %d connections it may have", n);
    h->stats.refused_early++;
    return true;
}

/* --- the library's callbacks */

static enum MHD_Result queue_response(struct http_call *c)
{
    struct MHD_Response *r = c->response;
    c->response = NULL;
    enum MHD_Result ok = MHD_queue_response(c->mhd, (unsigned)c->status, r);
    MHD_destroy_response(r);
    http_conn_writing(c->conn);
    return ok;
}

static enum MHD_Result answer_refusal(struct http_call *c)
{
    struct err_note note;
    if (exceeds_places(c, &note)) return refuse_midway(c, &note);
    int retry_s = err_status(c->refusal.code) == 503 ? 1 : -1;
    http_call_refuse(c, &c->refusal, retry_s);
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

/* A trusted proxy's connection counts, while it brings a request, as that of the client behind it. */
static void stand_for_client(const struct http_call *c)
{
    const struct peer_who who = peer_who(&c->client), proxy = peer_who(&c->conn->peer);
    if (memcmp(&who, &proxy, sizeof who) != 0) crowd_move(&c->http->crowd, &c->conn->place, &who);
}

/* RFC 9110, 5.5: white space behind a value is no part of it; the library takes it for one. Nothing waits to
 * be sent before it, since answers go one after the other. */
static bool send_continue(const struct http_call *c)
{
    static const char line[] = "HTTP/1.1 100 Continue\r\n\r\n";
    return send(c->conn->fd, line, sizeof line - 1, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof line - 1;
}

static enum MHD_Result begin(struct http *h, struct MHD_Connection *mhd, const char *url, const char *method,
                             const char *version, void **slot)
{
    struct http_call *c = call_new(h, mhd);
    if (!c) return MHD_NO;
    *slot = c;
    c->url = url;
    c->method = method;
    c->number = ++c->conn->n_request;
    if (!take_unframed(c)) c->refusal.code = http_call_examine(c, &c->refusal);
    stand_for_client(c);
    /* An answer now ends the connection, so only a refused body is worth it: the client need not send it all.
     */
    if (c->refusal.code && c->has_body) return answer_refusal(c);
    if (c->continues && !strcmp(version, "HTTP/1.1") && !send_continue(c)) return MHD_NO;
    http_conn_reading(c->conn);
    return MHD_YES;
}

static enum MHD_Result dispatch(struct http_call *c)
{
    struct err_note note;
    if (exceeds_places(c, &note)) return refuse_midway(c, &note);
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
    if (!c) return begin(h, mhd, url, method, version, slot);
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
    char client[PEER_TEXT_BYTES], names[TRACE_ID_BYTES + TRACE_PARENT_BYTES + ACCOUNT_NAME_BYTES + 64] = "";
    size_t n = 0;
    if (c->account) n += (size_t)snprintf(names, sizeof names, " key=\"%s\"", account_name(c->account));
    if (c->trace.id[0]) n += (size_t)snprintf(names + n, sizeof names - n, " client_id=\"%s\"", c->trace.id);
    if (c->trace.parent[0])
        snprintf(names + n, sizeof names - n, " trace=\"%.32s\" parent=\"%.16s\"", c->trace.parent + 3,
                 c->trace.parent + 36);
    n = strlen(names);
    if (!whole && c->conn->left_by) snprintf(names + n, sizeof names - n, " left=%s", c->conn->left_by);
    log_line(c->route && c->route->method == HTTP_POST ? LOG_INFO : LOG_DEBUG, "request",
             "id=%s client=%s method=%s path=%.128s status=%d whole=%s ms=%.1f%s", c->id,
             peer_text(&c->client, client), c->method, c->url, c->status, whole ? "yes" : "no",
             clock_ms_since(c->start_ns), names);
}

void http_call_completed(void *http, struct MHD_Connection *mhd, void **slot,
                         enum MHD_RequestTerminationCode why)
{
    struct http *h = http;
    struct http_call *c = *slot;
    (void)mhd;
    *slot = NULL;
    if (!c) return;
    h->n_aside -= c->aside;
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
    if (peer_is_trusted(&h->trusted, &conn->peer)) crowd_move(&h->crowd, &conn->place, NULL);
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
