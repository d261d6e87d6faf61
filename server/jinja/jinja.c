/* jinja: one compilation from source to tree, one rendering from tree to text, and the bounds of both. */
#include "server/jinja/jinja.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/jinja/ast.h"

/* --- compiling --- */

/* Names that the interpreter itself sets. */
static bool intern_names(struct parser *p)
{
    static const char *const special[] = {"caller", "kwargs", "varargs"};
    p->t->loop_name = tmpl_name_id(p, "loop", 4);
    for (int i = 0; i < 3; i++) p->t->special_name[i] = tmpl_name_id(p, special[i], strlen(special[i]));
    return !p->err;
}

enum err tmpl_compile(struct tmpl **out, const char *src, size_t n, struct err_note *note)
{
    struct tmpl *t = calloc(1, sizeof *t);
    *out = NULL;
    if (!t) return err_set(note, ERR_NOMEM, "chat_template", "out of memory");
    struct parser p = {.t = t, .note = note};
    arena_init(&t->arena, TMPL_MAX_COMPILE_BYTES);
    arena_init(&p.scratch, TMPL_MAX_COMPILE_BYTES);
    const bool ok = tmpl_lex(&p, src, n) && intern_names(&p) && tmpl_parse(&p);
    arena_fini(&p.scratch);
    if (ok && !p.err) {
        *out = t;
        return OK;
    }
    tmpl_free(t);
    return p.err ? p.err : err_set(note, ERR_NOMEM, "chat_template", "the template needs too much memory");
}

void tmpl_free(struct tmpl *t)
{
    if (!t) return;
    arena_fini(&t->arena);
    free(t);
}

bool tmpl_mentions(const struct tmpl *t, const char *name)
{
    for (size_t i = 0; i < t->n_name; i++) {
        if (text_is(t->name[i], name)) return i >= TMPL_OWN_NAMES;
    }
    return false;
}

/* --- what every part of a rendering uses --- */

static bool fail(struct run *r, const char *fmt, va_list ap)
{
    if (r->err) return false; /* the first failure is the cause */
    vsnprintf(r->text, sizeof r->text, fmt, ap);
    r->err = ERR_TEMPLATE;
    return false;
}

bool tmpl_fail(struct run *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fail(r, fmt, ap);
    va_end(ap);
    return false;
}

bool tmpl_fail_bound(struct run *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fail(r, fmt, ap);
    va_end(ap);
    r->bound = true;
    return false;
}

bool tmpl_fail_memory(struct run *r, size_t wanted)
{
    const struct arena *a = r->arena;
    if (r->err) return false;
    if (a->limit && wanted > a->limit - a->used) {
        return tmpl_fail_bound(r, "the rendering needs more than %zu bytes", a->limit);
    }
    tmpl_fail_bound(r, "out of memory");
    r->err = ERR_NOMEM;
    return false;
}

void *tmpl_alloc(struct run *r, size_t n)
{
    void *p = r->err ? NULL : arena_alloc(r->arena, n);
    if (!p) tmpl_fail_memory(r, n + 16); /* the arena rounds up */
    return p;
}

bool tmpl_step(struct run *r, size_t n_unit)
{
    if (r->err) return false;
    r->steps += n_unit > TMPL_MAX_STEPS ? TMPL_MAX_STEPS + 1 : (int64_t)n_unit;
    return r->steps <= TMPL_MAX_STEPS ||
           tmpl_fail_bound(r, "the rendering takes more than %d steps", TMPL_MAX_STEPS);
}

bool tmpl_fail_undefined(struct run *r, struct tmpl_value v)
{
    const struct undef *u = v.undef;
    const int n = u ? (int)u->n : 0;
    const char *of = u && u->owner && strcmp(u->owner, "NoneType") == 0 ? "None"
                     : u && u->owner                                    ? u->owner
                                                                        : "";
    const char *object = strcmp(of, "None") == 0 ? "" : " object";
    if (!u) return tmpl_fail(r, "the value is undefined");
    switch (u->why) {
    case UNDEF_NAME:
        return tmpl_fail(r, "'%.*s' is undefined", n, u->name);
    case UNDEF_ATTR:
        return tmpl_fail(r, "'%s%s' has no attribute '%.*s'", of, object, n, u->name);
    case UNDEF_ELEMENT:
        return tmpl_fail(r, "%s%s has no element %lld", of, object, (long long)u->index);
    case UNDEF_UNSAFE:
        return tmpl_fail(r, "access to attribute '%.*s' of '%s' object is unsafe.", n, u->name, of);
    case UNDEF_HINT:
        break;
    }
    return tmpl_fail(r, "%.*s", n, u->name);
}

bool tmpl_fail_type(struct run *r, const char *what, struct tmpl_value v)
{
    return v.kind == VAL_UNDEFINED ? tmpl_fail_undefined(r, v)
                                   : tmpl_fail(r, "%s: '%s'", what, tmpl_type_name(v));
}

/* --- rendering --- */

/* Looks every name of the template up once, in the context and among the global functions. */
static bool bind_names(struct run *r, const struct tmpl_value *context)
{
    const struct tmpl *t = r->t;
    r->root_var = tmpl_alloc(r, t->n_name * sizeof *r->root_var);
    r->context_var = tmpl_alloc(r, t->n_name * sizeof *r->context_var);
    r->undef_var = tmpl_alloc(r, t->n_name * sizeof *r->undef_var);
    if (!r->root_var || !r->context_var || !r->undef_var) return false;
    for (size_t i = 0; i < t->n_name; i++) {
        const struct pair *p = tmpl_table_find_text(r, context->dict, t->name[i]);
        const struct builtin *b = p ? NULL : tmpl_builtin_find(tmpl_globals, t->name[i]->p, t->name[i]->n);
        if (p) r->context_var[i] = p->val;
        if (b) r->context_var[i] = (struct tmpl_value){.kind = VAL_FUNC, .func = b};
    }
    return !r->err;
}

enum err tmpl_render(const struct tmpl *t, struct arena *a, const struct tmpl_value *context,
                     struct tmpl_rendering *out, struct err_note *note)
{
    if (!context || context->kind != VAL_DICT) return err_set(note, ERR_NOMEM, NULL, "out of memory");
    struct run *r = arena_alloc(a, sizeof *r);
    if (!r) return err_set(note, ERR_NOMEM, NULL, "out of memory");
    r->t = t;
    r->arena = a;
    r->out = out;
    out->span = NULL;
    out->n_span = out->cap_span = 0;
    if (bind_names(r, context) && tmpl_exec(r)) return OK;
    if (!r->err) tmpl_fail(r, "the rendering failed");
    if (r->raised || r->err != ERR_TEMPLATE || !r->line)
        return err_set(note, r->err, "messages", "%s", r->text);
    return err_set(note, r->err, "messages", "chat template, line %d: %s", r->line, r->text);
}
