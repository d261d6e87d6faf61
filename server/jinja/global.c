/* global: functions that every template may call: what the reference puts into its environment. */
#include <time.h>

#include "base/clock.h"
#include "server/jinja/internal.h"

static bool call_raise(struct run *r, const struct call *c, struct tmpl_value *out)
{
    const struct text *t = tmpl_to_text(r, c->arg[0]);
    (void)out;
    if (!t) return false;
    tmpl_fail(r, "%.*s", (int)t->n, t->p);
    r->raised = true;
    return false;
}

static bool call_range(struct run *r, const struct call *c, struct tmpl_value *out)
{
    int64_t v[3] = {0, 0, 1};
    for (int i = 0; i < 3; i++) {
        if (c->arg[i].kind == VAL_UNDEFINED) return tmpl_fail_undefined(r, c->arg[i]);
        if (c->arg[i].kind == VAL_MISSING) continue;
        if (!val_is_integral(c->arg[i]))
            return tmpl_fail(r, "'%s' object cannot be interpreted as an integer", tmpl_type_name(c->arg[i]));
        v[i] = val_as_int(c->arg[i]);
    }
    if (c->arg[1].kind == VAL_MISSING) { /* range(stop) */
        v[1] = v[0];
        v[0] = 0;
    }
    if (v[2] == 0) return tmpl_fail(r, "range() arg 3 must not be zero");
    uint64_t n = 0;
    if (v[2] > 0 && v[1] > v[0]) n = ((uint64_t)v[1] - (uint64_t)v[0] - 1) / (uint64_t)v[2] + 1;
    if (v[2] < 0 && v[1] < v[0]) n = ((uint64_t)v[0] - (uint64_t)v[1] - 1) / (0 - (uint64_t)v[2]) + 1;
    if (n > TMPL_MAX_RANGE) {
        return tmpl_fail(r, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).",
                         TMPL_MAX_RANGE);
    }
    struct range *range = tmpl_alloc(r, sizeof *range);
    if (!range) return false;
    *range = (struct range){.start = v[0], .stop = v[1], .step = v[2], .n = (size_t)n};
    *out = (struct tmpl_value){.kind = VAL_RANGE, .range = range};
    return true;
}

static bool is_private(struct tmpl_value key)
{
    return key.kind == VAL_STR && key.s->n && key.s->p[0] == '_';
}

/* dict's constructor: a mapping or pairs, then keywords. */
static bool fill_dict(struct run *r, const struct args *a, struct table *t)
{
    struct iter it;
    struct tmpl_value v, key;
    if (a->n_pos > 1) return tmpl_fail(r, "dict expected at most 1 argument, got %zu", a->n_pos);
    if (a->n_pos && (a->pos[0].kind == VAL_DICT || a->pos[0].kind == VAL_NAMESPACE)) {
        const struct table *from = a->pos[0].dict;
        for (size_t i = 0; i < from->n; i++) {
            if (!tmpl_step(r, 1) || !tmpl_table_set(r, t, from->pair[i].key, from->pair[i].val)) return false;
        }
    } else if (a->n_pos) {
        if (!tmpl_iter_open(r, a->pos[0], &it)) return false;
        while (tmpl_iter_next(r, &it, &v)) {
            struct items pair;
            if (!tmpl_step(r, 1) || !tmpl_collect(r, v, &pair)) return false;
            if (pair.n != 2)
                return tmpl_fail(r, "dictionary update sequence element has length %zu; 2 is required",
                                 pair.n);
            if (!tmpl_hashable(r, pair.v[0]) || !tmpl_table_set(r, t, pair.v[0], pair.v[1])) return false;
        }
    }
    for (size_t i = 0; i < a->n_kw; i++) {
        const struct text *name = a->kw[i].name;
        if (!val_from_text(tmpl_text_new(r, name->p, name->n, false), &key)) return false;
        if (!tmpl_table_set(r, t, key, a->kw[i].v)) return false;
    }
    return !r->err;
}

static bool call_dict(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return tmpl_table_value(r, VAL_DICT, out) && fill_dict(r, c->raw, out->dict);
}

static bool call_namespace(struct run *r, const struct call *c, struct tmpl_value *out)
{
    if (!tmpl_table_value(r, VAL_NAMESPACE, out) || !fill_dict(r, c->raw, out->dict)) return false;
    for (size_t i = 0; i < out->dict->n; i++) {
        if (is_private(out->dict->pair[i].key)) {
            return tmpl_fail(r, "Chat templates cannot store underscore-prefixed attributes on a namespace");
        }
    }
    return true;
}

static bool call_strftime_now(struct run *r, const struct call *c, struct tmpl_value *out)
{
    struct text *form;
    char s[1024], format[256];
    struct tm now;
    const time_t t = (time_t)clock_wall_s();
    if (!tmpl_arg_text(r, c, 0, &form)) return false;
    if (!form || form->n >= sizeof format - 1 || memchr(form->p, '\0', form->n))
        return tmpl_fail(r, "strftime_now wants a short format");
    memcpy(format, form->p, form->n);
    format[form->n] = 'x'; /* so that an empty result is told from one that is too long */
    format[form->n + 1] = '\0';
    if (!localtime_r(&t, &now)) return tmpl_fail(r, "the clock is out of range");
    const size_t n = strftime(s, sizeof s, format, &now);
    if (n == 0) return tmpl_fail(r, "strftime_now wants a short format");
    struct text_buf b = {0};
    return tmpl_buf_put(r, &b, s, n - 1, form->mark ? true : form->outside) && tmpl_buf_value(r, &b, out);
}

const struct builtin tmpl_globals[] = {
    {"cycler", "*", NULL},
    {"dict", "*", call_dict},
    {"joiner", "*", NULL},
    {"lipsum", "*", NULL},
    {"namespace", "*", call_namespace},
    {"raise_exception", "message", call_raise},
    {"range", "start,stop?,step?", call_range},
    {"strftime_now", "format", call_strftime_now},
    {0},
};
