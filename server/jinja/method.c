/* method: methods of strings, dicts, lists and of the loop variable. */
#include "server/jinja/internal.h"

/* The result is safe when the object was. */
static bool text_result(const struct call *c, struct text *t, struct tmpl_value *out)
{
    if (!val_from_text(t, out)) return false;
    out->flags = c->self.flags;
    return true;
}

/* --- case --- */

#define CASE_METHOD(name, how)                                                                               \
    static bool str_##name(struct run *r, const struct call *c, struct tmpl_value *out)                      \
    {                                                                                                        \
        return text_result(c, tmpl_string_case(r, c->self.s, how), out);                                     \
    }
CASE_METHOD(lower, CASE_LOWER)
CASE_METHOD(upper, CASE_UPPER)
CASE_METHOD(title, CASE_TITLE)
CASE_METHOD(capitalize, CASE_CAPITALIZE)
CASE_METHOD(swapcase, CASE_SWAP)

#define CLASS_METHOD(name, what)                                                                             \
    static bool str_##name(struct run *r, const struct call *c, struct tmpl_value *out)                      \
    {                                                                                                        \
        *out = val_bool(tmpl_string_is(c->self.s, what));                                                    \
        return tmpl_scan_cost(r, c->self.s->n);                                                              \
    }
CLASS_METHOD(isalpha, CLASS_ALPHA)
CLASS_METHOD(isalnum, CLASS_ALNUM)
CLASS_METHOD(isdigit, CLASS_DIGIT)
CLASS_METHOD(isspace, CLASS_SPACE)
CLASS_METHOD(islower, CLASS_LOWER)
CLASS_METHOD(isupper, CLASS_UPPER)
CLASS_METHOD(isascii, CLASS_ASCII)
CLASS_METHOD(isprintable, CLASS_PRINTABLE)

/* --- cutting and joining --- */

static bool strip(struct run *r, const struct call *c, enum text_side side, struct tmpl_value *out)
{
    struct text *chars;
    return tmpl_arg_text(r, c, 0, &chars) &&
           text_result(c, tmpl_string_strip(r, c->self.s, chars, side), out);
}

static bool str_strip(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return strip(r, c, SIDE_BOTH, out);
}
static bool str_lstrip(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return strip(r, c, SIDE_LEFT, out);
}
static bool str_rstrip(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return strip(r, c, SIDE_RIGHT, out);
}

static bool list_of_texts(struct run *r, const struct call *c, struct items *l, struct tmpl_value *out)
{
    for (size_t i = 0; i < l->n; i++) l->v[i].flags = c->self.flags; /* a fresh list: ours to write */
    return tmpl_items_value(r, l, VAL_LIST, out);
}

static bool split(struct run *r, const struct call *c, enum text_side from, struct tmpl_value *out)
{
    struct text *sep;
    int64_t most;
    struct items l = {0};
    if (!tmpl_arg_text(r, c, 0, &sep) || !tmpl_arg_int(r, c, 1, -1, &most)) return false;
    return tmpl_string_split(r, c->self.s, sep, most, from, &l) && list_of_texts(r, c, &l, out);
}

static bool str_split(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return split(r, c, SIDE_LEFT, out);
}
static bool str_rsplit(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return split(r, c, SIDE_RIGHT, out);
}

static bool str_splitlines(struct run *r, const struct call *c, struct tmpl_value *out)
{
    struct items l = {0};
    return tmpl_string_lines(r, c->self.s, tmpl_arg_bool(c, 0, false), &l) && list_of_texts(r, c, &l, out);
}

static bool partition(struct run *r, const struct call *c, bool from_right, struct tmpl_value *out)
{
    struct text *t = c->self.s, *sep;
    size_t at = from_right ? 0 : t->n, n = 0;
    if (!tmpl_arg_text(r, c, 0, &sep)) return false;
    if (!sep || sep->n == 0) return tmpl_fail(r, "empty separator");
    if (from_right ? tmpl_string_rfind(r, t, sep, t->n, &at) : tmpl_string_find(r, t, sep, 0, &at))
        n = sep->n;
    const size_t cut[4] = {0, at, at + n, t->n};
    struct items l = {0};
    for (int i = 0; i < 3; i++) {
        struct tmpl_value v;
        if (!text_result(c, tmpl_text_sub(r, t, cut[i], cut[i + 1] - cut[i]), &v) ||
            !tmpl_items_push(r, &l, v))
            return false;
    }
    return tmpl_items_value(r, &l, VAL_TUPLE, out);
}

static bool str_partition(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return partition(r, c, false, out);
}
static bool str_rpartition(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return partition(r, c, true, out);
}

static bool str_replace(struct run *r, const struct call *c, struct tmpl_value *out)
{
    struct text *old, *with;
    int64_t most;
    if (!tmpl_arg_text(r, c, 0, &old) || !tmpl_arg_text(r, c, 1, &with) || !tmpl_arg_int(r, c, 2, -1, &most))
        return false;
    if (!old || !with) return tmpl_fail(r, "replace wants strings, not 'NoneType'");
    if ((c->self.flags & VAL_SAFE) && !(c->arg[1].flags & VAL_SAFE)) with = tmpl_string_escape(r, with);
    return with && text_result(c, tmpl_string_replace(r, c->self.s, old, with, most), out);
}

static bool str_join(struct run *r, const struct call *c, struct tmpl_value *out)
{
    struct text_buf b = {0};
    struct iter it;
    struct tmpl_value v;
    const bool safe = c->self.flags & VAL_SAFE;
    if (!tmpl_iter_open(r, c->arg[0], &it)) return false;
    for (size_t i = 0; tmpl_iter_next(r, &it, &v); i++) {
        if (v.kind != VAL_STR)
            return tmpl_fail(r, "sequence item %zu: expected str instance, %s found", i, tmpl_type_name(v));
        struct text *t = safe && !(v.flags & VAL_SAFE) ? tmpl_string_escape(r, v.s) : v.s;
        if (!t || !tmpl_step(r, 1) || (i && !tmpl_buf_put_text(r, &b, c->self.s)) ||
            !tmpl_buf_put_text(r, &b, t))
            return false;
    }
    return !r->err && text_result(c, tmpl_buf_text(r, &b), out);
}

static bool str_format(struct run *r, const struct call *c, struct tmpl_value *out)
{
    const bool safe = c->self.flags & VAL_SAFE;
    if (!tmpl_format_braces(r, c->self.s, c->raw, safe, out)) return false;
    out->flags = c->self.flags;
    return true;
}

static bool affix(struct run *r, const struct call *c, bool suffix, struct tmpl_value *out)
{
    struct text *t = c->self.s, *x;
    if (!tmpl_arg_text(r, c, 0, &x)) return false;
    if (!x) return tmpl_fail(r, "%s wants a string, not 'NoneType'", c->b->name);
    const bool has = x->n <= t->n && memcmp(suffix ? t->p + t->n - x->n : t->p, x->p, x->n) == 0;
    return text_result(c, has ? tmpl_text_sub(r, t, suffix ? 0 : x->n, t->n - x->n) : t, out);
}

static bool str_removeprefix(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return affix(r, c, false, out);
}
static bool str_removesuffix(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return affix(r, c, true, out);
}

/* --- searching --- */

/* The bytes [from, to) of self that the arguments start and end (code points) leave; false: failed. *none: an
 * empty range that starts behind the end, where even "" is not found. */
static bool window(struct run *r, const struct call *c, int i_start, struct text **out, size_t *from,
                   bool *none)
{
    struct text *t = c->self.s;
    int64_t start, end;
    *from = 0;
    *out = t;
    *none = false;
    if (c->arg[i_start].kind == VAL_MISSING) return true;
    const int64_t len = (int64_t)tmpl_text_len(r, t);
    if (!tmpl_arg_int(r, c, i_start, 0, &start) || !tmpl_arg_int(r, c, i_start + 1, len, &end)) return false;
    if (start < 0) start = start + len < 0 ? 0 : start + len;
    if (end < 0) end = end + len < 0 ? 0 : end + len;
    if (end > len) end = len;
    *none = start > end;
    if (*none) return true;
    *from = tmpl_text_offset(r, t, (size_t)start);
    const size_t to = tmpl_text_offset(r, t, (size_t)end);
    *out = r->err ? NULL : tmpl_text_sub(r, t, *from, to - *from);
    return *out != NULL;
}

static bool search(struct run *r, const struct call *c, bool from_right, bool must, struct tmpl_value *out)
{
    struct text *t, *sub;
    size_t from, at = 0;
    bool none;
    if (!tmpl_arg_text(r, c, 0, &sub) || !window(r, c, 1, &t, &from, &none)) return false;
    if (!sub) return tmpl_fail(r, "%s wants a string, not 'NoneType'", c->b->name);
    const bool hit =
        !none && (from_right ? tmpl_string_rfind(r, t, sub, t->n, &at) : tmpl_string_find(r, t, sub, 0, &at));
    if (r->err) return false;
    if (!hit && must) return tmpl_fail(r, "substring not found");
    *out = hit ? val_size(tmpl_text_chars_before(r, c->self.s, from + at)) : val_int(-1);
    return !r->err;
}

static bool str_find(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return search(r, c, false, false, out);
}
static bool str_rfind(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return search(r, c, true, false, out);
}
static bool str_index(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return search(r, c, false, true, out);
}
static bool str_rindex(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return search(r, c, true, true, out);
}

static bool str_count(struct run *r, const struct call *c, struct tmpl_value *out)
{
    struct text *t, *sub;
    size_t from;
    bool none;
    if (!tmpl_arg_text(r, c, 0, &sub) || !window(r, c, 1, &t, &from, &none)) return false;
    if (!sub) return tmpl_fail(r, "count wants a string, not 'NoneType'");
    *out = val_int(none ? 0 : tmpl_string_count(r, t, sub));
    return !r->err;
}

static bool has_affix(const struct text *t, const struct text *x, bool suffix)
{
    return x->n <= t->n && memcmp(suffix ? t->p + t->n - x->n : t->p, x->p, x->n) == 0;
}

static bool starts_or_ends(struct run *r, const struct call *c, bool suffix, struct tmpl_value *out)
{
    const struct tmpl_value x = c->arg[0];
    struct text *t;
    size_t from;
    bool none, hit = false;
    if (!window(r, c, 1, &t, &from, &none)) return false;
    if (x.kind != VAL_STR && x.kind != VAL_TUPLE) {
        return tmpl_fail(r, "%s first arg must be str or a tuple of str, not %s", c->b->name,
                         tmpl_type_name(x));
    }
    const size_t n = x.kind == VAL_TUPLE ? x.list->n : 1;
    for (size_t i = 0; i < n && !hit; i++) {
        const struct tmpl_value one = x.kind == VAL_TUPLE ? x.list->v[i] : x;
        if (one.kind != VAL_STR)
            return tmpl_fail(r, "tuple for %s must only contain str, not %s", c->b->name,
                             tmpl_type_name(one));
        hit = !none && has_affix(t, one.s, suffix);
    }
    *out = val_bool(hit);
    return tmpl_step(r, n);
}

static bool str_startswith(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return starts_or_ends(r, c, false, out);
}
static bool str_endswith(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return starts_or_ends(r, c, true, out);
}

/* --- fields --- */

static bool justify(struct run *r, struct tmpl_value v, size_t left, size_t right, const struct text *fill,
                    struct tmpl_value *out)
{
    struct text_buf b = {0};
    static const struct text space = {.p = " ", .n = 1, .n_char = 1};
    if (!fill) fill = &space;
    if (left + right == 0) {
        *out = v;
        return true;
    }
    if (left + right > TEXT_MAX_BYTES / 4) return tmpl_fail_bound(r, "a string grew too long");
    if (!tmpl_step(r, (left + right) / 64) || !tmpl_buf_reserve(r, &b, v.s->n + (left + right) * fill->n))
        return false;
    for (size_t i = 0; i < left; i++) {
        if (!tmpl_buf_put_text(r, &b, fill)) return false;
    }
    if (!tmpl_buf_put_text(r, &b, v.s)) return false;
    for (size_t i = 0; i < right; i++) {
        if (!tmpl_buf_put_text(r, &b, fill)) return false;
    }
    if (!tmpl_buf_value(r, &b, out)) return false;
    out->flags = v.flags;
    return true;
}

bool tmpl_center(struct run *r, struct tmpl_value v, int64_t width, const struct text *fill,
                 struct tmpl_value *out)
{
    const size_t len = tmpl_text_len(r, v.s), pad = width > (int64_t)len ? (size_t)width - len : 0;
    const size_t left = pad / 2 + (pad & (size_t)width & 1);
    return justify(r, v, left, pad - left, fill, out);
}

static bool field(struct run *r, const struct call *c, int where, struct tmpl_value *out)
{
    int64_t width;
    struct text *fill;
    if (!tmpl_arg_int(r, c, 0, 0, &width) || !tmpl_arg_text(r, c, 1, &fill)) return false;
    if (fill && tmpl_text_len(r, fill) != 1)
        return tmpl_fail(r, "The fill character must be exactly one character long");
    if (where == 0) return tmpl_center(r, c->self, width, fill, out);
    const size_t len = tmpl_text_len(r, c->self.s), pad = width > (int64_t)len ? (size_t)width - len : 0;
    return justify(r, c->self, where > 0 ? pad : 0, where < 0 ? pad : 0, fill, out);
}

static bool str_center(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return field(r, c, 0, out);
}
static bool str_ljust(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return field(r, c, -1, out);
}
static bool str_rjust(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return field(r, c, 1, out);
}

static bool str_zfill(struct run *r, const struct call *c, struct tmpl_value *out)
{
    int64_t width;
    static const struct text zero = {.p = "0", .n = 1, .n_char = 1};
    struct text *t = c->self.s;
    if (!tmpl_arg_int(r, c, 0, 0, &width)) return false;
    const size_t len = tmpl_text_len(r, t), pad = width > (int64_t)len ? (size_t)width - len : 0;
    const size_t sign = t->n && (*t->p == '+' || *t->p == '-');
    struct text *head = tmpl_text_sub(r, t, 0, sign), *tail = tmpl_text_sub(r, t, sign, t->n - sign);
    struct tmpl_value v;
    if (!head || !val_from_text(tail, &v) || !justify(r, v, pad, 0, &zero, &v)) return false;
    return text_result(c, tmpl_text_concat(r, head, v.s), out);
}

/* --- dicts and lists --- */

static bool dict_get(struct run *r, const struct call *c, struct tmpl_value *out)
{
    const struct pair *p = tmpl_hashable(r, c->arg[0]) ? tmpl_table_find(r, c->self.dict, c->arg[0]) : NULL;
    *out = p ? p->val : c->arg[1].kind == VAL_MISSING ? val_none() : c->arg[1];
    return !r->err;
}

static bool dict_view(struct run *r, const struct call *c, enum dict_part what, struct tmpl_value *out)
{
    struct items l = {0};
    for (size_t i = 0; i < c->self.dict->n; i++) {
        const struct pair *p = &c->self.dict->pair[i];
        struct tmpl_value v = what == DICT_KEYS ? p->key : p->val;
        if (what == DICT_ITEMS && !tmpl_tuple2(r, p->key, p->val, &v)) return false;
        if (!tmpl_step(r, 1) || !tmpl_items_push(r, &l, v)) return false;
    }
    if (!tmpl_items_value(r, &l, VAL_VIEW, out)) return false;
    out->flags = (uint8_t)what;
    return true;
}

static bool dict_keys(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return dict_view(r, c, DICT_KEYS, out);
}
static bool dict_values(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return dict_view(r, c, DICT_VALUES, out);
}
static bool dict_items(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return dict_view(r, c, DICT_ITEMS, out);
}

static bool same_value(struct run *r, const struct call *c,
                       struct tmpl_value *out) /* copy() of what is immutable */
{
    (void)r;
    *out = c->self;
    return true;
}

static bool list_count(struct run *r, const struct call *c, struct tmpl_value *out)
{
    struct iter it;
    struct tmpl_value v;
    int64_t n = 0;
    if (!tmpl_iter_open(r, c->self, &it)) return false;
    while (tmpl_iter_next(r, &it, &v)) n += tmpl_equal(r, v, c->arg[0]);
    *out = val_int(n);
    return !r->err;
}

static bool list_index(struct run *r, const struct call *c, struct tmpl_value *out)
{
    struct iter it;
    struct tmpl_value v;
    if (!tmpl_iter_open(r, c->self, &it)) return false;
    for (size_t i = 0; tmpl_iter_next(r, &it, &v); i++) {
        if (!tmpl_equal(r, v, c->arg[0])) continue;
        *out = val_size(i);
        return true;
    }
    return tmpl_fail(r, "the value is not in the %s", tmpl_type_name(c->self));
}

/* --- the loop variable --- */

static bool loop_cycle(struct run *r, const struct call *c, struct tmpl_value *out)
{
    if (c->raw->n_pos == 0) return tmpl_fail(r, "no items for cycling given");
    *out = c->raw->pos[c->self.loop->index0 % c->raw->n_pos];
    return true;
}

static bool loop_changed(struct run *r, const struct call *c, struct tmpl_value *out)
{
    struct items l = {.v = c->raw->pos, .n = c->raw->n_pos};
    struct tmpl_value now;
    if (!tmpl_items_value(r, &l, VAL_TUPLE, &now)) return false;
    *out = val_bool(!tmpl_equal(r, now, c->self.loop->last_changed));
    c->self.loop->last_changed = now;
    return !r->err;
}

const struct builtin tmpl_str_methods[] = {
    {"capitalize", "", str_capitalize},
    {"casefold", "", str_lower},
    {"center", "width,fillchar?", str_center},
    {"count", "sub,start?,end?", str_count},
    {"endswith", "suffix,start?,end?", str_endswith},
    {"find", "sub,start?,end?", str_find},
    {"format", "*", str_format},
    {"index", "sub,start?,end?", str_index},
    {"isalnum", "", str_isalnum},
    {"isalpha", "", str_isalpha},
    {"isascii", "", str_isascii},
    {"isdecimal", "", str_isdigit},
    {"isdigit", "", str_isdigit},
    {"islower", "", str_islower},
    {"isnumeric", "", str_isdigit},
    {"isprintable", "", str_isprintable},
    {"isspace", "", str_isspace},
    {"isupper", "", str_isupper},
    {"join", "iterable", str_join},
    {"ljust", "width,fillchar?", str_ljust},
    {"lower", "", str_lower},
    {"lstrip", "chars?", str_lstrip},
    {"partition", "sep", str_partition},
    {"removeprefix", "prefix", str_removeprefix},
    {"removesuffix", "suffix", str_removesuffix},
    {"replace", "old,new,count?", str_replace},
    {"rfind", "sub,start?,end?", str_rfind},
    {"rindex", "sub,start?,end?", str_rindex},
    {"rjust", "width,fillchar?", str_rjust},
    {"rpartition", "sep", str_rpartition},
    {"rsplit", "sep?,maxsplit?", str_rsplit},
    {"rstrip", "chars?", str_rstrip},
    {"split", "sep?,maxsplit?", str_split},
    {"splitlines", "keepends?", str_splitlines},
    {"startswith", "prefix,start?,end?", str_startswith},
    {"strip", "chars?", str_strip},
    {"swapcase", "", str_swapcase},
    {"title", "", str_title},
    {"upper", "", str_upper},
    {"zfill", "width", str_zfill},
    {0},
};
const struct builtin tmpl_dict_methods[] = {
    {"copy", "", same_value}, {"get", "key,default?", dict_get}, {"items", "", dict_items},
    {"keys", "", dict_keys},  {"values", "", dict_values},       {0},
};
const struct builtin tmpl_list_methods[] = {
    {"copy", "", same_value},
    {"count", "value", list_count},
    {"index", "value", list_index},
    {0},
};
const struct builtin tmpl_tuple_methods[] = {
    {"count", "value", list_count},
    {"index", "value", list_index},
    {0},
};
const struct builtin tmpl_loop_methods[] = {
    {"changed", "*", loop_changed},
    {"cycle", "*", loop_cycle},
    {0},
};
