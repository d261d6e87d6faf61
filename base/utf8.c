/* utf8: the loops over utf8_step. Any thread. */
#include "base/utf8.h"

#include "base/strbuf.h"

bool utf8_valid(const char *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        int len = utf8_step((const uint8_t *)p + i, n - i);
        if (len < 0) return false;
        i += (size_t)len;
    }
    return true;
}

size_t utf8_complete(const char *p, size_t n)
{
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        const uint8_t *c = (const uint8_t *)p + n - back;
        if ((*c & 0xC0) == 0x80) continue;
        /* a lead byte whose followers are all good so far, but too few */
        bool lead = *c >= 0xC2 && *c <= 0xF4;
        return lead && utf8_step(c, back) == -(int)back ? n - back : n;
    }
    return n;
}

void utf8_sanitize(const char *p, size_t n, struct strbuf *out)
{
    size_t good = 0; /* start of the good bytes not yet copied */
    for (size_t i = 0; i < n;) {
        int len = utf8_step((const uint8_t *)p + i, n - i);
        if (len > 0) {
            i += (size_t)len;
            continue;
        }
        strbuf_put(out, p + good, i - good);
        strbuf_put(out, "\xEF\xBF\xBD", 3);
        i += (size_t)-len;
        good = i;
    }
    strbuf_put(out, p + good, n - good);
}

size_t utf8_count(const char *p, size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) k += ((uint8_t)p[i] & 0xC0) != 0x80;
    return k;
}

bool utf8_breaks(const char *p, size_t n, size_t cut)
{
    return cut > 0 && n > cut && utf8_step((const uint8_t *)p, n) == -(int)cut;
}

int utf8_put(char out[4], uint32_t cp)
{
    static const uint8_t lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    const int n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (int k = n - 1; k > 0; k--, cp >>= 6) out[k] = (char)(0x80 | (cp & 0x3F));
    out[0] = (char)(lead[n] | cp);
    return n;
}

int utf8_get(const char *p, const char *end, uint32_t *cp)
{
    static const uint8_t bits[] = {0, 0, 0x1F, 0x0F, 0x07};
    const uint8_t *u = (const uint8_t *)p;
    const int n = utf8_step(u, (size_t)(end - p));
    *cp = u[0];
    if (n <= 1) return 1;
    *cp &= bits[n];
    for (int k = 1; k < n; k++) *cp = *cp << 6 | (u[k] & 0x3F);
    return n;
}
