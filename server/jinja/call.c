/* call: how arguments reach a built-in: by the parameter list of its row, in order or by name. */
#include "server/jinja/internal.h"

const struct builtin *tmpl_builtin_find(const struct builtin *table, const char *name, size_t n)
{
    for (const struct builtin *b = table; b->name; b++) {
        if (strlen(b->name) == n && memcmp(b->name, name, n) == 0) return b;
    }
    return NULL;
}

const struct builtin *tmpl_filter_find(const char *name, size_t n)
{
    const struct builtin *b = tmpl_builtin_find(tmpl_filters, name, n);
    if (!b) b = tmpl_builtin_find(tmpl_seq_filters, name, n);
    return b ? b : tmpl_builtin_find(tmpl_pick_filters, name, n);
}

const struct builtin *tmpl_test_find(const char *name, size_t n)
{
    return tmpl_builtin_find(tmpl_tests, name, n);
}

struct param {
    const char *name;
    size_t n;
    bool optional;
};

static int split_params(const char *s, struct param p[TMPL_MAX_PARAM])
{
    int n = 0;
    while (*s && n < TMPL_MAX_PARAM) {
        const size_t len = strcspn(s, ",");
        p[n] = (struct param){.name = s, .n = len, .optional = s[len - 1] == '?'};
        p[n].n -= p[n].optional;
        n++;
        s += len + (s[len] == ',');
    }
    return n;
}

static bool bind(struct run *r, const struct builtin *b, const struct args *args, struct call *c)
{
    struct param p[TMPL_MAX_PARAM];
    const int n = split_params(b->params, p);
    if (args->n_pos > (size_t)n)
        return tmpl_fail(r, "%s takes at most %d argument(s) (%zu given)", b->name, n, args->n_pos);
    for (size_t i = 0; i < args->n_pos; i++) c->arg[i] = args->pos[i];
    for (size_t k = 0; k < args->n_kw; k++) {
        const struct text *name = args->kw[k].name;
        int i = 0;
        while (i < n && (p[i].n != name->n || memcmp(p[i].name, name->p, name->n) != 0)) i++;
        if (i == n)
            return tmpl_fail(r, "%s got an unexpected keyword argument '%.*s'", b->name, (int)name->n,
                             name->p);
        if (c->arg[i].kind != VAL_MISSING)
            return tmpl_fail(r, "%s got multiple values for argument '%.*s'", b->name, (int)name->n, name->p);
        c->arg[i] = args->kw[k].v;
    }
    for (int i = 0; i < n; i++) {
        if (!p[i].optional && c->arg[i].kind == VAL_MISSING) {
            return tmpl_fail(r, "%s misses its argument '%.*s'", b->name, (int)p[i].n, p[i].name);
        }
    }
    return true;
}

bool tmpl_builtin_call(struct run *r, const struct builtin *b, struct tmpl_value self,
                       const struct args *args, struct tmpl_value *out)
{
    struct call c = {.self = self, .raw = args, .b = b};
    if (!b->fn) return tmpl_fail(r, "'%s' is not supported", b->name);
    if (b->params[0] != '*' && !bind(r, b, args, &c)) return false;
    return b->fn(r, &c, out) && !r->err;
}

bool tmpl_arg_int(struct run *r, const struct call *c, int i, int64_t dflt, int64_t *out)
{
    const struct tmpl_value v = c->arg[i];
    *out = dflt;
    if (v.kind == VAL_MISSING || v.kind == VAL_NONE) return true;
    if (v.kind == VAL_UNDEFINED) return tmpl_fail_undefined(r, v);
    if (!val_is_integral(v))
        return tmpl_fail(r, "%s wants an integer, not '%s'", c->b->name, tmpl_type_name(v));
    *out = val_as_int(v);
    return true;
}

bool tmpl_arg_bool(const struct call *c, int i, bool dflt)
{
    return c->arg[i].kind == VAL_MISSING ? dflt : tmpl_truth(c->arg[i]);
}

bool tmpl_arg_text(struct run *r, const struct call *c, int i, struct text **out)
{
    const struct tmpl_value v = c->arg[i];
    *out = NULL;
    if (v.kind == VAL_MISSING || v.kind == VAL_NONE) return true;
    if (v.kind != VAL_STR) return tmpl_fail(r, "%s wants a string, not '%s'", c->b->name, tmpl_type_name(v));
    *out = v.s;
    return true;
}
