/* matcher: a text's states, one for each token. When what the grammar has learnt fills its memory all of it
 * is dropped, and the states of all matchers are found again from their tokens. */
#include "server/text/grammar/mask.h"

#include <stdlib.h>

#include "base/check.h"

static struct pool tokens_pool(void) { return (struct pool){.bytes_max = SIZE_MAX, .steps_max = UINT64_MAX}; }

/* The state behind a token's bytes. */
static uint32_t walk(struct grammar *g, uint32_t config, int32_t token)
{
    size_t n;
    const char *p = vocab_bytes(g->vocab, token, &n);
    if (n == 0 || n > GRAMMAR_TOKEN_BYTES) return CHART_DEAD;
    for (size_t i = 0; i < n && config != CHART_DEAD; i++)
        config = chart_step(&g->chart, config, (uint8_t)p[i]);
    return config;
}

static void replay(struct grammar_matcher *m)
{
    struct grammar *g = m->g;
    m->config[0] = chart_begin(&g->chart);
    for (size_t i = 0; i < m->n; i++)
        if (m->config[i + 1] != MATCHER_ENDED) m->config[i + 1] = walk(g, m->config[i], m->token[i]);
}

/* After a failure for lack of bytes: everything anew. False: it does not fit even so, or the failure was
 * another. */
bool grammar_learn_anew(struct grammar *g)
{
    struct pool *p = &g->pool;
    if (p->fail != ERR_UNSUPPORTED || strcmp(p->what, "bytes") != 0) return false;
    p->fail = OK;
    p->steps = 0;
    chart_reset(&g->chart);
    rx_rewind(&g->x, &g->compiled);
    g->n_mask = 0;
    inside_forget(g);
    if (g->cap_run_at) memset(g->run_at, 0, g->cap_run_at);
    if (g->cap_mask_at) memset(g->mask_at, 0, g->cap_mask_at * sizeof *g->mask_at);
    LIST_EACH (it, &g->matchers) replay(LIST_ITEM(it, struct grammar_matcher, link));
    return p->fail == OK;
}

/* Each call from outside has its own steps, and a failure of an earlier one (memory may be there again) is
 * forgotten. */
static void begin(struct grammar *g)
{
    g->pool.steps = 0;
    g->pool.fail = OK;
}

enum err grammar_matcher_new(struct grammar_matcher **out, struct grammar *g)
{
    *out = NULL;
    struct grammar_matcher *m = calloc(1, sizeof *m);
    struct pool p = tokens_pool();
    if (!m || !pool_grow(&p, &m->config, &m->cap_config, 1, sizeof *m->config)) {
        free(m);
        return ERR_NOMEM;
    }
    m->g = g;
    grammar_take(g);
    list_push_back(&g->matchers, &m->link);
    begin(g);
    m->config[0] = chart_begin(&g->chart);
    if (g->pool.fail != OK && !grammar_learn_anew(g)) {
        enum err e = g->pool.fail;
        grammar_matcher_free(m);
        return e;
    }
    *out = m;
    return OK;
}

enum err grammar_matcher_fork(struct grammar_matcher **out, struct grammar_matcher *m)
{
    struct grammar_matcher *f = calloc(1, sizeof *f);
    struct pool p = tokens_pool();
    *out = NULL;
    if (!f || !pool_grow(&p, &f->config, &f->cap_config, m->n + 1, sizeof *f->config) ||
        !pool_grow(&p, &f->token, &f->cap_token, m->n + 1, sizeof *f->token)) {
        if (f) free(f->config);
        free(f);
        return ERR_NOMEM;
    }
    memcpy(f->config, m->config, (m->n + 1) * sizeof *f->config);
    if (m->n) memcpy(f->token, m->token, m->n * sizeof *f->token);
    f->n = m->n;
    f->g = m->g;
    grammar_take(m->g);
    list_push_back(&m->g->matchers, &f->link);
    *out = f;
    return OK;
}

void grammar_matcher_free(struct grammar_matcher *m)
{
    if (!m) return;
    list_remove(&m->link);
    grammar_give(m->g);
    free(m->config);
    free(m->token);
    free(m);
}

size_t grammar_matcher_tokens(const struct grammar_matcher *m) { return m->n; }

void grammar_matcher_rollback(struct grammar_matcher *m, size_t n)
{
    CHECK(n <= m->n);
    m->n -= n;
}

bool grammar_matcher_done(struct grammar_matcher *m)
{
    uint32_t c = m->config[m->n];
    return c == MATCHER_ENDED || m->g->chart.config[c].accept;
}

static bool is_eos(const struct grammar_vocab *v, int32_t token)
{
    for (int i = 0; i < v->n_eos; i++)
        if (v->eos[i] == token) return true;
    return false;
}

static enum err push(struct grammar_matcher *m, int32_t token, uint32_t config)
{
    struct pool p = tokens_pool();
    if (!pool_grow(&p, &m->config, &m->cap_config, m->n + 2, sizeof *m->config) ||
        !pool_grow(&p, &m->token, &m->cap_token, m->n + 1, sizeof *m->token))
        return ERR_NOMEM;
    m->token[m->n++] = token;
    m->config[m->n] = config;
    return OK;
}

enum err grammar_matcher_accept(struct grammar_matcher *m, int32_t token)
{
    struct grammar *g = m->g;
    if (token < 0 || token >= g->vocab->n_token || m->config[m->n] == MATCHER_ENDED) return ERR_INVALID_VALUE;
    if (is_eos(g->vocab, token))
        return grammar_matcher_done(m) ? push(m, token, MATCHER_ENDED) : ERR_INVALID_VALUE;
    begin(g);
    uint32_t to = walk(g, m->config[m->n], token);
    if (g->pool.fail != OK && grammar_learn_anew(g)) to = walk(g, m->config[m->n], token);
    if (g->pool.fail != OK) return g->pool.fail;
    return to == CHART_DEAD ? ERR_INVALID_VALUE : push(m, token, to);
}

size_t grammar_matcher_forced(struct grammar_matcher *m, char *out, size_t cap)
{
    struct chart *c = &m->g->chart;
    uint32_t at = m->config[m->n];
    size_t n = 0;
    begin(m->g);
    while (n < cap && at != MATCHER_ENDED && !c->config[at].accept && chart_open(c, at)) {
        const struct rx_part *p = c->x->part[c->config[at].part];
        unsigned live = 0, which = 0;
        for (unsigned k = 0; k < p->n && live < 2; k++) {
            if (chart_step_class(c, at, k) == CHART_DEAD) continue;
            live += p->size[k];
            which = k;
        }
        p = c->x->part[c->config[at].part];
        if (live != 1 || c->pool->fail != OK) break;
        out[n++] = (char)p->rep[which];
        at = chart_step_class(c, at, which);
    }
    return n;
}
