/* utf8: the one rule for well-formed UTF-8 (Unicode 15, table 3-7), for whatever checks or repairs text. */
#ifndef FLUXD_BASE_UTF8_H
#define FLUXD_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct strbuf;

bool utf8_valid(const char *p, size_t n);
/* Length of the longest prefix that does not end inside a character which more bytes could make well-formed.
 * What comes after it (3 bytes at most) is to be held back until the next bytes are there. */
size_t utf8_complete(const char *p, size_t n);
/* Appends p to out with every ill-formed part replaced by U+FFFD. A stream calls it with prefixes that
 * utf8_complete gave, and at its end with all that is left. */
void utf8_sanitize(const char *p, size_t n, struct strbuf *out);

/* Code points of n bytes of well-formed text; of a cut one, those that begin in it. */
size_t utf8_count(const char *p, size_t n);

/* Of n bytes the first `cut`, which end inside a character, are not continued by those behind them. */
bool utf8_breaks(const char *p, size_t n, size_t cut);

/* A code point's bytes; how many. */
int utf8_put(char out[4], uint32_t cp);
/* The code point that begins at p, before end, and its length; of a byte that is none: itself, 1. */
int utf8_get(const char *p, const char *end, uint32_t *cp);

/* n >= 1 bytes at p: the length (1..4) of the well-formed sequence that starts there, or minus the number of
 * bytes (1..3) that one U+FFFD replaces: the "maximal subpart" of chapter 3.9, as WHATWG and Python's
 * "replace" do it. */
static inline int utf8_step(const uint8_t *p, size_t n)
{
    const uint8_t b = p[0];
    uint8_t lo = 0x80, hi = 0xBF; /* what the second byte may be */
    int more;
    if (b < 0x80) {
        return 1;
    } else if (b >= 0xC2 && b <= 0xDF) {
        more = 1;
    } else if (b >= 0xE0 && b <= 0xEF) {
        more = 2;
        lo = b == 0xE0 ? 0xA0 : lo; /* overlong */
        hi = b == 0xED ? 0x9F : hi; /* surrogates */
    } else if (b >= 0xF0 && b <= 0xF4) {
        more = 3;
        lo = b == 0xF0 ? 0x90 : lo; /* overlong */
        hi = b == 0xF4 ? 0x8F : hi; /* past U+10FFFF */
    } else {
        return -1;
    }
    for (int k = 1; k <= more; k++) {
        if ((size_t)k >= n || p[k] < lo || p[k] > hi) {
            return -k;
        }
        lo = 0x80;
        hi = 0xBF;
    }
    return more + 1;
}

#endif
