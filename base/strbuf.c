/* strbuf: doubling growth, always one byte kept for the NUL. One owner at a time. */
#include "base/strbuf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

#define STRBUF_BYTES_FIRST 64u

void strbuf_init(struct strbuf *b) { *b = (struct strbuf){0}; }

void strbuf_fini(struct strbuf *b)
{
    free(b->data);
    strbuf_init(b);
}

void strbuf_clear(struct strbuf *b)
{
    b->len = 0;
    if (b->data) b->data[0] = '\0';
}

/* Room for n more bytes and the NUL. What was written stays readable when it fails. */
static bool strbuf_reserve(struct strbuf *b, size_t n)
{
    if (b->failed) return false;
    if (n < b->cap - b->len) return true;
    if (n >= (size_t)PTRDIFF_MAX - b->len) goto fail;

    size_t need = b->len + n + 1;
    size_t cap = b->cap ? b->cap * 2 : STRBUF_BYTES_FIRST;
    if (cap < need) cap = need;
    char *data = realloc(b->data, cap);
    if (!data) goto fail;
    b->data = data;
    b->cap = cap;
    return true;

fail:
    b->failed = true;
    return false;
}

void strbuf_put(struct strbuf *b, const void *p, size_t n)
{
    if (!strbuf_reserve(b, n)) return;
    if (n) memcpy(b->data + b->len, p, n);
    b->len += n;
    b->data[b->len] = '\0';
}

void strbuf_puts(struct strbuf *b, const char *s) { strbuf_put(b, s, strlen(s)); }

void strbuf_putc(struct strbuf *b, char c) { strbuf_put(b, &c, 1); }

void strbuf_printf(struct strbuf *b, const char *fmt, ...)
{
    if (!strbuf_reserve(b, 0)) return;
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    size_t room = b->cap - b->len;
    int n = vsnprintf(b->data + b->len, room, fmt, ap);
    if (n < 0) {
        b->failed = true;
    } else if ((size_t)n < room) {
        b->len += (size_t)n;
    } else if (strbuf_reserve(b, (size_t)n)) {
        vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    b->data[b->len] = '\0'; /* a try that did not fit leaves nothing behind */
    va_end(again);
    va_end(ap);
}

void strbuf_drop_front(struct strbuf *b, size_t n)
{
    CHECK(n <= b->len);
    if (n == 0) return;
    b->len -= n;
    memmove(b->data, b->data + n, b->len + 1);
}

bool strbuf_failed(const struct strbuf *b) { return b->failed; }

char *strbuf_take(struct strbuf *b)
{
    if (!strbuf_reserve(b, 0)) {
        free(b->data);
        *b = (struct strbuf){.failed = true};
        return NULL;
    }
    char *s = b->data;
    s[b->len] = '\0';
    strbuf_init(b);
    return s;
}
