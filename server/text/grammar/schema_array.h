/* schema_array: an array's automaton while it is built. */
#ifndef FLUXD_SERVER_TEXT_GRAMMAR_SCHEMA_ARRAY_H
#define FLUXD_SERVER_TEXT_GRAMMAR_SCHEMA_ARRAY_H

#include "server/text/grammar/schema_alt.h"

enum { ARRAY_FROMS = 4, ARRAY_CONTAINS = 4, ARRAY_VALUES = 8 /* that unique items may have: 2^n states */ };

struct array_contains {
    const struct atom *atom;
    bool exact;   /* an item that is not counted must not match */
    uint32_t dim; /* counts that are told apart */
};

struct array_at { /* a state's coordinates */
    uint32_t n, count[ARRAY_CONTAINS];
    unsigned marks; /* froms, then values */
};

struct array_value {
    const char *text; /* as JSON, the shortest spelling */
    size_t n;
    uint32_t lexeme; /* every spelling */
};

struct array {
    struct schema *s;
    const struct atom *alt, *unique, *from[ARRAY_FROMS];
    uint32_t rule, place, least, most, cap;
    struct array_contains contains[ARRAY_CONTAINS];
    struct array_value value[ARRAY_VALUES];
    unsigned n_from, n_contains, n_value, n_mark;
    bool left;
    uint32_t *state;
    struct array_at *todo;
    size_t n_todo, cap_todo;
};

/* schema_unique.c: uniqueItems over few values. */
void unique_values(struct array *o); /* all values that any item can have; refuses when there are many */
uint32_t unique_lexeme(struct array *o, uint32_t conj, unsigned v); /* value v where an item satisfies conj */

#endif
