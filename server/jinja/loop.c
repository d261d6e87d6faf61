/* loop: for loops and the loop variable, which looks ahead only when it is asked to. */
#include "server/jinja/ast.h"

/* The next item that passes the loop's test, which sees the target and what is outside of the loop. */
static bool loop_pull(struct run *r, struct loop *l, struct tmpl_value *v)
{
    struct scope *current = r->scope;
    while (tmpl_iter_next(r, &l->it, v)) {
        struct tmpl_value keep = val_bool(true);
        if (!l->node->b) return true;
        struct scope *s = tmpl_scope_new(r, l->outer, NULL);
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
        struct items rest = {0};
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

enum loop_attr {
    LOOP_INDEX,
    LOOP_INDEX0,
    LOOP_REVINDEX,
    LOOP_REVINDEX0,
    LOOP_FIRST,
    LOOP_LAST,
    LOOP_LENGTH,
    LOOP_PREVITEM,
    LOOP_NEXTITEM,
    LOOP_DEPTH,
    LOOP_DEPTH0,
    LOOP_ATTRS
};
static const char *const loop_attr_name[LOOP_ATTRS] = {
    [LOOP_INDEX] = "index",         [LOOP_INDEX0] = "index0",     [LOOP_REVINDEX] = "revindex",
    [LOOP_REVINDEX0] = "revindex0", [LOOP_FIRST] = "first",       [LOOP_LAST] = "last",
    [LOOP_LENGTH] = "length",       [LOOP_PREVITEM] = "previtem", [LOOP_NEXTITEM] = "nextitem",
    [LOOP_DEPTH] = "depth",         [LOOP_DEPTH0] = "depth0",
};

/* False: no such attribute, or the run failed. */
bool tmpl_loop_attr(struct run *r, struct loop *l, const struct text *name, struct tmpl_value *out)
{
    size_t n = 0;
    int what = 0;
    while (what < LOOP_ATTRS && !text_is(name, loop_attr_name[what])) what++;
    if ((what == LOOP_REVINDEX || what == LOOP_REVINDEX0 || what == LOOP_LENGTH) &&
        !tmpl_loop_length(r, l, &n))
        return false;
    switch (what) {
    case LOOP_INDEX:
        *out = val_size(l->index0 + 1);
        break;
    case LOOP_INDEX0:
        *out = val_size(l->index0);
        break;
    case LOOP_REVINDEX:
        *out = val_size(n - l->index0);
        break;
    case LOOP_REVINDEX0:
        *out = val_size(n - l->index0 - 1);
        break;
    case LOOP_LENGTH:
        *out = val_size(n);
        break;
    case LOOP_FIRST:
        *out = val_bool(l->index0 == 0);
        break;
    case LOOP_LAST:
        *out = val_bool(!loop_peek(r, l));
        break;
    case LOOP_PREVITEM:
        *out = l->index0 ? l->before : tmpl_undef_hint(r, "there is no previous item");
        break;
    case LOOP_NEXTITEM:
        *out = loop_peek(r, l) ? l->after : tmpl_undef_hint(r, "there is no next item");
        break;
    case LOOP_DEPTH:
        *out = val_int(1);
        break;
    case LOOP_DEPTH0:
        *out = val_int(0);
        break;
    default:
        return false;
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
    enum flow f = FLOW_NEXT;
    *completed = false;
    while (f != FLOW_BREAK && loop_next(r, l)) {
        if (!s || s->captured)
            s = tmpl_scope_new(r, outer, NULL); /* a fresh one each time, unless no macro holds on to it */
        if (!s || !tmpl_scope_begin(r, s, n->body)) return FLOW_FAIL;
        r->scope = s;
        f = FLOW_FAIL;
        const struct tmpl_value loop = {.kind = VAL_LOOP, .loop = l};
        if (tmpl_scope_set(r, s, r->t->loop_name, loop) && tmpl_assign(r, n->target, l->now))
            f = tmpl_exec_node(r, n->body);
        r->scope = outer;
        if (f == FLOW_FAIL) return f;
        *completed |= f == FLOW_NEXT;
    }
    return r->err ? FLOW_FAIL : FLOW_NEXT;
}

enum flow tmpl_exec_for(struct run *r, const struct node *n)
{
    struct tmpl_value src;
    struct loop *l = tmpl_alloc(r, sizeof *l);
    if (!l || !tmpl_eval(r, n->a, &src) || !tmpl_iter_open(r, src, &l->it)) return FLOW_FAIL;
    l->node = n;
    l->outer = r->scope;
    l->index0 = SIZE_MAX;
    l->length = SIZE_MAX;
    bool completed;
    const enum flow f = run_loop(r, n, l, &completed);
    if (f != FLOW_NEXT || completed || !n->c) return f;
    return tmpl_exec_inner(
        r, n->c); /* else: no item ran through; the reference counts one that broke off as none */
}
