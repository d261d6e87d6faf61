/* headers: what every answer bears. A page of a listed origin gets that origin named,
 * without which its browser keeps the answer from it. Loop thread only. */
#include <stdio.h>
#include <string.h>

#include "server/http/internal.h"

const char *http_header(const struct http_call *c, const char *name)
{
    return c->mhd ? MHD_lookup_connection_value(c->mhd, MHD_HEADER_KIND, name) : NULL;
}

/* Of an answer's headers a page sees, beside a few plain ones, those that stand here. */
#define EXPOSED                                                                                              \
    "X-Request-Id, X-Fluxd-Request-Id, request-id, traceparent, Retry-After, Allow, WWW-Authenticate"

struct MHD_Response *http_with_header(struct MHD_Response *r, const char *name, const char *value)
{
    if (!r || MHD_add_response_header(r, name, value) == MHD_YES) return r;
    MHD_destroy_response(r);
    return NULL;
}

static struct MHD_Response *with_cors(const struct http_call *c, struct MHD_Response *r)
{
    const char *pages = c->http->origin.pages;
    if (!pages || !*pages) return r;
    r = http_with_header(r, "Vary",
                         "Origin"); /* a cache between must not give one page's answer to another */
    const char *origin = c->listed ? http_header(c, "Origin") : NULL;
    if (!origin) return r;
    r = http_with_header(r, "Access-Control-Allow-Origin", origin);
    return http_with_header(r, "Access-Control-Expose-Headers", EXPOSED);
}

/* A client that names its request finds that name again, and ours beside it. */
struct MHD_Response *http_with_own_headers(const struct http_call *c, struct MHD_Response *r)
{
    const struct http_dialect *d = c->route ? c->route->dialect : NULL;
    const bool named = c->trace.id[0] != '\0';
    r = http_with_header(r, "X-Request-Id", named ? c->trace.id : c->id);
    if (named) r = http_with_header(r, "X-Fluxd-Request-Id", c->id);
    if (d && d->id_header) r = http_with_header(r, d->id_header, c->id);
    const char *connection = http_header(c, "Connection");
    if (c->http->conf.idle_ms >= 1000 && !c->unframed && !(connection && strcasestr(connection, "close"))) {
        char stays[32];
        snprintf(stays, sizeof stays, "timeout=%d", c->http->conf.idle_ms / 1000);
        r = http_with_header(r, "Keep-Alive", stays);
    }
    if (c->trace.parent[0]) r = http_with_header(r, "traceparent", c->trace.parent);
    return with_cors(c, r);
}

void http_put_own_lines(const struct http_call *c, struct strbuf *out)
{
    if (!c) return;
    const char *origin = c->listed ? http_header(c, "Origin") : NULL;
    strbuf_printf(out, "X-Request-Id: %s\r\n", c->trace.id[0] ? c->trace.id : c->id);
    if (c->trace.id[0]) strbuf_printf(out, "X-Fluxd-Request-Id: %s\r\n", c->id);
    if (c->trace.parent[0]) strbuf_printf(out, "traceparent: %s\r\n", c->trace.parent);
    if (origin) strbuf_printf(out, "Vary: Origin\r\nAccess-Control-Allow-Origin: %s\r\n", origin);
}
