/* rtn: see rtn.h. */
#include "server/text/grammar/rtn.h"

#include <stdlib.h>

void rtn_init(struct rtn *g, struct pool *pool, struct rx *x, uint32_t states_max)
{
    *g = (struct rtn){.pool = pool, .x = x, .states_max = states_max, .n_edge = 1};
    if (pool_grow(pool, &g->edge, &g->cap_edge, 1, sizeof *g->edge)) g->edge[0] = (struct rtn_edge){0};
}

void rtn_fini(struct rtn *g)
{
    free(g->edge);
    free(g->state);
    free(g->rule);
    *g = (struct rtn){0};
}

static bool room(struct rtn *g, void *at, size_t *cap, size_t n, size_t size)
{
    if (n + 1 > g->states_max) pool_fail(g->pool, ERR_UNSUPPORTED, "states");
    return pool_grow(g->pool, at, cap, n + 1, size);
}

uint32_t rtn_state(struct rtn *g, uint32_t rule)
{
    if (!room(g, &g->state, &g->cap_state, g->n_state, sizeof *g->state)) return 0;
    g->state[g->n_state] = (struct rtn_state){.rule = rule};
    return (uint32_t)g->n_state++;
}

uint32_t rtn_rule(struct rtn *g)
{
    if (!room(g, &g->rule, &g->cap_rule, g->n_rule, sizeof *g->rule)) return 0;
    uint32_t id = (uint32_t)g->n_rule++;
    g->rule[id] = (struct rtn_rule){0};
    uint32_t start = rtn_state(g, id);
    g->rule[id].start = start;
    return id;
}

void rtn_accept(struct rtn *g, uint32_t state)
{
    if (g->pool->fail == OK) g->state[state].accept = true;
}

static void add(struct rtn *g, uint32_t from, enum rtn_label label, uint32_t id, uint32_t to)
{
    if (!pool_step(g->pool, 1) || !room(g, &g->edge, &g->cap_edge, g->n_edge, sizeof *g->edge)) return;
    g->edge[g->n_edge] =
        (struct rtn_edge){.label = label, .id = id & 0x3fffffff, .to = to, .next = g->state[from].first};
    g->state[from].first = (uint32_t)g->n_edge++;
}

void rtn_free(struct rtn *g, uint32_t from, uint32_t to) { add(g, from, RTN_FREE, 0, to); }
void rtn_call(struct rtn *g, uint32_t from, uint32_t rule, uint32_t to) { add(g, from, RTN_RULE, rule, to); }

void rtn_lexeme(struct rtn *g, uint32_t from, uint32_t rx, uint32_t to)
{
    if (rx == RX_EMPTY || g->pool->fail != OK) return;
    if (rx_nullable(g->x, rx)) add(g, from, RTN_FREE, 0, to);
    if (rx != RX_EPS) add(g, from, RTN_LEXEME, rx, to);
}

/* --- what holds of a state when it holds of where an edge leads and of what the edge reads */

enum property { NULLABLE, PRODUCTIVE };

struct spread {
    struct rtn *g;
    bool *holds;              /* [n_state] */
    bool *rule_holds;         /* [n_rule] */
    uint32_t *from;           /* [n_edge] the state an edge is of */
    uint32_t *into, *of_rule; /* edges into a state and edges that call a rule, linked by in_next and
                                 rule_next (0: none) */
    uint32_t *in_next, *rule_next;
    uint32_t *todo;
    size_t n_todo;
};

static void hold(struct spread *s, uint32_t state)
{
    if (s->holds[state]) return;
    s->holds[state] = true;
    s->todo[s->n_todo++] = state;
}

static bool passes(struct spread *s, const struct rtn_edge *e, enum property what)
{
    if (e->label == RTN_FREE) return true;
    if (e->label == RTN_RULE) return s->rule_holds[e->id];
    return what == PRODUCTIVE && rx_live(s->g->x, e->id);
}

static void spread_run(struct spread *s, enum property what)
{
    const struct rtn *g = s->g;
    for (uint32_t i = 0; i < g->n_state; i++)
        if (g->state[i].accept) hold(s, i);
    while (s->n_todo > 0 && g->pool->fail == OK) {
        uint32_t at = s->todo[--s->n_todo], rule = g->state[at].rule;
        for (uint32_t e = s->into[at]; e; e = s->in_next[e])
            if (passes(s, &g->edge[e], what)) hold(s, s->from[e]);
        if (g->rule[rule].start != at) continue;
        s->rule_holds[rule] = true;
        for (uint32_t e = s->of_rule[rule]; e; e = s->rule_next[e])
            if (s->holds[g->edge[e].to]) hold(s, s->from[e]);
    }
}

static bool spread_init(struct spread *s, struct rtn *g)
{
    *s = (struct spread){.g = g};
    size_t n = g->n_state, r = g->n_rule, e = g->n_edge;
    s->holds = pool_alloc(g->pool, n + r, sizeof(bool));
    s->from = pool_alloc(g->pool, 3 * e + 2 * n + r, sizeof(uint32_t));
    if (!s->holds || !s->from) return false;
    s->rule_holds = s->holds + n;
    s->in_next = s->from + e;
    s->rule_next = s->in_next + e;
    s->into = s->rule_next + e;
    s->todo = s->into + n;
    s->of_rule = s->todo + n;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = g->state[i].first; k; k = g->edge[k].next) {
            const struct rtn_edge *d = &g->edge[k];
            s->from[k] = i;
            s->in_next[k] = s->into[d->to];
            s->into[d->to] = k;
            if (d->label != RTN_RULE) continue;
            s->rule_next[k] = s->of_rule[d->id];
            s->of_rule[d->id] = k;
        }
    return true;
}

static void spread_fini(struct spread *s)
{
    const struct rtn *g = s->g;
    pool_forget(g->pool, (g->n_state + g->n_rule) * sizeof(bool));
    pool_forget(g->pool, (3 * g->n_edge + 2 * g->n_state + g->n_rule) * sizeof(uint32_t));
    free(s->holds);
    free(s->from);
}

/* The edges that stay, those of a state side by side and in the order they were added. */
static void pack(struct rtn *g, struct spread *s)
{
    size_t n = 0, cap = 0;
    struct rtn_edge *out = NULL;
    for (uint32_t i = 0; i < g->n_state; i++) {
        size_t first = n;
        for (uint32_t k = g->state[i].first; k; k = g->edge[k].next) {
            if (!s->holds[g->edge[k].to] || !passes(s, &g->edge[k], PRODUCTIVE)) continue;
            if (!pool_grow(g->pool, &out, &cap, n + 1, sizeof *out)) break;
            out[n++] = g->edge[k];
        }
        for (size_t a = first, b = n; a + 1 < b; a++, b--) {
            struct rtn_edge e = out[a];
            out[a] = out[b - 1];
            out[b - 1] = e;
        }
        g->state[i].first = (uint32_t)first;
        g->state[i].n = (uint32_t)(n - first);
    }
    pool_forget(g->pool, g->cap_edge * sizeof *out);
    free(g->edge);
    g->edge = out;
    g->n_edge = n;
    g->cap_edge = cap;
}

bool rtn_finish(struct rtn *g)
{
    static const enum property order[] = {NULLABLE, PRODUCTIVE};
    for (size_t k = 0; k < 2 && g->pool->fail == OK; k++) {
        struct spread s;
        if (spread_init(&s, g)) {
            spread_run(&s, order[k]);
            for (size_t r = 0; r < g->n_rule; r++) {
                if (order[k] == NULLABLE)
                    g->rule[r].nullable = s.rule_holds[r];
                else
                    g->rule[r].productive = s.rule_holds[r];
            }
            if (order[k] == PRODUCTIVE && g->pool->fail == OK) pack(g, &s);
        }
        spread_fini(&s);
    }
    return g->pool->fail == OK && g->rule[0].productive;
}
