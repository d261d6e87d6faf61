/* dialect: errors as the clients of a path know them. Pure. */
#include "server/http/internal.h"
#include "server/json/out.h"

static const struct http_dialect *dialect_of(const struct http_call *c)
{
    return c && c->route ? c->route->dialect : NULL;
}

void http_call_error(const struct http_call *c, const struct err_note *note, struct strbuf *out)
{
    const struct http_dialect *d = dialect_of(c);
    if (d)
        d->object(out, note, c->id);
    else
        json_out_error(out, note);
}

void http_call_error_frame(const struct http_call *c, const struct err_note *note, struct strbuf *out)
{
    const struct http_dialect *d = dialect_of(c);
    if (d) {
        d->frame(out, note, c->id);
        return;
    }
    strbuf_puts(out, "data: ");
    json_out_error(out, note);
    strbuf_puts(out, "\n\n");
}
