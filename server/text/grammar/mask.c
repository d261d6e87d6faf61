/* mask: which tokens may come next. A walk over the tries visits a token's bytes only as long as they may come; where a string's inside
 * may take any plain characters, the tokens of those are there ready. A config's mask is kept. */
#include <stdlib.h>

#include "server/text/grammar/matcher.h"

static void set_token(const struct grammar_vocab *v, uint32_t *bits, int32_t token)
{
    for (; token >= 0; token = v->same[token]) bits[token >> 5] |= 1u << (token & 31);
}

static bool walk_trie(struct grammar *g, const struct vocab_trie *t, uint32_t config, uint32_t *bits)
{
    struct chart *c = &g->chart;
    uint32_t      stack[GRAMMAR_TOKEN_BYTES + 1];
    if (!chart_open(c, config)) return false;
    stack[0] = config;
    for (size_t i = 0; i < t->n;) {
        uint32_t                   tb = t->node[i].token_byte, sd = t->node[i].skip_depth, depth = sd & 0xff;
        const struct chart_config *f = &c->config[stack[depth - 1]];
        unsigned                   cls = c->x->part[f->part]->cls[tb & 0xff];
        uint32_t                   to = c->next[f->next + cls];
        if (to == CHART_UNKNOWN) {
            to = chart_step_class(c, stack[depth - 1], cls);
            if (c->pool->fail != OK) return false;
        }
        if (to == CHART_DEAD) {
            i += sd >> 8;
            continue;
        }
        if (tb >> 8 != VOCAB_NO_TOKEN) set_token(g->vocab, bits, (int32_t)(tb >> 8));
        if (sd >> 8 > 1) {
            if (c->config[to].part == CHART_UNKNOWN && !chart_open(c, to)) return false;
            stack[depth] = to;
        }
        i++;
    }
    return true;
}

static bool compute(struct grammar *g, uint32_t config, uint32_t *bits)
{
    static const unsigned chars[VOCAB_SLICES] = {[VOCAB_SHORT] = VOCAB_SHORT_CHARS, [VOCAB_MIDDLE] = VOCAB_MIDDLE_CHARS, [VOCAB_LONG] = CHART_RUN_ANY};
    const struct grammar_vocab *v = g->vocab;
    unsigned                    run = chart_plain_run(&g->chart, config);
    memset(bits, 0, v->n_word * sizeof *bits);
    for (int s = 0; s < VOCAB_SLICES; s++) {
        if (s != VOCAB_OTHER && run >= chars[s]) {
            for (size_t i = 0; i < v->n_word; i++) bits[i] |= v->plain[s][i];
            continue;
        }
        if (!walk_trie(g, &v->trie[s], config, bits)) return false;
    }
    if (g->chart.config[config].accept)
        for (int i = 0; i < v->n_eos; i++) bits[v->eos[i] >> 5] |= 1u << (v->eos[i] & 31);
    return g->pool.fail == OK;
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
    size_t      words = g->vocab->n_word, most = g->lim.mask_bytes / (words * sizeof *bits + 1);
    struct pool p = {.bytes_max = SIZE_MAX, .steps_max = UINT64_MAX};
    if (most == 0) return;
    if (g->n_mask >= most) {
        for (size_t i = 0; i < g->n_mask; i++) g->mask_at[g->mask_of[i]] = 0;
        g->n_mask = 0;
    }
    if (g->n_mask == g->cap_mask) {
        size_t    cap = g->cap_mask ? g->cap_mask * 2 : 4;
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
    size_t          bytes = g->vocab->n_word * sizeof *bits;
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
