/* json_escape: see json_escape.h. */
#include "base/json_escape.h"

#include <stdbool.h>
#include <string.h>

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The code unit of "\uXXXX" at p, or -1 where it is none. */
static int unit_at(const char *p, const char *end)
{
    if (end - p < 6 || p[0] != '\\' || p[1] != 'u') return -1;
    int u = 0;
    for (int k = 2; k < 6; k++) {
        const int d = hex_digit(p[k]);
        if (d < 0) return -1;
        u = u << 4 | d;
    }
    return u;
}

static bool is_high(int u) { return u >= 0xD800 && u <= 0xDBFF; }
static bool is_low(int u) { return u >= 0xDC00 && u <= 0xDFFF; }

int32_t json_escape(const char **p, const char *end)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *short_one = end - *p >= 2 && (*p)[1] ? strchr(from, (*p)[1]) : NULL;
    if (short_one) {
        *p += 2;
        return to[short_one - from];
    }
    const int u = unit_at(*p, end);
    if (u < 0) return JSON_ESCAPE_BAD;
    *p += 6;
    if (!is_high(u)) return is_low(u) ? JSON_ESCAPE_HALF : u;
    const int low = unit_at(*p, end);
    if (!is_low(low)) return JSON_ESCAPE_HALF;
    *p += 6;
    return 0x10000 + ((u - 0xD800) << 10) + (low - 0xDC00);
}
