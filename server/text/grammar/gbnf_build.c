/* gbnf: the network. What does not lead back to itself is one regular expression, so that a lexeme is as long
 * as it can be; only rules that do are automata that call each other. */
#include "server/text/grammar/gbnf.h"

enum { RULES_DEEP = 1000 };
enum { STATE_NEW, STATE_OPEN, STATE_REGULAR, STATE_CALLED };

/* --- which rules are regular */

static bool is_regular(struct gbnf *g, uint32_t id);

static bool node_regular(struct gbnf *g, const struct gbnf_node *n)
{
    bool all = true;
    if (n->kind == GBNF_NAME) return is_regular(g, n->rule);
    for (const struct gbnf_node *c = n->first; c; c = c->next) all = node_regular(g, c) && all;
    return all;
}

static bool is_regular(struct gbnf *g, uint32_t id)
{
    struct gbnf_rule *r = &g->rule[id];
    if (r->state != STATE_NEW) return r->state == STATE_REGULAR;
    if (++g->depth > RULES_DEEP) {
        gbnf_bad(g, r->at, "rules refer to each other too deeply");
        return false;
    }
    r->state = STATE_OPEN;
    bool regular = node_regular(g, r->body);
    g->depth--;
    r->state = regular ? STATE_REGULAR : STATE_CALLED;
    return regular;
}

static uint32_t expression(struct gbnf *g, const struct gbnf_node *n);

static uint32_t rule_expression(struct gbnf *g, uint32_t id)
{
    if (g->rule[id].rx == RX_EMPTY) {
        uint32_t r = expression(g, g->rule[id].body);
        g->rule[id].rx = r;
    }
    return g->rule[id].rx;
}

static uint32_t expression(struct gbnf *g, const struct gbnf_node *n)
{
    struct rx *x = g->x;
    size_t base = x->n_tmp;
    uint32_t r = RX_EPS;
    if (!gbnf_ok(g) || !pool_step(x->pool, 1)) return RX_EMPTY;
    switch (n->kind) {
    case GBNF_LEAF:
        return n->rx;
    case GBNF_NAME:
        return rule_expression(g, n->rule);
    case GBNF_REP:
        return rx_rep(x, expression(g, n->first), n->min, n->max);
    default:
        break;
    }
    for (const struct gbnf_node *c = n->first; c; c = c->next) rx_push(x, expression(g, c));
    if (n->kind == GBNF_ALT) return rx_alt_of(x, base);
    for (size_t i = x->n_tmp; i > base; i--) r = rx_cat(x, x->tmp[i - 1], r);
    x->n_tmp = base;
    return r;
}

/* --- automata of the others */

struct place { /* inside which rule, and whether nothing of it follows */
    uint32_t rule;
    bool last;
};

static void part(struct gbnf *g, const struct gbnf_node *n, struct place in, uint32_t from, uint32_t to);

static uint32_t rule_net(struct gbnf *g, uint32_t id)
{
    if (g->rule[id].net_rule == UINT32_MAX) {
        uint32_t r = rtn_rule(g->net);
        g->rule[id].net_rule = r;
    }
    return g->rule[id].net_rule;
}

static void repeat(struct gbnf *g, const struct gbnf_node *n, struct place in, uint32_t from, uint32_t to)
{
    uint32_t at = from;
    in.last = false;
    for (uint32_t i = 0; i < n->min && gbnf_ok(g); i++) {
        uint32_t next = rtn_state(g->net, in.rule);
        part(g, n->first, in, at, next);
        at = next;
    }
    if (n->max == RX_MORE) {
        uint32_t loop = rtn_state(g->net, in.rule);
        rtn_free(g->net, at, loop);
        part(g, n->first, in, loop, loop);
        rtn_free(g->net, loop, to);
        return;
    }
    for (uint32_t i = n->min; i < n->max && gbnf_ok(g); i++) {
        uint32_t next = rtn_state(g->net, in.rule);
        rtn_free(g->net, at, to);
        part(g, n->first, in, at, next);
        at = next;
    }
    rtn_free(g->net, at, to);
}

static void sequence(struct gbnf *g, const struct gbnf_node *n, struct place in, uint32_t from, uint32_t to)
{
    uint32_t at = from;
    for (const struct gbnf_node *c = n->first; c && gbnf_ok(g);) {
        uint32_t rx = RX_EPS;
        for (; c && node_regular(g, c); c = c->next) rx = rx_cat(g->x, rx, expression(g, c));
        if (rx != RX_EPS) { /* also RX_EMPTY: then nothing goes on */
            uint32_t next = c ? rtn_state(g->net, in.rule) : to;
            rtn_lexeme(g->net, at, rx, next);
            at = next;
        }
        if (!c) {
            if (rx == RX_EPS) rtn_free(g->net, at, to);
            return;
        }
        struct place here = {in.rule, in.last && !c->next};
        uint32_t next = c->next ? rtn_state(g->net, in.rule) : to;
        part(g, c, here, at, next);
        if (!c->next) return;
        at = next;
        c = c->next;
    }
    rtn_free(g->net, at, to);
}

static void part(struct gbnf *g, const struct gbnf_node *n, struct place in, uint32_t from, uint32_t to)
{
    if (!gbnf_ok(g)) return;
    if (node_regular(g, n)) {
        rtn_lexeme(g->net, from, expression(g, n), to);
        return;
    }
    switch (n->kind) {
    case GBNF_NAME: {
        uint32_t rule = rule_net(g, n->rule);
        /* A rule that ends with itself goes round instead of down. */
        if (rule == in.rule && in.last)
            rtn_free(g->net, from, rtn_start(g->net, rule));
        else
            rtn_call(g->net, from, rule, to);
        return;
    }
    case GBNF_SEQ:
        sequence(g, n, in, from, to);
        return;
    case GBNF_REP:
        repeat(g, n, in, from, to);
        return;
    default:
        for (const struct gbnf_node *c = n->first; c && gbnf_ok(g); c = c->next) part(g, c, in, from, to);
        return;
    }
}

void gbnf_build(struct gbnf *g)
{
    for (size_t i = 0; i < g->n_rule && gbnf_ok(g); i++) is_regular(g, (uint32_t)i);
    for (size_t i = 0; i < g->n_rule; i++) g->rule[i].net_rule = UINT32_MAX;
    rule_net(g, 0);
    for (size_t i = 0; i < g->n_rule && gbnf_ok(g); i++) {
        if (i > 0 && g->rule[i].state == STATE_REGULAR) continue;
        uint32_t rule = rule_net(g, (uint32_t)i), end = rtn_state(g->net, rule);
        rtn_accept(g->net, end);
        part(g, g->rule[i].body, (struct place){rule, true}, rtn_start(g->net, rule), end);
    }
}
