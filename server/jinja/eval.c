/* eval: the value of an expression. One small function per node kind behind a table. */
#include "server/jinja/ast.h"

static bool eval_const(struct run *r, const struct node *n, struct tmpl_value *out)
{
    (void)r;
    *out = n->value;
    return true;
}

/* Variables: the scopes from the inside out, then what the template set at the top, then what it was given.
 */
static bool eval_name(struct run *r, const struct node *n, struct tmpl_value *out)
{
    for (const struct scope *s = r->scope; s; s = s->parent) {
        for (size_t i = 0; i < s->n; i++) {
            if (s->var[i].name != n->name) continue;
            *out = s->var[i].v;
            if (out->kind == VAL_MISSING) *out = tmpl_undef_name(r, n->name);
            return !r->err;
        }
        if (!tmpl_step(r, s->n / 16)) return false;
    }
    *out = r->root_var[n->name];
    if (out->kind == VAL_MISSING) *out = r->context_var[n->name];
    if (out->kind == VAL_MISSING) *out = tmpl_undef_name(r, n->name);
    return !r->err;
}

static bool eval_items(struct run *r, const struct node *n, struct tmpl_value *out)
{
    struct items l = {.v = tmpl_alloc(r, n->n_kid * sizeof *l.v), .n = n->n_kid};
    for (size_t i = 0; l.v && i < n->n_kid; i++) {
        if (!tmpl_eval(r, n->kid[i], &l.v[i])) return false;
    }
    return l.v && tmpl_items_value(r, &l, n->kind == NODE_LIST ? VAL_LIST : VAL_TUPLE, out);
}

static bool eval_dict(struct run *r, const struct node *n, struct tmpl_value *out)
{
    struct tmpl_value dict, key, v;
    if (!tmpl_table_value(r, VAL_DICT, &dict)) return false;
    for (size_t i = 0; i < n->n_kid; i += 2) {
        if (!tmpl_eval(r, n->kid[i], &key) || !tmpl_eval(r, n->kid[i + 1], &v)) return false;
        if (!tmpl_hashable(r, key) || !tmpl_table_set(r, dict.dict, key, v)) return false;
    }
    *out = dict;
    return true;
}

static bool eval_concat(struct run *r, const struct node *n, struct tmpl_value *out)
{
    struct text *t = NULL;
    for (size_t i = 0; i < n->n_kid; i++) {
        struct tmpl_value v;
        if (!tmpl_eval(r, n->kid[i], &v)) return false;
        struct text *next = tmpl_to_text(r, v);
        t = !next ? NULL : t ? tmpl_text_concat(r, t, next) : next;
        if (!t) return false;
    }
    return val_from_text(t, out);
}

static bool eval_compare(struct run *r, const struct node *n, struct tmpl_value *out)
{
    struct tmpl_value a, b;
    bool holds = true;
    if (!tmpl_eval(r, n->a, &a)) return false;
    for (size_t i = 0; i < n->n_kid && holds; i++, a = b) {
        if (!tmpl_eval(r, n->kid[i]->a, &b) || !tmpl_compare(r, n->kid[i]->op, a, b, &holds)) return false;
    }
    *out = val_bool(holds);
    return true;
}

static bool eval_binary(struct run *r, const struct node *n, struct tmpl_value *out)
{
    struct tmpl_value a, b;
    return tmpl_eval(r, n->a, &a) && tmpl_eval(r, n->b, &b) && tmpl_binary(r, n->op, a, b, out);
}

static bool eval_logic(struct run *r, const struct node *n, struct tmpl_value *out)
{
    if (!tmpl_eval(r, n->a, out)) return false;
    if (tmpl_truth(*out) == (n->kind == NODE_OR)) return true;
    return tmpl_eval(r, n->b, out);
}

static bool eval_unary(struct run *r, const struct node *n, struct tmpl_value *out)
{
    struct tmpl_value v;
    if (!tmpl_eval(r, n->a, &v)) return false;
    if (n->kind == NODE_NOT) {
        *out = val_bool(!tmpl_truth(v));
        return true;
    }
    if (!tmpl_negate(r, v, out)) return false;
    return n->kind == NODE_NEG || tmpl_negate(r, *out, out);
}

static bool eval_cond(struct run *r, const struct node *n, struct tmpl_value *out)
{
    struct tmpl_value v;
    if (!tmpl_eval(r, n->b, &v)) return false;
    if (tmpl_truth(v)) return tmpl_eval(r, n->a, out);
    if (n->c) return tmpl_eval(r, n->c, out);
    *out = tmpl_undef_hint(r, "the inline if-expression evaluated to false and no else section was defined.");
    return !r->err;
}

static bool eval_attr(struct run *r, const struct node *n, struct tmpl_value *out)
{
    struct tmpl_value v;
    return tmpl_eval(r, n->a, &v) && tmpl_get_attr(r, v, n->text, out);
}

static bool eval_item(struct run *r, const struct node *n, struct tmpl_value *out)
{
    struct tmpl_value v, key;
    return tmpl_eval(r, n->a, &v) && tmpl_eval(r, n->b, &key) && tmpl_get_item(r, v, key, out);
}

static bool eval_slice(struct run *r, const struct node *n, struct tmpl_value *out)
{
    struct tmpl_value v, part[3];
    if (!tmpl_eval(r, n->a, &v)) return false;
    for (int i = 0; i < 3; i++) {
        part[i] = (struct tmpl_value){.kind = VAL_MISSING};
        if (n->kid[i] && !tmpl_eval(r, n->kid[i], &part[i])) return false;
    }
    return tmpl_get_slice(r, v, part, out);
}

/* --- calls --- */

/* *more, behind the positional arguments. */
static bool add_star(struct run *r, const struct node *star, struct args *a)
{
    struct tmpl_value v;
    struct items more;
    if (!tmpl_eval(r, star, &v) || !tmpl_collect(r, v, &more)) return false;
    struct tmpl_value *pos = tmpl_alloc(r, (a->n_pos + more.n) * sizeof *pos);
    if (!pos) return false;
    if (a->n_pos) memcpy(pos, a->pos, a->n_pos * sizeof *pos);
    if (more.n) memcpy(pos + a->n_pos, more.v, more.n * sizeof *pos);
    a->pos = pos;
    a->n_pos += more.n;
    return true;
}

static bool add_star_star(struct run *r, const struct node *star_star, struct args *a)
{
    struct tmpl_value v;
    if (!tmpl_eval(r, star_star, &v)) return false;
    if (v.kind != VAL_DICT) return tmpl_fail_type(r, "argument after ** must be a mapping, not", v);
    struct named_value *kw = tmpl_alloc(r, (a->n_kw + v.dict->n) * sizeof *kw);
    if (!kw) return false;
    if (a->n_kw) memcpy(kw, a->kw, a->n_kw * sizeof *kw);
    for (size_t i = 0; i < v.dict->n; i++) {
        if (v.dict->pair[i].key.kind != VAL_STR) return tmpl_fail(r, "keywords must be strings");
        kw[a->n_kw++] = (struct named_value){.name = v.dict->pair[i].key.s, .v = v.dict->pair[i].val};
    }
    a->kw = kw;
    return true;
}

bool tmpl_eval_args(struct run *r, const struct call_args *c, struct args *out)
{
    *out = (struct args){.n_pos = c->n_pos, .n_kw = c->n_kw};
    if (c->n_pos) out->pos = tmpl_alloc(r, c->n_pos * sizeof *out->pos);
    if (c->n_kw) out->kw = tmpl_alloc(r, c->n_kw * sizeof *out->kw);
    if ((c->n_pos && !out->pos) || (c->n_kw && !out->kw)) return false;
    for (size_t i = 0; i < c->n_pos; i++) {
        if (!tmpl_eval(r, c->pos[i], &out->pos[i])) return false;
    }
    for (size_t i = 0; i < c->n_kw; i++) {
        out->kw[i].name = c->kw[i].name;
        if (!tmpl_eval(r, c->kw[i].value, &out->kw[i].v)) return false;
    }
    return (!c->star || add_star(r, c->star, out)) && (!c->star_star || add_star_star(r, c->star_star, out));
}

bool tmpl_call(struct run *r, struct tmpl_value fn, struct args *args, struct tmpl_value *out)
{
    switch (fn.kind) {
    case VAL_FUNC:
        return tmpl_builtin_call(r, fn.func, (struct tmpl_value){.kind = VAL_NONE}, args, out);
    case VAL_METHOD:
        return tmpl_builtin_call(r, fn.method->b, fn.method->self, args, out);
    case VAL_MACRO:
        return tmpl_call_macro(r, fn.macro, args, out);
    case VAL_UNDEFINED:
        return tmpl_fail_undefined(r, fn);
    default:
        return tmpl_fail(r, "'%s' object is not callable", tmpl_type_name(fn));
    }
}

static bool eval_call(struct run *r, const struct node *n, struct tmpl_value *out)
{
    struct tmpl_value fn;
    struct args args;
    return tmpl_eval(r, n->a, &fn) && tmpl_eval_args(r, n->args, &args) && tmpl_call(r, fn, &args, out);
}

/* --- filters and tests --- */

static bool apply(struct run *r, const struct node *n, struct tmpl_value v, struct tmpl_value *out)
{
    struct args args;
    if (!n->builtin) {
        return tmpl_fail(r, "No %s named '%.*s' found.", n->kind == NODE_FILTER ? "filter" : "test",
                         (int)n->text->n, n->text->p);
    }
    return tmpl_eval_args(r, n->args, &args) && tmpl_builtin_call(r, n->builtin, v, &args, out);
}

static bool eval_applied(struct run *r, const struct node *n, struct tmpl_value *out)
{
    struct tmpl_value v;
    return tmpl_eval(r, n->a, &v) && apply(r, n, v, out);
}

bool tmpl_eval_filters(struct run *r, const struct node *chain, struct tmpl_value input,
                       struct tmpl_value *out)
{
    if (++r->depth > TMPL_MAX_EVAL_DEPTH) return tmpl_fail_bound(r, "an expression is nested too deeply");
    const bool ok =
        (!chain->a || tmpl_eval_filters(r, chain->a, input, &input)) && apply(r, chain, input, out);
    r->depth--;
    return ok;
}

static bool (*const eval_kind[NODE_KINDS])(struct run *, const struct node *, struct tmpl_value *) = {
    [NODE_CONST] = eval_const,     [NODE_NAME] = eval_name,     [NODE_LIST] = eval_items,
    [NODE_TUPLE] = eval_items,     [NODE_DICT] = eval_dict,     [NODE_CONCAT] = eval_concat,
    [NODE_COMPARE] = eval_compare, [NODE_BINARY] = eval_binary, [NODE_AND] = eval_logic,
    [NODE_OR] = eval_logic,        [NODE_NOT] = eval_unary,     [NODE_NEG] = eval_unary,
    [NODE_POS] = eval_unary,       [NODE_COND] = eval_cond,     [NODE_ATTR] = eval_attr,
    [NODE_ITEM] = eval_item,       [NODE_SLICE] = eval_slice,   [NODE_CALL] = eval_call,
    [NODE_FILTER] = eval_applied,  [NODE_TEST] = eval_applied,
};

bool tmpl_eval(struct run *r, const struct node *n, struct tmpl_value *out)
{
    if (r->depth >= TMPL_MAX_EVAL_DEPTH) return tmpl_fail_bound(r, "an expression is nested too deeply");
    if (!tmpl_step(r, 1)) return false;
    r->depth++;
    const bool ok = eval_kind[n->kind](r, n, out) && !r->err;
    r->depth--;
    if (!ok && !r->line) r->line = n->line;
    return ok;
}
