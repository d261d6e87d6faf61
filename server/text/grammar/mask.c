/* mask: which tokens may come next. A walk over the tries visits a token's bytes only as long as they may
 * come; where a string's inside may take any plain characters, the tokens of those are there ready. A
 * config's mask is kept. */
#include "server/text/grammar/mask.h"

#include <stdlib.h>

/* The nodes [from, to) of a trie, which lie `above` bytes and more under the place where config stands. */
static bool walk_nodes(struct grammar *g, const struct vocab_trie *t, size_t from, size_t to, uint32_t above,
                       uint32_t config, uint32_t *bits)
{
    struct chart *c = &g->chart;
    uint32_t stack[GRAMMAR_TOKEN_BYTES + 1];
    stack[0] = config;
    for (size_t i = from; i < to;) {
        uint32_t tb = t->node[i].token_byte, sd = t->node[i].skip_depth, depth = (sd & 0xff) - above;
        const struct chart_config *f = &c->config[stack[depth - 1]];
        unsigned cls = c->x->part[f->part]->cls[tb & 0xff];
        uint32_t next = c->next[f->next + cls];
        if (next == CHART_UNKNOWN) {
            next = chart_step_class(c, stack[depth - 1], cls);
            if (c->pool->fail != OK) return false;
        }
        if (next == CHART_DEAD) {
            i += sd >> 8;
            continue;
        }
        if (tb >> 8 != VOCAB_NO_TOKEN) mask_set(g->vocab, bits, (int32_t)(tb >> 8));
        if (sd >> 8 > 1) {
            if (c->config[next].part == CHART_UNKNOWN && !chart_open(c, next)) return false;
            stack[depth] = next;
        }
        i++;
    }
    return true;
}

/* A whole trie; only the tokens whose first byte may come are looked at. */
static bool walk_trie(struct grammar *g, const struct vocab_trie *t, uint32_t config, uint32_t *bits)
{
    struct chart *c = &g->chart;
    for (unsigned b = 0; b < 256; b++) {
        if (t->first[b] == t->first[b + 1]) continue;
        unsigned cls = c->x->part[c->config[config].part]->cls[b];
        if (c->next[c->config[config].next + cls] == CHART_DEAD) continue;
        if (!walk_nodes(g, t, t->first[b], t->first[b + 1], 0, config, bits)) return false;
    }
    return true;
}

/* What one thread inside a lexeme lets through: the lexeme's own tokens, and those that go on behind its end.
 */
static bool add_thread(struct grammar *g, struct chart_thread t, uint32_t *bits)
{
    struct inside in[VOCAB_SLICES];
    uint32_t behind = CHART_UNKNOWN;
    if (!inside_add(g, &t, bits, in)) {
        pool_fail(&g->pool, ERR_NOMEM, NULL);
        return false;
    }
    for (int s = 0; s < VOCAB_SLICES; s++)
        for (size_t i = 0; i < in[s].n_exit; i++) {
            const struct vocab_trie *trie = &g->vocab->trie[s];
            size_t at = in[s].exit[i].node;
            uint32_t sd = trie->node[at].skip_depth;
            if (behind == CHART_UNKNOWN) behind = chart_after(&g->chart, &t);
            if (!chart_open(&g->chart, behind) ||
                !walk_nodes(g, trie, at + 1, at + (sd >> 8), sd & 0xff, behind, bits))
                return false;
        }
    return g->pool.fail == OK;
}

/* The threads of a config, parted into those that are worth keeping and the rest. */
enum { INSIDES = 4, ROW_LEXEMES = 8 /* a row with more is walked whole */ };
struct split {
    struct chart_thread inside[INSIDES], *rest;
    size_t n_inside, n_walked, n_rest, cap_rest; /* n_walked: insides that all tokens would be walked for */
};

static void sort_in(struct grammar *g, struct split *s, struct chart_thread t)
{
    struct pool p = {.bytes_max = SIZE_MAX, .steps_max = UINT64_MAX};
    if (s->n_inside < INSIDES && t.lexeme != CHART_UNKNOWN && inside_helps(g, t.at))
        s->n_walked += !inside_is_quick(g, t.at), s->inside[s->n_inside++] = t;
    else if (pool_grow(&p, &s->rest, &s->cap_rest, s->n_rest + 1, sizeof t))
        s->rest[s->n_rest++] = t;
    else
        pool_fail(&g->pool, ERR_NOMEM, NULL);
}

/* A row's beginning is taken apart into its lexemes when one of them is worth it. */
static void sort_row(struct grammar *g, struct split *s, struct chart_thread t)
{
    const struct chart *c = &g->chart;
    struct chart_row r = c->row[t.row];
    uint32_t lexeme[ROW_LEXEMES];
    size_t n = 0;
    bool helps = false;
    for (size_t i = r.lexeme; i < r.lexeme + r.n_lexeme && n <= ROW_LEXEMES; i++) {
        if (i > r.lexeme && c->exit[i].id == c->exit[i - 1].id) continue;
        if (n < ROW_LEXEMES) lexeme[n] = c->exit[i].id;
        n++;
    }
    for (size_t i = 0; i < n && n <= ROW_LEXEMES; i++) helps = inside_helps(g, lexeme[i]) || helps;
    if (!helps) sort_in(g, s, t);
    for (size_t i = 0; i < n && helps; i++) sort_in(g, s, (struct chart_thread){t.row, lexeme[i], lexeme[i]});
}

static bool compute(struct grammar *g, uint32_t config, uint32_t *bits)
{
    const struct grammar_vocab *v = g->vocab;
    struct chart_config f = g->chart.config[config];
    struct split s = {.n_inside = 0};
    memset(bits, 0, v->n_word * sizeof *bits);
    for (uint32_t i = 0; i < f.n_thread; i++) {
        struct chart_thread t = g->chart.thread[f.thread + i];
        if (t.lexeme == CHART_UNKNOWN)
            sort_row(g, &s, t);
        else
            sort_in(g, &s, t);
    }
    if (s.n_walked > 1) s.n_inside = s.n_rest = 0; /* one walk for all is quicker */
    uint32_t rest = s.n_inside == 0 ? config : chart_config(&g->chart, s.rest, s.n_rest, f.accept);
    bool ok = g->pool.fail == OK && chart_open(&g->chart, rest);
    for (int i = 0; i < VOCAB_SLICES && ok && (s.n_rest > 0 || s.n_inside == 0); i++)
        ok = walk_trie(g, &v->trie[i], rest, bits);
    for (size_t i = 0; i < s.n_inside && ok; i++) ok = add_thread(g, s.inside[i], bits);
    if (f.accept)
        for (int i = 0; i < v->n_eos; i++) bits[v->eos[i] >> 5] |= 1u << (v->eos[i] & 31);
    free(s.rest);
    return ok && g->pool.fail == OK;
}

/* --- ready masks */

static const uint32_t *find(const struct grammar *g, uint32_t config)
{
    uint32_t at = config < g->cap_mask_at ? g->mask_at[config] : 0;
    return at ? g->mask + (at - 1) * g->vocab->n_word : NULL;
}

/* Room for one more; when mask_bytes are used up all are dropped. Without memory nothing is kept. */
static void keep(struct grammar *g, uint32_t config, const uint32_t *bits)
{
    size_t words = g->vocab->n_word, most = g->lim.mask_bytes / 2 / (words * sizeof *bits + 1);
    struct pool p = {.bytes_max = SIZE_MAX, .steps_max = UINT64_MAX};
    if (most == 0) return;
    if (g->n_mask >= most) {
        for (size_t i = 0; i < g->n_mask; i++) g->mask_at[g->mask_of[i]] = 0;
        g->n_mask = 0;
    }
    if (g->n_mask == g->cap_mask) {
        size_t cap = g->cap_mask ? g->cap_mask * 2 : 4;
        cap = cap > most ? most : cap;
        uint32_t *mask = realloc(g->mask, cap * words * sizeof *mask);
        if (mask) g->mask = mask;
        uint32_t *of = realloc(g->mask_of, cap * sizeof *of);
        if (of) g->mask_of = of;
        if (!mask || !of) return;
        g->cap_mask = cap;
    }
    size_t old = g->cap_mask_at;
    if (!pool_grow(&p, &g->mask_at, &g->cap_mask_at, (size_t)config + 1, sizeof *g->mask_at)) return;
    if (g->cap_mask_at > old) memset(g->mask_at + old, 0, (g->cap_mask_at - old) * sizeof *g->mask_at);
    memcpy(g->mask + g->n_mask * words, bits, words * sizeof *bits);
    g->mask_of[g->n_mask] = config;
    g->mask_at[config] = (uint32_t)++g->n_mask;
}

enum err grammar_matcher_mask(struct grammar_matcher *m, uint32_t *bits)
{
    struct grammar *g = m->g;
    size_t bytes = g->vocab->n_word * sizeof *bits;
    if (m->config[m->n] == MATCHER_ENDED) {
        memset(bits, 0, bytes);
        return OK;
    }
    const uint32_t *ready = find(g, m->config[m->n]);
    if (ready) {
        memcpy(bits, ready, bytes);
        return OK;
    }
    g->pool.steps = 0;
    g->pool.fail = OK;
    bool ok = compute(g, m->config[m->n], bits);
    if (!ok && grammar_learn_anew(g)) ok = compute(g, m->config[m->n], bits);
    if (!ok) return g->pool.fail == OK ? ERR_NOMEM : g->pool.fail;
    keep(g, m->config[m->n], bits);
    return OK;
}
