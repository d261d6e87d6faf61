/* matcher: what grammar.h's two objects hold. */
#ifndef FLUXD_SERVER_TEXT_GRAMMAR_MATCHER_H
#define FLUXD_SERVER_TEXT_GRAMMAR_MATCHER_H

#include "base/list.h"
#include "server/text/grammar/chart.h"
#include "server/text/grammar/vocab.h"

/* What a state of a lexeme lets through, whatever surrounds the lexeme. */
struct inside_exit {
    uint32_t node; /* of a slice's trie: the lexeme may end behind it, and longer tokens go on there */
};
struct inside {
    uint32_t rx;
    uint32_t *bits; /* tokens that end inside the lexeme or with it */
    struct inside_exit *exit;
    size_t n_exit, cap_exit;
};

struct grammar {
    atomic_int refs;
    struct grammar_vocab *vocab;
    struct grammar_limits lim; /* no zeroes */
    struct pool pool;
    struct rx x;
    struct rtn net;
    struct chart chart;
    struct rx_mark compiled; /* nodes that the network needs */
    struct list matchers;
    uint32_t *mask;    /* [n_mask] masks */
    uint32_t *mask_of; /* [n_mask] config */
    size_t n_mask, cap_mask;
    uint32_t *mask_at; /* by config: index into mask + 1, 0: none */
    size_t cap_mask_at;
    struct inside *inside;             /* see mask_inside.c */
    uint32_t *inside_at[VOCAB_SLICES]; /* by rx state: index into inside + 1, 0: none */
    uint8_t *run_at;                   /* by rx state, see mask_inside.c */
    size_t cap_run_at;
    size_t n_inside, cap_inside, cap_inside_at[VOCAB_SLICES];
};

struct grammar_matcher {
    struct list link;
    struct grammar *g;
    uint32_t *config; /* [n + 1] after each token; MATCHER_ENDED behind an end of text */
    int32_t *token;   /* [n] */
    size_t n, cap_config, cap_token;
};
#define MATCHER_ENDED (UINT32_MAX - 1)

bool grammar_learn_anew(struct grammar *g); /* after a failure for lack of bytes; false: it was another, or it
                                               is too much even so */

#endif
