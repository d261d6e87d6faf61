/* rtn: the rules of a grammar as automata that call each other (a recursive transition network). An edge
 * reads a lexeme (a regular expression that does not match the empty string alone), calls a rule, or is free.
 * Rule 0 is the whole text. */
#ifndef FLUXD_SERVER_TEXT_GRAMMAR_RTN_H
#define FLUXD_SERVER_TEXT_GRAMMAR_RTN_H

#include "server/text/grammar/rx.h"

enum rtn_label { RTN_FREE, RTN_LEXEME, RTN_RULE };

struct rtn_edge {
    uint32_t label : 2, id : 30; /* of the lexeme (rx node) or rule */
    uint32_t to;
    uint32_t next; /* of the same state, 0: none; after rtn_finish the edges of a state lie side by side */
};

struct rtn_state {
    uint32_t first, n; /* edges; n after rtn_finish */
    uint32_t rule;     /* whose automaton it is of */
    bool accept;
};

struct rtn_rule {
    uint32_t start;
    bool nullable, productive;
};

struct rtn {
    struct pool *pool;
    struct rx *x;
    uint32_t states_max; /* states and edges, the pool fails beyond */
    struct rtn_edge *edge;
    struct rtn_state *state;
    struct rtn_rule *rule;
    size_t n_edge, cap_edge, n_state, cap_state, n_rule, cap_rule;
};

void rtn_init(struct rtn *g, struct pool *pool, struct rx *x, uint32_t states_max);
void rtn_fini(struct rtn *g);
uint32_t rtn_rule(struct rtn *g);                 /* a new rule with its start state */
uint32_t rtn_state(struct rtn *g, uint32_t rule); /* a new state */
static inline uint32_t rtn_start(const struct rtn *g, uint32_t rule)
{
    return rule < g->n_rule ? g->rule[rule].start : 0; /* the pool may have failed */
}
void rtn_accept(struct rtn *g, uint32_t state);
void rtn_free(struct rtn *g, uint32_t from, uint32_t to);
void rtn_lexeme(struct rtn *g, uint32_t from, uint32_t rx, uint32_t to); /* RX_EMPTY adds nothing */
void rtn_call(struct rtn *g, uint32_t from, uint32_t rule, uint32_t to);
/* Drops every edge that no whole text can take, so that whatever may come next can be finished. False: the
 * pool has failed, or (fail still OK) the grammar has no text at all. */
bool rtn_finish(struct rtn *g);

#endif
