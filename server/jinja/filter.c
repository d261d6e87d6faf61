/* filter: filters on one value. Those on sequences are in filter_seq.c and filter_pick.c. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/jinja/internal.h"

/* The value as a string that keeps being safe if it was. */
static bool soft_text(struct run *r, struct tmpl_value v, struct tmpl_value *out)
{
    if (v.kind == VAL_STR) {
        *out = v;
        return true;
    }
    return val_from_text(tmpl_to_text(r, v), out);
}

static bool change_case(struct run *r, const struct call *c, enum text_case how, struct tmpl_value *out)
{
    struct tmpl_value s;
    if (!soft_text(r, c->self, &s) || !val_from_text(tmpl_string_case(r, s.s, how), out)) return false;
    out->flags = how == CASE_JINJA_TITLE ? 0 : s.flags;
    return true;
}

static bool filter_lower(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return change_case(r, c, CASE_LOWER, out);
}
static bool filter_upper(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return change_case(r, c, CASE_UPPER, out);
}
static bool filter_title(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return change_case(r, c, CASE_JINJA_TITLE, out);
}
static bool filter_capitalize(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return change_case(r, c, CASE_CAPITALIZE, out);
}

static bool filter_trim(struct run *r, const struct call *c, struct tmpl_value *out)
{
    struct tmpl_value s;
    struct text *chars;
    if (!soft_text(r, c->self, &s) || !tmpl_arg_text(r, c, 0, &chars)) return false;
    if (!val_from_text(tmpl_string_strip(r, s.s, chars, SIDE_BOTH), out)) return false;
    out->flags = s.flags;
    return true;
}

static bool filter_center(struct run *r, const struct call *c, struct tmpl_value *out)
{
    struct tmpl_value s;
    int64_t width;
    return soft_text(r, c->self, &s) && tmpl_arg_int(r, c, 0, 80, &width) &&
           tmpl_center(r, s, width, NULL, out);
}

static bool filter_replace(struct run *r, const struct call *c, struct tmpl_value *out)
{
    int64_t most;
    struct text *s = tmpl_to_text(r, c->self), *old = tmpl_to_text(r, c->arg[0]),
                *with = tmpl_to_text(r, c->arg[1]);
    return s && old && with && tmpl_arg_int(r, c, 2, -1, &most) &&
           val_from_text(tmpl_string_replace(r, s, old, with, most), out);
}

static bool filter_string(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return soft_text(r, c->self, out);
}

static bool filter_safe(struct run *r, const struct call *c, struct tmpl_value *out)
{
    if (!soft_text(r, c->self, out)) return false;
    out->flags |= VAL_SAFE;
    return true;
}

static bool filter_forceescape(struct run *r, const struct call *c, struct tmpl_value *out)
{
    struct text *t = tmpl_to_text(r, c->self);
    if (!t || !val_from_text(tmpl_string_escape(r, t), out)) return false;
    out->flags = VAL_SAFE;
    return true;
}

static bool filter_escape(struct run *r, const struct call *c, struct tmpl_value *out)
{
    if (c->self.kind != VAL_STR || !(c->self.flags & VAL_SAFE)) return filter_forceescape(r, c, out);
    *out = c->self;
    return true;
}

static bool filter_default(struct run *r, const struct call *c, struct tmpl_value *out)
{
    const bool use = c->self.kind == VAL_UNDEFINED || (tmpl_arg_bool(c, 1, false) && !tmpl_truth(c->self));
    *out = use ? c->arg[0] : c->self;
    return out->kind != VAL_MISSING || val_from_text(tmpl_text_new(r, "", 0, false), out);
}

static bool filter_wordcount(struct run *r, const struct call *c, struct tmpl_value *out)
{
    struct text *t = tmpl_to_text(r, c->self);
    int64_t n = 0;
    bool inside = false;
    for (size_t at = 0; t && at < t->n;) {
        const size_t k = (size_t)utf8_get(t->p + at, t->p + t->n, &(uint32_t){0});
        const struct text one = {.p = t->p + at, .n = k};
        const bool word = *one.p == '_' || tmpl_string_is(&one, CLASS_ALNUM);
        n += word && !inside;
        inside = word;
        at += k;
    }
    *out = val_int(n);
    return t && tmpl_scan_cost(r, t->n);
}

static bool filter_format(struct run *r, const struct call *c, struct tmpl_value *out)
{
    struct text *t = tmpl_to_text(r, c->self);
    struct items l = {.v = c->raw->pos, .n = c->raw->n_pos};
    struct tmpl_value arg;
    if (!t) return false;
    if (c->raw->n_kw == 0)
        return tmpl_items_value(r, &l, VAL_TUPLE, &arg) && tmpl_format_percent(r, t, arg, out);
    if (c->raw->n_pos) return tmpl_fail(r, "can't handle positional and keyword arguments at the same time");
    if (!tmpl_table_value(r, VAL_DICT, &arg)) return false;
    for (size_t i = 0; i < c->raw->n_kw; i++) {
        struct tmpl_value key;
        if (!val_from_text(tmpl_text_new(r, c->raw->kw[i].name->p, c->raw->kw[i].name->n, false), &key))
            return false;
        if (!tmpl_table_set(r, arg.dict, key, c->raw->kw[i].v)) return false;
    }
    return tmpl_format_percent(r, t, arg, out);
}

/* One level of indentation: a string, or that many spaces. */
static bool indentation(struct run *r, struct tmpl_value v, int64_t dflt, struct text **out)
{
    if (v.kind == VAL_STR) {
        *out = v.s;
        return true;
    }
    if (v.kind != VAL_MISSING && !val_is_integral(v))
        return tmpl_fail_type(r, "an indent must be an integer or a string, not", v);
    struct text *space = tmpl_text_new(r, " ", 1, false);
    *out = space ? tmpl_text_repeat(r, space, v.kind == VAL_MISSING ? dflt : val_as_int(v)) : NULL;
    return *out != NULL;
}

static bool filter_indent(struct run *r, const struct call *c, struct tmpl_value *out)
{
    struct text *indent;
    struct items line = {0};
    struct text_buf b = {0};
    const bool first = tmpl_arg_bool(c, 1, false), blank = tmpl_arg_bool(c, 2, false);
    if (c->self.kind == VAL_UNDEFINED) return tmpl_fail_undefined(r, c->self);
    if (c->self.kind != VAL_STR) return tmpl_fail_type(r, "indent wants a string, not", c->self);
    struct text *newline = tmpl_text_new(r, "\n", 1, false);
    struct text *all =
        newline ? tmpl_text_concat(r, c->self.s, newline) : NULL; /* so that an empty last line counts */
    if (!all || !indentation(r, c->arg[0], 4, &indent) || !tmpl_string_lines(r, all, false, &line))
        return false;
    if (first && !tmpl_buf_put_text(r, &b, indent)) return false;
    for (size_t i = 0; i < line.n; i++) {
        if (i && !tmpl_buf_puts(r, &b, "\n")) return false;
        if (i && (blank || line.v[i].s->n) && !tmpl_buf_put_text(r, &b, indent)) return false;
        if (!tmpl_buf_put_text(r, &b, line.v[i].s)) return false;
    }
    if (!tmpl_buf_value(r, &b, out)) return false;
    out->flags = c->self.flags;
    return true;
}

static bool filter_tojson(struct run *r, const struct call *c, struct tmpl_value *out)
{
    struct text_buf b = {0};
    struct json_style style = {.ascii = tmpl_arg_bool(c, 0, false), .sort = tmpl_arg_bool(c, 3, false)};
    style.lines = c->arg[1].kind != VAL_MISSING && c->arg[1].kind != VAL_NONE;
    struct text *indent = NULL;
    if (style.lines && !indentation(r, c->arg[1], 0, &indent)) return false;
    style.indent = indent;
    const struct tmpl_value sep = c->arg[2];
    if (sep.kind == VAL_MISSING || sep.kind == VAL_NONE) {
        style.item_sep = tmpl_text_new(r, style.lines ? "," : ", ", style.lines ? 1 : 2, false);
        style.key_sep = tmpl_text_new(r, ": ", 2, false);
    } else if (val_is_seq(sep) && sep.list->n == 2 && sep.list->v[0].kind == VAL_STR &&
               sep.list->v[1].kind == VAL_STR) {
        style.item_sep = sep.list->v[0].s;
        style.key_sep = sep.list->v[1].s;
    } else {
        return tmpl_fail(r, "tojson wants two strings as separators");
    }
    if (!style.item_sep || !style.key_sep) return false;
    return tmpl_put_json(r, &b, c->self, &style) && tmpl_buf_value(r, &b, out);
}

/* --- numbers --- */

static bool filter_abs(struct run *r, const struct call *c, struct tmpl_value *out)
{
    if (!val_is_number(c->self)) return tmpl_fail_type(r, "bad operand type for abs()", c->self);
    if (c->self.kind == VAL_FLOAT) {
        *out = val_float(fabs(c->self.f));
        return true;
    }
    *out = val_int(val_as_int(c->self));
    return out->i >= 0 || tmpl_negate(r, *out, out);
}

/* The number in t without white space around it and without single underscores between digits,
 * NUL-terminated; NULL when it is too long to be one or holds a misplaced underscore. */
static const char *number_text(struct run *r, struct text *t, char buf[512])
{
    struct text *s = tmpl_string_strip(r, t, NULL, SIDE_BOTH);
    size_t n = 0;
    if (!s || s->n == 0 || s->n >= 512) return NULL;
    for (size_t i = 0; i < s->n; i++) {
        if (s->p[i] == '\0') return NULL;
        if (s->p[i] != '_') {
            buf[n++] = s->p[i];
        } else if (i == 0 || i + 1 == s->n || !isalnum((uint8_t)s->p[i - 1]) ||
                   !isalnum((uint8_t)s->p[i + 1])) {
            return NULL;
        }
    }
    buf[n] = '\0';
    return buf;
}

enum parsed { PARSED, NOT_A_NUMBER, OUT_OF_RANGE };

static enum parsed parse_int(const char *s, int64_t base, int64_t *out)
{
    const bool minus = *s == '-';
    if (*s == '-' || *s == '+') s++;
    static const char letter[] = "bBoOxX";
    const char *hit = *s == '0' && s[1] ? strchr(letter, s[1]) : NULL;
    const int64_t of_prefix = hit ? (hit - letter < 2 ? 2 : hit - letter < 4 ? 8 : 16) : 10;
    if (hit && (base == 0 || base == of_prefix)) {
        s += 2;
        base = of_prefix;
    }
    if (base == 0) base = 10;
    int64_t x = 0;
    if (!*s) return NOT_A_NUMBER;
    enum parsed how = PARSED;
    for (; *s; s++) {
        const int d = isdigit((uint8_t)*s)   ? *s - '0'
                      : isalpha((uint8_t)*s) ? tolower((uint8_t)*s) - 'a' + 10
                                             : 99;
        if (d >= base) return NOT_A_NUMBER;
        if (how == PARSED && (__builtin_mul_overflow(x, base, &x) || __builtin_sub_overflow(x, d, &x)))
            how = OUT_OF_RANGE;
    }
    if (how == PARSED && !minus && __builtin_sub_overflow((int64_t)0, x, &x)) how = OUT_OF_RANGE;
    *out = x;
    return how;
}

static bool parse_float(const char *s, double *out)
{
    const char *p = s + (*s == '+' || *s == '-');
    if (strcasecmp(p, "inf") != 0 && strcasecmp(p, "infinity") != 0 && strcasecmp(p, "nan") != 0) {
        if (!*p || strspn(p, "0123456789.eE+-") != strlen(p))
            return false; /* no hex, which strtod would read */
    }
    char *end;
    *out = strtod(s, &end);
    return end > s && *end == '\0';
}

/* float(v); false when it is not a number (the run goes on). */
static bool to_float(struct run *r, struct tmpl_value v, double *out)
{
    char buf[512];
    if (val_is_number(v)) {
        *out = val_as_float(v);
        return true;
    }
    const char *s = v.kind == VAL_STR ? number_text(r, v.s, buf) : NULL;
    return s && parse_float(s, out);
}

static bool filter_float(struct run *r, const struct call *c, struct tmpl_value *out)
{
    double f;
    if (c->self.kind == VAL_UNDEFINED) return tmpl_fail_undefined(r, c->self);
    *out = to_float(r, c->self, &f) ? val_float(f) : c->arg[0].kind == VAL_MISSING ? val_float(0) : c->arg[0];
    return true;
}

static bool filter_int(struct run *r, const struct call *c, struct tmpl_value *out)
{
    char buf[512];
    int64_t base, i = 0;
    double f;
    if (c->self.kind == VAL_UNDEFINED) return tmpl_fail_undefined(r, c->self);
    base = c->arg[1].kind == VAL_MISSING ? 10 : val_is_integral(c->arg[1]) ? val_as_int(c->arg[1]) : -1;
    if (val_is_integral(c->self)) {
        *out = val_int(val_as_int(c->self));
        return true;
    }
    *out = c->arg[0].kind == VAL_MISSING ? val_int(0) : c->arg[0];
    const char *s = c->self.kind == VAL_STR && (base == 0 || (base >= 2 && base <= 36))
                        ? number_text(r, c->self.s, buf)
                        : NULL;
    const enum parsed how = s ? parse_int(s, base, &i) : NOT_A_NUMBER;
    if (how == OUT_OF_RANGE) return tmpl_fail(r, "an integer is too large");
    if (how == PARSED) {
        *out = val_int(i);
    } else if (to_float(r, c->self, &f) && isfinite(f)) {
        if (fabs(f) >= 9.2e18) return tmpl_fail(r, "an integer is too large");
        *out = val_int((int64_t)f);
    }
    return true;
}

static bool round_common(struct run *r, struct tmpl_value v, int64_t precision, struct tmpl_value *out)
{
    if (val_is_integral(v)) {
        if (precision < 0) return tmpl_fail(r, "rounding integers to tens is not supported");
        *out = val_int(val_as_int(v));
        return true;
    }
    char digits[400];
    if (precision >= 0) { /* printf rounds the exact value, half to even, as Python does */
        snprintf(digits, sizeof digits, "%.*f", precision > 40 ? 40 : (int)precision, v.f);
        *out = val_float(isfinite(v.f) && precision <= 40 ? strtod(digits, NULL) : v.f);
        return true;
    }
    const double ten = pow(10, (double)-precision);
    *out = val_float(isfinite(ten) ? nearbyint(v.f / ten) * ten : 0.0);
    return true;
}

static bool filter_round(struct run *r, const struct call *c, struct tmpl_value *out)
{
    int64_t precision;
    struct text *method;
    if (!tmpl_arg_int(r, c, 0, 0, &precision) || !tmpl_arg_text(r, c, 1, &method)) return false;
    const bool up = method && text_is(method, "ceil"), down = method && text_is(method, "floor");
    if (method && !up && !down && !text_is(method, "common"))
        return tmpl_fail(r, "method must be common, ceil or floor");
    if (!val_is_number(c->self))
        return tmpl_fail(r, "type %s doesn't define __round__ method", tmpl_type_name(c->self));
    if (!up && !down) return round_common(r, c->self, precision, out);
    const double ten = pow(10, (double)precision), f = val_as_float(c->self) * ten;
    *out = val_float((up ? ceil(f) : floor(f)) / ten);
    return true;
}

const struct builtin tmpl_filters[] = {
    {"abs", "", filter_abs},
    {"attr", "name", NULL},
    {"capitalize", "", filter_capitalize},
    {"center", "width?", filter_center},
    {"d", "default_value?,boolean?", filter_default},
    {"default", "default_value?,boolean?", filter_default},
    {"e", "", filter_escape},
    {"escape", "", filter_escape},
    {"filesizeformat", "*", NULL},
    {"float", "default?", filter_float},
    {"forceescape", "", filter_forceescape},
    {"format", "*", filter_format},
    {"indent", "width?,first?,blank?", filter_indent},
    {"int", "default?,base?", filter_int},
    {"lower", "", filter_lower},
    {"pprint", "*", NULL},
    {"replace", "old,new,count?", filter_replace},
    {"round", "precision?,method?", filter_round},
    {"safe", "", filter_safe},
    {"string", "", filter_string},
    {"striptags", "*", NULL},
    {"title", "", filter_title},
    {"tojson", "ensure_ascii?,indent?,separators?,sort_keys?", filter_tojson},
    {"trim", "chars?", filter_trim},
    {"truncate", "*", NULL},
    {"upper", "", filter_upper},
    {"urlencode", "*", NULL},
    {"urlize", "*", NULL},
    {"wordcount", "", filter_wordcount},
    {"wordwrap", "*", NULL},
    {"xmlattr", "*", NULL},
    {0},
};
