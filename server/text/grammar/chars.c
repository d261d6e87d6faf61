/* chars: see chars.h. */
#include "server/text/grammar/chars.h"

#include "base/utf8.h"

enum { MEMO_ANY = 0, MEMO_FREE = 2 };
enum { SURROGATE_FIRST = 0xd800, SURROGATE_LAST = 0xdfff };

static size_t spell_byte(unsigned char c, char *out)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt", hex[] = "0123456789abcdef";
    const char *f = c ? strchr(from, c) : NULL;
    if (!f && c >= 0x20) {
        out[0] = (char)c;
        return 1;
    }
    out[0] = '\\';
    if (f) {
        out[1] = to[f - from];
        return 2;
    }
    memcpy(out + 1, "u00", 3);
    out[4] = hex[c >> 4];
    out[5] = hex[c & 15];
    return 6;
}

size_t chars_spell(const char *utf8, size_t n, char *out)
{
    size_t w = 0;
    for (size_t i = 0; i < n; i++) w += spell_byte((unsigned char)utf8[i], out + w);
    return w;
}

static bool is_escaped(uint32_t c) { return c < 0x20 || c == '"' || c == '\\'; }

static uint32_t escape_of(struct rx *x, uint32_t c)
{
    char s[6];
    return rx_text(x, s, spell_byte((unsigned char)c, s));
}

/* lo..hi have n bytes each and agree but for their last k bytes, which take all values or are split. */
static uint32_t utf8_between(struct rx *x, const unsigned char *lo, const unsigned char *hi, size_t n)
{
    if (n == 1) return rx_range(x, lo[0], hi[0]);
    static const unsigned char least[3] = {0x80, 0x80, 0x80}, most[3] = {0xbf, 0xbf, 0xbf};
    if (lo[0] == hi[0]) return rx_cat(x, rx_byte(x, lo[0]), utf8_between(x, lo + 1, hi + 1, n - 1));
    size_t base = x->n_tmp;
    unsigned char from = lo[0], to = hi[0];
    if (memcmp(lo + 1, least, n - 1) != 0)
        rx_push(x, rx_cat(x, rx_byte(x, from++), utf8_between(x, lo + 1, most, n - 1)));
    bool cut = memcmp(hi + 1, most, n - 1) != 0;
    if (cut) to--;
    if (from <= to) rx_push(x, rx_cat(x, rx_range(x, from, to), utf8_between(x, least, most, n - 1)));
    if (cut) rx_push(x, rx_cat(x, rx_byte(x, hi[0]), utf8_between(x, least, hi + 1, n - 1)));
    return rx_alt_of(x, base);
}

static void push_range(struct rx *x, uint32_t lo, uint32_t hi)
{
    static const uint32_t last[] = {0x7f, 0x7ff, 0xffff, CHARS_LAST}; /* with 1 to 4 bytes */
    for (size_t k = 0; k < 4 && lo <= hi; k++) {
        if (lo > last[k]) continue;
        uint32_t top = hi < last[k] ? hi : last[k];
        char a[4], b[4];
        const size_t n = (size_t)utf8_put(a, lo);
        utf8_put(b, top);
        rx_push(x, utf8_between(x, (unsigned char *)a, (unsigned char *)b, n));
        lo = top + 1;
    }
}

uint32_t chars_class(struct rx *x, enum chars_mode mode, const struct chars_range *r, size_t n)
{
    size_t base = x->n_tmp;
    struct rx_set ascii = {0};
    for (size_t i = 0; i < n && x->pool->fail == OK; i++) {
        uint32_t lo = r[i].lo, hi = r[i].hi < CHARS_LAST ? r[i].hi : CHARS_LAST;
        for (; lo < 0x80 && lo <= hi; lo++) {
            if (mode == CHARS_JSON && is_escaped(lo))
                rx_push(x, escape_of(x, lo));
            else
                rx_set_add(&ascii, lo);
        }
        if (lo > hi) continue;
        if (lo < SURROGATE_FIRST) push_range(x, lo, hi < SURROGATE_FIRST ? hi : SURROGATE_FIRST - 1);
        if (hi > SURROGATE_LAST) push_range(x, lo > SURROGATE_LAST ? lo : SURROGATE_LAST + 1, hi);
    }
    rx_push(x, rx_class(x, &ascii));
    return rx_alt_of(x, base);
}

uint32_t chars_any(struct rx *x, enum chars_mode mode)
{
    uint32_t *memo = &x->memo[MEMO_ANY + mode];
    if (!*memo) *memo = chars_class(x, mode, &(struct chars_range){0, CHARS_LAST}, 1);
    return *memo;
}

uint32_t chars_many(struct rx *x, enum chars_mode mode) { return rx_rep(x, chars_any(x, mode), 0, RX_MORE); }

/* \uXXXX of one character, or of a pair of surrogates. */
static uint32_t any_escape(struct rx *x)
{
    struct rx_set hex = {0}, not_d = {0}, low = {0}, high = {0}, top = {0}, d = {0}, plain = {0};
    for (const char *p = "0123456789abcdefABCDEF"; *p; p++) {
        rx_set_add(&hex, (unsigned char)*p);
        if (*p != 'd' && *p != 'D') rx_set_add(&not_d, (unsigned char)*p);
    }
    for (const char *p = "01234567"; *p; p++) rx_set_add(&low, (unsigned char)*p);
    for (const char *p = "89abAB"; *p; p++) rx_set_add(&high, (unsigned char)*p);
    for (const char *p = "cdefCDEF"; *p; p++) rx_set_add(&top, (unsigned char)*p);
    for (const char *p = "dD"; *p; p++) rx_set_add(&d, (unsigned char)*p);
    for (const char *p = "\"\\/bfnrt"; *p; p++) rx_set_add(&plain, (unsigned char)*p);
    uint32_t h = rx_class(x, &hex), hh = rx_cat(x, h, h), dd = rx_class(x, &d);
    uint32_t one = rx_alt(x, rx_cat3(x, rx_class(x, &not_d), h, hh), rx_cat3(x, dd, rx_class(x, &low), hh));
    uint32_t first = rx_cat3(x, dd, rx_class(x, &high), hh), second = rx_cat3(x, dd, rx_class(x, &top), hh);
    uint32_t pair = rx_cat3(x, first, rx_str(x, "\\u"), second);
    return rx_cat(x, rx_byte(x, '\\'),
                  rx_alt(x, rx_class(x, &plain), rx_cat(x, rx_byte(x, 'u'), rx_alt(x, one, pair))));
}

uint32_t chars_free(struct rx *x)
{
    uint32_t *memo = &x->memo[MEMO_FREE];
    if (!*memo) {
        static const struct chars_range plain[] = {{0x20, 0x21}, {0x23, 0x5b}, {0x5d, CHARS_LAST}};
        *memo = rx_rep(x, rx_alt(x, chars_class(x, CHARS_JSON, plain, 3), any_escape(x)), 0, RX_MORE);
    }
    return *memo;
}

uint32_t chars_text(struct rx *x, enum chars_mode mode, const char *utf8, size_t n)
{
    if (mode == CHARS_RAW) return rx_text(x, utf8, n);
    uint32_t r = RX_EPS;
    while (n > 0 && x->pool->fail == OK) {
        unsigned char c = (unsigned char)utf8[--n];
        r = rx_cat(x, is_escaped(c) ? escape_of(x, c) : rx_byte(x, c), r);
    }
    return r;
}
