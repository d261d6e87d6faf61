/* reply: whole answers, and the end of a call. Loop thread only.
 *
 * Two hold a call: the library, from the first access callback to the completed callback, and the handler,
 * from its start until it has answered (or let go after on_gone). The last of the two to let go frees it. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "server/http/internal.h"

/* --- the end of a call */

void http_call_release(struct http_call *c)
{
    if (c->mhd || c->with_handler) return;
    struct http *h = c->http;
    list_remove(&c->gone_node);
    list_remove(&c->room_node);
    http_due_clear(&c->ping);
    http_body_free(c->body);
    http_account_drop(c->account);
    free(c->rest);
    strbuf_fini(&c->out);
    if (c->response) MHD_destroy_response(c->response);
    free(c);
    h->n_live_call--;
    http_maybe_done(h);
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

/* --- answers */

void http_call_set_response(struct http_call *c, int status, struct MHD_Response *r)
{
    CHECK(!c->answered);
    c->answered = true;
    c->status = status;
    c->http->stats.by_status[status / 100]++;
    if (r && c->mhd) r = http_with_own_headers(c, r);
    if (c->gone || !c->mhd || !r) {
        if (r) MHD_destroy_response(r);
        if (!r) http_call_client_left(c); /* out of memory: the connection is closed */
        return;
    }
    c->response = r;
    http_call_resume(c);
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
    http_call_error(c, note, &b);
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

void http_call_refuse(struct http_call *c, const struct err_note *note, int retry_after_s)
{
    http_call_set_response(c, err_status(note->code), error_response(c, note, retry_after_s));
}

void http_reply(struct http_call *c, int status, const char *content_type, const char *body, size_t n,
                const char *extra)
{
    if (!c->overtaken) http_call_set_response(c, status, response_new(content_type, body, n, extra));
    http_call_finish(c);
}

void http_reply_error(struct http_call *c, const struct err_note *note, int retry_after_s)
{
    if (!c->overtaken) http_call_refuse(c, note, retry_after_s);
    http_call_finish(c);
}

void http_finish_gone(struct http_call *c)
{
    CHECK(c->gone);
    http_call_finish(c);
}
