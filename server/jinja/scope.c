/* scope: which names are undefined where a scope begins. The reference turns variables into locals of
 * generated Python: a name whose first mention in a scope is an unconditional assignment, and that no scope
 * around mentions, is a local there from the start. Loops and macros inside that read it before the
 * assignment find nothing, even if the caller gave a value of that name. */
#include "server/jinja/ast.h"

enum mention { UNSEEN, KNOWN, ASSIGNED_FIRST };

struct frame {
    const struct frame *outer;
    uint8_t seen[TMPL_MAX_NAMES]; /* enum mention */
};

struct walk {
    struct parser *p;
    struct frame *f;
    int depth;
};

static bool mark(struct walk *w, const struct node *n, bool conditional);
static bool enter_scopes(struct walk *w, struct node *n);

static bool known_outside(const struct frame *f, int name)
{
    for (f = f->outer; f; f = f->outer) {
        if (f->seen[name] != UNSEEN) return true;
    }
    return false;
}

static void mark_read(struct walk *w, int name)
{
    if (w->f->seen[name] == UNSEEN) w->f->seen[name] = KNOWN;
}

static void mark_store(struct walk *w, int name, bool conditional)
{
    if (w->f->seen[name] != UNSEEN) return;
    w->f->seen[name] = conditional || known_outside(w->f, name) ? KNOWN : ASSIGNED_FIRST;
}

static void mark_target(struct walk *w, const struct node *n, bool param, bool conditional)
{
    if (n->kind == NODE_NSREF || (n->kind == NODE_NAME && param)) {
        mark_read(w, n->name);
    } else if (n->kind == NODE_NAME) {
        mark_store(w, n->name, conditional);
    } else {
        for (size_t i = 0; i < n->n_kid; i++) mark_target(w, n->kid[i], param, conditional);
    }
}

static bool mark_args(struct walk *w, const struct call_args *a)
{
    for (size_t i = 0; i < a->n_pos; i++) {
        if (!mark(w, a->pos[i], false)) return false;
    }
    for (size_t i = 0; i < a->n_kw; i++) {
        if (!mark(w, a->kw[i].value, false)) return false;
    }
    return mark(w, a->star, false) && mark(w, a->star_star, false);
}

/* What n mentions in its own scope, in the order the reference looks at it. */
static bool mark_node(struct walk *w, const struct node *n, bool conditional)
{
    switch (n->kind) {
    case NODE_NAME:
    case NODE_NSREF:
        mark_read(w, n->name);
        return true;
    case NODE_FOR:
        return mark(w, n->a, conditional);
    case NODE_SET:
        if (!mark(w, n->a, conditional)) return false;
        mark_target(w, n->target, false, conditional);
        return true;
    case NODE_SETBLOCK:
        mark_target(w, n->target, false, conditional);
        return true;
    case NODE_MACRO:
        mark_store(w, n->name, conditional);
        return true;
    case NODE_CALLBLOCK:
        return mark(w, n->b, conditional);
    case NODE_FILTERBLOCK:
        return mark(w, n->a, conditional);
    case NODE_SCOPE:
        return true;
    case NODE_WITH:
        for (size_t i = 1; i < n->n_kid; i += 2) {
            if (!mark(w, n->kid[i], conditional)) return false;
        }
        return true;
    case NODE_IF:
        for (size_t i = 0; i < n->n_kid; i++) {
            if (!mark(w, n->kid[i], conditional || i % 2)) return false;
        }
        return mark(w, n->c, true);
    default:
        break;
    }
    for (size_t i = 0; i < n->n_kid; i++) {
        if (!mark(w, n->kid[i], conditional)) return false;
    }
    if (n->args && !mark_args(w, n->args)) return false;
    return mark(w, n->a, conditional) && mark(w, n->b, conditional) && mark(w, n->c, conditional);
}

static bool mark(struct walk *w, const struct node *n, bool conditional)
{
    if (!n) return true;
    if (w->depth >= TMPL_MAX_EVAL_DEPTH)
        return tmpl_syntax_error(w->p, n->line, "an expression is nested too deeply");
    w->depth++;
    const bool ok = mark_node(w, n, conditional);
    w->depth--;
    return ok;
}

/* Writes down what the frame hides, for the body that begins it, and goes on with the scopes inside. */
static bool finish(struct walk *w, struct node *body)
{
    const size_t n_name = w->p->t->n_name;
    size_t n = 0;
    for (size_t i = 0; i < n_name; i++) n += w->f->seen[i] == ASSIGNED_FIRST;
    int *hide = arena_array(&w->p->t->arena, n + 1, sizeof *hide);
    if (!hide) return false;
    body->hide = hide;
    for (size_t i = 0; i < n_name; i++) {
        if (w->f->seen[i] == ASSIGNED_FIRST) hide[body->n_hide++] = (int)i;
    }
    return enter_scopes(w, body);
}

/* A body in a frame of its own. n: the statement it belongs to, whose parameters or targets are in the frame;
 * NULL: none. */
static bool scope(struct walk *outer, const struct node *n, struct node *body)
{
    struct frame f = {.outer = outer->f};
    struct walk w = {.p = outer->p, .f = &f, .depth = outer->depth};
    if (!body) return true;
    if (n && n->kind == NODE_FOR) {
        mark_target(&w, n->target, true, false);
        mark_read(&w, w.p->t->loop_name);
    }
    for (size_t i = 0; n && (n->kind == NODE_MACRO || n->kind == NODE_CALLBLOCK) && i < n->n_kid; i++) {
        mark_read(&w, n->kid[i]->name);
    }
    for (size_t i = 0; n && n->uses && i < 3; i++) {
        if (n->uses & 1 << i) mark_read(&w, w.p->t->special_name[i]);
    }
    if (n && (n->kind == NODE_MACRO || n->kind == NODE_CALLBLOCK) && !mark(&w, n->a, false)) return false;
    for (size_t i = 0; n && n->kind == NODE_WITH && i < n->n_kid; i += 2)
        mark_target(&w, n->kid[i], true, false);
    if (!mark(&w, body, false)) return false;
    if (n && n->kind == NODE_FILTERBLOCK && !mark(&w, n->a, false)) return false;
    return finish(&w, body);
}

/* Finds the scopes that begin directly inside n. */
static bool enter_scopes(struct walk *w, struct node *n)
{
    switch (n->kind) {
    case NODE_FOR:
        return scope(w, n, n->body) && scope(w, NULL, n->c);
    case NODE_MACRO:
    case NODE_CALLBLOCK:
    case NODE_SETBLOCK:
    case NODE_FILTERBLOCK:
    case NODE_WITH:
    case NODE_SCOPE:
        return scope(w, n, n->body);
    case NODE_BODY:
    case NODE_IF:
        break;
    default:
        return true;
    }
    for (size_t i = n->kind == NODE_IF; i < n->n_kid; i += n->kind == NODE_IF ? 2 : 1) {
        if (!enter_scopes(w, n->kid[i])) return false;
    }
    return !n->c || enter_scopes(w, n->c);
}

bool tmpl_resolve_scopes(struct parser *p, struct node *root)
{
    struct frame f = {.outer = NULL};
    struct walk w = {.p = p, .f = &f};
    return mark(&w, root, false) && finish(&w, root);
}
