/* unicode: two tables of what is newer than a library, and how to get round it. A character that PCRE2 does
 * not know is shown to it as an old one of the same class and length; a character that the normaliser did not
 * know is a wall at which text is cut before utf8proc sees it. */
#include "server/text/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/check.h"
#include "base/utf8.h"

enum alias_class {
    AS_LU,
    AS_LL,
    AS_LM,
    AS_LO,
    AS_HAN,
    AS_MN,
    AS_MC,
    AS_ND,
    AS_NO,
    AS_PD,
    AS_PO,
    AS_SM,
    AS_SO,
    AS_CF
};

struct range {
    uint32_t first, last;
    enum alias_class as;
};

#include "server/text/unicode_tab.h"

/* An old character of each class, of 3 and of 4 bytes. */
static const char *const alias_char[][2] = {
    [AS_LU] = {"\u1E00", "\U00010400"},  [AS_LL] = {"\u1E01", "\U00010428"},
    [AS_LM] = {"\u1D2C", "\U00016B40"},  [AS_LO] = {"\u0E01", "\U00010280"},
    [AS_HAN] = {"\u4E00", "\U00020000"}, [AS_MN] = {"\u1AB0", "\U00010A01"},
    [AS_MC] = {"\u0903", "\U00011000"},  [AS_ND] = {"\u0966", "\U000104A0"},
    [AS_NO] = {"\u2460", "\U00010107"},  [AS_PD] = {"\u2010", "\U00010EAD"},
    [AS_PO] = {"\u2016", "\U00010100"},  [AS_SM] = {"\u2200", "\U0001D6C1"},
    [AS_SO] = {"\u2300", "\U0001F300"},  [AS_CF] = {"\u200B", "\U0001D173"},
};

static int char_len(uint8_t lead) { return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4; }

static uint32_t code_point(const uint8_t *p)
{
    switch (char_len(p[0])) {
    case 1:
        return p[0];
    case 2:
        return (uint32_t)(p[0] & 0x1F) << 6 | (p[1] & 0x3Fu);
    case 3:
        return (uint32_t)(p[0] & 0x0F) << 12 | (uint32_t)(p[1] & 0x3F) << 6 | (p[2] & 0x3Fu);
    default:
        return (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3F) << 12 | (uint32_t)(p[2] & 0x3F) << 6 |
               (p[3] & 0x3Fu);
    }
}

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

/* The range of the n that holds c, or NULL. */
static const struct range *find(const struct range *r, size_t n, uint32_t c)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (c > r[mid].last) {
            lo = mid + 1;
        } else if (c < r[mid].first) {
            hi = mid;
        } else {
            return &r[mid];
        }
    }
    return NULL;
}

bool unicode_alias(const char *text, size_t n, struct strbuf *out)
{
    const uint8_t *p = (const uint8_t *)text;
    size_t copied = 0;
    for (size_t i = 0; i < n;) {
        if (p[i] < 0xE0) { /* no alias has fewer than 3 bytes */
            i++;
            continue;
        }
        int len = char_len(p[i]);
        const struct range *r = find(alias_range, COUNT(alias_range), code_point(p + i));
        if (r) {
            strbuf_put(out, text + copied, i - copied);
            strbuf_put(out, alias_char[r->as][len - 3], (size_t)len);
            copied = i + (size_t)len;
        }
        i += (size_t)len;
    }
    if (copied == 0) return false;
    strbuf_put(out, text + copied, n - copied);
    return true;
}

/* ---- NFC ---- */

/* What the normaliser's Unicode does not know: its own list, and all that is newer still. */
static bool is_late(uint32_t c)
{
    return find(late_range, COUNT(late_range), c) || find(alias_range, COUNT(alias_range), c);
}

struct points {
    utf8proc_int32_t *c, *aux; /* aux: room to sort in */
    size_t n, cap;
};

static bool points_reserve(struct points *v, size_t more)
{
    if (v->cap - v->n >= more) return true;
    size_t cap = (v->n + more) * 2;
    utf8proc_int32_t *c = realloc(v->c, cap * sizeof *c);
    if (!c) return false;
    v->c = c;
    utf8proc_int32_t *aux = realloc(v->aux, cap * sizeof *aux);
    if (!aux) return false;
    v->aux = aux;
    v->cap = cap;
    return true;
}

static unsigned combining_class(utf8proc_int32_t c)
{
    return (unsigned)utf8proc_get_property(c)->combining_class & 0xFFu;
}

/* Stable counting sort by combining class: utf8proc's own sort is quadratic in the length of a run of marks.
 */
static void sort_marks(utf8proc_int32_t *c, utf8proc_int32_t *aux, size_t n)
{
    size_t at[257] = {0};
    for (size_t i = 0; i < n; i++) at[combining_class(c[i]) + 1]++;
    for (int k = 1; k < 257; k++) at[k] += at[k - 1];
    for (size_t i = 0; i < n; i++) aux[at[combining_class(c[i])]++] = c[i];
    memcpy(c, aux, n * sizeof *c);
}

static void put_canonical_order(struct points *v)
{
    for (size_t i = 0; i < v->n;) {
        if (combining_class(v->c[i]) == 0) {
            i++;
            continue;
        }
        size_t end = i + 1;
        while (end < v->n && combining_class(v->c[end]) != 0) end++;
        if (end - i > 1) sort_marks(v->c + i, v->aux, end - i);
        i = end;
    }
}

/* Canonical decomposition of the characters of p[0, n), none of them late, appended to v. */
static bool decompose(const uint8_t *p, size_t n, struct points *v)
{
    for (size_t i = 0; i < n; i += (size_t)char_len(p[i])) {
        utf8proc_int32_t part[8]; /* 4 is the longest canonical decomposition */
        int boundary = 0;
        utf8proc_ssize_t k = utf8proc_decompose_char((utf8proc_int32_t)code_point(p + i), part, 8,
                                                     UTF8PROC_DECOMPOSE, &boundary);
        CHECK(k >= 1 && k <= 8);
        if (!points_reserve(v, (size_t)k)) return false;
        memcpy(v->c + v->n, part, (size_t)k * sizeof part[0]);
        v->n += (size_t)k;
    }
    return true;
}

static bool put_composed(const uint8_t *p, size_t n, struct points *v, struct strbuf *out)
{
    v->n = 0;
    if (!decompose(p, n, v)) return false;
    put_canonical_order(v);
    utf8proc_ssize_t n_out =
        utf8proc_normalize_utf32(v->c, (utf8proc_ssize_t)v->n, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    CHECK(n_out >= 0);
    for (utf8proc_ssize_t i = 0; i < n_out; i++) {
        utf8proc_uint8_t b[4];
        strbuf_put(out, b, (size_t)utf8proc_encode_char(v->c[i], b));
    }
    return true;
}

bool unicode_nfc(const char *text, size_t n, struct strbuf *out)
{
    const uint8_t *p = (const uint8_t *)text;
    size_t first = 0;
    while (first < n && p[first] < 0xCC) first++; /* below U+0300 text is NFC */
    if (first == n) return false;

    struct points v = {0};
    size_t from = 0;
    bool ok = true;
    for (size_t i = first; ok && i < n;) {
        size_t len = (size_t)char_len(p[i]);
        if (len > 1 && is_late(code_point(p + i))) {
            ok = put_composed(p + from, i - from, &v, out);
            strbuf_put(out, text + i, len);
            from = i + len;
        }
        i += len;
    }
    ok = ok && put_composed(p + from, n - from, &v, out);
    out->failed |= !ok;
    free(v.c);
    free(v.aux);
    return true;
}
