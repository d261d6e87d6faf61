/* body: what a client asks for, as a rule of the network. */
#include <stdio.h>

#include "server/text/grammar/ecma.h"
#include "server/text/grammar/gbnf.h"
#include "server/text/grammar/parts.h"
#include "server/text/grammar/schema.h"

/* The whole is one lexeme. */
static void one_lexeme(struct grammar *g, uint32_t rx, uint32_t *rule)
{
    *rule = rtn_rule(&g->net);
    uint32_t end = rtn_state(&g->net, *rule);
    rtn_lexeme(&g->net, rtn_start(&g->net, *rule), rx, end);
    rtn_accept(&g->net, end);
}

static enum err build_regex(struct grammar *g, const char *text, size_t n, uint32_t *rule,
                            struct err_note *note)
{
    uint32_t rx;
    const char *why;
    size_t at;
    if (!ecma_compile(&g->x, CHARS_RAW, ECMA_WHOLE, text, n, &rx, &why, &at)) {
        char where[32];
        snprintf(where, sizeof where, "%zu", at);
        return err_set(note, ERR_UNSUPPORTED, where, "the regular expression, byte %zu: %s", at, why);
    }
    one_lexeme(g, rx, rule);
    return OK;
}

static enum err build_choice(struct grammar *g, const char *text, size_t n, uint32_t *rule,
                             struct err_note *note)
{
    struct jval root;
    struct arena mem;
    size_t n_lit = 0;
    enum err e = jdoc_check(&root, text, n, "the choices", note);
    if (e != OK)
        return e == ERR_MODEL_FILE
                   ? err_set(note, ERR_INVALID_JSON, NULL, "the choices are not JSON as they must be")
                   : e;
    arena_init(&mem, g->lim.compile_bytes);
    for (struct jiter it = jval_iter(root); jiter_next(&it);) n_lit++;
    struct rx_lit *lit = arena_array(&mem, n_lit, sizeof *lit);
    n_lit = 0;
    if (!lit) pool_fail(&g->pool, ERR_UNSUPPORTED, "bytes");
    for (struct jiter it = jval_iter(root); lit && e == OK && jiter_next(&it); n_lit++) {
        if (!jval_string(it.value, &mem, &lit[n_lit].p, &lit[n_lit].n))
            e = ERR_INVALID_VALUE;
        else if (!lit[n_lit].p)
            pool_fail(&g->pool, ERR_UNSUPPORTED, "bytes");
    }
    if (e != OK || jval_kind(root) != JKIND_ARRAY || n_lit == 0)
        e = err_set(note, ERR_INVALID_VALUE, NULL, "the choices must be an array of strings, one at least");
    else if (g->pool.fail == OK)
        one_lexeme(g, rx_lits(&g->x, lit, n_lit), rule);
    arena_fini(&mem);
    return e;
}

enum err body_build(struct grammar *g, enum grammar_kind kind, const char *text, size_t n,
                    const struct grammar_opts *opts, uint32_t *rule, struct err_note *note)
{
    *rule = 0;
    switch (kind) {
    case GRAMMAR_SCHEMA:
        return schema_compile(&g->net, text, n, opts, &g->lim, rule, note);
    case GRAMMAR_REGEX:
        return build_regex(g, text, n, rule, note);
    case GRAMMAR_CHOICE:
        return build_choice(g, text, n, rule, note);
    default:
        return gbnf_compile(&g->net, text, n, g->lim.compile_bytes, rule, note);
    }
}
