/* ecma_internal: what the pattern's parser hands to its builder. */
#ifndef FLUXD_SERVER_TEXT_GRAMMAR_ECMA_INTERNAL_H
#define FLUXD_SERVER_TEXT_GRAMMAR_ECMA_INTERNAL_H

#include "base/arena.h"
#include "server/text/grammar/ecma.h"

enum ecma_kind { ECMA_SET, ECMA_SEQ, ECMA_ALT, ECMA_REP, ECMA_BEGIN, ECMA_END, ECMA_LOOK, ECMA_LOOK_NOT };

struct ecma_node {
    enum ecma_kind kind;
    size_t at;               /* byte of the pattern */
    struct ecma_node *first; /* children, linked by next */
    struct ecma_node *next;
    uint32_t min, max;         /* REP */
    struct chars_range *range; /* SET */
    size_t n_range;
};

struct ecma_parser {
    const char *text, *p, *end;
    struct arena *mem;
    const char *why; /* set once */
    size_t why_at;
    int depth;
};

struct ecma_node *ecma_parse(struct ecma_parser *p); /* NULL: p->why */
/* Sorts and merges; room for the result is r itself. Returns how many are left. */
size_t ecma_normal(struct chars_range *r, size_t n);
struct ecma_node *ecma_class(struct ecma_parser *p);  /* behind '[' */
struct ecma_node *ecma_escape(struct ecma_parser *p); /* behind '\' outside a class */
struct ecma_node *ecma_set(struct ecma_parser *p, const struct chars_range *r, size_t n);
struct ecma_node *ecma_bad(struct ecma_parser *p, const char *why);
uint32_t ecma_char(struct ecma_parser *p); /* one character of the pattern */

#endif
