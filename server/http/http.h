/* http: the only door to the network. libmicrohttpd as a guest of the libuv loop; only the files here include
 * microhttpd.h. Loop thread only. It owns sockets, deadlines, limits, keys and bytes; it knows no JSON beyond
 * the error object.
 *
 * Life of a call: the handler gets a whole, size-checked body and must answer exactly once, now or later:
 * http_reply, or http_stream_begin .. http_stream_end. Between, the connection is suspended. When the client
 * leaves first, on_gone is called once, and the call takes no more bytes; the handler still ends it with
 * http_finish_gone.
 *
 * Every error is the OpenAI object, but for paths of another dialect. The library has refusals of its own, in
 * HTML; none can occur, because it reads nothing but requests that http_frame has found to be whole and
 * right.
 */
#ifndef FLUXD_SERVER_HTTP_HTTP_H
#define FLUXD_SERVER_HTTP_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"
#include "base/strbuf.h"
#include "server/http/account.h"

struct http;      /* the listener */
struct http_call; /* one request being answered */
struct http_body; /* the bytes of a body */

enum http_method { HTTP_GET, HTTP_POST, HTTP_DELETE, HTTP_OPTIONS, HTTP_OTHER };

/* How a dialect tells an error: as an answer, as a frame of a stream (whole, with its line ends), and the
 * header with the request's id that its clients look for. */
struct http_dialect {
    void (*object)(struct strbuf *out, const struct err_note *note, const char *request_id);
    void (*frame)(struct strbuf *out, const struct err_note *note, const char *request_id);
    const char *id_header; /* beside X-Request-Id; NULL: none */
};

/* One row of the table of paths (server/api/routes.c). Default deny: what is not in it is 404. */
struct http_route {
    enum http_method method;
    const char *path;                   /* exact match of the raw path; one "*" takes any bytes, not none (GET
                                           /v1/models/{id}) */
    bool open;                          /* no API key needed */
    bool scrape;                        /* nor here, where http_conf.scrape_open */
    bool json_body;                     /* POST: a body must have Content-Type application/json */
    const struct http_dialect *dialect; /* NULL: OpenAI's */
    void (*handle)(struct http_call *c, void *app);
};

struct http_conf {
    const char *host; /* addresses as for place.h */
    int port;         /* 0: any, see http_port */
    int socket_mode;  /* of unix sockets */
    int max_connections;
    int max_lingering; /* refused sockets that are still read; one more closes the oldest */
    size_t max_header_bytes, max_body_bytes; /* one header block, one body */
    size_t max_bodies_bytes;                 /* all bodies in flight that are not small */
    size_t client_bodies_bytes;              /* of these, one API key's or address's; 0: half */
    size_t small_body_bytes;                 /* a body up to this always has room */
    int max_header_fields;                   /* header lines, query parameters and cookies of one request */
    int header_ms, body_ms, idle_ms, write_stall_ms; /* absolute; absolute; inactivity; no progress */
    int ping_ms;                                     /* ": ping" comments on silent streams; 0: none */
    size_t
        drain_bytes; /* of a refused body are read and dropped (at most 1 s), so that the client sees why */
    size_t stream_buffer_bytes; /* bytes a slow reader may have waiting before http_stream_full says so */
    const struct http_route *route;
    int n_route;
    const struct key_list *keys;              /* read at the start; NULL or none: open */
    bool scrape_open;                         /* --metrics-open */
    const char *allowed_hosts, *cors_origins; /* lists as for origin.h, borrowed; NULL is none */
    const char *trusted_proxies;              /* as for peer.h */
    void *app;
};

/* ERR_IO: the socket, param "--port". ERR_CONFIG: the address, param "--host". */
enum err http_open(struct http **out, uv_loop_t *loop, const struct http_conf *conf, struct err_note *note);
int http_port(const struct http *h);         /* 0: unix sockets alone */
bool http_is_loopback(const struct http *h); /* only this machine reaches it */
void http_stop_accepting(struct http *h);    /* new connections are refused by the kernel */
int http_calls(const struct http *h);        /* calls not yet answered */
int http_answering(const struct http *h);    /* calls whose last byte has not been handed to the kernel */

/* Answers what handlers still owe, streams by an error frame. What the handlers do later is ignored. */
void http_end_calls(struct http *h, const struct err_note *note);

/* Ends what is left. done runs on the loop, when every handler has let go of its call. */
void http_close(struct http *h, void (*done)(void *), void *arg);

/* The call as the handler sees it. Borrowed until it is answered. */
const char *http_body(const struct http_call *c, size_t *n);
struct http_body *
http_body_take(struct http_call *c); /* hands it over: prep works on it elsewhere; NULL: out of memory */
const char *http_body_text(const struct http_body *b,
                           size_t *n); /* any thread, as long as the body is held */
uint64_t http_body_owner(
    const struct http_body *b); /* a number for the API key, or without one the address, that sent it */
void http_body_free(struct http_body *b);                             /* loop thread; NULL is fine */
const char *http_header(const struct http_call *c, const char *name); /* NULL when absent */
const char *
http_path_rest(const struct http_call *c); /* what the route's "*" matched, percent-decoded; else "" */
const char *http_request_id(const struct http_call *c);       /* our own, unique, also sent as X-Request-Id */
struct http_account *http_account(const struct http_call *c); /* whose key it is; NULL: none was needed */

/* The client left, in any state before the answer ended: on_gone(arg) is called once. */
void http_set_gone(struct http_call *c, void (*on_gone)(void *), void *arg);

/* One whole answer. body is copied. extra may be NULL: "Name: value\r\n" lines. */
void http_reply(struct http_call *c, int status, const char *content_type, const char *body, size_t n,
                const char *extra);

/* 200 with a long answer that is made as the client reads it. Its begin is copied. next appends a piece,
 * false with the last; it runs on the loop, so pieces are small. free is called once, whatever becomes of the
 * call, maybe at once. */
struct http_source {
    const char *begin;
    size_t n_begin;
    bool (*next)(void *arg, struct strbuf *out);
    void (*free)(void *arg);
    void *arg;
};
void http_reply_source(struct http_call *c, const char *content_type, const struct http_source *s);

/* The OpenAI error object; retry_after_s < 0: no Retry-After. */
void http_reply_error(struct http_call *c, const struct err_note *note, int retry_after_s);

/* Server-sent events. */
/* The stream begins later: on_late(arg), once, when it would be time for the first ping; http_stream_begin or
 * any other answer before that forgets it. */
void http_stream_await(struct http_call *c, void (*on_late)(void *), void *arg);
void http_stream_begin(struct http_call *c); /* 200, text/event-stream; pings while silent */
void http_stream_write(struct http_call *c, const char *p,
                       size_t n);                 /* copied; whole "data: ...\n\n" frames */
bool http_stream_full(const struct http_call *c); /* more waits than stream_buffer_bytes: hold back */
void http_stream_on_room(struct http_call *c, void (*on_room)(void *), void *arg); /* it is no longer full */
void http_stream_end(struct http_call *c); /* flush and end; the call is gone after it */
void http_stream_cut(struct http_call *c); /* ends the connection instead, so that nobody takes the answer for
                                              whole; the call is gone after it */
void http_finish_gone(struct http_call *c); /* after on_gone: the handler lets go */

/* Calls that come from now on need one of these keys; those at work go on. False: out of memory, all stays. A
 * server with keys cannot become one without. */
bool http_keys_set(struct http *h, const struct key_list *keys);
struct http_account *http_account_hold(struct http_account *a); /* it stays; NULL is fine */
void http_account_drop(struct http_account *a);
const struct http_account *
http_account_next(const struct http *h,
                  const struct http_account *a); /* all there are; NULL begins and ends */

/* Counters for metrics. */
struct http_stats {
    uint64_t connections_open, connections_total, refused_early, bytes_in, bytes_out, calls_total, aborted,
        stalled, evicted;
    uint64_t body_bytes;   /* of bodies held now */
    uint64_t by_status[6]; /* 1xx .. 5xx at [1]..[5] */
};
const struct http_stats *http_stats(struct http *h);

#endif
