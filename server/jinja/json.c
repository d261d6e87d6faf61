/* json: values as JSON, byte for byte what json.dumps writes. */
#include <math.h>
#include <stdio.h>

#include "server/jinja/internal.h"

struct writer {
    struct run *r;
    struct text_buf *b;
    const struct json_style *style;
};

static bool put_value(const struct writer *w, struct tmpl_value v, int depth);

static int escape_char(uint32_t cp, bool ascii, char out[16])
{
    static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";
    const char *short_form = cp && cp < 0x80 ? strchr(from, (int)cp) : NULL;
    if (short_form) return sprintf(out, "\\%c", to[short_form - from]);
    if (cp < 0x20 || (ascii && cp >= 0x7F && cp < 0x10000)) return sprintf(out, "\\u%04x", (unsigned)cp);
    if (!ascii || cp < 0x80) return utf8_put(out, cp);
    cp -= 0x10000;
    return sprintf(out, "\\u%04x\\u%04x", (unsigned)(0xD800 + (cp >> 10)), (unsigned)(0xDC00 + (cp & 0x3FF)));
}

static bool put_text(const struct writer *w, const struct text *t)
{
    size_t start = 0; /* of what can be copied as it is */
    if (!tmpl_buf_puts(w->r, w->b, "\"")) return false;
    for (size_t at = 0; at < t->n;) {
        const uint8_t c = (uint8_t)t->p[at];
        if (c >= 0x20 && c != '"' && c != '\\' && (c < 0x7F || !w->style->ascii)) {
            at++;
            continue;
        }
        uint32_t cp;
        char out[16];
        const size_t n = (size_t)utf8_get(t->p + at, t->p + t->n, &cp);
        const int n_out = escape_char(cp, w->style->ascii, out);
        if (!tmpl_buf_put_sub(w->r, w->b, t, start, at - start)) return false;
        if (!tmpl_buf_put(w->r, w->b, out, (size_t)n_out, text_outside_at(t, at))) return false;
        start = at += n;
    }
    return tmpl_buf_put_sub(w->r, w->b, t, start, t->n - start) && tmpl_buf_puts(w->r, w->b, "\"");
}

static bool put_newline(const struct writer *w, int depth)
{
    if (!w->style->lines) return true;
    if (!tmpl_buf_puts(w->r, w->b, "\n")) return false;
    for (int i = 0; i < depth; i++) {
        if (!tmpl_buf_put_text(w->r, w->b, w->style->indent)) return false;
    }
    return true;
}

static bool put_scalar(const struct writer *w, struct tmpl_value v)
{
    if (v.kind == VAL_NONE) return tmpl_buf_puts(w->r, w->b, "null");
    if (v.kind == VAL_BOOL) return tmpl_buf_puts(w->r, w->b, v.b ? "true" : "false");
    if (v.kind == VAL_FLOAT && !isfinite(v.f))
        return tmpl_buf_puts(w->r, w->b, isnan(v.f) ? "NaN" : v.f > 0 ? "Infinity" : "-Infinity");
    return tmpl_put_repr(w->r, w->b, v);
}

static bool put_key(const struct writer *w, struct tmpl_value key)
{
    if (key.kind == VAL_STR) return put_text(w, key.s);
    if (key.kind != VAL_NONE && !val_is_number(key)) {
        return tmpl_fail(w->r, "keys must be str, int, float, bool or None, not %s", tmpl_type_name(key));
    }
    return tmpl_buf_puts(w->r, w->b, "\"") && put_scalar(w, key) && tmpl_buf_puts(w->r, w->b, "\"");
}

/* The pairs in the order they are written. */
static const struct pair *sorted_pairs(const struct writer *w, const struct table *t)
{
    if (!w->style->sort || t->n < 2) return t->pair;
    struct sort_item *s = tmpl_alloc(w->r, t->n * sizeof *s);
    struct pair *p = s ? tmpl_alloc(w->r, t->n * sizeof *p) : NULL;
    for (size_t i = 0; p && i < t->n; i++)
        s[i] = (struct sort_item){.key = t->pair[i].key, .v = t->pair[i].val};
    if (!p || !tmpl_sort(w->r, s, t->n, tmpl_less_than, false)) return NULL;
    for (size_t i = 0; i < t->n; i++) p[i] = (struct pair){.key = s[i].key, .val = s[i].v};
    return p;
}

static bool put_dict(const struct writer *w, const struct table *t, int depth)
{
    if (t->n == 0) return tmpl_buf_puts(w->r, w->b, "{}");
    const struct pair *p = sorted_pairs(w, t);
    if (!p || !tmpl_buf_puts(w->r, w->b, "{") || !put_newline(w, depth + 1)) return false;
    for (size_t i = 0; i < t->n; i++) {
        if (i && (!tmpl_buf_put_text(w->r, w->b, w->style->item_sep) || !put_newline(w, depth + 1)))
            return false;
        if (!put_key(w, p[i].key) || !tmpl_buf_put_text(w->r, w->b, w->style->key_sep)) return false;
        if (!put_value(w, p[i].val, depth + 1)) return false;
    }
    return put_newline(w, depth) && tmpl_buf_puts(w->r, w->b, "}");
}

static bool put_list(const struct writer *w, const struct items *l, int depth)
{
    if (l->n == 0) return tmpl_buf_puts(w->r, w->b, "[]");
    if (!tmpl_buf_puts(w->r, w->b, "[") || !put_newline(w, depth + 1)) return false;
    for (size_t i = 0; i < l->n; i++) {
        if (i && (!tmpl_buf_put_text(w->r, w->b, w->style->item_sep) || !put_newline(w, depth + 1)))
            return false;
        if (!put_value(w, l->v[i], depth + 1)) return false;
    }
    return put_newline(w, depth) && tmpl_buf_puts(w->r, w->b, "]");
}

static bool put_value(const struct writer *w, struct tmpl_value v, int depth)
{
    if (!tmpl_step(w->r, 1)) return false;
    if (depth >= TMPL_MAX_VALUE_DEPTH) return tmpl_fail_bound(w->r, "a value is nested too deeply");
    if (v.kind == VAL_STR) return put_text(w, v.s);
    if (v.kind == VAL_NONE || val_is_number(v)) return put_scalar(w, v);
    if (val_is_seq(v)) return put_list(w, v.list, depth);
    if (v.kind == VAL_DICT) return put_dict(w, v.dict, depth);
    return tmpl_fail(w->r, "Object of type %s is not JSON serializable", tmpl_type_name(v));
}

bool tmpl_put_json(struct run *r, struct text_buf *b, struct tmpl_value v, const struct json_style *style)
{
    const struct writer w = {.r = r, .b = b, .style = style};
    return put_value(&w, v, 0);
}
