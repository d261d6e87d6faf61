/* access: a.b, a[b] and a[b:c:d] under the rules of the reference's immutable sandbox: attributes that would
 * change a list or dict, and those with double underscores, are undefined values that fail when they are
 * used. */
#include "server/jinja/ast.h"

static const char *const unsafe_of_list[] = {"append", "clear",   "extend", "insert", "pop",
                                             "remove", "reverse", "sort",   NULL};
static const char *const unsafe_of_dict[] = {"clear", "pop", "popitem", "setdefault", "update", NULL};

/* What Python's types have and we do not: named, so that it fails as missing here and does not pass for
 * undefined. */
static const char *const more_of_str[] = {"encode",  "expandtabs", "format_map", "isidentifier",
                                          "istitle", "maketrans",  "translate",  NULL};

struct type_attrs {
    const struct builtin *methods;
    const char *const *unsafe;
    const char *const *more;
};
static const struct type_attrs attrs_of[VAL_KINDS] = {
    [VAL_STR] = {tmpl_str_methods, NULL, more_of_str},
    [VAL_LIST] = {tmpl_list_methods, unsafe_of_list, NULL},
    [VAL_TUPLE] = {tmpl_tuple_methods, NULL, NULL},
    [VAL_RANGE] = {tmpl_tuple_methods, NULL, NULL},
    [VAL_DICT] = {tmpl_dict_methods, unsafe_of_dict, NULL},
    [VAL_LOOP] = {tmpl_loop_methods, NULL, NULL},
};

static bool is_listed(const char *const *list, const struct text *name)
{
    for (; list && *list; list++) {
        if (text_is(name, *list)) return true;
    }
    return false;
}

/* A Python attribute of that name, not an element. *found tells; false: the run failed. */
static bool python_attr(struct run *r, struct tmpl_value v, const struct text *name, struct tmpl_value *out,
                        bool *found)
{
    *found = true;
    if (v.kind == VAL_NAMESPACE) {
        const struct pair *p = tmpl_table_find_text(r, v.dict, name);
        *found = p != NULL;
        if (p) *out = p->val;
        return !r->err;
    }
    const struct type_attrs *a = &attrs_of[v.kind];
    const struct builtin *b = a->methods ? tmpl_builtin_find(a->methods, name->p, name->n) : NULL;
    const bool dunder =
        name->n > 4 && memcmp(name->p, "__", 2) == 0 && memcmp(name->p + name->n - 2, "__", 2) == 0;
    if (b) {
        struct method *m = tmpl_alloc(r, sizeof *m);
        if (!m) return false;
        *m = (struct method){.self = v, .b = b};
        *out = (struct tmpl_value){.kind = VAL_METHOD, .method = m};
        return true;
    }
    if (dunder || is_listed(a->unsafe, name)) {
        *out = tmpl_undef_attr(r, v, name->p, name->n, UNDEF_UNSAFE);
        return !r->err;
    }
    if (is_listed(a->more, name)) {
        return tmpl_fail(r, "the method '%.*s' of '%s' is not supported", (int)name->n, name->p,
                         tmpl_type_name(v));
    }
    if (v.kind == VAL_LOOP) {
        *found = tmpl_loop_attr(r, v.loop, name, out);
        return !r->err;
    }
    if (v.kind == VAL_MACRO && text_is(name, "name") && v.macro->node->kind == NODE_MACRO) {
        const struct text *own = r->t->name[v.macro->node->name];
        return val_from_text(tmpl_text_new(r, own->p, own->n, false), out);
    }
    *found = false;
    return true;
}

bool tmpl_get_attr(struct run *r, struct tmpl_value v, const struct text *name, struct tmpl_value *out)
{
    bool found;
    if (v.kind == VAL_UNDEFINED) return tmpl_fail_undefined(r, v);
    if (!python_attr(r, v, name, out, &found)) return false;
    if (found) return true;
    const struct pair *p = v.kind == VAL_DICT ? tmpl_table_find_text(r, v.dict, name) : NULL;
    *out = p ? p->val : tmpl_undef_attr(r, v, name->p, name->n, UNDEF_ATTR);
    return !r->err;
}

/* The element of a sequence, or *found = false. */
static bool seq_element(struct run *r, struct tmpl_value v, int64_t i, struct tmpl_value *out, bool *found)
{
    size_t n = 0;
    (void)tmpl_length(r, v, &n);
    if (i < 0) i += (int64_t)n;
    *found = i >= 0 && (uint64_t)i < n;
    if (!*found || r->err) return !r->err;
    if (val_is_seq(v)) {
        *out = v.list->v[i];
    } else if (v.kind == VAL_RANGE) {
        *out = val_int(v.range->start + i * v.range->step);
    } else {
        uint32_t cp;
        const size_t at = tmpl_text_offset(r, v.s, (size_t)i);
        if (r->err) return false;
        return val_from_text(tmpl_text_char(r, v.s, at, (size_t)utf8_get(v.s->p + at, v.s->p + v.s->n, &cp)),
                             out);
    }
    return true;
}

bool tmpl_get_item(struct run *r, struct tmpl_value v, struct tmpl_value key, struct tmpl_value *out)
{
    bool found = false;
    if (v.kind == VAL_UNDEFINED) return tmpl_fail_undefined(r, v);
    if (v.kind == VAL_DICT && key.kind != VAL_LIST && key.kind != VAL_DICT && key.kind != VAL_VIEW) {
        const struct pair *p = tmpl_hashable(r, key) ? tmpl_table_find(r, v.dict, key) : NULL;
        if (p) *out = p->val;
        found = p != NULL;
    } else if ((val_is_seq(v) || v.kind == VAL_STR || v.kind == VAL_RANGE) && val_is_integral(key)) {
        if (!seq_element(r, v, val_as_int(key), out, &found)) return false;
    }
    if (r->err || found) return !r->err;
    if (key.kind != VAL_STR) {
        *out = tmpl_undef_element(r, v, key);
        return !r->err;
    }
    if (!python_attr(r, v, key.s, out, &found)) return false;
    if (!found) *out = tmpl_undef_attr(r, v, key.s->p, key.s->n, UNDEF_ATTR);
    return !r->err;
}

/* --- slices --- */

struct slice {
    int64_t start, stop, step;
    size_t n;
};

/* Python's rules for start:stop:step over n items. */
static bool slice_of(struct run *r, size_t n_item, const struct tmpl_value part[3], struct slice *s)
{
    const int64_t n = (int64_t)n_item;
    int64_t v[3] = {0, 0, 1};
    bool given[3];
    for (int i = 0; i < 3; i++) {
        given[i] = part[i].kind != VAL_MISSING && part[i].kind != VAL_NONE;
        if (!given[i]) continue;
        if (part[i].kind == VAL_UNDEFINED) return tmpl_fail_undefined(r, part[i]);
        if (!val_is_integral(part[i])) {
            return tmpl_fail(r, "slice indices must be integers or None or have an __index__ method");
        }
        v[i] = val_as_int(part[i]);
    }
    if (v[2] == 0) return tmpl_fail(r, "slice step cannot be zero");
    if (v[2] < -INT64_MAX) v[2] = -INT64_MAX;
    const bool back = v[2] < 0;
    const int64_t low = back ? -1 : 0, high = back ? n - 1 : n;
    for (int i = 0; i < 2; i++) {
        if (!given[i]) {
            v[i] = (i == 0) == back ? high : low;
            continue;
        }
        if (v[i] < 0) v[i] += n; /* no overflow: n is not negative */
        if (v[i] < low) v[i] = low;
        if (v[i] > high) v[i] = high;
    }
    const int64_t reach = back ? v[0] - v[1] : v[1] - v[0], stride = back ? -v[2] : v[2];
    *s = (struct slice){
        .start = v[0], .stop = v[1], .step = v[2], .n = reach > 0 ? (size_t)((reach - 1) / stride + 1) : 0};
    return true;
}

static bool slice_text(struct run *r, struct tmpl_value v, const struct slice *s, struct tmpl_value *out)
{
    struct text *t = v.s;
    if (s->step == 1 || s->n == 0) {
        const size_t from = s->n ? tmpl_text_offset(r, t, (size_t)s->start) : 0;
        const size_t to = s->n ? tmpl_text_offset(r, t, (size_t)s->start + s->n) : 0;
        if (r->err || !val_from_text(tmpl_text_sub(r, t, from, to - from), out)) return false;
    } else {
        struct text_buf b = {0};
        for (size_t i = 0; i < s->n; i++) {
            uint32_t cp;
            const size_t at = tmpl_text_offset(r, t, (size_t)(s->start + (int64_t)i * s->step));
            const size_t n = r->err ? 0 : (size_t)utf8_get(t->p + at, t->p + t->n, &cp);
            if (r->err || !tmpl_buf_put_sub(r, &b, t, at, n)) return false;
        }
        if (!tmpl_step(r, s->n / 64) || !tmpl_buf_value(r, &b, out)) return false;
    }
    out->flags = v.flags;
    return true;
}

static bool slice_items(struct run *r, struct tmpl_value v, const struct slice *s, struct tmpl_value *out)
{
    struct items l = {0};
    if (s->step == 1) { /* a view */
        l = (struct items){
            .v = s->n ? v.list->v + s->start : NULL, .n = s->n, .buf = s->n ? v.list->buf : NULL};
    } else {
        for (size_t i = 0; i < s->n; i++) {
            if (!tmpl_items_push(r, &l, v.list->v[s->start + (int64_t)i * s->step])) return false;
        }
    }
    return tmpl_step(r, s->step == 1 ? 0 : s->n / 16) && tmpl_items_value(r, &l, v.kind, out);
}

bool tmpl_get_slice(struct run *r, struct tmpl_value v, const struct tmpl_value part[3],
                    struct tmpl_value *out)
{
    struct slice s = {0};
    size_t n = 0;
    if (v.kind == VAL_UNDEFINED) return tmpl_fail_undefined(r, v);
    if (v.kind == VAL_DICT) return tmpl_fail(r, "unhashable type: 'slice'");
    if (!val_is_seq(v) && v.kind != VAL_STR && v.kind != VAL_RANGE) {
        return tmpl_fail(r, "'%s' object is not subscriptable", tmpl_type_name(v));
    }
    if (!tmpl_length(r, v, &n) || !slice_of(r, n, part, &s)) return false;
    if (v.kind == VAL_STR) return slice_text(r, v, &s, out);
    if (v.kind != VAL_RANGE) return slice_items(r, v, &s, out);
    struct range *range = tmpl_alloc(r, sizeof *range);
    if (!range) return false;
    int64_t at[2], step;
    bool over = __builtin_mul_overflow(v.range->step, s.step, &step);
    for (int i = 0; i < 2; i++) {
        over |= __builtin_mul_overflow(i ? s.stop : s.start, v.range->step, &at[i]);
        over |= __builtin_add_overflow(at[i], v.range->start, &at[i]);
    }
    if (over) return tmpl_fail(r, "an integer is too large");
    *range = (struct range){.start = at[0], .stop = at[1], .step = step, .n = s.n};
    *out = (struct tmpl_value){.kind = VAL_RANGE, .range = range};
    return true;
}

/* --- attribute paths of filters: "function.name", "0", 3 --- */

static bool is_index(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9') return false;
    }
    return n > 0 && n < 10;
}

/* One step of a path; dflt, when there is one, replaces an undefined result. */
static bool path_step(struct run *r, struct tmpl_value *v, struct tmpl_value key, struct tmpl_value dflt)
{
    struct tmpl_value next;
    if (!tmpl_get_item(r, *v, key, &next)) return false;
    *v = next.kind == VAL_UNDEFINED && dflt.kind != VAL_MISSING && dflt.kind != VAL_NONE ? dflt : next;
    return true;
}

bool tmpl_get_path(struct run *r, struct tmpl_value v, struct tmpl_value path, struct tmpl_value dflt,
                   struct tmpl_value *out)
{
    *out = v;
    if (path.kind == VAL_MISSING || path.kind == VAL_NONE) return true;
    if (path.kind != VAL_STR) return path_step(r, out, path, dflt);
    for (size_t at = 0;;) {
        const char *dot = memchr(path.s->p + at, '.', path.s->n - at);
        const size_t n = dot ? (size_t)(dot - path.s->p) - at : path.s->n - at;
        struct tmpl_value key = {.kind = VAL_STR};
        if (is_index(path.s->p + at, n)) {
            key = val_int(0);
            for (size_t i = 0; i < n; i++) key.i = key.i * 10 + (path.s->p[at + i] - '0');
        } else if (!val_from_text(tmpl_text_sub(r, path.s, at, n), &key)) {
            return false;
        }
        if (!tmpl_step(r, 1) || !path_step(r, out, key, dflt)) return false;
        if (!dot) return true;
        at += n + 1;
    }
}
