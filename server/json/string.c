/* string: see string.h. Plain text is skipped eight bytes at a time; the rest goes byte by byte. */
#include "server/json/string.h"

#include <string.h>

#include "base/utf8.h"

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The code unit of "\uXXXX" at p, or -1 when it is none. */
static int unit_at(const uint8_t *p, size_t n)
{
    if (n < 6 || p[0] != '\\' || p[1] != 'u') {
        return -1;
    }
    int u = 0;
    for (int k = 2; k < 6; k++) {
        const int d = hex_digit(p[k]);
        if (d < 0) {
            return -1;
        }
        u = u << 4 | d;
    }
    return u;
}

static bool is_high(int u) { return u >= 0xD800 && u <= 0xDBFF; }
static bool is_low(int u) { return u >= 0xDC00 && u <= 0xDFFF; }

/* p[0] is a backslash; *len: bytes of the whole escape. */
static enum err skip_escape(const uint8_t *p, size_t n, size_t *len, const char **why)
{
    if (n >= 2 && p[1] != '\0' && strchr("\"\\/bfnrt", p[1]) != NULL) {
        *len = 2;
        return OK;
    }
    const int u = unit_at(p, n);
    if (u < 0) {
        *why = "a malformed escape in a string";
        return ERR_INVALID_JSON;
    }
    if (u == 0) {
        *why = "the character U+0000 is not accepted";
        return ERR_INVALID_VALUE;
    }
    if (is_low(u) || (is_high(u) && !is_low(unit_at(p + 6, n - 6)))) {
        *why = "an escape that is half a surrogate pair";
        return ERR_INVALID_UTF8;
    }
    *len = is_high(u) ? 12 : 6;
    return OK;
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

static void put_code_point(struct strbuf *out, uint32_t c)
{
    static const uint8_t lead[4] = {0x00, 0xC0, 0xE0, 0xF0};
    int more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    strbuf_putc(out, (char)(lead[more] | c >> (6 * more)));
    while (more-- > 0) {
        strbuf_putc(out, (char)(0x80 | (c >> (6 * more) & 0x3F)));
    }
}

void json_string_unescape(struct strbuf *out, const uint8_t *s, size_t n)
{
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    for (size_t i = 0; i < n;) {
        const uint8_t *esc = memchr(s + i, '\\', n - i);
        const size_t plain = esc != NULL ? (size_t)(esc - s) - i : n - i;
        strbuf_put(out, s + i, plain);
        i += plain;
        if (esc == NULL) {
            break;
        }
        if (esc[1] != 'u') {
            const char *at = strchr(from, esc[1]);
            strbuf_putc(out, at != NULL ? to[at - from] : (char)esc[1]);
            i += 2;
            continue;
        }
        uint32_t c = (uint32_t)unit_at(s + i, n - i);
        i += 6;
        if (is_high((int)c)) {
            const uint32_t low = (uint32_t)unit_at(s + i, n - i);
            c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
            i += 6;
        }
        put_code_point(out, c);
    }
}
