/* schema: a JSON Schema compiled into a network. Read into a tree (schema_read.c), then values are built from
 * the root on: a value is a set of schemas that all hold, or whose opposite holds. What it asks of null,
 * true, false, numbers and strings is one regular expression each; what it asks of arrays and objects is
 * multiplied out into alternatives, each of which becomes an automaton. Every constraint has its opposite, so
 * not, oneOf and if need no case of their own. */
#ifndef FLUXD_SERVER_TEXT_GRAMMAR_SCHEMA_H
#define FLUXD_SERVER_TEXT_GRAMMAR_SCHEMA_H

#include "base/arena.h"
#include "base/files/jdoc.h"
#include "server/text/grammar/chars.h"
#include "server/text/grammar/grammar.h"
#include "server/text/grammar/number.h"
#include "server/text/grammar/rtn.h"

#define SCH_NONE UINT32_MAX

enum {
    SCH_NULL = 1,
    SCH_BOOL = 2,
    SCH_NUMBER = 4,
    SCH_STRING = 8,
    SCH_ARRAY = 16,
    SCH_OBJECT = 32,
    SCH_TYPES = 63,
    SCH_INTEGER = 64
};
enum { WORD_NULL = 1, WORD_TRUE = 2, WORD_FALSE = 4, WORDS = 7 };

struct scalar { /* which values that are no arrays or objects */
    unsigned words;
    struct number_set num;
    uint32_t str; /* the inside of the quotes */
};

struct sch_prop {
    uint32_t key, sch;
};
struct sch_pattern {
    uint32_t rx, sch; /* rx: the inside of the key's quotes */
};
struct sch_dep {
    uint32_t key, sch; /* sch SCH_NONE: the keys are required */
    uint32_t *need;
    uint32_t n_need;
};
struct sch_list {
    uint32_t *v;
    uint32_t n;
};

struct sch {
    struct jval v, ref_text, dyn_text; /* $ref and $dynamicRef */
    const char *base;                  /* URI that its references start from */
    enum { SCH_IS_FALSE, SCH_IS_TRUE, SCH_IS_OBJECT } is;
    unsigned types; /* SCH_INTEGER without SCH_NUMBER: whole numbers alone */
    bool has_num, has_str, has_enum;
    struct number_set num;
    uint32_t str;
    struct scalar named;    /* scalars of enum and const */
    struct sch_list member; /* arrays and objects of enum and const */
    uint32_t ref, dyn, not, if_, then_, else_;
    struct sch_list all, any, one;
    struct sch_prop *prop, *prop_by_key; /* as in the schema; sorted by key */
    struct sch_pattern *pat;
    struct sch_dep *dep;
    uint32_t n_prop, n_pat, n_dep;
    uint32_t extra, names, rest, contains, left_props,
        left_items;               /* additionalProperties, propertyNames, items, unevaluated* */
    struct sch_list need, prefix; /* required, prefixItems */
    uint32_t min_props, max_props, min_items, max_items, min_contains,
        max_contains; /* no maximum: SCH_NONE */
    bool unique;
    struct scalar scalar; /* see schema_scalar.c */
    uint8_t scalar_state;
    uint32_t walk; /* see schema_order.c */
};

struct sch_key {
    const char *text, *spelled; /* as in the schema; as inside JSON quotes */
    size_t n, n_spelled;
};

struct sch_child {
    const char *in; /* the object's place; NULL: free */
    uint32_t key;   /* SCH_NONE: the object is here */
    struct jval v;
};

struct sch_anchor {
    const char *base, *name; /* name NULL: the resource itself */
    struct jval v;
    bool dynamic;
};

/* A schema that must hold or must not: id << 1 | not. */
static inline uint32_t lit_of(uint32_t sch, bool neg) { return sch << 1 | neg; }

struct sch_place { /* see schema_order.c */
    bool known;
    struct sch_list sch,
        key; /* schemas that apply, whether they hold or not; the keys they declare, in order */
};

/* Arrays and objects of a conj at a place. */
struct sch_value {
    uint32_t conj, place, rule;
};

/* A set of literals that one value must satisfy, interned. */
struct conj {
    uint64_t hash;
    uint32_t lit, n; /* in schema.lits */
    bool has_scalar;
    uint8_t sat; /* 0 not known, 1 in work, 2 no, 3 maybe */
    struct scalar scalar;
};

struct schema {
    struct pool *pool;
    struct rx *x;
    struct rtn *net;
    struct arena mem;
    struct grammar_opts opts;
    const struct grammar_limits *lim;
    struct err_note *note;
    enum err err; /* sticky, told in note */
    struct jval root;
    bool old; /* draft 7 and earlier: what stands beside $ref says nothing */
    struct sch **sch;
    struct sch_child *child; /* members of objects that references went through, by hash */
    uint32_t *by_place;      /* schema id + 1 by hash of its place in the text */
    struct sch_key *key;
    uint32_t *by_key;
    struct sch_anchor *anchor;
    struct conj *conj;
    struct sch_place *place; /* by conj */
    struct sch_value *value;
    uint32_t *by_value;
    uint32_t *by_conj, *lits;
    const struct atom **alt; /* alternatives of the value in work, a stack */
    size_t n_sch, cap_sch, cap_by_place, n_key, cap_key, cap_by_key, n_anchor, cap_anchor, n_conj, cap_conj,
        cap_by_conj;
    size_t n_lits, cap_lits, n_alt, cap_alt, n_linked, n_child, cap_child;
    size_t cap_place, n_value, cap_value, cap_by_value, n_built;
    int depth;
    uint32_t walk;                                                          /* number of the last key walk */
    uint32_t open_obj, close_obj, open_arr, close_arr, comma, colon, quote; /* lexemes */
};

/* The whole: a new rule of net for the schema's values. */
enum err schema_compile(struct rtn *net, const char *text, size_t n, const struct grammar_opts *opts,
                        const struct grammar_limits *lim, uint32_t *rule, struct err_note *note);
/* The two halves of it. schema_fini accepts zeroes. */
enum err schema_open(struct schema *s, struct rtn *net, const char *text, size_t n,
                     const struct grammar_opts *opts, const struct grammar_limits *lim,
                     struct err_note *note);
void schema_fini(struct schema *s);

/* Refusals. keyword may be NULL. Return e, or what failed first. */
enum err schema_fail(struct schema *s, enum err e, const struct sch *at, const char *keyword,
                     const char *why);
bool schema_ok(const struct schema *s);
size_t schema_pointer(const struct schema *s, const char *place, char *out, size_t cap);

/* schema_read.c, schema_enum.c, schema_key.c */
uint32_t schema_read(struct schema *s, struct jval v,
                     const char *base); /* the schema at v; SCH_NONE: failed */
uint32_t schema_new(struct schema *s, struct jval v, const char *base); /* with nothing asked */
void schema_read_enum(struct schema *s, struct sch *t, struct jval list);
void schema_read_const(struct schema *s, struct sch *t, struct jval v);
uint32_t schema_key(struct schema *s, const char *text, size_t n);
uint32_t schema_key_of(struct schema *s, struct jval string);
void sch_sort_props(struct schema *s, struct sch *t); /* after t->prop is whole */
void sch_list_push(struct schema *s, struct sch_list *l, uint32_t *cap, uint32_t id);

/* schema_ref.c */
void schema_scan(struct schema *s, struct jval v, const char *base);
void schema_link(struct schema *s, uint32_t id); /* finds what the schema refers to */
/* schema_uri.c */
const char *uri_resolve(struct arena *mem, const char *base, const char *ref,
                        size_t n); /* without fragment; NULL: no memory */

/* schema_scalar.c */
struct scalar schema_scalar(struct schema *s, uint32_t id);
struct scalar scalar_none(struct schema *s);
struct scalar scalar_all(struct schema *s);
struct scalar scalar_and(struct schema *s, struct scalar a, struct scalar b);
struct scalar scalar_or(struct schema *s, struct scalar a, struct scalar b);
struct scalar scalar_not(struct schema *s, struct scalar a);
bool scalar_empty(struct schema *s, const struct scalar *a);
uint32_t scalar_lexeme(struct schema *s, const struct scalar *a);

/* schema_conj.c */
uint32_t schema_conj(struct schema *s, const uint32_t *lit, size_t n);
const struct scalar *conj_scalar(struct schema *s, uint32_t conj);
bool conj_unsat(struct schema *s, uint32_t conj); /* true: certainly no value is in it */
void schema_build(struct schema *s);              /* the rules of all values that were asked for */
/* From state `from` to `to` by one value. */
void schema_value(struct schema *s, uint32_t from, uint32_t conj, uint32_t place, uint32_t to);

/* schema_order.c: a place is a conj of all schemas that may apply to it. */
const struct sch_place *schema_place(struct schema *s, uint32_t place);    /* NULL: failed */
uint32_t schema_place_key(struct schema *s, uint32_t place, uint32_t key); /* of the value of key */
uint32_t schema_place_keys(struct schema *s, uint32_t place,
                           uint32_t rx); /* of the values of the keys in rx */
uint32_t schema_place_item(struct schema *s, uint32_t place, uint32_t n);
const struct sch_prop *sch_find_prop(const struct sch *t, uint32_t key);

#endif
