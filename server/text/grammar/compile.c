/* compile: from text to a grammar that is ready to run. */
#include <stdlib.h>

#include "server/text/grammar/mask.h"
#include "server/text/grammar/parts.h"

/* Compiling finds out for certain whether something is empty. Running may not take so long: an undecided
 * state is taken as open, and at worst a text comes to a place where no token is left. */
enum { RUN_SEARCH = 1000 };

static struct grammar_limits limits(const struct grammar_limits *l)
{
    struct grammar_limits r = l ? *l : (struct grammar_limits){0};
    if (!r.text_bytes) r.text_bytes = GRAMMAR_TEXT_BYTES;
    if (!r.compile_bytes) r.compile_bytes = GRAMMAR_COMPILE_BYTES;
    if (!r.compile_steps) r.compile_steps = GRAMMAR_COMPILE_STEPS;
    if (!r.states) r.states = GRAMMAR_STATES;
    if (!r.alternatives) r.alternatives = GRAMMAR_ALTERNATIVES;
    if (!r.threads) r.threads = GRAMMAR_THREADS;
    if (!r.run_bytes) r.run_bytes = GRAMMAR_RUN_BYTES;
    if (!r.mask_bytes) r.mask_bytes = GRAMMAR_MASK_BYTES;
    if (!r.mask_steps) r.mask_steps = GRAMMAR_MASK_STEPS;
    return r;
}

static enum err pool_told(const struct pool *p, struct err_note *note)
{
    if (p->fail == ERR_NOMEM) return err_set(note, ERR_NOMEM, NULL, "no memory to compile the grammar");
    return err_set(note, p->fail, p->what,
                   "the grammar is too large: its compilation went beyond the limit on %s", p->what);
}

static enum err fill(struct grammar *g, const struct grammar_part *root, const struct grammar_opts *opts,
                     struct err_note *note)
{
    struct grammar_opts none = {0};
    if (!rx_init(&g->x, &g->pool)) return pool_told(&g->pool, note);
    rtn_init(&g->net, &g->pool, &g->x, g->lim.states);
    enum err e = parts_build(g, root, opts ? opts : &none, note);
    if (g->pool.fail != OK) return pool_told(&g->pool, note);
    if (e != OK) return e;
    bool some = rtn_finish(&g->net);
    if (g->pool.fail != OK) return pool_told(&g->pool, note);
    if (!some) return err_set(note, ERR_INVALID_VALUE, NULL, "nothing satisfies this grammar");
    g->compiled = rx_mark(&g->x);
    chart_init(&g->chart, &g->pool, &g->x, &g->net, g->lim.threads);
    g->pool.bytes_max = g->pool.bytes + g->lim.run_bytes;
    g->pool.steps_max = g->lim.mask_steps;
    g->x.search_most = RUN_SEARCH;
    return g->pool.fail == OK ? OK : pool_told(&g->pool, note);
}

/* The first mask is made at once, so that a lexeme whose automaton explodes is refused here and not in an
 * answer. */
static enum err try_first(struct grammar *g, struct err_note *note)
{
    struct grammar_matcher *m = NULL;
    uint32_t *bits = calloc(g->vocab->n_word ? g->vocab->n_word : 1, sizeof *bits);
    enum err e = bits ? grammar_matcher_new(&m, g) : ERR_NOMEM;
    if (e == OK) e = grammar_matcher_mask(m, bits);
    const char *limit = grammar_limit(g);
    if (e == ERR_UNSUPPORTED && limit)
        err_set(note, e, limit, "the grammar is too complex: its first mask goes beyond the limit on %s",
                limit);
    else if (e != OK)
        err_set(note, e, NULL, "no memory for the grammar's first mask");
    grammar_matcher_free(m);
    free(bits);
    return e;
}

enum err grammar_compile_parts(struct grammar **out, struct grammar_vocab *v, const struct grammar_part *root,
                               const struct grammar_opts *opts, const struct grammar_limits *lim,
                               struct err_note *note)
{
    *out = NULL;
    struct grammar *g = calloc(1, sizeof *g);
    if (!g) return err_set(note, ERR_NOMEM, NULL, "no memory to compile the grammar");
    atomic_init(&g->refs, 1);
    list_init(&g->matchers);
    g->lim = limits(lim);
    g->pool = (struct pool){.bytes_max = g->lim.compile_bytes, .steps_max = g->lim.compile_steps};
    g->vocab = v;
    grammar_vocab_take(v);
    enum err e = fill(g, root, opts, note);
    if (e == OK) e = try_first(g, note);
    if (e != OK)
        grammar_give(g);
    else
        *out = g;
    return e;
}

enum err grammar_compile(struct grammar **out, struct grammar_vocab *v, enum grammar_kind kind,
                         const char *text, size_t n, const struct grammar_opts *opts,
                         const struct grammar_limits *lim, struct err_note *note)
{
    const struct grammar_part whole = {.kind = GRAMMAR_BODY, .body = kind, .text = text, .n = n};
    return grammar_compile_parts(out, v, &whole, opts, lim, note);
}

void grammar_take(struct grammar *g) { atomic_fetch_add_explicit(&g->refs, 1, memory_order_relaxed); }

void grammar_give(struct grammar *g)
{
    if (!g || atomic_fetch_sub_explicit(&g->refs, 1, memory_order_acq_rel) != 1) return;
    chart_fini(&g->chart);
    rtn_fini(&g->net);
    rx_fini(&g->x);
    free(g->mask);
    free(g->mask_of);
    free(g->mask_at);
    inside_forget(g);
    free(g->inside);
    free(g->run_at);
    for (int s = 0; s < VOCAB_SLICES; s++) free(g->inside_at[s]);
    grammar_vocab_give(g->vocab);
    free(g);
}

const char *grammar_limit(const struct grammar *g)
{
    return g->pool.fail == ERR_UNSUPPORTED ? g->pool.what : NULL;
}

const struct grammar_vocab *grammar_vocab_of(const struct grammar *g) { return g->vocab; }

size_t grammar_bytes(const struct grammar *g)
{
    size_t at = 0;
    for (int s = 0; s < VOCAB_SLICES; s++) at += g->cap_inside_at[s] * sizeof *g->inside_at[s];
    return g->pool.bytes + at + g->cap_mask * (g->vocab->n_word * sizeof *g->mask + sizeof *g->mask_of) +
           g->cap_mask_at * sizeof *g->mask_at +
           g->n_inside * (g->vocab->n_word * sizeof(uint32_t) + sizeof *g->inside);
}
