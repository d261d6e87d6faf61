/* reference: a second reading of RFC 9112 for the tests, on a whole stream at once and by plain steps. It
 * says which requests stand in a client's bytes, what each must get, and how the stream ends. It shares no
 * code with server/. */
#ifndef FLUXD_TESTS_SERVER_HTTP_REFERENCE_H
#define FLUXD_TESTS_SERVER_HTTP_REFERENCE_H

#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

enum { REF_MAX_HEAD = 1024, REF_MAX_FIELDS = 24, REF_MAX_BODY = 300, REF_REQUESTS = 64 };

enum ref_end {
    REF_OPEN,     /* every request is answered, or its rest has not come */
    REF_REFUSED,  /* the last request gets an error and the connection ends */
    REF_BODY_OPEN /* the last request's body has not come: an error already, or nothing */
};

struct ref_request {
    bool sure; /* 200, with the body that is due; otherwise what path and headers get */
    bool head, has_body;
    bool close, close_unclear;
    char body[REF_MAX_BODY + 1];
    size_t n_body;
};

struct ref {
    struct ref_request request[REF_REQUESTS + 1]; /* [n]: the one that is refused or not whole */
    int n;
    enum ref_end end;
    bool over; /* refused for its body's size, whatever stands in it or behind it */
};

struct ref_head {
    char method[16], target[64];
    int n_host, n_length, n_coding, n_field, n_connection, n_type;
    bool v10, coding_right, expect, expect_wrong, host_right, type_right, close, keep, length_right;
    unsigned long long length;
};

static bool ref_token(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)p[i]) && (!p[i] || !strchr("!#$%&'*+-.^_`|~", p[i]))) return false;
    return n > 0;
}

static bool ref_is(const char *p, size_t n, const char *word)
{
    return n == strlen(word) && strncasecmp(p, word, n) == 0;
}

static bool ref_request_line(struct ref_head *h, const char *p, size_t n)
{
    if (n < 10 || p[n - 9] != ' ') return false;
    bool v10 = memcmp(p + n - 8, "HTTP/1.0", 8) == 0, v11 = memcmp(p + n - 8, "HTTP/1.1", 8) == 0;
    const char *space = memchr(p, ' ', n);
    if ((!v10 && !v11) || !ref_token(p, (size_t)(space - p))) return false;
    const char *target = space + 1, *end = p + n - 9;
    if (target >= end) return false;
    for (const char *c = target; c < end; c++) {
        if (*c < '!' || *c > '~') return false;
        h->n_field += *c == '&' || *c == '?';
    }
    h->v10 = v10;
    if (space - p < (ptrdiff_t)sizeof h->method) memcpy(h->method, p, (size_t)(space - p));
    if (end - target < (ptrdiff_t)sizeof h->target) memcpy(h->target, target, (size_t)(end - target));
    return true;
}

static void ref_length(struct ref_head *h, const char *p, size_t n, bool space_behind)
{
    h->n_length++;
    h->length_right = n > 0 && !space_behind;
    h->length = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isdigit((unsigned char)p[i]) || h->length > (unsigned long long)1e17)
            h->length_right = false;
        else
            h->length = h->length * 10 + (unsigned)(p[i] - '0');
    }
}

/* Of the names that the sequences make; those that end in a dash with anything behind it. */
static bool ref_is_kept_from_trailers(const char *p, size_t n)
{
    static const char *const name[] = {"Host",      "Content-", "Transfer-", "Authorization",
                                       "x-api-key", "Cookie",   "Expect",    "Connection",
                                       "Accept",    "Accept-",  "Trailer",   "api-key"};
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        const size_t k = strlen(name[i]), m = name[i][k - 1] == '-' && n > k ? k : n;
        if (ref_is(p, m, name[i])) return true;
    }
    return false;
}

/* trailer: the line stands behind the last chunk. */
static bool ref_header_line(struct ref_head *h, const char *p, size_t n, bool trailer)
{
    const char *colon = memchr(p, ':', n);
    if (!colon || !ref_token(p, (size_t)(colon - p))) return false;
    size_t k = (size_t)(colon - p), from = k + 1, to = n;
    for (size_t i = from; i < n; i++)
        if (p[i] != '\t' && iscntrl((unsigned char)p[i]) && (unsigned char)p[i] < 0x80) return false;
    while (from < to && strchr(" \t", p[from])) from++;
    while (to > from && strchr(" \t", p[to - 1])) to--;
    const char *v = p + from;
    size_t m = to - from;
    if (trailer && ref_is_kept_from_trailers(p, k)) return false;
    h->n_field++;
    if (ref_is(p, k, "Cookie"))
        for (size_t i = 0; i < m; i++) h->n_field += v[i] == ';' || v[i] == ',';
    if (ref_is(p, k, "Host")) {
        h->n_host++;
        h->host_right = ref_is(v, m, "127.0.0.1");
    } else if (ref_is(p, k, "Content-Length"))
        ref_length(h, v, m, to < n);
    else if (ref_is(p, k, "Transfer-Encoding")) {
        h->n_coding++;
        h->coding_right = ref_is(v, m, "chunked") && to == n;
    } else if (ref_is(p, k, "Expect")) {
        h->expect = true;
        h->expect_wrong = h->expect_wrong || !ref_is(v, m, "100-continue");
    } else if (ref_is(p, k, "Content-Type")) {
        h->n_type++;
        h->type_right = ref_is(v, m, "application/json");
    } else if (ref_is(p, k, "Connection")) {
        h->n_connection++;
        h->close = ref_is(v, m, "close");
        h->keep = ref_is(v, m, "keep-alive");
    }
    return true;
}

static bool ref_head_right(const struct ref_head *h)
{
    if (h->n_host > 1 || (h->n_host == 0 && !h->v10) || h->n_field > REF_MAX_FIELDS || h->expect_wrong)
        return false;
    if (h->expect && !h->v10 && h->length == 0 && h->n_coding == 0) return false;
    if (h->n_length > 1 || (h->n_length == 1 && !h->length_right)) return false;
    return h->n_coding == 0 || (h->n_coding == 1 && h->coding_right && h->n_length == 0 && !h->v10);
}

/* Lines from *at to an empty one. 1: whole, *at is behind it; 0: the rest is missing; -1: refused. */
static int ref_lines(struct ref_head *h, const char *b, size_t n, size_t *at, size_t start, bool trailer)
{
    for (bool first = !trailer;; first = false) {
        const char *p = b + *at, *lf = memchr(p, '\n', n - *at);
        size_t left = n - *at;
        if (!lf) {
            for (size_t i = 0; first && i < left && p[i] != ' '; i++)
                if (!ref_token(p + i, 1) && (p[i] != '\r' || i == 0)) return -1;
            return n - start > REF_MAX_HEAD ? -1 : 0;
        }
        if (lf == p || lf[-1] != '\r' || memchr(p, '\r', (size_t)(lf - 1 - p))) return -1;
        size_t len = (size_t)(lf - 1 - p);
        *at += len + 2;
        if (*at - start > REF_MAX_HEAD) return -1;
        if (first ? !ref_request_line(h, p, len) : len > 0 && !ref_header_line(h, p, len, trailer)) return -1;
        if (h->n_field > REF_MAX_FIELDS) return -1;
        if (len == 0) return 1;
    }
}

/* One chunked body. As ref_lines; -2 when more than REF_MAX_BODY bytes of it came. */
static int ref_chunks(struct ref_request *r, const char *b, size_t n, size_t *at, size_t head, int n_field)
{
    for (;;) {
        unsigned long long size = 0;
        size_t i = *at;
        for (; i < n && isxdigit((unsigned char)b[i]); i++) {
            size =
                size * 16 + (unsigned)(isdigit((unsigned char)b[i]) ? b[i] - '0' : tolower(b[i]) - 'a' + 10);
            if (i - *at >= 16) return -1;
        }
        if (i == n) return 0;
        if (i == *at || (b[i] != ';' && b[i] != '\r')) return -1;
        const char *lf = memchr(b + i, '\n', n - i);
        if (size >> 63 || (lf ? (size_t)(lf - b) - *at : n - *at) > REF_MAX_HEAD) return -1;
        if (!lf) return b[i] == '\r' && i + 1 < n ? -1 : 0;
        for (const char *c = b + i; c < lf; c++)
            if ((unsigned char)*c < ' ' && *c != '\t' && !(c + 1 == lf && *c == '\r'))
                return -1;
            else if (*c == 0x7f)
                return -1;
        if (lf[-1] != '\r') return -1;
        *at = (size_t)(lf + 1 - b);
        if (size == 0) break;
        size_t have = n - *at < size ? n - *at : (size_t)size;
        if (r->n_body + have > REF_MAX_BODY) return -2;
        memcpy(r->body + r->n_body, b + *at, have);
        r->n_body += have;
        *at += have;
        if (have < size) return 0;
        if ((n > *at && b[*at] != '\r') || (n > *at + 1 && b[*at + 1] != '\n')) return -1;
        if (n < *at + 2) return 0;
        *at += 2;
    }
    struct ref_head none = {.n_field = n_field};
    return ref_lines(&none, b, n, at, *at - head, true);
}

static void ref_take(struct ref_request *r, const struct ref_head *h)
{
    bool get = !strcmp(h->method, "GET") || !strcmp(h->method, "HEAD");
    *r = (struct ref_request){.head = !strcmp(h->method, "HEAD"),
                              .has_body = h->n_coding > 0 || h->length > 0};
    r->close_unclear = h->n_connection > 1 || (h->n_connection == 1 && !h->close && !h->keep);
    r->close = h->close || (h->v10 && !h->keep);
    bool hello = get && !strcmp(h->target, "/hello");
    bool echo = !strcmp(h->method, "POST") && !strcmp(h->target, "/echo") && h->n_type == 1 && h->type_right;
    r->sure = h->host_right && (hello || echo);
}

static void ref_read(struct ref *out, const char *b, size_t n)
{
    out->n = 0;
    out->end = REF_OPEN;
    out->over = false;
    out->request[0] = (struct ref_request){.head = false};
    for (size_t at = 0; at < n && out->n < REF_REQUESTS;) {
        struct ref_head h = {.v10 = false};
        size_t start = at;
        out->end = REF_OPEN;
        out->request[out->n] = (struct ref_request){.head = false};
        if (b[at] == '\r' && at + 1 == n) return;
        if (b[at] == '\r' && b[at + 1] == '\n') at += 2;
        int whole = ref_lines(&h, b, n, &at, start, false);
        if (whole == 0) return;
        out->end = REF_REFUSED;
        if (whole < 0 || !ref_head_right(&h)) return;
        struct ref_request *r = &out->request[out->n];
        ref_take(r, &h);
        out->over = h.length > REF_MAX_BODY;
        if (out->over) return;
        bool hello = !strcmp(h.target, "/hello");
        if (h.n_coding) {
            whole = ref_chunks(r, b, n, &at, at - start, h.n_field);
            out->over = whole == -2;
            if (whole < 0) return;
        } else {
            whole = n - at >= h.length;
            r->n_body = whole ? (size_t)h.length : 0;
            memcpy(r->body, b + at, r->n_body);
            at += r->n_body;
        }
        out->end = REF_BODY_OPEN;
        if (whole == 0) return;
        if (hello) r->n_body = (size_t)(stpcpy(r->body, "hello\n") - r->body);
        out->end = REF_OPEN;
        out->request[++out->n] = (struct ref_request){.head = false};
    }
}

#endif
