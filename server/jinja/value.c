/* value: values, the containers that hold them, and walking over whatever can be walked. */
#include <math.h>
#include <stdlib.h>

#include "server/jinja/ast.h"

/* --- for the caller who builds a context --- */

static struct tmpl_value *value_new(struct arena *a, struct tmpl_value v)
{
    struct tmpl_value *p = arena_alloc(a, sizeof *p);
    if (p) *p = v;
    return p;
}

struct tmpl_value *tmpl_none(struct arena *a) { return value_new(a, val_none()); }
struct tmpl_value *tmpl_bool(struct arena *a, bool b) { return value_new(a, val_bool(b)); }
struct tmpl_value *tmpl_int(struct arena *a, int64_t i) { return value_new(a, val_int(i)); }
struct tmpl_value *tmpl_float(struct arena *a, double f) { return value_new(a, val_float(f)); }

struct tmpl_value *tmpl_str(struct arena *a, const char *p, size_t n, enum tmpl_origin origin)
{
    struct text *t = n <= TEXT_MAX_BYTES ? arena_alloc(a, sizeof *t) : NULL;
    if (!t) return NULL;
    *t = (struct text){.p = p ? p : "", .n = n, .n_char = TEXT_UNCOUNTED, .outside = origin == TMPL_OUTSIDE};
    return value_new(a, (struct tmpl_value){.kind = VAL_STR, .s = t});
}

struct tmpl_value *tmpl_list(struct arena *a)
{
    struct items *l = arena_alloc(a, sizeof *l);
    return l ? value_new(a, (struct tmpl_value){.kind = VAL_LIST, .list = l}) : NULL;
}

struct tmpl_value *tmpl_dict(struct arena *a)
{
    struct table *t = arena_alloc(a, sizeof *t);
    return t ? value_new(a, (struct tmpl_value){.kind = VAL_DICT, .dict = t}) : NULL;
}

/* Room for more items behind the last; a backing that something else was appended to is left to it. */
static bool items_reserve(struct arena *a, struct items *l, size_t more)
{
    if (l->buf && l->v + l->n == l->buf->v + l->buf->n && l->buf->cap - l->buf->n >= more) return true;
    if (more > TEXT_MAX_BYTES - l->n) return false;
    struct items_buf *buf = arena_alloc(a, sizeof *buf);
    if (!buf) return false;
    buf->cap = l->n + more + (l->n + more) / 2 + 4;
    buf->v = arena_array(a, buf->cap, sizeof *buf->v);
    if (!buf->v) return false;
    if (l->n) memcpy(buf->v, l->v, l->n * sizeof *l->v);
    buf->n = l->n;
    l->v = buf->v;
    l->buf = buf;
    return true;
}

/* What items_reserve asks for. */
static size_t items_bytes(const struct items *l, size_t more)
{
    const size_t n = l->n + more;
    return (n + n / 2 + 4) * sizeof *l->v + sizeof *l->buf + 32;
}

static void items_append(struct items *l, struct tmpl_value v)
{
    l->v[l->n++] = v;
    l->buf->n++;
}

bool tmpl_list_add(struct arena *a, struct tmpl_value *list, const struct tmpl_value *item)
{
    if (!list || !item || !items_reserve(a, list->list, 1)) return false;
    items_append(list->list, *item);
    return true;
}

static bool table_append(struct arena *a, struct table *t, struct tmpl_value key, struct tmpl_value v)
{
    if (t->n == t->cap) {
        const size_t cap = t->cap ? t->cap * 2 : 4;
        struct pair *pair = cap <= UINT32_MAX ? arena_array(a, cap, sizeof *pair) : NULL;
        if (!pair) return false;
        if (t->n) memcpy(pair, t->pair, t->n * sizeof *pair);
        t->pair = pair;
        t->cap = cap;
        t->order = NULL;
        t->n_order = 0;
    }
    t->pair[t->n++] = (struct pair){.key = key, .val = v};
    return true;
}

bool tmpl_dict_put(struct arena *a, struct tmpl_value *dict, const struct tmpl_value *key,
                   const struct tmpl_value *item)
{
    return dict && key && item && table_append(a, dict->dict, *key, *item);
}

/* --- undefined --- */

const char *tmpl_type_name(struct tmpl_value v)
{
    static const char *const name[VAL_KINDS] = {
        [VAL_MISSING] = "missing",
        [VAL_UNDEFINED] = "Undefined",
        [VAL_NONE] = "NoneType",
        [VAL_BOOL] = "bool",
        [VAL_INT] = "int",
        [VAL_FLOAT] = "float",
        [VAL_STR] = "str",
        [VAL_LIST] = "list",
        [VAL_TUPLE] = "tuple",
        [VAL_DICT] = "dict",
        [VAL_VIEW] = "dict_items",
        [VAL_ITER] = "generator",
        [VAL_RANGE] = "range",
        [VAL_NAMESPACE] = "Namespace",
        [VAL_LOOP] = "LoopContext",
        [VAL_MACRO] = "Macro",
        [VAL_METHOD] = "builtin_function_or_method",
        [VAL_FUNC] = "function",
    };
    return v.kind == VAL_STR && (v.flags & VAL_SAFE) ? "Markup" : name[v.kind];
}

static struct tmpl_value undef_new(struct run *r, struct undef u)
{
    struct undef *p = tmpl_alloc(r, sizeof *p);
    if (p) *p = u;
    return (struct tmpl_value){.kind = p ? VAL_UNDEFINED : VAL_MISSING, .undef = p};
}

struct tmpl_value tmpl_undef_hint(struct run *r, const char *hint)
{
    return undef_new(r, (struct undef){.why = UNDEF_HINT, .name = hint, .n = strlen(hint)});
}

struct tmpl_value tmpl_undef_name(struct run *r, int name)
{
    struct tmpl_value *v = &r->undef_var[name];
    const struct text *t = r->t->name[name];
    if (v->kind == VAL_MISSING) *v = undef_new(r, (struct undef){.why = UNDEF_NAME, .name = t->p, .n = t->n});
    return *v;
}

struct tmpl_value tmpl_undef_attr(struct run *r, struct tmpl_value owner, const char *name, size_t n,
                                  enum undef_why why)
{
    return undef_new(r, (struct undef){.why = why, .name = name, .n = n, .owner = tmpl_type_name(owner)});
}

struct tmpl_value tmpl_undef_element(struct run *r, struct tmpl_value owner, struct tmpl_value index)
{
    if (!val_is_integral(index)) return tmpl_undef_hint(r, "the object has no such element");
    return undef_new(
        r, (struct undef){.why = UNDEF_ELEMENT, .owner = tmpl_type_name(owner), .index = val_as_int(index)});
}

/* --- lists --- */

bool tmpl_items_push(struct run *r, struct items *l, struct tmpl_value v)
{
    if (!items_reserve(r->arena, l, 1)) return tmpl_fail_memory(r, items_bytes(l, 1));
    items_append(l, v);
    return true;
}

bool tmpl_items_concat(struct run *r, const struct items *a, const struct items *b, struct tmpl_value *out,
                       uint8_t kind)
{
    struct items l = *a;
    if (!items_reserve(r->arena, &l, b->n)) return tmpl_fail_memory(r, items_bytes(&l, b->n));
    for (size_t i = 0; i < b->n; i++) items_append(&l, b->v[i]);
    return tmpl_step(r, b->n / 16) && tmpl_items_value(r, &l, kind, out);
}

bool tmpl_items_value(struct run *r, const struct items *l, enum val_kind kind, struct tmpl_value *out)
{
    struct items *own = tmpl_alloc(r, sizeof *own);
    if (!own) return false;
    *own = *l;
    *out = (struct tmpl_value){.kind = (uint8_t)kind, .list = own};
    return true;
}

bool tmpl_tuple2(struct run *r, struct tmpl_value a, struct tmpl_value b, struct tmpl_value *out)
{
    struct items l = {.v = tmpl_alloc(r, 2 * sizeof *l.v), .n = 2};
    if (!l.v) return false;
    l.v[0] = a;
    l.v[1] = b;
    return tmpl_items_value(r, &l, VAL_TUPLE, out);
}

/* --- dicts: pairs in order of insertion, and an index sorted by key for those that are not small.
 * Sorted and not hashed: clients name the keys, and nothing they send makes a sort slow. --- */

enum {
    FEW_PAIRS = 8, /* searched one by one */
    MANY_NEW = 64, /* unsorted pairs at the end before they are merged into the index */
};

static bool hashable(struct run *r, struct tmpl_value key, int depth)
{
    if (key.kind == VAL_LIST || key.kind == VAL_DICT || key.kind == VAL_VIEW)
        return tmpl_fail_type(r, "unhashable type", key);
    if (key.kind != VAL_TUPLE) return true;
    if (depth >= TMPL_MAX_VALUE_DEPTH) return tmpl_fail_bound(r, "a value is nested too deeply");
    for (size_t i = 0; i < key.list->n; i++) {
        if (!tmpl_step(r, 1) || !hashable(r, key.list->v[i], depth + 1)) return false;
    }
    return true;
}

bool tmpl_hashable(struct run *r, struct tmpl_value key) { return hashable(r, key, 0); }

static int rank(struct tmpl_value v)
{
    if (val_is_number(v)) return 1;
    return v.kind == VAL_STR         ? 2
           : v.kind == VAL_TUPLE     ? 3
           : v.kind == VAL_NONE      ? 4
           : v.kind == VAL_UNDEFINED ? 5
                                     : 6;
}

static int number_cmp(struct tmpl_value a, struct tmpl_value b)
{
    /* long double holds every int64 and every double, so that mixed keys compare exactly */
    const long double x = a.kind == VAL_FLOAT ? (long double)a.f : (long double)val_as_int(a);
    const long double y = b.kind == VAL_FLOAT ? (long double)b.f : (long double)val_as_int(b);
    if (isnan(x) || isnan(y)) return (isnan(x) != 0) - (isnan(y) != 0);
    return (x > y) - (x < y);
}

int tmpl_key_cmp(struct run *r, struct tmpl_value a, struct tmpl_value b)
{
    const int ra = rank(a), rb = rank(b);
    if (ra != rb) return ra < rb ? -1 : 1;
    if (r->err) return 0;
    if (ra == 1) return number_cmp(a, b);
    if (ra == 2) return tmpl_text_cmp(a.s, b.s);
    if (ra == 4 || ra == 5 || a.i == b.i) return 0;
    if (ra == 6) return a.i < b.i ? -1 : 1; /* objects: by identity */
    for (size_t i = 0; i < a.list->n && i < b.list->n; i++) {
        if (!tmpl_step(r, 1)) return 0;
        const int c = tmpl_key_cmp(r, a.list->v[i], b.list->v[i]);
        if (c) return c;
    }
    return (a.list->n > b.list->n) - (a.list->n < b.list->n);
}

struct order_by {
    struct run *r;
    const struct table *t;
};

static int order_cmp(const void *x, const void *y, void *arg)
{
    const struct order_by *by = arg;
    return tmpl_key_cmp(by->r, by->t->pair[*(const uint32_t *)x].key, by->t->pair[*(const uint32_t *)y].key);
}

/* Brings the pairs behind n_order into the index. */
static bool sort_in(struct run *r, struct table *t)
{
    struct order_by by = {.r = r, .t = t};
    const size_t old = t->n_order, fresh = t->n - old;
    if (!t->order) t->order = tmpl_alloc(r, t->cap * sizeof *t->order);
    uint32_t *tail = t->order ? tmpl_alloc(r, fresh * sizeof *tail) : NULL;
    if (!tail || !tmpl_step(r, t->n / 16)) return false;
    for (size_t i = 0; i < fresh; i++) tail[i] = (uint32_t)(old + i);
    qsort_r(tail, fresh, sizeof *tail, order_cmp, &by);
    size_t i = old, j = fresh, to = t->n;
    while (j > 0) { /* from the back, so that both runs fit in place */
        if (i > 0 && order_cmp(&t->order[i - 1], &tail[j - 1], &by) > 0) {
            t->order[--to] = t->order[--i];
        } else {
            t->order[--to] = tail[--j];
        }
    }
    t->n_order = t->n;
    return !r->err;
}

struct pair *tmpl_table_find(struct run *r, struct table *t, struct tmpl_value key)
{
    if (t->n > FEW_PAIRS && t->n - t->n_order > (t->n_order ? MANY_NEW : FEW_PAIRS) && !sort_in(r, t))
        return NULL;
    size_t lo = 0, hi = t->n_order;
    while (lo < hi) {
        const size_t mid = (lo + hi) / 2;
        const int c = tmpl_key_cmp(r, key, t->pair[t->order[mid]].key);
        if (c == 0) return r->err ? NULL : &t->pair[t->order[mid]];
        if (c < 0) {
            hi = mid;
        } else {
            lo = mid + 1;
        }
    }
    for (size_t i = t->n_order; i < t->n; i++) {
        if (tmpl_key_cmp(r, key, t->pair[i].key) == 0) return r->err ? NULL : &t->pair[i];
    }
    return NULL;
}

struct pair *tmpl_table_find_text(struct run *r, struct table *t, const struct text *key)
{
    struct text copy = *key;
    return tmpl_table_find(r, t, (struct tmpl_value){.kind = VAL_STR, .s = &copy});
}

bool tmpl_table_set(struct run *r, struct table *t, struct tmpl_value key, struct tmpl_value v)
{
    struct pair *p = tmpl_table_find(r, t, key);
    if (r->err) return false;
    if (p) {
        p->val = v;
        return true;
    }
    return table_append(r->arena, t, key, v) || tmpl_fail_memory(r, 2 * (t->cap + 4) * sizeof *t->pair);
}

bool tmpl_table_value(struct run *r, enum val_kind kind, struct tmpl_value *out)
{
    struct table *t = tmpl_alloc(r, sizeof *t);
    *out = (struct tmpl_value){.kind = (uint8_t)kind, .dict = t};
    return t != NULL;
}

/* --- walking --- */

bool tmpl_length(struct run *r, struct tmpl_value v, size_t *n)
{
    switch (v.kind) {
    case VAL_UNDEFINED:
        *n = 0;
        return true;
    case VAL_STR:
        *n = tmpl_text_len(r, v.s);
        return true;
    case VAL_LIST:
    case VAL_TUPLE:
    case VAL_VIEW:
        *n = v.list->n;
        return true;
    case VAL_DICT:
        *n = v.dict->n;
        return true;
    case VAL_RANGE:
        *n = v.range->n;
        return true;
    case VAL_LOOP:
        return tmpl_loop_length(r, v.loop, n);
    default:
        return false;
    }
}

bool tmpl_is_iterable(struct tmpl_value v)
{
    return v.kind == VAL_UNDEFINED || v.kind == VAL_STR || (v.kind >= VAL_LIST && v.kind <= VAL_RANGE);
}

bool tmpl_iter_open(struct run *r, struct tmpl_value v, struct iter *it)
{
    if (!tmpl_is_iterable(v)) return tmpl_fail(r, "'%s' object is not iterable", tmpl_type_name(v));
    *it = (struct iter){.src = v};
    if (v.kind == VAL_STR) it->n = v.s->n;
    if (val_is_seq(v) || v.kind == VAL_VIEW) it->n = v.list->n;
    if (v.kind == VAL_DICT) it->n = v.dict->n;
    if (v.kind == VAL_RANGE) it->n = v.range->n;
    return true;
}

bool tmpl_iter_next(struct run *r, struct iter *it, struct tmpl_value *v)
{
    if (it->src.kind == VAL_ITER) {
        struct stream *s = it->src.stream;
        if (s->at >= s->items->n) return s->error && tmpl_fail(r, "%s", s->error);
        *v = s->items->v[s->at++];
        return true;
    }
    if (it->i >= it->n) return false;
    if (it->src.kind == VAL_STR) {
        struct text *t = it->src.s;
        uint32_t cp;
        const size_t at = it->i, n = (size_t)utf8_get(t->p + at, t->p + t->n, &cp);
        it->i += n;
        return val_from_text(tmpl_text_char(r, t, at, n), v);
    }
    const size_t i = it->i++;
    if (it->src.kind == VAL_DICT) {
        *v = it->src.dict->pair[i].key;
    } else if (it->src.kind == VAL_RANGE) {
        *v = val_int(it->src.range->start + (int64_t)i * it->src.range->step);
    } else {
        *v = it->src.list->v[i];
    }
    return true;
}

bool tmpl_collect(struct run *r, struct tmpl_value v, struct items *out)
{
    *out = (struct items){0};
    if (val_is_seq(v) || v.kind == VAL_VIEW) { /* immutable: share it */
        *out = *v.list;
        return true;
    }
    struct iter it;
    struct tmpl_value item;
    if (!tmpl_iter_open(r, v, &it)) return false;
    while (tmpl_iter_next(r, &it, &item)) {
        if (!tmpl_step(r, 1) || !tmpl_items_push(r, out, item)) return false;
    }
    return !r->err;
}

bool tmpl_stream_value(struct run *r, const struct items *l, struct tmpl_value *out)
{
    const bool waits = r->err && !r->bound;
    if (waits) r->err = OK;
    struct stream *s = tmpl_alloc(r, sizeof *s);
    s = s && (s->items = tmpl_alloc(r, sizeof *s->items)) ? s : NULL;
    if (!s) return false;
    if (waits && !(s->error = arena_strndup(r->arena, r->text, strlen(r->text))))
        return tmpl_fail_memory(r, strlen(r->text) + 17);
    *s->items = *l;
    *out = (struct tmpl_value){.kind = VAL_ITER, .stream = s};
    return true;
}
