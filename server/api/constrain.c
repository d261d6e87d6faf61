/* constrain: see constrain.h. */
#include "server/api/constrain.h"

#include <stdio.h>
#include <string.h>

static enum err add_guides(const struct prep_env *env, struct ask *a, struct err_note *note)
{
    for (int i = 0; i < ask_n_choice(a); i++) {
        a->request[i]->ask.guide = constraint_guide(a->constraint, env->chat.tokenizer, &a->mem);
        if (!a->request[i]->ask.guide) return err_set(note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
    }
    return OK;
}

/* A refusal that is not about one place of a schema is about the field. What is too large is wrong in itself,
 * for the body was not. */
static enum err told(enum err e, const char *name, struct err_note *note)
{
    if (e == ERR_TOO_LARGE || e == ERR_INVALID_JSON) e = note->code = ERR_INVALID_VALUE;
    if (err_status(e) == 400 && strncmp(note->param, name, strlen(name)) != 0)
        snprintf(note->param, sizeof note->param, "%s", name);
    return e;
}

enum err constrain_parts(const struct prep_env *env, enum constraint_kind kind,
                         const struct grammar_part *body, const struct grammar_opts *opts, const char *name,
                         struct ask *a, struct err_note *note)
{
    struct constraint_thought thought = env->thought;
    thought.is_open = a->think_open;
    if (!a->thinks) thought.n_close = 0;
    enum err e = constraints_behind(env->constraints, kind, body, &thought, opts, &a->constraint, note);
    return e ? told(e, name, note) : add_guides(env, a, note);
}

struct grammar_part constrain_part(const struct params *p)
{
    const struct format *f = &p->format;
    return (struct grammar_part){
        .kind = GRAMMAR_BODY, .body = f->body, .text = f->text, .n = f->n, .name = f->name};
}

enum err constrain_ask(const struct prep_env *env, const struct params *p, struct ask *a,
                       struct err_note *note)
{
    const struct format *f = &p->format;
    if (f->kind == CONSTRAINT_NONE || a->scores) return OK;
    const struct grammar_part body = constrain_part(p);
    struct grammar_opts opts = *constraints_opts(env->constraints);
    if (f->no_free_space && opts.space == GRAMMAR_ANY) opts.space = GRAMMAR_SPACED;
    return constrain_parts(env, f->kind, &body, &opts, f->name, a, note);
}
