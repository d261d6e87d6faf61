/* filter_pick: filters that apply a filter, an attribute or a test to every item: map, select, reject. Python
 * makes generators of them; here they run at once, and the result is handed out as a generator is: once. */
#include "server/jinja/internal.h"

static const struct named_value *find_kw(const struct args *a, const char *name)
{
    for (size_t i = 0; i < a->n_kw; i++) {
        if (text_is(a->kw[i].name, name)) return &a->kw[i];
    }
    return NULL;
}

/* One item through map's filter, or through its attribute when there is no filter. */
struct mapping {
    const struct builtin *filter;
    struct args rest;
    struct tmpl_value path, dflt;
};

static bool mapping_of(struct run *r, const struct args *a, struct mapping *m)
{
    const struct named_value *path = find_kw(a, "attribute"), *dflt = find_kw(a, "default");
    *m = (struct mapping){0};
    if (a->n_pos == 0) {
        if (!path) return tmpl_fail(r, "map requires a filter argument");
        if (a->n_kw > (dflt ? 2u : 1u)) return tmpl_fail(r, "map got an unexpected keyword argument");
        m->path = path->v;
        if (dflt) m->dflt = dflt->v;
        return true;
    }
    if (a->pos[0].kind != VAL_STR) return tmpl_fail(r, "map wants the name of a filter");
    const struct text *name = a->pos[0].s;
    m->filter = tmpl_filter_find(name->p, name->n);
    if (!m->filter) return tmpl_fail(r, "No filter named '%.*s'.", (int)name->n, name->p);
    m->rest = (struct args){.pos = a->pos + 1, .n_pos = a->n_pos - 1, .kw = a->kw, .n_kw = a->n_kw};
    return true;
}

static bool filter_map(struct run *r, const struct call *c, struct tmpl_value *out)
{
    struct mapping m;
    struct items l = {0};
    struct iter it;
    struct tmpl_value v;
    if (!tmpl_truth(c->self)) return tmpl_stream_value(r, &l, out);
    if (++r->depth > TMPL_MAX_EVAL_DEPTH)
        return tmpl_fail_bound(r, "map is nested too deeply"); /* map('map', ...) */
    bool ok = mapping_of(r, c->raw, &m) && tmpl_iter_open(r, c->self, &it);
    while (ok && tmpl_iter_next(r, &it, &v)) {
        ok = m.filter ? tmpl_builtin_call(r, m.filter, v, &m.rest, &v)
                      : tmpl_get_path(r, v, m.path, m.dflt, &v);
        ok = ok && tmpl_step(r, 1) && tmpl_items_push(r, &l, v);
    }
    r->depth--;
    return tmpl_stream_value(r, &l, out);
}

/* The test that select and its like were given, if any, and what is left for it. */
static bool test_of(struct run *r, const struct call *c, size_t skip, const struct builtin **test,
                    struct args *rest)
{
    const struct args *a = c->raw;
    *rest = (struct args){.kw = a->kw, .n_kw = a->n_kw};
    *test = NULL;
    if (a->n_pos < skip) return tmpl_fail(r, "Missing parameter for attribute name");
    if (a->n_pos == skip) return true;
    if (a->pos[skip].kind != VAL_STR) return tmpl_fail(r, "%s wants the name of a test", c->b->name);
    const struct text *name = a->pos[skip].s;
    *test = tmpl_test_find(name->p, name->n);
    rest->pos = a->pos + skip + 1;
    rest->n_pos = a->n_pos - skip - 1;
    return *test || tmpl_fail(r, "No test named '%.*s'.", (int)name->n, name->p);
}

/* Keeps the items whose test (of their attribute, if by_attr) gives `want`. */
static bool pick(struct run *r, const struct call *c, bool want, bool by_attr, struct tmpl_value *out)
{
    const struct builtin *test;
    struct args rest;
    struct items l = {0};
    struct iter it;
    struct tmpl_value v, seen;
    if (!tmpl_truth(c->self)) return tmpl_stream_value(r, &l, out);
    bool ok = test_of(r, c, by_attr, &test, &rest) && tmpl_iter_open(r, c->self, &it);
    while (ok && tmpl_iter_next(r, &it, &v)) {
        seen = v;
        ok = !by_attr || tmpl_get_path(r, v, c->raw->pos[0], (struct tmpl_value){0}, &seen);
        ok = ok && (!test || tmpl_builtin_call(r, test, seen, &rest, &seen)) && tmpl_step(r, 1);
        if (ok && tmpl_truth(seen) == want) ok = tmpl_items_push(r, &l, v);
    }
    return tmpl_stream_value(r, &l, out);
}

static bool filter_select(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return pick(r, c, true, false, out);
}
static bool filter_reject(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return pick(r, c, false, false, out);
}
static bool filter_selectattr(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return pick(r, c, true, true, out);
}
static bool filter_rejectattr(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return pick(r, c, false, true, out);
}

const struct builtin tmpl_pick_filters[] = {
    {"map", "*", filter_map},
    {"reject", "*", filter_reject},
    {"rejectattr", "*", filter_rejectattr},
    {"select", "*", filter_select},
    {"selectattr", "*", filter_selectattr},
    {0},
};
