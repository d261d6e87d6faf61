/* filter_seq: filters that look at a sequence as a whole: order, length, ends. */
#include "server/jinja/internal.h"

static bool filter_length(struct run *r, const struct call *c, struct tmpl_value *out)
{
    size_t n;
    if (!tmpl_length(r, c->self, &n))
        return tmpl_fail(r, "object of type '%s' has no len()", tmpl_type_name(c->self));
    *out = val_size(n);
    return true;
}

static bool filter_first(struct run *r, const struct call *c, struct tmpl_value *out)
{
    struct iter it;
    if (!tmpl_iter_open(r, c->self, &it)) return false;
    if (!tmpl_iter_next(r, &it, out) && !r->err)
        *out = tmpl_undef_hint(r, "No first item, sequence was empty.");
    return !r->err;
}

static bool filter_last(struct run *r, const struct call *c, struct tmpl_value *out)
{
    struct items l;
    if (c->self.kind == VAL_ITER || !tmpl_is_iterable(c->self)) {
        return tmpl_fail(r, "'%s' object is not reversible", tmpl_type_name(c->self));
    }
    if (c->self.kind == VAL_STR && c->self.s->n) {
        struct text *t = c->self.s;
        size_t at = t->n - 1;
        while (at > 0 && ((uint8_t)t->p[at] & 0xC0) == 0x80) at--;
        return val_from_text(tmpl_text_sub(r, t, at, t->n - at), out);
    }
    if (!tmpl_collect(r, c->self, &l)) return false;
    *out = l.n ? l.v[l.n - 1] : tmpl_undef_hint(r, "No last item, sequence was empty.");
    return !r->err;
}

static bool filter_list(struct run *r, const struct call *c, struct tmpl_value *out)
{
    struct items l;
    return tmpl_collect(r, c->self, &l) && tmpl_items_value(r, &l, VAL_LIST, out);
}

static bool filter_reverse(struct run *r, const struct call *c, struct tmpl_value *out)
{
    if (c->self.kind == VAL_STR) {
        const struct tmpl_value part[3] = {{.kind = VAL_MISSING}, {.kind = VAL_MISSING}, val_int(-1)};
        return tmpl_get_slice(r, c->self, part, out);
    }
    struct items l, back = {0};
    if (!tmpl_is_iterable(c->self)) return tmpl_fail(r, "argument must be iterable");
    if (!tmpl_collect(r, c->self, &l)) return false;
    for (size_t i = l.n; i-- > 0;) {
        if (!tmpl_items_push(r, &back, l.v[i])) return false;
    }
    if (c->self.kind == VAL_ITER) return tmpl_items_value(r, &back, VAL_LIST, out);
    return tmpl_step(r, l.n / 16) && tmpl_stream_value(r, &back, out);
}

static bool filter_join(struct run *r, const struct call *c, struct tmpl_value *out)
{
    struct text_buf b = {0};
    struct text *sep = tmpl_to_text(r, c->arg[0]);
    struct iter it;
    struct tmpl_value v;
    if (!sep || !tmpl_iter_open(r, c->self, &it)) return false;
    for (size_t i = 0; tmpl_iter_next(r, &it, &v); i++) {
        if (!tmpl_step(r, 1) || (i && !tmpl_buf_put_text(r, &b, sep))) return false;
        if (!tmpl_get_path(r, v, c->arg[1], (struct tmpl_value){0}, &v) || !tmpl_put_str(r, &b, v))
            return false;
    }
    return !r->err && tmpl_buf_value(r, &b, out);
}

static bool filter_items(struct run *r, const struct call *c, struct tmpl_value *out)
{
    struct items l = {0};
    if (c->self.kind != VAL_UNDEFINED && c->self.kind != VAL_DICT)
        tmpl_fail(r, "Can only get item pairs from a mapping.");
    const size_t n = c->self.kind == VAL_DICT ? c->self.dict->n : 0;
    for (size_t i = 0; i < n; i++) {
        struct tmpl_value pair;
        if (!tmpl_tuple2(r, c->self.dict->pair[i].key, c->self.dict->pair[i].val, &pair)) return false;
        if (!tmpl_step(r, 1) || !tmpl_items_push(r, &l, pair)) return false;
    }
    return tmpl_stream_value(r, &l, out);
}

/* --- order --- */

bool tmpl_lower_case(struct run *r, struct tmpl_value *v)
{
    return v->kind != VAL_STR || val_from_text(tmpl_string_case(r, v->s, CASE_LOWER), v);
}

/* As lists of one element compare: equal ones are never asked for their order. */
static bool less_unless_equal(struct run *r, struct tmpl_value a, struct tmpl_value b)
{
    return !tmpl_equal(r, a, b) && !r->err && tmpl_less_than(r, a, b);
}

/* The sort key of v under "a.b" or "a.b,c". */
static bool sort_key(struct run *r, struct tmpl_value v, struct tmpl_value path, bool with_case,
                     struct tmpl_value *key)
{
    const bool many = path.kind == VAL_STR && memchr(path.s->p, ',', path.s->n);
    if (!many)
        return tmpl_get_path(r, v, path, (struct tmpl_value){0}, key) &&
               (with_case || tmpl_lower_case(r, key));
    struct items part = {0}, l = {0};
    static const struct text comma = {.p = ",", .n = 1, .n_char = 1};
    if (!tmpl_string_split(r, path.s, &comma, -1, SIDE_LEFT, &part)) return false;
    for (size_t i = 0; i < part.n; i++) {
        struct tmpl_value k;
        if (!tmpl_get_path(r, v, part.v[i], (struct tmpl_value){0}, &k)) return false;
        if ((!with_case && !tmpl_lower_case(r, &k)) || !tmpl_items_push(r, &l, k)) return false;
    }
    return tmpl_items_value(r, &l, VAL_LIST, key);
}

/* The items of v with their keys, to be sorted. */
static bool keyed_items(struct run *r, struct tmpl_value v, struct tmpl_value path, bool with_case,
                        struct sort_item **out, size_t *n)
{
    struct items l;
    if (!tmpl_collect(r, v, &l)) return false;
    struct sort_item *s = tmpl_alloc(r, (l.n + 1) * sizeof *s);
    for (size_t i = 0; s && i < l.n; i++) {
        s[i].v = l.v[i];
        if (!tmpl_step(r, 1) || !sort_key(r, l.v[i], path, with_case, &s[i].key)) return false;
    }
    *out = s;
    *n = l.n;
    return s != NULL;
}

static bool filter_sort(struct run *r, const struct call *c, struct tmpl_value *out)
{
    struct sort_item *s;
    size_t n;
    struct items l = {0};
    if (!keyed_items(r, c->self, c->arg[2], tmpl_arg_bool(c, 1, false), &s, &n)) return false;
    if (!tmpl_sort(r, s, n, less_unless_equal, tmpl_arg_bool(c, 0, false))) return false;
    for (size_t i = 0; i < n; i++) {
        if (!tmpl_items_push(r, &l, s[i].v)) return false;
    }
    return tmpl_items_value(r, &l, VAL_LIST, out);
}

static bool filter_dictsort(struct run *r, const struct call *c, struct tmpl_value *out)
{
    struct text *by;
    struct items l = {0};
    if (c->self.kind == VAL_UNDEFINED) return tmpl_fail_undefined(r, c->self);
    if (c->self.kind != VAL_DICT) return tmpl_fail_type(r, "dictsort wants a dict, not", c->self);
    if (!tmpl_arg_text(r, c, 1, &by)) return false;
    const bool by_value = by && text_is(by, "value"), with_case = tmpl_arg_bool(c, 0, false);
    if (by && !by_value && !text_is(by, "key"))
        return tmpl_fail(r, "You can only sort by either \"key\" or \"value\"");
    const size_t n = c->self.dict->n;
    struct sort_item *s = tmpl_alloc(r, (n + 1) * sizeof *s);
    for (size_t i = 0; s && i < n; i++) {
        const struct pair *p = &c->self.dict->pair[i];
        s[i].key = by_value ? p->val : p->key;
        if (!with_case && !tmpl_lower_case(r, &s[i].key)) return false;
        if (!tmpl_tuple2(r, p->key, p->val, &s[i].v)) return false;
    }
    if (!s || !tmpl_sort(r, s, n, tmpl_less_than, tmpl_arg_bool(c, 2, false))) return false;
    for (size_t i = 0; i < n; i++) {
        if (!tmpl_items_push(r, &l, s[i].v)) return false;
    }
    return tmpl_items_value(r, &l, VAL_LIST, out);
}

static bool extreme(struct run *r, const struct call *c, bool largest, struct tmpl_value *out)
{
    struct sort_item *s;
    size_t n, best = 0;
    if (!keyed_items(r, c->self, c->arg[1], tmpl_arg_bool(c, 0, false), &s, &n)) return false;
    if (n == 0) {
        *out = tmpl_undef_hint(r, "No aggregated item, sequence was empty.");
        return !r->err;
    }
    for (size_t i = 1; i < n; i++) {
        const bool better =
            largest ? tmpl_less_than(r, s[best].key, s[i].key) : tmpl_less_than(r, s[i].key, s[best].key);
        if (r->err) return false;
        if (better) best = i;
    }
    *out = s[best].v;
    return true;
}

static bool filter_min(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return extreme(r, c, false, out);
}
static bool filter_max(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return extreme(r, c, true, out);
}

static bool key_less(struct run *r, struct tmpl_value a, struct tmpl_value b)
{
    return tmpl_key_cmp(r, a, b) < 0;
}

/* Which of `all` come first among their equals; false: the run failed. */
static bool first_of_each(struct run *r, const struct call *c, struct items *all, struct items *out)
{
    struct sort_item *s;
    size_t n;
    const struct tmpl_value list = {.kind = VAL_LIST, .list = all};
    if (!keyed_items(r, list, c->arg[1], tmpl_arg_bool(c, 0, false), &s, &n)) return false;
    bool *first = tmpl_alloc(r, n + 1);
    if (!first) return false;
    for (size_t i = 0; i < n; i++) {
        s[i].v = val_size(i);
        if (!tmpl_hashable(r, s[i].key)) return false;
    }
    if (!tmpl_sort(r, s, n, key_less, false)) return false;
    for (size_t i = 0; i < n; i++) { /* the sort is stable: the first of equal keys came first */
        first[s[i].v.i] = i == 0 || tmpl_key_cmp(r, s[i - 1].key, s[i].key) != 0;
    }
    for (size_t i = 0; i < n; i++) {
        if (first[i] && !tmpl_items_push(r, out, all->v[i])) return false;
    }
    return !r->err;
}

static bool filter_unique(struct run *r, const struct call *c, struct tmpl_value *out)
{
    struct items l = {0}, all;
    (void)(tmpl_collect(r, c->self, &all) &&
           first_of_each(r, c, &all, &l)); /* an error goes into the generator */
    return tmpl_stream_value(r, &l, out);
}

/* --- sums and pieces --- */

static bool filter_sum(struct run *r, const struct call *c, struct tmpl_value *out)
{
    struct iter it;
    struct tmpl_value v;
    *out = c->arg[1].kind == VAL_MISSING ? val_int(0) : c->arg[1];
    if (out->kind == VAL_STR) return tmpl_fail(r, "sum() can't sum strings [use ''.join(seq) instead]");
    if (!tmpl_iter_open(r, c->self, &it)) return false;
    while (tmpl_iter_next(r, &it, &v)) {
        if (!tmpl_step(r, 1) || !tmpl_get_path(r, v, c->arg[0], (struct tmpl_value){0}, &v)) return false;
        if (!tmpl_binary(r, OP_ADD, *out, v, out)) return false;
    }
    return !r->err;
}

/* Pushes l as a list onto `rows`. */
static bool push_row(struct run *r, struct items *rows, struct items *l)
{
    struct tmpl_value v;
    const bool ok = tmpl_items_value(r, l, VAL_LIST, &v) && tmpl_items_push(r, rows, v);
    *l = (struct items){0};
    return ok;
}

static bool make_batches(struct run *r, const struct call *c, struct items *rows)
{
    int64_t width;
    struct items l, row = {0};
    if (!tmpl_arg_int(r, c, 0, 0, &width) || !tmpl_collect(r, c->self, &l)) return false;
    for (size_t i = 0; i < l.n; i++) {
        if ((int64_t)row.n == width && (width > 0 || i > 0) && !push_row(r, rows, &row)) return false;
        if (!tmpl_items_push(r, &row, l.v[i])) return false;
    }
    const bool fill = c->arg[1].kind != VAL_MISSING && c->arg[1].kind != VAL_NONE;
    while (fill && row.n && (int64_t)row.n < width) {
        if (!tmpl_step(r, 1) || !tmpl_items_push(r, &row, c->arg[1])) return false;
    }
    return row.n == 0 || push_row(r, rows, &row);
}

static bool make_slices(struct run *r, const struct call *c, struct items *rows)
{
    int64_t n_row;
    struct items l, row = {0};
    size_t at = 0;
    if (!tmpl_arg_int(r, c, 0, 0, &n_row) || !tmpl_collect(r, c->self, &l)) return false;
    if (n_row <= 0) return tmpl_fail(r, "slice wants a positive number of slices");
    const bool fill = c->arg[1].kind != VAL_MISSING && c->arg[1].kind != VAL_NONE;
    const size_t each = l.n / (size_t)n_row, extra = l.n % (size_t)n_row;
    for (size_t k = 0; k < (size_t)n_row; k++) {
        const size_t n = each + (k < extra);
        for (size_t i = 0; i < n; i++) {
            if (!tmpl_items_push(r, &row, l.v[at++])) return false;
        }
        if (fill && k >= extra && !tmpl_items_push(r, &row, c->arg[1])) return false;
        if (!tmpl_step(r, 1) || !push_row(r, rows, &row)) return false;
    }
    return true;
}

static bool filter_batch(struct run *r, const struct call *c, struct tmpl_value *out)
{
    struct items rows = {0};
    (void)make_batches(r, c, &rows); /* an error goes into the generator */
    return tmpl_stream_value(r, &rows, out);
}

static bool filter_slice(struct run *r, const struct call *c, struct tmpl_value *out)
{
    struct items rows = {0};
    (void)make_slices(r, c, &rows);
    return tmpl_stream_value(r, &rows, out);
}

const struct builtin tmpl_seq_filters[] = {
    {"batch", "linecount,fill_with?", filter_batch},
    {"count", "", filter_length},
    {"dictsort", "case_sensitive?,by?,reverse?", filter_dictsort},
    {"first", "", filter_first},
    {"groupby", "*", NULL},
    {"items", "", filter_items},
    {"join", "d?,attribute?", filter_join},
    {"last", "", filter_last},
    {"length", "", filter_length},
    {"list", "", filter_list},
    {"max", "case_sensitive?,attribute?", filter_max},
    {"min", "case_sensitive?,attribute?", filter_min},
    {"random", "*", NULL},
    {"reverse", "", filter_reverse},
    {"slice", "slices,fill_with?", filter_slice},
    {"sort", "reverse?,case_sensitive?,attribute?", filter_sort},
    {"sum", "attribute?,start?", filter_sum},
    {"unique", "case_sensitive?,attribute?", filter_unique},
    {0},
};
