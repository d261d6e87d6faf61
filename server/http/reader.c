/* reader: what of a connection's bytes the library gets to read. Loop thread only, inside MHD_run.
 *
 * A read takes what the socket has and passes on what http_frame lets through; the beginning of something
 * that is not yet whole is held here. The library waits for edges: it takes less than it asked for as "the
 * socket is empty". So a read goes on until that is true, and every request that is whole goes with it,
 * however many came in one segment.
 *
 * What is refused never reaches the library. It gets a stub instead, that makes a whole request of what it
 * has read: this request is answered with the refusal, in its turn, and the connection ends. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "server/http/internal.h"
#include "server/http/recv.h"

struct guard_bound http_header_bound(const struct http *h)
{
    return (struct guard_bound){.n_byte = h->conf.max_header_bytes, .n_field = h->conf.max_header_fields};
}

/* Gives the library what was held and may pass by now. */
static size_t give_held(struct http_reader *r, char *buf, size_t n)
{
    size_t k = r->n_pass < n ? r->n_pass : n;
    memcpy(buf, r->held, k);
    memmove(r->held, r->held + k, r->n_held - k);
    r->n_held -= k;
    r->n_pass -= k;
    if (r->n_held == 0) http_reader_free(r);
    return k;
}

static size_t give_stub(struct http_reader *r, char *buf, size_t n)
{
    size_t left = strlen(r->frame.stub) - r->n_stub, k = left < n ? left : n;
    memcpy(buf, r->frame.stub + r->n_stub, k);
    r->n_stub += k;
    return k;
}

/* n bytes came into the library's own buffer: those that may pass stay there. -1: no memory for the others.
 */
static ssize_t sift(struct http_reader *r, const struct guard_bound *max, const char *buf, size_t n)
{
    enum err e;
    size_t pass = frame_pass(&r->frame, buf, n, max, &e, &r->refusal);
    if (e || pass == n) return (ssize_t)pass;
    r->held = malloc(frame_held_max(max));
    if (!r->held) return -1;
    CHECK(n - pass < frame_held_max(max));
    memcpy(r->held, buf + pass, n - pass);
    r->n_held = n - pass;
    return (ssize_t)pass;
}

/* n bytes came behind those that are held. */
static void sift_held(struct http_reader *r, const struct guard_bound *max, size_t n)
{
    enum err e;
    r->n_held += n;
    r->n_pass = frame_pass(&r->frame, r->held, r->n_held, max, &e, &r->refusal);
    if (e) r->n_held = r->n_pass;
    if (r->n_held == 0) http_reader_free(r);
}

/* One read of the socket. Above 0: it had so many bytes, *got of them are in buf. */
static ssize_t read_once(struct http_conn *c, char *buf, size_t n, size_t *got, bool *drained)
{
    struct http_reader *r = &c->reader;
    const struct guard_bound max = http_header_bound(c->http);
    bool held = r->n_held > 0;
    size_t room = held ? frame_held_max(&max) - r->n_held : n;
    ssize_t k = http_recv_kernel(c->fd, held ? r->held + r->n_held : buf, room, 0);
    *got = 0;
    if (k <= 0) return k;
    *drained = (size_t)k < room;
    if (held) {
        sift_held(r, &max, (size_t)k);
        return k;
    }
    ssize_t pass = sift(r, &max, buf, (size_t)k);
    if (pass < 0) {
        errno = ENOMEM;
        return -1;
    }
    *got = (size_t)pass;
    return k;
}

ssize_t http_reader_read(struct http_conn *c, char *buf, size_t n)
{
    struct http_reader *r = &c->reader;
    size_t at = 0;
    bool drained = false;
    if (c->evicted) return 0; /* it has its answer */
    while (at < n && (r->n_pass > 0 || !drained)) {
        if (r->n_pass > 0) {
            at += give_held(r, buf + at, n - at);
            continue;
        }
        if (r->refusal.code) {
            at += give_stub(r, buf + at, n - at);
            break;
        }
        size_t got;
        ssize_t k = read_once(c, buf + at, n - at, &got, &drained);
        if (k <= 0 && at == 0) return k;
        if (k <= 0) break;
        at += got;
        drained = drained && !r->refusal.code;
    }
    if (at > 0) return (ssize_t)at;
    errno = EAGAIN;
    return -1;
}

bool http_reader_watch(struct http_conn *c)
{
    struct http *h = c->http;
    if (c->fd >= h->n_by_fd) {
        int n = 2 * c->fd + 64;
        struct http_conn **p = realloc(h->by_fd, (size_t)n * sizeof *p);
        if (!p) return false;
        memset(p + h->n_by_fd, 0, (size_t)(n - h->n_by_fd) * sizeof *p);
        h->by_fd = p;
        h->n_by_fd = n;
    }
    h->by_fd[c->fd] = c;
    return true;
}

void http_reader_unwatch(struct http_conn *c)
{
    if (c->fd < c->http->n_by_fd && c->http->by_fd[c->fd] == c) c->http->by_fd[c->fd] = NULL;
    http_reader_free(&c->reader);
}

void http_reader_free(struct http_reader *r)
{
    free(r->held);
    r->held = NULL;
    r->n_held = r->n_pass = 0;
}

bool http_reader_midway(const struct http_reader *r)
{
    return r->frame.at == FRAME_HEAD && r->n_held > r->n_pass;
}

const struct err_note *http_reader_refusal(const struct http_reader *r, uint64_t request)
{
    return r->refusal.code && r->frame.n_request == request ? &r->refusal : NULL;
}
