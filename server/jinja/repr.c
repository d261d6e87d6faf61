/* repr: values as text, as Python's str() and repr() write them. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/jinja/internal.h"

/* The shortest decimal that reads back as f. A normal number keeps any decimal of up to 15 digits, so that
 * trying 15, 16 and 17 digits and dropping zeros at the end finds it; subnormal ones have less to keep. */
size_t tmpl_float_repr(double f, char out[40])
{
    if (!isfinite(f)) {
        strcpy(out, isnan(f) ? "nan" : f > 0 ? "inf" : "-inf");
        return strlen(out);
    }
    char digits[32];
    for (int n = isnormal(f) || f == 0 ? 15 : 1; n <= 17; n++) {
        snprintf(digits, sizeof digits, "%.*e", n - 1, f);
        if (strtod(digits, NULL) == f) break;
    }
    char *e = strchr(digits, 'e');
    const int exponent = atoi(e + 1);
    char mantissa[24];
    int n = 0;
    for (const char *p = digits; p < e; p++) {
        if (*p >= '0' && *p <= '9') mantissa[n++] = *p;
    }
    while (n > 1 && mantissa[n - 1] == '0') n--;
    char *o = out;
    if (signbit(f)) *o++ = '-';
    if (exponent < -4 || exponent >= 16) {
        *o++ = mantissa[0];
        if (n > 1) *o++ = '.';
        for (int i = 1; i < n; i++) *o++ = mantissa[i];
        o += sprintf(o, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
        return (size_t)(o - out);
    }
    if (exponent < 0) {
        *o++ = '0';
        *o++ = '.';
        for (int i = -1; i > exponent; i--) *o++ = '0';
        for (int i = 0; i < n; i++) *o++ = mantissa[i];
    } else {
        for (int i = 0; i < n || i <= exponent + 1; i++) {
            if (i == exponent + 1) *o++ = '.';
            *o++ = i < n ? mantissa[i] : '0';
        }
    }
    *o = '\0';
    return (size_t)(o - out);
}

/* --- repr --- */

static bool put_repr(struct run *r, struct text_buf *b, struct tmpl_value v, int depth);

static bool put_repr_char(struct run *r, struct text_buf *b, uint32_t cp, char quote, bool bad, bool outside)
{
    char out[16];
    int n;
    const char *escape = cp == '\n'   ? "\\n"
                         : cp == '\r' ? "\\r"
                         : cp == '\t' ? "\\t"
                         : cp == '\\' ? "\\\\"
                                      : NULL;
    if (escape) {
        n = sprintf(out, "%s", escape);
    } else if (cp == (uint32_t)quote) {
        n = sprintf(out, "\\%c", quote);
    } else if (!bad && tmpl_is_printable(cp)) {
        n = utf8_put(out, cp);
    } else {
        n = sprintf(out, cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)cp);
    }
    return tmpl_buf_put(r, b, out, (size_t)n, outside);
}

static bool put_repr_text(struct run *r, struct text_buf *b, const struct text *t)
{
    const bool single = t->n && memchr(t->p, '\'', t->n), both = single && memchr(t->p, '"', t->n);
    const char quote[2] = {single && !both ? '"' : '\'', '\0'};
    if (!tmpl_buf_puts(r, b, quote)) return false;
    for (size_t at = 0; at < t->n;) {
        uint32_t cp;
        const size_t n = (size_t)utf8_get(t->p + at, t->p + t->n, &cp);
        if (!put_repr_char(r, b, cp, quote[0], n == 1 && cp >= 0x80, text_outside_at(t, at))) return false;
        at += n;
    }
    return tmpl_buf_puts(r, b, quote);
}

static bool put_repr_items(struct run *r, struct text_buf *b, const struct items *l, const char *open,
                           const char *close, int depth)
{
    if (!tmpl_buf_puts(r, b, open)) return false;
    for (size_t i = 0; i < l->n; i++) {
        if ((i && !tmpl_buf_puts(r, b, ", ")) || !put_repr(r, b, l->v[i], depth)) return false;
    }
    return tmpl_buf_puts(r, b, close);
}

static bool put_repr_dict(struct run *r, struct text_buf *b, const struct table *t, int depth)
{
    if (!tmpl_buf_puts(r, b, "{")) return false;
    for (size_t i = 0; i < t->n; i++) {
        if (i && !tmpl_buf_puts(r, b, ", ")) return false;
        if (!put_repr(r, b, t->pair[i].key, depth) || !tmpl_buf_puts(r, b, ": ") ||
            !put_repr(r, b, t->pair[i].val, depth)) {
            return false;
        }
    }
    return tmpl_buf_puts(r, b, "}");
}

static bool put_repr_range(struct run *r, struct text_buf *b, const struct range *range)
{
    char s[96];
    if (range->step == 1) {
        snprintf(s, sizeof s, "range(%" PRId64 ", %" PRId64 ")", range->start, range->stop);
    } else {
        snprintf(s, sizeof s, "range(%" PRId64 ", %" PRId64 ", %" PRId64 ")", range->start, range->stop,
                 range->step);
    }
    return tmpl_buf_puts(r, b, s);
}

static bool put_scalar(struct run *r, struct text_buf *b, struct tmpl_value v)
{
    char s[40];
    if (v.kind == VAL_INT) {
        snprintf(s, sizeof s, "%" PRId64, v.i);
    } else {
        s[tmpl_float_repr(v.f, s)] = '\0';
    }
    return tmpl_buf_puts(r, b, s);
}

static const char *const view_open[] = {
    [DICT_ITEMS] = "dict_items([", [DICT_KEYS] = "dict_keys([", [DICT_VALUES] = "dict_values(["};

static bool put_repr(struct run *r, struct text_buf *b, struct tmpl_value v, int depth)
{
    if (!tmpl_step(r, 1)) return false;
    if (depth >= TMPL_MAX_VALUE_DEPTH) return tmpl_fail_bound(r, "a value is nested too deeply");
    depth++;
    switch (v.kind) {
    case VAL_UNDEFINED:
        return tmpl_buf_puts(r, b, "Undefined");
    case VAL_NONE:
        return tmpl_buf_puts(r, b, "None");
    case VAL_BOOL:
        return tmpl_buf_puts(r, b, v.b ? "True" : "False");
    case VAL_INT:
    case VAL_FLOAT:
        return put_scalar(r, b, v);
    case VAL_STR:
        if (!(v.flags & VAL_SAFE)) return put_repr_text(r, b, v.s);
        return tmpl_buf_puts(r, b, "Markup(") && put_repr_text(r, b, v.s) && tmpl_buf_puts(r, b, ")");
    case VAL_LIST:
        return put_repr_items(r, b, v.list, "[", "]", depth);
    case VAL_TUPLE:
        return put_repr_items(r, b, v.list, "(", v.list->n == 1 ? ",)" : ")", depth);
    case VAL_VIEW:
        return put_repr_items(r, b, v.list, view_open[v.flags], "])", depth);
    case VAL_DICT:
        return put_repr_dict(r, b, v.dict, depth);
    case VAL_NAMESPACE:
        return tmpl_buf_puts(r, b, "<Namespace ") && put_repr_dict(r, b, v.dict, depth) &&
               tmpl_buf_puts(r, b, ">");
    case VAL_RANGE:
        return put_repr_range(r, b, v.range);
    default:
        return tmpl_buf_puts(r, b, "<") && tmpl_buf_puts(r, b, tmpl_type_name(v)) && tmpl_buf_puts(r, b, ">");
    }
}

bool tmpl_put_repr(struct run *r, struct text_buf *b, struct tmpl_value v) { return put_repr(r, b, v, 0); }

bool tmpl_put_str(struct run *r, struct text_buf *b, struct tmpl_value v)
{
    if (v.kind == VAL_STR) return tmpl_buf_put_text(r, b, v.s);
    return v.kind == VAL_UNDEFINED || v.kind == VAL_MISSING || put_repr(r, b, v, 0);
}

struct text *tmpl_to_text(struct run *r, struct tmpl_value v)
{
    if (v.kind == VAL_STR) return v.s;
    struct text_buf b = {0};
    return tmpl_put_str(r, &b, v) ? tmpl_buf_text(r, &b) : NULL;
}
