/* body: the bytes of one request's body, from the first that comes until its owner frees it. Loop
 * thread only, but for reading what http_body_take gave.
 *
 * The memory follows what came, not what was announced: it is at most a quarter larger, and a little for a
 * short body. What counts (body_room.h) goes back when the memory does, also where a worker still reads it
 * after its client left. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "server/http/internal.h"

enum { BODY_STEP_BYTES = 1024 };

struct http_body {
    struct http *http;
    struct body_owner owner;
    struct body_hold hold;
    char *data;
    size_t n, cap;
};

static struct body_owner owner_of(const struct peer *p)
{
    const struct peer_who who = peer_who(p);
    return (struct body_owner){.hi = 2 + who.hi, .lo = who.lo}; /* 1 is a key's */
}

static struct http_body *body_new(struct http_call *c)
{
    struct http_body *b = calloc(1, sizeof *b);
    if (!b) return NULL;
    b->http = c->http;
    b->http->n_body++;
    b->owner = c->account ? (struct body_owner){.hi = 1, .lo = c->account->id} : owner_of(&c->client);
    return b;
}

/* Room for need bytes and a closing NUL, which counts like the others. */
static enum err make_room(struct http_body *b, size_t need, struct err_note *note)
{
    enum err e = body_room_grow(&b->http->bodies, &b->hold, b->owner, need + 1, note);
    if (e || need < b->cap) return e;
    const size_t most = b->http->conf.max_body_bytes + 1;
    size_t cap = (need + need / 4 + BODY_STEP_BYTES) / BODY_STEP_BYTES * BODY_STEP_BYTES;
    if (cap > most && need < most) cap = most;
    char *p = realloc(b->data, cap);
    if (!p) return err_set(note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
    b->data = p;
    b->cap = cap;
    return OK;
}

enum err http_body_add(struct http_call *c, const char *data, size_t n, struct err_note *note)
{
    if (!c->body) c->body = body_new(c);
    struct http_body *b = c->body;
    enum err e = b ? make_room(b, b->n + n, note) : err_set(note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
    if (e) return e;
    memcpy(b->data + b->n, data, n);
    b->n += n;
    b->data[b->n] = '\0';
    return OK;
}

void http_body_free(struct http_body *b)
{
    if (!b) return;
    struct http *h = b->http;
    body_room_give(&h->bodies, &b->hold);
    free(b->data);
    free(b);
    h->n_body--;
    http_maybe_done(h);
}

const char *http_body(const struct http_call *c, size_t *n) { return http_body_text(c->body, n); }

const char *http_body_text(const struct http_body *b, size_t *n)
{
    *n = b ? b->n : 0;
    return b && b->data ? b->data : "";
}

uint64_t http_body_owner(const struct http_body *b)
{
    return b->owner.lo * 0x9E3779B97F4A7C15u ^ b->owner.hi;
}

struct http_body *http_body_take(struct http_call *c)
{
    struct http_body *b = c->body ? c->body : body_new(c);
    c->body = NULL;
    return b;
}
