/* stream: server-sent events. Frames wait in the call until the library asks for bytes; when none wait, the
 * connection is suspended, because a reader that gives nothing would be asked again at once, for ever. Loop
 * thread only. */
#include <string.h>

#include "base/check.h"
#include "server/http/internal.h"

enum {
    READER_BLOCK = 4096,  /* what the library asks for at once from HTTP/1.0 clients */
    DROP_FRONT = 64 << 10 /* sent bytes that may stay in the buffer before the rest is moved down */
};

static size_t pending(const struct http_call *c) { return c->out.len - c->out_off; }

static ssize_t read_frames(void *arg, uint64_t pos, char *to, size_t max)
{
    struct http_call *c = arg;
    (void)pos;
    /* The socket is shut down, so sending fails, and by that the library ends the connection. An error from
     * here it would only note, and wait for an event of the socket; of one that the client has reset there
     * comes none any more. */
    if (c->gone) {
        to[0] = '\n';
        return 1;
    }
    if (pending(c) == 0) {
        if (c->ended) return MHD_CONTENT_READER_END_OF_STREAM;
        c->suspended = true;
        MHD_suspend_connection(c->mhd);
        return 0;
    }
    size_t n = pending(c) < max ? pending(c) : max;
    memcpy(to, c->out.data + c->out_off, n);
    c->out_off += n;
    if (pending(c) == 0) {
        strbuf_clear(&c->out);
        c->out_off = 0;
    } else if (c->out_off > DROP_FRONT) {
        strbuf_drop_front(&c->out, c->out_off);
        c->out_off = 0;
    }
    if (c->was_full && pending(c) <= c->http->conf.stream_buffer_bytes / 2) {
        c->was_full = false;
        list_remove(&c->room_node);
        list_push_back(&c->http->room, &c->room_node);
    }
    return (ssize_t)n;
}

static void append(struct http_call *c, const char *p, size_t n)
{
    strbuf_put(&c->out, p, n);
    if (strbuf_failed(&c->out)) {
        http_call_client_left(c);
        return;
    }
    if (http_stream_full(c)) c->was_full = true;
    http_call_resume(c);
}

/* A comment, which clients skip: it tells them and every proxy between that the connection lives. */
static void on_ping(struct due_node *n, enum due which)
{
    struct http_call *c = LIST_ITEM(n, struct http_call, ping);
    static const char ping[] = ": ping\n\n";
    if (c->gone || c->ended) return;
    if (pending(c) == 0) append(c, ping, sizeof ping - 1);
    http_due_set(c->http, &c->ping, which);
}

static void on_late(struct due_node *n, enum due which)
{
    struct http_call *c = LIST_ITEM(n, struct http_call, ping);
    (void)which;
    if (c->gone || c->overtaken || c->answered) return;
    c->on_late(c->late_arg);
}

void http_stream_await(struct http_call *c, void (*on_late_do)(void *), void *arg)
{
    c->on_late = on_late_do;
    c->late_arg = arg;
    c->ping.expire = on_late;
    if (c->http->conf.ping_ms > 0) http_due_set(c->http, &c->ping, DUE_PING);
}

void http_stream_begin(struct http_call *c)
{
    static const char *const header[][2] = {
        {"Content-Type", "text/event-stream; charset=utf-8"},
        {"Cache-Control", "no-cache"},
        {"X-Accel-Buffering", "no"},
    };
    struct MHD_Response *r =
        c->gone ? NULL
                : MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, READER_BLOCK, read_frames, c, NULL);
    for (size_t i = 0; r && i < sizeof header / sizeof *header; i++)
        r = http_with_header(r, header[i][0], header[i][1]);
    if (c->overtaken) {
        if (r) MHD_destroy_response(r);
        return;
    }
    c->streaming = true;
    c->ping.expire = on_ping;
    http_call_set_response(c, 200, r);
    if (c->http->conf.ping_ms > 0) http_due_set(c->http, &c->ping, DUE_PING);
}

void http_stream_write(struct http_call *c, const char *p, size_t n)
{
    if (c->gone || c->overtaken || n == 0) return;
    CHECK(c->streaming && !c->ended);
    append(c, p, n);
    if (c->http->conf.ping_ms > 0) http_due_set(c->http, &c->ping, DUE_PING);
}

bool http_stream_full(const struct http_call *c) { return pending(c) > c->http->conf.stream_buffer_bytes; }

void http_stream_on_room(struct http_call *c, void (*on_room)(void *), void *arg)
{
    c->on_room = on_room;
    c->room_arg = arg;
}

static void fail(struct http_call *c, const struct err_note *note)
{
    struct strbuf b;
    strbuf_init(&b);
    http_call_error_frame(c, note, &b);
    if (strbuf_failed(&b))
        http_call_client_left(c); /* cut: it must not look whole */
    else
        append(c, b.data, b.len);
    strbuf_fini(&b);
    c->ended = true;
    http_call_resume(c);
}

void http_call_overtake(struct http_call *c, const struct err_note *note)
{
    if (c->overtaken || c->gone) return;
    c->overtaken = true;
    if (c->streaming)
        fail(c, note);
    else
        http_call_refuse(c, note, 1);
}

void http_stream_cut(struct http_call *c)
{
    if (!c->overtaken) http_call_client_left(c);
    c->ended = true;
    http_call_finish(c);
}

void http_stream_end(struct http_call *c)
{
    CHECK(c->overtaken || (c->streaming && !c->ended));
    c->ended = true;
    http_call_resume(c);
    http_call_finish(c);
}
