/* guard: the rules for header blocks. Pure functions, any thread; see the header for why they are there. */
#include "server/http/guard.h"

#include <string.h>
#include <strings.h>

/* RFC 9110, 5.6.2: tchar. */
bool guard_is_token_char(char ch)
{
    const unsigned char c = (unsigned char)ch;
    if (c <= ' ' || c >= 0x7f) return false;
    return !strchr("\"(),/:;<=>?@[\\]{}", c);
}

static bool is_token(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!guard_is_token_char(p[i])) return false;
    return n > 0;
}

bool guard_is_value(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        if ((c < ' ' && c != '\t') || c == 0x7f) return false;
    }
    return true;
}

static bool equals(const char *p, size_t n, const char *word)
{
    return n == strlen(word) && !strncasecmp(p, word, n);
}

static void take_length(struct guard *g, const char *p, size_t n)
{
    g->n_length++;
    g->length = 0;
    if (n == 0) g->length_bad = true;
    for (size_t i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9') {
            g->length_bad = true;
            return;
        }
        uint64_t digit = (uint64_t)(p[i] - '0');
        if (g->length > ((uint64_t)INT64_MAX - digit) / 10) g->length_huge = true;
        if (!g->length_huge) g->length = g->length * 10 + digit;
        if (digit) g->body = true;
    }
}

void guard_header(struct guard *g, const char *name, size_t n_name, const char *value, size_t n_value)
{
    if (!is_token(name, n_name)) g->name_bad = true;
    if (!guard_is_value(value, n_value)) g->value_bad = true;
    if (equals(name, n_name, "Host")) g->n_host++;
    if (equals(name, n_name, "Authorization")) g->n_auth++;
    if (equals(name, n_name, "x-api-key")) g->n_api_key++;
    if (equals(name, n_name, "Content-Length")) take_length(g, value, n_value);
    if (equals(name, n_name, "Transfer-Encoding")) {
        g->n_coding++;
        g->body = true;
        if (!equals(value, n_value, "chunked")) g->coding_bad = true;
    }
    g->n_field++;
    if (equals(name, n_name, "Cookie"))
        for (size_t i = 0; i < n_value; i++) g->n_field += value[i] == ';' || value[i] == ',';
    if (equals(name, n_name, "Expect")) {
        g->expect = true;
        g->expect_other = g->expect_other || !equals(value, n_value, "100-continue");
    }
}

enum err guard_verdict(const struct guard *g, size_t max_body, struct err_note *note)
{
    const struct {
        bool bad;
        enum err e;
        const char *why;
    } rule[] = {
        {g->name_bad, ERR_INVALID_REQUEST, "a header name holds a forbidden character"},
        {g->value_bad, ERR_INVALID_REQUEST, "a header value holds a control character"},
        {g->n_host > 1 || (g->n_host == 0 && !g->http10), ERR_INVALID_REQUEST,
         "exactly one Host header is needed"},
        {g->n_length > 1 || g->length_bad, ERR_INVALID_REQUEST,
         "Content-Length must stand once and be one number"},
        {g->n_length && g->n_coding, ERR_INVALID_REQUEST,
         "Content-Length and Transfer-Encoding exclude each other"},
        {g->n_coding > 1 || g->coding_bad, ERR_INVALID_REQUEST,
         "the only Transfer-Encoding is one \"chunked\""},
        {g->n_coding && g->http10, ERR_INVALID_REQUEST, "HTTP/1.0 has no Transfer-Encoding"},
        {g->expect_other, ERR_EXPECTATION, "the only supported expectation is 100-continue"},
        /* RFC 9110, 10.1.1; the library would take the next request for the body that it waits for. */
        {g->expect && !g->body && !g->http10, ERR_INVALID_REQUEST, "an expectation needs a body"},
        {g->length_huge || g->length > max_body, ERR_TOO_LARGE, "the request body is too large"},
    };
    for (size_t i = 0; i < sizeof rule / sizeof *rule; i++)
        if (rule[i].bad) return err_set(note, rule[i].e, NULL, "%s", rule[i].why);
    return OK;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* "METHOD SP target SP HTTP/1.x" without its line end. */
static enum err check_request_line(struct guard *g, const char *p, size_t n, struct err_note *note)
{
    const char *end = p + n, *sp1 = memchr(p, ' ', n);
    if (!sp1 || !is_token(p, (size_t)(sp1 - p)))
        return err_set(note, ERR_INVALID_REQUEST, NULL, "this is not an HTTP request");
    const char *target = sp1 + 1, *sp2 = memchr(target, ' ', (size_t)(end - target));
    if (!sp2 || sp2 == target)
        return err_set(note, ERR_INVALID_REQUEST, NULL, "the request line is not whole");
    for (const char *c = target; c < sp2; c++) {
        g->n_field += *c == '?' || *c == '&';
        if ((unsigned char)*c <= ' ' || (unsigned char)*c >= 0x7f)
            return err_set(note, ERR_INVALID_REQUEST, NULL, "the request target holds a forbidden character");
    }
    const char *v = sp2 + 1;
    if (end - v != 8 || memcmp(v, "HTTP/", 5) != 0 || !is_digit(v[5]) || v[6] != '.' || !is_digit(v[7]))
        return err_set(note, ERR_INVALID_REQUEST, NULL, "the request line names no HTTP version");
    if (v[5] != '1' || v[7] > '1')
        return err_set(note, ERR_HTTP_VERSION, NULL, "%s", err_text(ERR_HTTP_VERSION));
    g->http10 = v[7] == '0';
    return OK;
}

static enum err check_header_line(struct guard *g, const char *p, size_t n, struct err_note *note)
{
    if (*p == ' ' || *p == '\t')
        return err_set(note, ERR_INVALID_REQUEST, NULL, "folded header lines are not allowed");
    const char *colon = memchr(p, ':', n);
    if (!colon) return err_set(note, ERR_INVALID_REQUEST, NULL, "a header line has no colon");
    const char *v = colon + 1, *end = p + n;
    while (v < end && (*v == ' ' || *v == '\t')) v++;
    while (end > v && (end[-1] == ' ' || end[-1] == '\t')) end--;
    guard_header(g, p, (size_t)(colon - p), v, (size_t)(end - v));
    /* The library keeps space behind a value: it would refuse such a length, and not know such a coding. */
    if (end < p + n && equals(p, (size_t)(colon - p), "Content-Length")) g->length_bad = true;
    if (end < p + n && equals(p, (size_t)(colon - p), "Transfer-Encoding")) g->coding_bad = true;
    if (g->name_bad)
        return err_set(note, ERR_INVALID_REQUEST, NULL, "a header name holds a forbidden character");
    if (g->value_bad)
        return err_set(note, ERR_INVALID_REQUEST, NULL, "a header value holds a control character");
    return OK;
}

/* What has come of the request line can be judged before its end: junk must not wait for a line end that
 * never comes. The first `seen` bytes were judged before. */
static enum err check_line_start(const char *p, size_t seen, size_t n, struct err_note *note)
{
    if (memchr(p, ' ', seen)) return ERR_IO;
    for (size_t i = seen; i < n && p[i] != ' '; i++)
        if (!guard_is_token_char(p[i]) && !(p[i] == '\r' && i > 0))
            return err_set(note, ERR_INVALID_REQUEST, NULL, "this is not an HTTP request");
    return ERR_IO;
}

static enum err too_many(const struct guard_bound *max, struct err_note *note)
{
    return err_set(note, ERR_HEADER_SIZE, NULL, "more than %d headers, query parameters and cookies",
                   max->n_field);
}

/* The whole lines that stand there. ERR_IO: the empty line that ends the block is not among them. */
static enum err check_lines(struct guard *g, const char *p, size_t n, const struct guard_bound *max,
                            struct err_note *note)
{
    const char *lf;
    while (g->at < n && (lf = memchr(p + g->at, '\n', n - g->at))) {
        const char *line = p + g->at;
        if (lf == line || lf[-1] != '\r')
            return err_set(note, ERR_INVALID_REQUEST, NULL, "lines must end in CR LF");
        size_t len = (size_t)(lf - 1 - line), end = (size_t)(lf + 1 - p);
        if (memchr(line, '\r', len))
            return err_set(note, ERR_INVALID_REQUEST, NULL, "a line holds a bare CR");
        if (end > max->n_byte) return ERR_IO;
        enum err e = OK;
        if (!g->lined)
            e = check_request_line(g, line, len, note);
        else if (len > 0)
            e = check_header_line(g, line, len, note);
        if (e) return e;
        if (g->n_field > max->n_field) return too_many(max, note);
        g->at = end;
        if (g->lined && len == 0) return OK;
        g->lined = true;
    }
    return ERR_IO;
}

enum err guard_block(struct guard *g, const char *p, size_t n, const struct guard_bound *max,
                     struct err_note *note)
{
    /* RFC 9112, 2.2: an empty line before the request line is to be ignored. */
    if (g->at == 0 && n >= 1 && p[0] == '\r') {
        if (n < 2) {
            g->seen = n;
            return ERR_IO;
        }
        if (p[1] != '\n') return err_set(note, ERR_INVALID_REQUEST, NULL, "this is not an HTTP request");
        g->at = 2;
    }
    size_t seen = g->seen > g->at ? g->seen - g->at : 0;
    enum err e = check_lines(g, p, n, max, note);
    if (e != ERR_IO) return e;
    if (n > max->n_byte)
        return err_set(note, ERR_HEADER_SIZE, NULL, "the request line and headers exceed %zu bytes",
                       max->n_byte);
    g->seen = n;
    return g->lined ? ERR_IO : check_line_start(p + g->at, seen, n - g->at, note);
}

/* RFC 9110, 6.5.1: what says where a request ends, where it goes, whose it is, and how it or its body is to
 * be taken comes before the body or not at all. A star stands for any rest. */
static const char *const not_behind_a_body[] = {"Accept",
                                                "Accept-*",
                                                "Access-Control-*",
                                                "Age",
                                                "Allow",
                                                "Anthropic-*",
                                                "Api-Key",
                                                "Authorization",
                                                "Cache-Control",
                                                "Connection",
                                                "Content-*",
                                                "Cookie",
                                                "Cookie2",
                                                "Date",
                                                "Expect",
                                                "Expires",
                                                "Forwarded",
                                                "Host",
                                                "If-*",
                                                "Keep-Alive",
                                                "Location",
                                                "Max-Forwards",
                                                "OpenAI-*",
                                                "Origin",
                                                "Pragma",
                                                "Prefer",
                                                "Proxy-*",
                                                "Range",
                                                "Referer",
                                                "Retry-After",
                                                "Sec-*",
                                                "Set-Cookie",
                                                "Set-Cookie2",
                                                "TE",
                                                "Traceparent",
                                                "Tracestate",
                                                "Trailer",
                                                "Transfer-*",
                                                "Upgrade",
                                                "User-Agent",
                                                "Vary",
                                                "Via",
                                                "Warning",
                                                "WWW-*",
                                                "X-Api-Key",
                                                "X-Forwarded-*",
                                                "X-Http-Method*",
                                                "X-Original-*",
                                                "X-Real-IP",
                                                "X-Request-Id",
                                                "X-Rewrite-*"};

static bool may_stand_behind(const char *name, size_t n)
{
    for (size_t i = 0; i < sizeof not_behind_a_body / sizeof *not_behind_a_body; i++) {
        const char *word = not_behind_a_body[i];
        const size_t fix = strcspn(word, "*");
        if ((word[fix] ? n >= fix : n == fix) && !strncasecmp(name, word, fix)) return false;
    }
    return true;
}

enum err guard_trailer(const char *p, size_t n, int *n_field, const struct guard_bound *max,
                       struct err_note *note)
{
    struct guard g = {.n_field = *n_field};
    enum err e = check_header_line(&g, p, n, note);
    if (e) return e;
    const char *colon = memchr(p, ':', n);
    *n_field = g.n_field;
    if (!may_stand_behind(p, (size_t)(colon - p)))
        return err_set(note, ERR_INVALID_REQUEST, NULL,
                       "a trailer may not say where a request ends, whose it is, or what its body is");
    return g.n_field > max->n_field ? too_many(max, note) : OK;
}

int guard_hex(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

bool guard_unescape(char *dst, const char *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (src[i] != '%') {
            *dst++ = src[i];
            continue;
        }
        int hi = i + 2 < n ? guard_hex(src[i + 1]) : -1, lo = i + 2 < n ? guard_hex(src[i + 2]) : -1;
        if (hi < 0 || lo < 0 || (hi | lo) == 0) return false;
        *dst++ = (char)(hi << 4 | lo);
        i += 2;
    }
    *dst = '\0';
    return true;
}
