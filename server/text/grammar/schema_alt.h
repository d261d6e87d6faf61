/* schema_alt: the alternatives of a value's arrays or objects. Each is a list of atoms that all hold; what
 * was anyOf, oneOf, not or if is gone from it. */
#ifndef FLUXD_SERVER_TEXT_GRAMMAR_SCHEMA_ALT_H
#define FLUXD_SERVER_TEXT_GRAMMAR_SCHEMA_ALT_H

#include "server/text/grammar/schema.h"

/* A schema with unevaluated* that is being applied, and those around it. What stands under `not` has no
 * scope: it evaluates nothing. */
struct scope {
    const struct scope *up;
};

#define LIT_NONE UINT32_MAX
enum atom_kind {
    ATOM_OBJECT, /* sch: its properties, patternProperties, additionalProperties, propertyNames hold */
    ATOM_NEED,   /* key is there */
    ATOM_FORBID, /* key is not there */
    ATOM_HAS,    /* key is there and its value satisfies lit */
    ATOM_SOME,   /* some key in rx is there, and its value satisfies lit (LIT_NONE: any) */
    ATOM_MIN,
    ATOM_MAX,        /* number of properties or items */
    ATOM_LEFT_PROPS, /* what no atom of the scope evaluates satisfies lit */
    ATOM_ARRAY,      /* sch: its prefixItems and items hold */
    ATOM_CONTAINS,   /* n..most items satisfy lit */
    ATOM_AT,         /* item n is there and satisfies lit */
    ATOM_FROM,       /* some item at n or behind satisfies lit */
    ATOM_UNIQUE,
    ATOM_LEFT_ITEMS,
};

struct atom {
    const struct atom *next;
    const struct scope *scope;
    enum atom_kind kind;
    uint32_t sch, key, lit, rx, n, most;
};

/* Pushes the alternatives of a conj's objects (SCH_OBJECT) or arrays (SCH_ARRAY) onto s->alt. Those that
 * certainly nothing satisfies are left out. */
void schema_expand(struct schema *s, uint32_t conj, unsigned type);
bool alt_impossible(struct schema *s, const struct atom *alt,
                    unsigned type); /* certainly nothing satisfies it */

/* What an alternative asks of the value of key: pushes literals onto s->x->tmp. False: the key may not be
 * there. */
bool alt_key(struct schema *s, const struct atom *alt, uint32_t key);
/* The same for item i, which matches those contains whose bit (their order in the alternative) is in matched.
 */
void alt_item(struct schema *s, const struct atom *alt, uint32_t i, unsigned matched);
bool scope_within(const struct scope *inner, const struct scope *outer);
/* The conj of the literals above base in s->x->tmp, which it takes from there. */
uint32_t conj_of(struct schema *s, size_t base);

void schema_object(struct schema *s, uint32_t rule, uint32_t place, const struct atom *alt);
void schema_array(struct schema *s, uint32_t rule, uint32_t place, const struct atom *alt);

#endif
