/* gbnf: grammars as llama.cpp writes them. name ::= alternatives of sequences of "literals", [classes], .,
 * names and (groups), with
 * *, +, ?, {m}, {m,} and {m,n} behind; # begins a comment; root is the whole text. Left recursion is fine
 * here. */
#ifndef FLUXD_SERVER_TEXT_GRAMMAR_GBNF_H
#define FLUXD_SERVER_TEXT_GRAMMAR_GBNF_H

#include "base/arena.h"
#include "server/text/grammar/chars.h"
#include "server/text/grammar/rtn.h"

/* *rule: a new one of net, the whole. ERR_INVALID_VALUE with note->param "line:column" (columns are counted
 * in characters, from 1). */
enum err gbnf_compile(struct rtn *net, const char *text, size_t n, size_t mem_bytes, uint32_t *rule,
                      struct err_note *note);

/* Between the files of gbnf. */
enum gbnf_kind { GBNF_LEAF, GBNF_NAME, GBNF_SEQ, GBNF_ALT, GBNF_REP };
struct gbnf_node {
    enum gbnf_kind kind;
    struct gbnf_node *first, *next; /* children */
    uint32_t rx;                    /* LEAF */
    uint32_t rule;                  /* NAME */
    uint32_t min, max;              /* REP */
    const char *at;
};

struct gbnf_rule {
    const char *name;
    size_t n;
    struct gbnf_node *body; /* NULL: only referred to */
    const char *at;         /* first reference or definition */
    uint8_t state;          /* see gbnf_build.c */
    uint32_t rx, net_rule;  /* of a rule that is one regular expression; of another */
};

struct gbnf {
    struct rtn *net;
    struct rx *x;
    struct arena mem;
    const char *text, *p, *end;
    struct gbnf_rule *rule;
    size_t n_rule, cap_rule;
    uint32_t *by_name;
    size_t cap_by_name;
    const char *why, *why_at; /* set once */
    int depth;
};
bool gbnf_ok(const struct gbnf *g);
void gbnf_bad(struct gbnf *g, const char *at, const char *why);
void gbnf_parse(struct gbnf *g);
void gbnf_build(struct gbnf *g);

#endif
