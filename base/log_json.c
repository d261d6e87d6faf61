/* log_json: see the header. Values come from printf, where nothing escapes a quote or a blank: a value goes
 * on to the next " key=", a quoted one to the quote before it. */
#include "base/log_json.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

enum { NUMBER_MOST = 24 };

#define TAIL "...\",\"cut\":true}\n" /* room that is kept for it */

struct json_line {
    char *out;
    size_t n, cap;   /* cap: without the tail */
    bool full, open; /* open: inside a string that is cut */
};

/* All of it or nothing, and then nothing any more. */
static void put(struct json_line *l, const char *p, size_t n)
{
    if (l->full || n > l->cap - l->n) {
        l->full = true;
        return;
    }
    memcpy(l->out + l->n, p, n);
    l->n += n;
}

/* One character. U+2028 and U+2029 end a line for some readers, C1 steers terminals. */
static size_t put_char(struct json_line *l, const char *p, size_t n)
{
    const unsigned char *c = (const unsigned char *)p;
    const int len = utf8_step(c, n);
    char text[8];
    const bool c1 = len == 2 && c[0] == 0xC2 && c[1] < 0xA0;
    const bool separator = len == 3 && c[0] == 0xE2 && c[1] == 0x80 && (c[2] == 0xA8 || c[2] == 0xA9);
    if (len < 0)
        put(l, "\\ufffd", 6);
    else if (c1 || separator || *c < 0x20 || *c == 0x7F)
        put(l, text,
            (size_t)snprintf(text, sizeof text, "\\u%04x",
                             separator ? 0x2000u | (c[2] & 0x3Fu)
                             : c1      ? c[1]
                                       : *c));
    else if (*c == '"' || *c == '\\')
        put(l, (char[]){'\\', *p}, 2);
    else
        put(l, p, (size_t)len);
    return (size_t)(len < 0 ? -len : len);
}

static void put_string(struct json_line *l, const char *p, size_t n)
{
    put(l, "\"", 1);
    l->open = !l->full;
    while (n > 0 && !l->full) {
        const size_t k = put_char(l, p, n);
        p += k;
        n -= k;
    }
    put(l, "\"", 1);
    l->open = l->open && l->full;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* RFC 8259, 6, without exponents. */
static bool is_number(const char *p, size_t n)
{
    size_t i = n > 0 && *p == '-';
    if (i == n || n > NUMBER_MOST || (p[i] == '0' && i + 1 < n && p[i + 1] != '.')) return false;
    size_t whole = i;
    while (i < n && is_digit(p[i])) i++;
    if (i == whole || i == n) return i > whole;
    if (p[i++] != '.' || i == n) return false;
    while (i < n && is_digit(p[i])) i++;
    return i == n;
}

/* Length of the key in front of '=', 0: there is none. */
static size_t key_len(const char *p)
{
    size_t n = 0;
    while (is_digit(p[n]) || ((p[n] | 0x20) >= 'a' && (p[n] | 0x20) <= 'z') || p[n] == '_') n++;
    return p[n] == '=' ? n : 0;
}

/* Where the value ends: before " key=", or at the end. */
static size_t value_len(const char *p)
{
    const char *at = p;
    const bool quoted = *p == '"';
    while ((at = strchr(at, ' ')) != NULL) {
        if (key_len(at + 1) > 0 && (!quoted || (at > p + 1 && at[-1] == '"'))) return (size_t)(at - p);
        at++;
    }
    return strlen(p);
}

/* A key of our own needs no escapes, and stands only where its value has room to begin. */
static void put_pair(struct json_line *l, const char *key, size_t n_key, const char *v, size_t n)
{
    if (l->cap - l->n < n_key + NUMBER_MOST + 8) l->full = true;
    const bool quoted = n >= 2 && v[0] == '"' && v[n - 1] == '"';
    put(l, ",\"", 2);
    put(l, key, n_key);
    put(l, "\":", 2);
    if (l->full) return;
    if (!quoted && is_number(v, n))
        put(l, v, n);
    else
        put_string(l, quoted ? v + 1 : v, quoted ? n - 2 : n);
}

static void put_fields(struct json_line *l, const char *p)
{
    while (!l->full && *p) {
        const size_t n_key = key_len(p);
        const char *v = n_key ? p + n_key + 1 : p;
        const size_t n = value_len(v);
        put_pair(l, n_key ? p : "text", n_key ? n_key : 4, v, n);
        p = v + n + (v[n] == ' ');
    }
}

static size_t end(struct json_line *l)
{
    const char *tail = l->open ? "...\",\"cut\":true}\n" : l->full ? ",\"cut\":true}\n" : "}\n";
    memcpy(l->out + l->n, tail, strlen(tail));
    return l->n + strlen(tail);
}

size_t log_json(char *out, size_t cap, const char *time, const char *level, const char *event,
                const char *fields)
{
    struct json_line l = {.out = out, .cap = cap - (sizeof TAIL - 1)};
    put(&l, "{\"time\":", 8);
    put_string(&l, time, strlen(time));
    put_pair(&l, "level", 5, level, strlen(level));
    put_pair(&l, "event", 5, event, strlen(event));
    put_fields(&l, fields);
    return end(&l);
}
