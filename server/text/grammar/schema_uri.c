/* schema: joining URIs (RFC 3986, chapter 5). */
#include "server/text/grammar/schema.h"

static const char *scheme_end(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char c = p[i];
        if (c == ':') return i ? p + i + 1 : NULL;
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && !(i && ((c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.'))) return NULL;
    }
    return NULL;
}

/* Takes "." and ".." out of the path at p. */
static size_t remove_dots(char *p, size_t n)
{
    size_t w = 0;
    for (size_t i = 0; i < n;) {
        size_t k = i + 1;
        while (k < n && p[k] != '/') k++;
        size_t len = k - i;
        bool dot = len == 2 && p[i + 1] == '.', dots = len == 3 && p[i + 1] == '.' && p[i + 2] == '.';
        if (p[i] == '/' && (dot || dots)) {
            if (dots)
                while (w > 0 && p[--w] != '/') {
                }
            if (k == n) p[w++] = '/';
        } else {
            memmove(p + w, p + i, len);
            w += len;
        }
        i = k;
    }
    return w;
}

const char *uri_resolve(struct arena *mem, const char *base, const char *ref, size_t n)
{
    const char *hash = n ? memchr(ref, '#', n) : NULL;
    if (hash) n = (size_t)(hash - ref);
    if (n == 0) return base;
    if (scheme_end(ref, n) || !*base) return arena_strndup(mem, ref, n);
    size_t base_n = strlen(base);
    const char *colon = scheme_end(base, base_n), *path = colon ? colon : base;
    if (colon && path[0] == '/' && path[1] == '/') {
        path += 2;
        while (*path && *path != '/' && *path != '?') path++;
    }
    const char *last = path;
    for (const char *q = path; *q && *q != '?'; q++)
        if (*q == '/') last = q + 1;
    size_t keep = ref[0] != '/'                     ? (size_t)(last - base)
                  : n > 1 && ref[1] == '/' && colon ? (size_t)(colon - base)
                                                    : (size_t)(path - base);
    char *out = arena_alloc(mem, keep + n + 2);
    if (!out) return NULL;
    memcpy(out, base, keep);
    if (ref[0] != '/' && last == path && colon && path != colon)
        out[keep++] = '/'; /* an authority without a path */
    memcpy(out + keep, ref, n);
    size_t from = (size_t)(path - base), query = 0;
    while (query < n && ref[query] != '?') query++;
    size_t end = keep + query;
    if (ref[0] == '/' && n > 1 && ref[1] == '/') from = end;
    size_t cut = from < end ? remove_dots(out + from, end - from) : end - from;
    memmove(out + from + cut, out + end, n - query);
    out[from + cut + n - query] = '\0';
    return out;
}
