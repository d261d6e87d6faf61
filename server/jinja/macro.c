/* macro: macros, call blocks, and how their arguments are bound. */
#include "server/jinja/ast.h"

static bool make_macro(struct run *r, const struct node *n, struct tmpl_value *out)
{
    struct macro *m = tmpl_alloc(r, sizeof *m);
    if (!m) return false;
    *m = (struct macro){.node = n, .home = r->scope};
    for (struct scope *s = r->scope; s; s = s->parent) s->captured = true;
    *out = (struct tmpl_value){.kind = VAL_MACRO, .macro = m};
    return true;
}

enum flow tmpl_exec_macro(struct run *r, const struct node *n)
{
    struct tmpl_value m;
    return make_macro(r, n, &m) && tmpl_set_var(r, n->name, m) ? FLOW_NEXT : FLOW_FAIL;
}

enum flow tmpl_exec_callblock(struct run *r, const struct node *n)
{
    struct tmpl_value fn, out;
    struct args args;
    if (!tmpl_eval(r, n->b->a, &fn) || !tmpl_eval_args(r, n->b->args, &args)) return FLOW_FAIL;
    struct named_value *kw = tmpl_alloc(r, (args.n_kw + 1) * sizeof *kw);
    if (!kw || !make_macro(r, n, &kw[args.n_kw].v)) return FLOW_FAIL;
    if (args.n_kw) memcpy(kw, args.kw, args.n_kw * sizeof *kw);
    static const struct text caller = {.p = "caller", .n = 6, .n_char = 6};
    kw[args.n_kw++].name = &caller;
    args.kw = kw;
    if (!tmpl_call(r, fn, &args, &out)) return FLOW_FAIL;
    const struct text *t = tmpl_to_text(r, out);
    return t && tmpl_emit(r, t) ? FLOW_NEXT : FLOW_FAIL;
}

/* Takes the keyword out of args; VAL_MISSING when it is not there. */
static struct tmpl_value take_kw(struct args *a, const char *p, size_t n)
{
    for (size_t i = 0; i < a->n_kw; i++) {
        if (a->kw[i].name->n != n || memcmp(a->kw[i].name->p, p, n) != 0) continue;
        const struct tmpl_value v = a->kw[i].v;
        memmove(&a->kw[i], &a->kw[i + 1], (--a->n_kw - i) * sizeof *a->kw);
        return v;
    }
    return (struct tmpl_value){.kind = VAL_MISSING};
}

/* varargs, kwargs and caller, for macros that mention them; what is left over otherwise is an error. */
static bool bind_specials(struct run *r, const struct macro *m, struct args *a)
{
    const struct node *n = m->node;
    const size_t n_param = n->n_kid, over = a->n_pos > n_param ? a->n_pos - n_param : 0;
    if (n->uses & USES_CALLER) {
        struct tmpl_value caller = take_kw(a, "caller", 6);
        if (caller.kind == VAL_MISSING) caller = tmpl_undef_hint(r, "No caller defined");
        if (!tmpl_scope_set(r, r->scope, r->t->special_name[0], caller)) return false;
    }
    if (n->uses & USES_KWARGS) {
        struct tmpl_value dict, key;
        if (!tmpl_table_value(r, VAL_DICT, &dict)) return false;
        for (size_t i = 0; i < a->n_kw; i++) {
            if (!val_from_text(tmpl_text_new(r, a->kw[i].name->p, a->kw[i].name->n, false), &key))
                return false;
            if (!tmpl_table_set(r, dict.dict, key, a->kw[i].v)) return false;
        }
        if (!tmpl_scope_set(r, r->scope, r->t->special_name[1], dict)) return false;
    } else if (a->n_kw) {
        return tmpl_fail(r, "the macro takes no keyword argument '%.*s'", (int)a->kw[0].name->n,
                         a->kw[0].name->p);
    }
    if (n->uses & USES_VARARGS) {
        struct items l = {.v = over ? a->pos + n_param : NULL, .n = over};
        struct tmpl_value rest;
        return tmpl_items_value(r, &l, VAL_TUPLE, &rest) &&
               tmpl_scope_set(r, r->scope, r->t->special_name[2], rest);
    }
    return !over || tmpl_fail(r, "the macro takes not more than %zu argument(s)", n_param);
}

/* Parameters from arguments, then from defaults, which see the parameters before them. */
static bool bind_params(struct run *r, const struct macro *m, struct args *a)
{
    const struct node *n = m->node;
    const size_t first_default = n->n_kid - n->a->n_kid;
    for (size_t i = 0; i < n->n_kid; i++) {
        const struct text *name = r->t->name[n->kid[i]->name];
        struct tmpl_value v = i < a->n_pos ? a->pos[i] : take_kw(a, name->p, name->n);
        if (!tmpl_scope_set(r, r->scope, n->kid[i]->name, v)) return false;
    }
    if (!bind_specials(r, m, a)) return false;
    for (size_t i = a->n_pos; i < n->n_kid; i++) {
        struct tmpl_value v;
        if (r->scope->var[i].v.kind != VAL_MISSING) continue; /* parameters are the scope's first variables */
        if (i >= first_default) {
            if (!tmpl_eval(r, n->a->kid[i - first_default], &v)) return false;
        } else {
            v = tmpl_undef_hint(r, "a macro's parameter was not provided");
        }
        if (r->err || !tmpl_scope_set(r, r->scope, n->kid[i]->name, v)) return false;
    }
    for (size_t i = 0; i < n->body->n_hide; i++) {
        if (!tmpl_scope_set(r, r->scope, n->body->hide[i], tmpl_undef_name(r, n->body->hide[i])))
            return false;
    }
    return true;
}

bool tmpl_call_macro(struct run *r, struct macro *m, struct args *args, struct tmpl_value *out)
{
    struct text_buf b = {0};
    struct scope *outer = r->scope, *s = tmpl_scope_new(r, m->home, NULL);
    if (!s) return false;
    if (++r->calls > TMPL_MAX_CALLS)
        return tmpl_fail_bound(r, "macros call each other more than %d levels deep", TMPL_MAX_CALLS);
    r->scope = s;
    const bool ok = bind_params(r, m, args) && tmpl_capture(r, m->node->body, &b) == FLOW_NEXT &&
                    tmpl_buf_value(r, &b, out);
    r->scope = outer;
    r->calls--;
    return ok;
}
