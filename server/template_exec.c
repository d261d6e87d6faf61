/* template_exec: statements, scopes, loops and macros; what they write goes to the rendering or to a captured block. */
#include "server/template_int.h"

enum flow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE, FLOW_FAIL };

static enum flow exec(struct run *r, const struct node *n);

/* --- output --- */

/* Notes that the output's bytes from `start` to its end came from outside. */
static bool push_span(struct run *r, size_t start)
{
    struct tmpl_rendering *out = r->out;
    if (out->n_span && out->span[out->n_span - 1].end == start) {
        out->span[out->n_span - 1].end = out->text.len;
        return true;
    }
    if (out->n_span == out->cap_span) {
        const size_t      cap = out->cap_span ? out->cap_span * 2 : 64;
        struct tmpl_span *span = tmpl_alloc(r, cap * sizeof *span);
        if (!span) return false;
        if (out->n_span) memcpy(span, out->span, out->n_span * sizeof *span);
        out->span = span;
        out->cap_span = cap;
    }
    out->span[out->n_span++] = (struct tmpl_span){.start = start, .end = out->text.len};
    return true;
}

static bool put_run(struct run *r, const char *p, size_t n, bool outside)
{
    const size_t start = r->out->text.len;
    strbuf_put(&r->out->text, p, n);
    if (strbuf_failed(&r->out->text)) return tmpl_fail_memory(r, 0);
    return !outside || n == 0 || push_span(r, start);
}

static bool emit(struct run *r, const struct text *t)
{
    if (r->sink) return tmpl_buf_put_text(r, r->sink, t);
    if (t->n > r->out->max_bytes - r->out->text.len) {
        return tmpl_fail_bound(r, "the output exceeds %zu bytes", r->out->max_bytes);
    }
    if (!t->mark) return put_run(r, t->p, t->n, t->outside) && tmpl_scan_cost(r, t->n);
    for (size_t at = 0, n; at < t->n; at += n) {
        for (n = 1; at + n < t->n && t->mark[at + n] == t->mark[at]; n++) {}
        if (!put_run(r, t->p + at, n, t->mark[at])) return false;
    }
    return tmpl_scan_cost(r, t->n);
}

static enum flow exec_data(struct run *r, const struct node *n) { return emit(r, n->value.s) ? FLOW_NEXT : FLOW_FAIL; }

static enum flow exec_output(struct run *r, const struct node *n)
{
    for (size_t i = 0; i < n->n_kid; i++) {
        struct tmpl_value v;
        if (!tmpl_eval(r, n->kid[i], &v)) return FLOW_FAIL;
        const struct text *t = tmpl_to_text(r, v);
        if (!t || !emit(r, t)) return FLOW_FAIL;
    }
    return FLOW_NEXT;
}

/* Runs body with its output going to b. */
static enum flow capture(struct run *r, const struct node *body, struct text_buf *b)
{
    struct text_buf *outer = r->sink;
    r->sink = b;
    const enum flow f = exec(r, body);
    r->sink = outer;
    return f;
}

/* --- scopes --- */

static bool scope_set(struct run *r, struct scope *s, int name, struct tmpl_value v)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->var[i].name != name) continue;
        s->var[i].v = v;
        return tmpl_step(r, i / 16);
    }
    if (s->n == s->cap) {
        const size_t cap = s->cap ? s->cap * 2 : 4;
        struct var  *var = tmpl_alloc(r, cap * sizeof *var);
        if (!var) return false;
        if (s->n) memcpy(var, s->var, s->n * sizeof *var);
        s->var = var;
        s->cap = cap;
    }
    s->var[s->n++] = (struct var){.name = name, .v = v};
    return true;
}

/* Empties s for another run of body, but for the names that body hides. */
static bool scope_begin(struct run *r, struct scope *s, const struct node *body)
{
    s->n = 0;
    for (size_t i = 0; i < body->n_hide; i++) {
        if (!scope_set(r, s, body->hide[i], tmpl_undef_name(r, body->hide[i]))) return false;
    }
    return !r->err;
}

static struct scope *scope_new(struct run *r, struct scope *parent, const struct node *body)
{
    struct scope *s = tmpl_alloc(r, sizeof *s);
    if (!s || (body && !scope_begin(r, s, body))) return NULL;
    s->parent = parent;
    return s;
}

static bool set_var(struct run *r, int name, struct tmpl_value v)
{
    if (r->scope) return scope_set(r, r->scope, name, v);
    r->root_var[name] = v;
    return true;
}

static bool lookup(struct run *r, const struct node *n, struct tmpl_value *out)
{
    const struct node name = {.kind = NODE_NAME, .name = n->name, .line = n->line};
    return tmpl_eval(r, &name, out);
}

static bool assign_attr(struct run *r, const struct node *n, struct tmpl_value v)
{
    struct tmpl_value ns, key = {.kind = VAL_STR, .s = n->text};
    if (!lookup(r, n, &ns)) return false;
    if (ns.kind != VAL_NAMESPACE) return tmpl_fail(r, "cannot assign attribute on non-namespace object");
    if (n->text->n && n->text->p[0] == '_') {
        return tmpl_fail(r, "Chat templates cannot store underscore-prefixed attributes on a namespace");
    }
    return tmpl_table_set(r, ns.dict, key, v);
}

bool tmpl_assign(struct run *r, const struct node *target, struct tmpl_value v)
{
    if (target->kind == NODE_NAME) return set_var(r, target->name, v);
    if (target->kind == NODE_NSREF) return assign_attr(r, target, v);
    struct items l;
    if (!tmpl_collect(r, v, &l)) return false;
    if (l.n > target->n_kid) return tmpl_fail(r, "too many values to unpack (expected %zu)", target->n_kid);
    if (l.n < target->n_kid) return tmpl_fail(r, "not enough values to unpack (expected %zu, got %zu)", target->n_kid, l.n);
    for (size_t i = 0; i < l.n; i++) {
        if (!tmpl_assign(r, target->kid[i], l.v[i])) return false;
    }
    return true;
}

/* Runs body in a scope of its own. */
static enum flow exec_inner(struct run *r, const struct node *body)
{
    struct scope *outer = r->scope, *s = scope_new(r, outer, body);
    if (!s) return FLOW_FAIL;
    r->scope = s;
    const enum flow f = exec(r, body);
    r->scope = outer;
    return f;
}

static enum flow exec_scope(struct run *r, const struct node *n) { return exec_inner(r, n->body); }

static enum flow exec_with(struct run *r, const struct node *n)
{
    struct scope *outer = r->scope, *s = scope_new(r, outer, n->body);
    if (!s) return FLOW_FAIL;
    for (size_t i = 0; i < n->n_kid; i += 2) { /* values see what is outside, targets are inside */
        struct tmpl_value v;
        if (!tmpl_eval(r, n->kid[i + 1], &v)) return FLOW_FAIL;
        r->scope = s;
        if (!tmpl_assign(r, n->kid[i], v)) return FLOW_FAIL;
        r->scope = outer;
    }
    r->scope = s;
    const enum flow f = exec(r, n->body);
    r->scope = outer;
    return f;
}

/* --- simple statements --- */

static enum flow exec_body(struct run *r, const struct node *n)
{
    enum flow f = FLOW_NEXT;
    for (size_t i = 0; i < n->n_kid && f == FLOW_NEXT; i++) f = exec(r, n->kid[i]);
    return f;
}

static enum flow exec_if(struct run *r, const struct node *n)
{
    for (size_t i = 0; i < n->n_kid; i += 2) {
        struct tmpl_value v;
        if (!tmpl_eval(r, n->kid[i], &v)) return FLOW_FAIL;
        if (tmpl_truth(v)) return exec(r, n->kid[i + 1]);
    }
    return n->c ? exec(r, n->c) : FLOW_NEXT;
}

static enum flow exec_set(struct run *r, const struct node *n)
{
    struct tmpl_value v;
    return tmpl_eval(r, n->a, &v) && tmpl_assign(r, n->target, v) ? FLOW_NEXT : FLOW_FAIL;
}

/* {% set x %}...{% endset %} and {% filter f %}...{% endfilter %}: a captured text, through filters. */
static enum flow exec_captured(struct run *r, const struct node *n)
{
    struct text_buf   b = {0};
    struct tmpl_value v;
    struct scope     *outer = r->scope, *s = scope_new(r, outer, n->body);
    if (!s) return FLOW_FAIL;
    r->scope = s;
    const enum flow f = capture(r, n->body, &b);
    const bool      ok = f == FLOW_NEXT && tmpl_buf_value(r, &b, &v) && (!n->a || tmpl_eval_filters(r, n->a, v, &v));
    r->scope = outer;
    if (f != FLOW_NEXT) return f;
    if (!ok) return FLOW_FAIL;
    if (n->kind == NODE_SETBLOCK) return tmpl_assign(r, n->target, v) ? FLOW_NEXT : FLOW_FAIL;
    if (v.kind != VAL_STR) {
        tmpl_fail_type(r, "a filter block must give a string, not", v);
        return FLOW_FAIL;
    }
    return emit(r, v.s) ? FLOW_NEXT : FLOW_FAIL;
}

static enum flow exec_break(struct run *r, const struct node *n)
{
    (void)r;
    return n->kind == NODE_BREAK ? FLOW_BREAK : FLOW_CONTINUE;
}

/* --- loops --- */

/* The next item that passes the loop's test, which sees the target and what is outside of the loop. */
static bool loop_pull(struct run *r, struct loop *l, struct tmpl_value *v)
{
    struct scope *current = r->scope;
    while (tmpl_iter_next(r, &l->it, v)) {
        struct tmpl_value keep = val_bool(true);
        if (!l->node->b) return true;
        struct scope *s = scope_new(r, l->outer, NULL);
        r->scope = s;
        const bool ok = s && tmpl_assign(r, l->node->target, *v) && tmpl_eval(r, l->node->b, &keep);
        r->scope = current;
        if (!ok) return false;
        if (tmpl_truth(keep)) return true;
    }
    return false;
}

/* Looks one item ahead; false: there is none, or the run failed. */
static bool loop_peek(struct run *r, struct loop *l)
{
    if (l->after.kind != VAL_MISSING) return true;
    if (l->ended || !loop_pull(r, l, &l->after)) {
        l->after = (struct tmpl_value){.kind = VAL_MISSING};
        l->ended = true;
        return false;
    }
    return true;
}

bool tmpl_loop_length(struct run *r, struct loop *l, size_t *n)
{
    if (l->length == SIZE_MAX && !l->node->b && l->it.src.kind != VAL_ITER) {
        if (!tmpl_length(r, l->it.src, &l->length)) return false;
    } else if (l->length == SIZE_MAX) { /* runs it to its end, and goes on from what was kept */
        struct items      rest = {0};
        struct tmpl_value v, list;
        while (loop_pull(r, l, &v)) {
            if (!tmpl_items_push(r, &rest, v)) return false;
        }
        if (r->err || !tmpl_items_value(r, &rest, VAL_LIST, &list)) return false;
        l->length = l->index0 + 1 + (l->after.kind != VAL_MISSING) + rest.n;
        struct items *kept = tmpl_alloc(r, sizeof *kept);
        if (!kept) return false;
        *kept = rest;
        struct node *untested = tmpl_alloc(r, sizeof *untested); /* the kept items have passed */
        if (!untested) return false;
        *untested = *l->node;
        untested->b = NULL;
        l->node = untested;
        l->it = (struct iter){.src = {.kind = VAL_LIST, .list = kept}, .n = rest.n};
    }
    *n = l->length;
    return !r->err;
}

enum loop_attr { LOOP_INDEX, LOOP_INDEX0, LOOP_REVINDEX, LOOP_REVINDEX0, LOOP_FIRST, LOOP_LAST, LOOP_LENGTH, LOOP_PREVITEM,
                 LOOP_NEXTITEM, LOOP_DEPTH, LOOP_DEPTH0, LOOP_ATTRS };
static const char *const loop_attr_name[LOOP_ATTRS] = {
    [LOOP_INDEX] = "index", [LOOP_INDEX0] = "index0", [LOOP_REVINDEX] = "revindex", [LOOP_REVINDEX0] = "revindex0",
    [LOOP_FIRST] = "first", [LOOP_LAST] = "last", [LOOP_LENGTH] = "length", [LOOP_PREVITEM] = "previtem",
    [LOOP_NEXTITEM] = "nextitem", [LOOP_DEPTH] = "depth", [LOOP_DEPTH0] = "depth0",
};

/* False: no such attribute, or the run failed. */
bool tmpl_loop_attr(struct run *r, struct loop *l, const struct text *name, struct tmpl_value *out)
{
    size_t n = 0;
    int    what = 0;
    while (what < LOOP_ATTRS && !text_is(name, loop_attr_name[what])) what++;
    if ((what == LOOP_REVINDEX || what == LOOP_REVINDEX0 || what == LOOP_LENGTH) && !tmpl_loop_length(r, l, &n)) return false;
    switch (what) {
    case LOOP_INDEX: *out = val_size(l->index0 + 1); break;
    case LOOP_INDEX0: *out = val_size(l->index0); break;
    case LOOP_REVINDEX: *out = val_size(n - l->index0); break;
    case LOOP_REVINDEX0: *out = val_size(n - l->index0 - 1); break;
    case LOOP_LENGTH: *out = val_size(n); break;
    case LOOP_FIRST: *out = val_bool(l->index0 == 0); break;
    case LOOP_LAST: *out = val_bool(!loop_peek(r, l)); break;
    case LOOP_PREVITEM: *out = l->index0 ? l->before : tmpl_undef_hint(r, "there is no previous item"); break;
    case LOOP_NEXTITEM: *out = loop_peek(r, l) ? l->after : tmpl_undef_hint(r, "there is no next item"); break;
    case LOOP_DEPTH: *out = val_int(1); break;
    case LOOP_DEPTH0: *out = val_int(0); break;
    default: return false;
    }
    return !r->err;
}

/* Steps to the next item; false: the end, or the run failed. */
static bool loop_next(struct run *r, struct loop *l)
{
    struct tmpl_value v;
    if (!loop_peek(r, l)) return false;
    v = l->after;
    l->after = (struct tmpl_value){.kind = VAL_MISSING};
    l->before = l->now;
    l->now = v;
    l->index0++; /* starts at -1 */
    return true;
}

static enum flow run_loop(struct run *r, const struct node *n, struct loop *l, bool *completed)
{
    struct scope *outer = r->scope, *s = NULL;
    enum flow     f = FLOW_NEXT;
    *completed = false;
    while (f != FLOW_BREAK && loop_next(r, l)) {
        if (!s || s->captured) s = scope_new(r, outer, NULL); /* a fresh one each time, unless no macro holds on to it */
        if (!s || !scope_begin(r, s, n->body)) return FLOW_FAIL;
        r->scope = s;
        f = FLOW_FAIL;
        const struct tmpl_value loop = {.kind = VAL_LOOP, .loop = l};
        if (scope_set(r, s, r->t->loop_name, loop) && tmpl_assign(r, n->target, l->now)) f = exec(r, n->body);
        r->scope = outer;
        if (f == FLOW_FAIL) return f;
        *completed |= f == FLOW_NEXT;
    }
    return r->err ? FLOW_FAIL : FLOW_NEXT;
}

static enum flow exec_for(struct run *r, const struct node *n)
{
    struct tmpl_value src;
    struct loop      *l = tmpl_alloc(r, sizeof *l);
    if (!l || !tmpl_eval(r, n->a, &src) || !tmpl_iter_open(r, src, &l->it)) return FLOW_FAIL;
    l->node = n;
    l->outer = r->scope;
    l->index0 = SIZE_MAX;
    l->length = SIZE_MAX;
    bool            completed;
    const enum flow f = run_loop(r, n, l, &completed);
    if (f != FLOW_NEXT || completed || !n->c) return f;
    return exec_inner(r, n->c); /* else: no item ran through; the reference counts one that broke off as none */
}

/* --- macros --- */

static bool make_macro(struct run *r, const struct node *n, struct tmpl_value *out)
{
    struct macro *m = tmpl_alloc(r, sizeof *m);
    if (!m) return false;
    *m = (struct macro){.node = n, .home = r->scope};
    for (struct scope *s = r->scope; s; s = s->parent) s->captured = true;
    *out = (struct tmpl_value){.kind = VAL_MACRO, .macro = m};
    return true;
}

static enum flow exec_macro(struct run *r, const struct node *n)
{
    struct tmpl_value m;
    return make_macro(r, n, &m) && set_var(r, n->name, m) ? FLOW_NEXT : FLOW_FAIL;
}

static enum flow exec_callblock(struct run *r, const struct node *n)
{
    struct tmpl_value fn, out;
    struct args       args;
    if (!tmpl_eval(r, n->b->a, &fn) || !tmpl_eval_args(r, n->b->args, &args)) return FLOW_FAIL;
    struct named_value *kw = tmpl_alloc(r, (args.n_kw + 1) * sizeof *kw);
    if (!kw || !make_macro(r, n, &kw[args.n_kw].v)) return FLOW_FAIL;
    if (args.n_kw) memcpy(kw, args.kw, args.n_kw * sizeof *kw);
    static const struct text caller = {.p = "caller", .n = 6, .n_char = 6};
    kw[args.n_kw++].name = &caller;
    args.kw = kw;
    if (!tmpl_call(r, fn, &args, &out)) return FLOW_FAIL;
    const struct text *t = tmpl_to_text(r, out);
    return t && emit(r, t) ? FLOW_NEXT : FLOW_FAIL;
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
    const size_t       n_param = n->n_kid, over = a->n_pos > n_param ? a->n_pos - n_param : 0;
    if (n->uses & USES_CALLER) {
        struct tmpl_value caller = take_kw(a, "caller", 6);
        if (caller.kind == VAL_MISSING) caller = tmpl_undef_hint(r, "No caller defined");
        if (!scope_set(r, r->scope, r->t->special_name[0], caller)) return false;
    }
    if (n->uses & USES_KWARGS) {
        struct tmpl_value dict, key;
        if (!tmpl_table_value(r, VAL_DICT, &dict)) return false;
        for (size_t i = 0; i < a->n_kw; i++) {
            if (!val_from_text(tmpl_text_new(r, a->kw[i].name->p, a->kw[i].name->n, false), &key)) return false;
            if (!tmpl_table_set(r, dict.dict, key, a->kw[i].v)) return false;
        }
        if (!scope_set(r, r->scope, r->t->special_name[1], dict)) return false;
    } else if (a->n_kw) {
        return tmpl_fail(r, "the macro takes no keyword argument '%.*s'", (int)a->kw[0].name->n, a->kw[0].name->p);
    }
    if (n->uses & USES_VARARGS) {
        struct items      l = {.v = over ? a->pos + n_param : NULL, .n = over};
        struct tmpl_value rest;
        return tmpl_items_value(r, &l, VAL_TUPLE, &rest) && scope_set(r, r->scope, r->t->special_name[2], rest);
    }
    return !over || tmpl_fail(r, "the macro takes not more than %zu argument(s)", n_param);
}

/* Parameters from arguments, then from defaults, which see the parameters before them. */
static bool bind_params(struct run *r, const struct macro *m, struct args *a)
{
    const struct node *n = m->node;
    const size_t       first_default = n->n_kid - n->a->n_kid;
    for (size_t i = 0; i < n->n_kid; i++) {
        const struct text *name = r->t->name[n->kid[i]->name];
        struct tmpl_value  v = i < a->n_pos ? a->pos[i] : take_kw(a, name->p, name->n);
        if (!scope_set(r, r->scope, n->kid[i]->name, v)) return false;
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
        if (r->err || !scope_set(r, r->scope, n->kid[i]->name, v)) return false;
    }
    for (size_t i = 0; i < n->body->n_hide; i++) {
        if (!scope_set(r, r->scope, n->body->hide[i], tmpl_undef_name(r, n->body->hide[i]))) return false;
    }
    return true;
}

bool tmpl_call_macro(struct run *r, struct macro *m, struct args *args, struct tmpl_value *out)
{
    struct text_buf b = {0};
    struct scope   *outer = r->scope, *s = scope_new(r, m->home, NULL);
    if (!s) return false;
    if (++r->calls > TMPL_MAX_CALLS) return tmpl_fail_bound(r, "macros call each other more than %d levels deep", TMPL_MAX_CALLS);
    r->scope = s;
    const bool ok = bind_params(r, m, args) && capture(r, m->node->body, &b) == FLOW_NEXT && tmpl_buf_value(r, &b, out);
    r->scope = outer;
    r->calls--;
    return ok;
}

static enum flow (*const exec_kind[NODE_KINDS])(struct run *, const struct node *) = {
    [NODE_DATA] = exec_data, [NODE_OUTPUT] = exec_output, [NODE_BODY] = exec_body, [NODE_IF] = exec_if, [NODE_FOR] = exec_for,
    [NODE_SET] = exec_set, [NODE_SETBLOCK] = exec_captured, [NODE_FILTERBLOCK] = exec_captured, [NODE_MACRO] = exec_macro,
    [NODE_CALLBLOCK] = exec_callblock, [NODE_WITH] = exec_with, [NODE_SCOPE] = exec_scope, [NODE_BREAK] = exec_break,
    [NODE_CONTINUE] = exec_break,
};

static enum flow exec(struct run *r, const struct node *n)
{
    if (r->depth >= TMPL_MAX_EVAL_DEPTH) {
        tmpl_fail_bound(r, "statements are nested too deeply");
        return FLOW_FAIL;
    }
    if (!tmpl_step(r, 1)) return FLOW_FAIL;
    r->depth++;
    const enum flow f = exec_kind[n->kind](r, n);
    r->depth--;
    if (f == FLOW_FAIL && !r->line) r->line = n->line;
    return f;
}

bool tmpl_exec(struct run *r)
{
    const struct node *root = r->t->root;
    for (size_t i = 0; i < root->n_hide; i++) r->root_var[root->hide[i]] = tmpl_undef_name(r, root->hide[i]);
    return exec(r, root) == FLOW_NEXT;
}
