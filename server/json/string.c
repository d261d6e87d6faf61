/* string: see string.h. Plain text is skipped eight bytes at a time; the rest goes byte by byte. */
#include "server/json/string.h"

#include <string.h>

#include "base/json_escape.h"
#include "base/utf8.h"

/* p[0] is a backslash; *len: bytes of the whole escape. */
static enum err skip_escape(const uint8_t *p, size_t n, size_t *len, const char **why)
{
    const char *at = (const char *)p;
    const int32_t c = json_escape(&at, at + n);
    *len = (size_t)(at - (const char *)p);
    if (c > 0) return OK;
    *why = c == JSON_ESCAPE_BAD    ? "a malformed escape in a string"
           : c == JSON_ESCAPE_HALF ? "an escape that is half a surrogate pair"
                                   : "the character U+0000 is not accepted";
    return c == JSON_ESCAPE_BAD    ? ERR_INVALID_JSON
           : c == JSON_ESCAPE_HALF ? ERR_INVALID_UTF8
                                   : ERR_INVALID_VALUE;
}

/* Whether any of the 8 bytes is a quote, a backslash, a control character or not ASCII. Exact: the additions
 * see bytes below 0x80 only, so none carries into the next. */
static bool word_is_special(uint64_t w)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), high = ones * 0x80;
    if (w & high) {
        return true;
    }
    const uint64_t not_quote = (w ^ ones * '"') + ones * 0x7F; /* the high bit of each byte is the answer */
    const uint64_t not_backslash = (w ^ ones * '\\') + ones * 0x7F;
    const uint64_t not_control = w + ones * 0x60;
    return (not_quote & not_backslash & not_control & high) != high;
}

static size_t skip_plain(const uint8_t *s, size_t n, size_t i)
{
    uint64_t w;
    while (n - i >= sizeof w) {
        memcpy(&w, s + i, sizeof w);
        if (word_is_special(w)) {
            break;
        }
        i += sizeof w;
    }
    return i;
}

enum err json_string_skip(const uint8_t *s, size_t n, size_t *i, bool *has_escapes, const char **why)
{
    *has_escapes = false;
    for (*i = skip_plain(s, n, *i + 1); *i < n; *i = skip_plain(s, n, *i)) {
        const uint8_t c = s[*i];
        size_t len;
        if (c == '"') {
            ++*i;
            return OK;
        } else if (c == '\\') {
            const enum err e = skip_escape(s + *i, n - *i, &len, why);
            if (e != OK) {
                return e;
            }
            *has_escapes = true;
        } else if (c < 0x20) {
            *why = "a raw control character in a string";
            return ERR_INVALID_JSON;
        } else {
            const int step = utf8_step(s + *i, n - *i);
            if (step < 0) {
                *why = "a byte that is not valid UTF-8";
                return ERR_INVALID_UTF8;
            }
            len = (size_t)step;
        }
        *i += len;
    }
    *why = "the JSON ends inside a string";
    return ERR_INVALID_JSON;
}

void json_string_unescape(struct strbuf *out, const uint8_t *s, size_t n)
{
    const char *p = (const char *)s, *end = p + n;
    while (p < end) {
        char c[4];
        const char *escape = memchr(p, '\\', (size_t)(end - p)), *plain_end = escape ? escape : end;
        strbuf_put(out, p, (size_t)(plain_end - p));
        p = plain_end;
        if (escape) strbuf_put(out, c, (size_t)utf8_put(c, (uint32_t)json_escape(&p, end)));
    }
}
