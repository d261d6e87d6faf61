/* format: `"%s" % x` and "{}".format(x). Widths and precisions are bounded, so that a format cannot ask for
 * more memory than its result is worth. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "server/jinja/internal.h"

enum {
    MAX_WIDTH = 1000,
    MAX_PRECISION = 100,
    NUMBER_BYTES = 1500 /* holds any double at these bounds, grouped */
};

struct spec {
    char fill[4];
    int n_fill;
    char align; /* '<' '>' '^' '=' or 0: by type */
    char sign;  /* '+' ' ' '-' */
    char type;  /* 0: none given */
    bool alternate, zero, group;
    int width, precision; /* precision -1: none given */
};

/* Writes t in a field. */
static bool put_padded(struct run *r, struct text_buf *b, struct text *t, const struct spec *s, char align)
{
    const size_t len = tmpl_text_len(r, t), width = (size_t)s->width, pad = width > len ? width - len : 0;
    const size_t left = align == '>' ? pad : align == '^' ? pad / 2 : 0;
    for (size_t i = 0; i < left; i++) {
        if (!tmpl_buf_put(r, b, s->fill, (size_t)s->n_fill, false)) return false;
    }
    if (!tmpl_buf_put_text(r, b, t)) return false;
    for (size_t i = left; i < pad; i++) {
        if (!tmpl_buf_put(r, b, s->fill, (size_t)s->n_fill, false)) return false;
    }
    return true;
}

static bool put_text(struct run *r, struct text_buf *b, struct text *t, const struct spec *s, char align)
{
    if (s->precision >= 0) {
        t = tmpl_text_sub(r, t, 0, tmpl_text_offset(r, t, (size_t)s->precision));
        if (!t) return false;
    }
    return put_padded(r, b, t, s, s->align ? s->align : align);
}

/* The digits of |i|. */
static int int_digits(int64_t i, char type, char *out)
{
    static const char lower[] = "0123456789abcdef", upper[] = "0123456789ABCDEF";
    const char *digit = type == 'X' ? upper : lower;
    const uint64_t base = type == 'b' ? 2 : type == 'o' ? 8 : type == 'x' || type == 'X' ? 16 : 10;
    uint64_t u = i < 0 ? -(uint64_t)i : (uint64_t)i;
    char rev[64];
    int n = 0;
    do {
        rev[n++] = digit[u % base];
        u /= base;
    } while (u);
    for (int k = 0; k < n; k++) out[k] = rev[n - 1 - k];
    return n;
}

static int float_digits(double f, const struct spec *s, char *out)
{
    f = fabs(f);
    const char type = s->type == '%' ? 'f' : s->type;
    if (!isfinite(f)) return sprintf(out, "%s", isnan(f) ? "nan" : "inf");
    if (!type && s->precision < 0) return (int)tmpl_float_repr(f, out);
    const int precision = s->precision < 0 ? 6 : s->precision;
    char form[8] = {'%', '.', '*', type ? type : 'g', '\0'};
    int n = snprintf(out, NUMBER_BYTES, form, precision, s->type == '%' ? f * 100 : f);
    if (!type && !strpbrk(out, ".en")) n += sprintf(out + n, ".0");
    if (s->type == '%') n += sprintf(out + n, "%%");
    return n;
}

/* Commas between the thousands of the n digits; only the part before '.' or 'e' is grouped. */
static int group_digits(char *s, int n)
{
    char out[NUMBER_BYTES];
    int whole = 0, to = 0;
    while (whole < n && s[whole] >= '0' && s[whole] <= '9') whole++;
    for (int i = 0; i < n; i++) {
        if (i > 0 && i < whole && (whole - i) % 3 == 0) out[to++] = ',';
        out[to++] = s[i];
    }
    memcpy(s, out, (size_t)to);
    return to;
}

static bool put_number(struct run *r, struct text_buf *b, struct tmpl_value v, const struct spec *s)
{
    char digits[NUMBER_BYTES + 8], out[NUMBER_BYTES + MAX_WIDTH + 16];
    const bool whole = val_is_integral(v) && (!s->type || strchr("dboxXiu", s->type));
    const bool minus = whole ? val_as_int(v) < 0 : signbit(val_as_float(v)) != 0;
    int n = whole ? int_digits(val_as_int(v), s->type, digits) : float_digits(val_as_float(v), s, digits),
        to = 0;
    if (s->group) n = group_digits(digits, n);
    if (minus || s->sign == '+' || s->sign == ' ') out[to++] = minus ? '-' : s->sign;
    if (whole && s->alternate && s->type && strchr("boxX", s->type)) {
        out[to++] = '0';
        out[to++] = s->type;
    }
    const char align = s->align ? s->align : s->zero ? '=' : '>';
    const bool inside = align == '=', ascii_fill = s->n_fill == 1 || !inside;
    const char fill = s->zero && !s->align ? '0' : s->fill[0];
    if (!ascii_fill) return tmpl_fail(r, "this format specifier is not supported");
    for (int i = n + to; inside && i < s->width; i++) out[to++] = fill;
    memcpy(out + to, digits, (size_t)n);
    struct text *t = tmpl_text_new(r, out, (size_t)(to + n), false);
    return t && put_padded(r, b, t, s, inside ? '>' : align); /* copies out */
}

/* --- % --- */

struct percent {
    struct run *r;
    struct text *fmt;
    size_t at;
    struct tmpl_value arg;
    size_t next; /* positional argument */
};

static bool next_arg(struct percent *p, struct tmpl_value *v)
{
    const bool tuple = p->arg.kind == VAL_TUPLE;
    if (p->next >= (tuple ? p->arg.list->n : 1))
        return tmpl_fail(p->r, "not enough arguments for format string");
    *v = tuple ? p->arg.list->v[p->next] : p->arg;
    p->next++;
    return true;
}

static char peek(const struct percent *p) { return p->at < p->fmt->n ? p->fmt->p[p->at] : '\0'; }

/* A number, or * for an argument. */
static bool percent_number(struct percent *p, int most, int *out)
{
    int64_t n = 0;
    if (peek(p) == '*') {
        struct tmpl_value v;
        p->at++;
        if (!next_arg(p, &v)) return false;
        if (!val_is_integral(v)) return tmpl_fail(p->r, "* wants int");
        n = val_as_int(v);
    }
    for (; peek(p) >= '0' && peek(p) <= '9'; p->at++) n = n > most ? n : n * 10 + (peek(p) - '0');
    if (n < 0 || n > most) return tmpl_fail(p->r, "a format's width or precision is out of bounds");
    *out = (int)n;
    return true;
}

/* Behind "%": the argument (%(key)s) and the specifier. */
static bool percent_spec(struct percent *p, struct spec *s, struct tmpl_value *v)
{
    *s = (struct spec){.fill = " ", .n_fill = 1, .precision = -1};
    *v = (struct tmpl_value){.kind = VAL_MISSING};
    if (peek(p) == '(') {
        const char *close = memchr(p->fmt->p + p->at, ')', p->fmt->n - p->at);
        if (!close) return tmpl_fail(p->r, "incomplete format key");
        if (p->arg.kind != VAL_DICT) return tmpl_fail(p->r, "format requires a mapping");
        const struct text key = {.p = p->fmt->p + p->at + 1, .n = (size_t)(close - p->fmt->p) - p->at - 1};
        const struct pair *pair = tmpl_table_find_text(p->r, p->arg.dict, &key);
        if (!pair) return p->r->err ? false : tmpl_fail(p->r, "the format's key is not in the mapping");
        *v = pair->val;
        p->at += key.n + 2;
    }
    for (; peek(p) && strchr("#0- +", peek(p)); p->at++) {
        const char c = peek(p);
        if (c == '#') s->alternate = true;
        if (c == '0') s->zero = true;
        if (c == '-') s->align = '<';
        if (c == '+' || (c == ' ' && s->sign != '+')) s->sign = c;
    }
    if (!percent_number(p, MAX_WIDTH, &s->width)) return false;
    if (peek(p) == '.') {
        p->at++;
        if (!percent_number(p, MAX_PRECISION, &s->precision)) return false;
    }
    while (peek(p) && strchr("hlL", peek(p))) p->at++;
    s->type = peek(p);
    if (!s->type) return tmpl_fail(p->r, "incomplete format");
    p->at++;
    return s->type == '%' || v->kind != VAL_MISSING || next_arg(p, v);
}

static bool put_percent(struct percent *p, struct text_buf *b, struct spec *s, struct tmpl_value v)
{
    struct run *r = p->r;
    if (s->type == '%') return tmpl_buf_puts(r, b, "%");
    if (s->type == 's' || s->type == 'r' || s->type == 'a') {
        struct text_buf own = {0};
        const bool ok = s->type == 's' ? tmpl_put_str(r, &own, v) : tmpl_put_repr(r, &own, v);
        struct text *t = ok ? tmpl_buf_text(r, &own) : NULL;
        return t && put_text(r, b, t, s, '>');
    }
    if (!strchr("diuoxXeEfFgG", s->type)) return tmpl_fail(r, "unsupported format character '%c'", s->type);
    if (v.kind == VAL_UNDEFINED) return tmpl_fail_undefined(r, v);
    if (!val_is_number(v))
        return tmpl_fail(r, "%%%c format: a real number is required, not %s", s->type, tmpl_type_name(v));
    if (strchr("diu", s->type) && v.kind == VAL_FLOAT) {
        if (!(fabs(v.f) < 9.2e18)) return tmpl_fail(r, "cannot convert float to integer");
        v = val_int((int64_t)v.f);
    }
    if (strchr("oxX", s->type) && v.kind == VAL_FLOAT)
        return tmpl_fail(r, "%%%c format: an integer is required, not float", s->type);
    return put_number(r, b, v, s);
}

bool tmpl_format_percent(struct run *r, struct text *fmt, struct tmpl_value arg, struct tmpl_value *out)
{
    struct percent p = {.r = r, .fmt = fmt, .arg = arg};
    struct text_buf b = {0};
    while (p.at < fmt->n) {
        const char *sign = memchr(fmt->p + p.at, '%', fmt->n - p.at);
        const size_t n = sign ? (size_t)(sign - fmt->p) - p.at : fmt->n - p.at;
        if (!tmpl_buf_put_sub(r, &b, fmt, p.at, n)) return false;
        p.at += n;
        if (!sign) break;
        p.at++;
        struct spec s;
        struct tmpl_value v;
        if (!tmpl_step(r, 1) || !percent_spec(&p, &s, &v) || !put_percent(&p, &b, &s, v)) return false;
    }
    const bool indexable =
        arg.kind == VAL_DICT || arg.kind == VAL_LIST || arg.kind == VAL_RANGE || arg.kind == VAL_UNDEFINED;
    const size_t given = arg.kind == VAL_TUPLE ? arg.list->n
                         : indexable           ? 0
                                               : 1; /* Python takes the indexable for mappings */
    if (p.next < given) return tmpl_fail(r, "not all arguments converted during string formatting");
    return tmpl_buf_value(r, &b, out);
}

/* --- str.format --- */

/* [[fill]align][sign][#][0][width][,][.precision][type] */
static bool parse_spec(struct run *r, const char *p, const char *end, struct spec *s)
{
    *s = (struct spec){.fill = " ", .n_fill = 1, .precision = -1};
    uint32_t cp;
    const int n_fill = p < end ? utf8_get(p, end, &cp) : 0;
    if (p + n_fill < end && strchr("<>^=", p[n_fill])) {
        memcpy(s->fill, p, (size_t)n_fill);
        s->n_fill = n_fill;
        s->align = p[n_fill];
        p += n_fill + 1;
    } else if (p < end && *p && strchr("<>^=", *p)) {
        s->align = *p++;
    }
    if (p < end && (*p == '+' || *p == '-' || *p == ' ')) s->sign = *p++;
    if (p < end && *p == '#') s->alternate = *p++;
    if (p < end && *p == '0') {
        s->zero = *p++;
        if (s->align && s->n_fill == 1 && s->fill[0] == ' ') s->fill[0] = '0';
    }
    for (; p < end && *p >= '0' && *p <= '9' && s->width <= MAX_WIDTH; p++)
        s->width = s->width * 10 + (*p - '0');
    if (p < end && *p == ',') s->group = *p++;
    if (p < end && *p == '.') {
        s->precision = 0;
        for (p++; p < end && *p >= '0' && *p <= '9' && s->precision <= MAX_PRECISION; p++) {
            s->precision = s->precision * 10 + (*p - '0');
        }
    }
    if (s->width > MAX_WIDTH || s->precision > MAX_PRECISION)
        return tmpl_fail(r, "a format's width or precision is out of bounds");
    if (p < end) s->type = *p++;
    return p == end || tmpl_fail(r, "Invalid format specifier");
}

static bool put_field(struct run *r, struct text_buf *b, struct tmpl_value v, const char *p, const char *end)
{
    struct spec s;
    if (p == end) return tmpl_put_str(r, b, v);
    if (!parse_spec(r, p, end, &s)) return false;
    if (v.kind == VAL_STR && (!s.type || s.type == 's') && s.align != '=')
        return put_text(r, b, v.s, &s, '<');
    if (!val_is_number(v))
        return tmpl_fail(r, "unsupported format string passed to %s.__format__", tmpl_type_name(v));
    const char *types = v.kind == VAL_FLOAT ? "eEfFgG%" : "dboxXeEfFgG%";
    if (s.type && !strchr(types, s.type)) {
        return tmpl_fail(r, "Unknown format code '%c' for object of type '%s'", s.type, tmpl_type_name(v));
    }
    return put_number(r, b, v, &s);
}

struct braces {
    struct run *r;
    struct text *fmt;
    const struct args *args;
    size_t next; /* automatic numbering */
    bool escape; /* fields are for a safe string */
};

static bool field_root(struct braces *f, size_t at, size_t n, struct tmpl_value *v)
{
    size_t index = 0;
    bool digits = true;
    for (size_t i = 0; i < n; i++) {
        digits = digits && f->fmt->p[at + i] >= '0' && f->fmt->p[at + i] <= '9' && n < 6;
        if (digits) index = index * 10 + (size_t)(f->fmt->p[at + i] - '0');
    }
    if (digits) {
        if (n == 0) index = f->next++;
        if (index >= f->args->n_pos)
            return tmpl_fail(f->r, "Replacement index %zu out of range for positional args tuple", index);
        *v = f->args->pos[index];
        return true;
    }
    const struct text name = {.p = f->fmt->p + at, .n = n};
    for (size_t i = 0; i < f->args->n_kw; i++) {
        if (!text_equal(f->args->kw[i].name, &name)) continue;
        *v = f->args->kw[i].v;
        return true;
    }
    return tmpl_fail(f->r, "the format names '%.*s', which is not given", (int)n, name.p);
}

/* name, then .attribute and [element] until end. */
static bool field_value(struct braces *f, size_t at, size_t end, struct tmpl_value *v)
{
    const char *p = f->fmt->p;
    size_t n = 0;
    while (at + n < end && p[at + n] != '.' && p[at + n] != '[') n++;
    if (!field_root(f, at, n, v)) return false;
    for (at += n; at < end;) {
        const bool item = p[at] == '[';
        for (n = 0;
             at + 1 + n < end && (item ? p[at + 1 + n] != ']' : p[at + 1 + n] != '.' && p[at + 1 + n] != '[');
             n++) {
        }
        if (n == 0 || (item && at + 1 + n >= end))
            return tmpl_fail(f->r, "malformed field in a format string");
        struct text *name = tmpl_text_sub(f->r, f->fmt, at + 1, n);
        struct tmpl_value key = {.kind = VAL_STR, .s = name}, next;
        if (!name || !tmpl_step(f->r, 1)) return false;
        bool digits = item && n < 10;
        for (size_t i = 0; i < n; i++) digits = digits && name->p[i] >= '0' && name->p[i] <= '9';
        if (digits) {
            key = val_int(0);
            for (size_t i = 0; i < n; i++) key.i = key.i * 10 + (name->p[i] - '0');
        }
        if (item ? !tmpl_get_item(f->r, *v, key, &next) : !tmpl_get_attr(f->r, *v, name, &next)) return false;
        *v = next;
        at += 1 + n + (item ? 1 : 0);
    }
    return true;
}

/* The field in [at, end), without its braces. */
static bool put_braces(struct braces *f, struct text_buf *b, size_t at, size_t end)
{
    const char *p = f->fmt->p;
    size_t name_end = at;
    struct tmpl_value v;
    while (name_end < end && p[name_end] != '!' && p[name_end] != ':') name_end++;
    size_t spec = name_end;
    char conversion = '\0';
    if (spec < end && p[spec] == '!') {
        conversion = spec + 1 < end ? p[spec + 1] : '?';
        spec += 2;
        if ((conversion != 's' && conversion != 'r') || (spec < end && p[spec] != ':')) {
            return tmpl_fail(f->r, "malformed conversion in a format string");
        }
    }
    if (spec < end) spec++;
    if (spec > end) spec = end;
    if (!field_value(f, at, name_end, &v)) return false;
    struct text_buf own = {0};
    if (conversion) {
        if (conversion == 's' ? !tmpl_put_str(f->r, &own, v) : !tmpl_put_repr(f->r, &own, v)) return false;
        if (!tmpl_buf_value(f->r, &own, &v)) return false;
    }
    if (!f->escape || (v.kind == VAL_STR && (v.flags & VAL_SAFE)))
        return put_field(f->r, b, v, p + spec, p + end);
    own = (struct text_buf){0};
    struct text *t = put_field(f->r, &own, v, p + spec, p + end) ? tmpl_buf_text(f->r, &own) : NULL;
    t = t ? tmpl_string_escape(f->r, t) : NULL;
    return t && tmpl_buf_put_text(f->r, b, t);
}

bool tmpl_format_braces(struct run *r, struct text *fmt, const struct args *args, bool escape,
                        struct tmpl_value *out)
{
    struct braces f = {.r = r, .fmt = fmt, .args = args, .escape = escape};
    struct text_buf b = {0};
    for (size_t at = 0; at < fmt->n;) {
        size_t n = 0;
        while (at + n < fmt->n && fmt->p[at + n] != '{' && fmt->p[at + n] != '}') n++;
        if (!tmpl_buf_put_sub(r, &b, fmt, at, n) || !tmpl_step(r, 1)) return false;
        at += n;
        if (at == fmt->n) break;
        const char c = fmt->p[at];
        if (at + 1 < fmt->n && fmt->p[at + 1] == c) { /* doubled: itself */
            if (!tmpl_buf_put_sub(r, &b, fmt, at, 1)) return false;
            at += 2;
            continue;
        }
        if (c == '}') return tmpl_fail(r, "Single '}' encountered in format string");
        const char *close = memchr(fmt->p + at, '}', fmt->n - at);
        if (!close) return tmpl_fail(r, "expected '}' before end of string");
        const size_t end = (size_t)(close - fmt->p);
        if (memchr(fmt->p + at + 1, '{', end - at - 1))
            return tmpl_fail(r, "nested fields in a format string are not supported");
        if (!put_braces(&f, &b, at + 1, end)) return false;
        at = end + 1;
    }
    return tmpl_buf_value(r, &b, out);
}
