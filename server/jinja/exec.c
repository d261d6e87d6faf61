/* exec: statements and scopes; what they write goes to the rendering or to a captured block. Loops and macros
 * are in files of their own. */
#include "server/jinja/ast.h"

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
        const size_t cap = out->cap_span ? out->cap_span * 2 : 64;
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

/* How many of n > 0 marks are like the first; eight at a time, since a long text is one run. */
static size_t same_marks(const uint8_t *mark, size_t n)
{
    const uint64_t like = mark[0] * UINT64_C(0x0101010101010101);
    size_t i = 1;
    for (uint64_t eight; i + 8 <= n; i += 8) {
        memcpy(&eight, mark + i, 8);
        if (eight != like) break;
    }
    while (i < n && mark[i] == mark[0]) i++;
    return i;
}

bool tmpl_emit(struct run *r, const struct text *t)
{
    if (r->sink) return tmpl_buf_put_text(r, r->sink, t);
    if (t->n > r->out->max_bytes - r->out->text.len) {
        return tmpl_fail_bound(r, "the output exceeds %zu bytes", r->out->max_bytes);
    }
    if (!t->mark) return put_run(r, t->p, t->n, t->outside) && tmpl_scan_cost(r, t->n);
    for (size_t at = 0, n; at < t->n; at += n) {
        n = same_marks(t->mark + at, t->n - at);
        if (!put_run(r, t->p + at, n, t->mark[at])) return false;
    }
    return tmpl_scan_cost(r, t->n);
}

static enum flow exec_data(struct run *r, const struct node *n)
{
    return tmpl_emit(r, n->value.s) ? FLOW_NEXT : FLOW_FAIL;
}

static enum flow exec_output(struct run *r, const struct node *n)
{
    for (size_t i = 0; i < n->n_kid; i++) {
        struct tmpl_value v;
        if (!tmpl_eval(r, n->kid[i], &v)) return FLOW_FAIL;
        const struct text *t = tmpl_to_text(r, v);
        if (!t || !tmpl_emit(r, t)) return FLOW_FAIL;
    }
    return FLOW_NEXT;
}

/* Runs body with its output going to b. */
enum flow tmpl_capture(struct run *r, const struct node *body, struct text_buf *b)
{
    struct text_buf *outer = r->sink;
    r->sink = b;
    const enum flow f = tmpl_exec_node(r, body);
    r->sink = outer;
    return f;
}

/* --- scopes --- */

bool tmpl_scope_set(struct run *r, struct scope *s, int name, struct tmpl_value v)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->var[i].name != name) continue;
        s->var[i].v = v;
        return tmpl_step(r, i / 16);
    }
    if (s->n == s->cap) {
        const size_t cap = s->cap ? s->cap * 2 : 4;
        struct var *var = tmpl_alloc(r, cap * sizeof *var);
        if (!var) return false;
        if (s->n) memcpy(var, s->var, s->n * sizeof *var);
        s->var = var;
        s->cap = cap;
    }
    s->var[s->n++] = (struct var){.name = name, .v = v};
    return true;
}

/* Empties s for another run of body, but for the names that body hides. */
bool tmpl_scope_begin(struct run *r, struct scope *s, const struct node *body)
{
    s->n = 0;
    for (size_t i = 0; i < body->n_hide; i++) {
        if (!tmpl_scope_set(r, s, body->hide[i], tmpl_undef_name(r, body->hide[i]))) return false;
    }
    return !r->err;
}

struct scope *tmpl_scope_new(struct run *r, struct scope *parent, const struct node *body)
{
    struct scope *s = tmpl_alloc(r, sizeof *s);
    if (!s || (body && !tmpl_scope_begin(r, s, body))) return NULL;
    s->parent = parent;
    return s;
}

bool tmpl_set_var(struct run *r, int name, struct tmpl_value v)
{
    if (r->scope) return tmpl_scope_set(r, r->scope, name, v);
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
    if (target->kind == NODE_NAME) return tmpl_set_var(r, target->name, v);
    if (target->kind == NODE_NSREF) return assign_attr(r, target, v);
    struct items l;
    if (!tmpl_collect(r, v, &l)) return false;
    if (l.n > target->n_kid) return tmpl_fail(r, "too many values to unpack (expected %zu)", target->n_kid);
    if (l.n < target->n_kid)
        return tmpl_fail(r, "not enough values to unpack (expected %zu, got %zu)", target->n_kid, l.n);
    for (size_t i = 0; i < l.n; i++) {
        if (!tmpl_assign(r, target->kid[i], l.v[i])) return false;
    }
    return true;
}

/* Runs body in a scope of its own. */
enum flow tmpl_exec_inner(struct run *r, const struct node *body)
{
    struct scope *outer = r->scope, *s = tmpl_scope_new(r, outer, body);
    if (!s) return FLOW_FAIL;
    r->scope = s;
    const enum flow f = tmpl_exec_node(r, body);
    r->scope = outer;
    return f;
}

static enum flow exec_scope(struct run *r, const struct node *n) { return tmpl_exec_inner(r, n->body); }

static enum flow exec_with(struct run *r, const struct node *n)
{
    struct scope *outer = r->scope, *s = tmpl_scope_new(r, outer, n->body);
    if (!s) return FLOW_FAIL;
    for (size_t i = 0; i < n->n_kid; i += 2) { /* values see what is outside, targets are inside */
        struct tmpl_value v;
        if (!tmpl_eval(r, n->kid[i + 1], &v)) return FLOW_FAIL;
        r->scope = s;
        if (!tmpl_assign(r, n->kid[i], v)) return FLOW_FAIL;
        r->scope = outer;
    }
    r->scope = s;
    const enum flow f = tmpl_exec_node(r, n->body);
    r->scope = outer;
    return f;
}

/* --- simple statements --- */

static enum flow exec_body(struct run *r, const struct node *n)
{
    enum flow f = FLOW_NEXT;
    for (size_t i = 0; i < n->n_kid && f == FLOW_NEXT; i++) f = tmpl_exec_node(r, n->kid[i]);
    return f;
}

static enum flow exec_if(struct run *r, const struct node *n)
{
    for (size_t i = 0; i < n->n_kid; i += 2) {
        struct tmpl_value v;
        if (!tmpl_eval(r, n->kid[i], &v)) return FLOW_FAIL;
        if (tmpl_truth(v)) return tmpl_exec_node(r, n->kid[i + 1]);
    }
    return n->c ? tmpl_exec_node(r, n->c) : FLOW_NEXT;
}

static enum flow exec_set(struct run *r, const struct node *n)
{
    struct tmpl_value v;
    return tmpl_eval(r, n->a, &v) && tmpl_assign(r, n->target, v) ? FLOW_NEXT : FLOW_FAIL;
}

/* {% set x %}...{% endset %} and {% filter f %}...{% endfilter %}: a captured text, through filters. */
static enum flow exec_captured(struct run *r, const struct node *n)
{
    struct text_buf b = {0};
    struct tmpl_value v;
    struct scope *outer = r->scope, *s = tmpl_scope_new(r, outer, n->body);
    if (!s) return FLOW_FAIL;
    r->scope = s;
    const enum flow f = tmpl_capture(r, n->body, &b);
    const bool ok =
        f == FLOW_NEXT && tmpl_buf_value(r, &b, &v) && (!n->a || tmpl_eval_filters(r, n->a, v, &v));
    r->scope = outer;
    if (f != FLOW_NEXT) return f;
    if (!ok) return FLOW_FAIL;
    if (n->kind == NODE_SETBLOCK) return tmpl_assign(r, n->target, v) ? FLOW_NEXT : FLOW_FAIL;
    if (v.kind != VAL_STR) {
        tmpl_fail_type(r, "a filter block must give a string, not", v);
        return FLOW_FAIL;
    }
    return tmpl_emit(r, v.s) ? FLOW_NEXT : FLOW_FAIL;
}

static enum flow exec_break(struct run *r, const struct node *n)
{
    (void)r;
    return n->kind == NODE_BREAK ? FLOW_BREAK : FLOW_CONTINUE;
}

static enum flow (*const exec_kind[NODE_KINDS])(struct run *, const struct node *) = {
    [NODE_DATA] = exec_data,         [NODE_OUTPUT] = exec_output,
    [NODE_BODY] = exec_body,         [NODE_IF] = exec_if,
    [NODE_FOR] = tmpl_exec_for,      [NODE_SET] = exec_set,
    [NODE_SETBLOCK] = exec_captured, [NODE_FILTERBLOCK] = exec_captured,
    [NODE_MACRO] = tmpl_exec_macro,  [NODE_CALLBLOCK] = tmpl_exec_callblock,
    [NODE_WITH] = exec_with,         [NODE_SCOPE] = exec_scope,
    [NODE_BREAK] = exec_break,       [NODE_CONTINUE] = exec_break,
};

enum flow tmpl_exec_node(struct run *r, const struct node *n)
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
    return tmpl_exec_node(r, root) == FLOW_NEXT;
}
