/* rx: regular expressions over bytes as hash-consed nodes, with intersection and complement, and their
 * automata, built lazily from Brzozowski derivatives. A node's id is a state: equal ids are equal languages.
 * One thread at a time.
 *
 *   d(r, b): what may follow byte b in r. r accepts when it is nullable; d(r, b) == RX_EMPTY: b may not come.
 */
#ifndef FLUXD_SERVER_TEXT_GRAMMAR_RX_H
#define FLUXD_SERVER_TEXT_GRAMMAR_RX_H

#include <string.h>

#include "server/text/grammar/pool.h"

enum { RX_EMPTY = 0 /* no string */, RX_EPS = 1 /* the empty string */, RX_ALL = 2 /* every string */ };
enum { RX_PRODUCT_CAP = 4096, RX_PART_CAP = 1024 };
#define RX_MORE UINT32_MAX /* rx_rep without an upper bound */

struct rx_set { /* bytes */
    uint64_t w[4];
};
static inline bool rx_set_has(const struct rx_set *s, unsigned b) { return s->w[b >> 6] >> (b & 63) & 1; }
static inline void rx_set_add(struct rx_set *s, unsigned b) { s->w[b >> 6] |= (uint64_t)1 << (b & 63); }

enum rx_kind {
    RX_KIND_EMPTY,
    RX_KIND_EPS,
    RX_KIND_ALL,
    RX_KIND_BYTE,
    RX_KIND_CLASS,
    RX_KIND_CAT,
    RX_KIND_ALT,
    RX_KIND_AND,
    RX_KIND_NOT,
    RX_KIND_REP,
    RX_KIND_MOD
};
enum rx_flag {
    RX_NULLABLE = 1,
    RX_IMPURE = 2 /* may be empty though it is not RX_EMPTY */,
    RX_LIVE = 4,
    RX_DEAD = 8
};

struct rx_node {
    uint8_t kind, flags;
    uint32_t a, b, c; /* BYTE: a; CLASS: set a; CAT, NOT, REP: node a (and b; b, c times); ALT, AND: b
                         children at list[a]; MOD: see rx_mod.c */
};

/* A partition of the bytes into classes, interned; class numbers rise with their first byte. */
struct rx_part {
    uint16_t n, size[256]; /* classes; bytes in each */
    uint8_t cls[256], rep[256];
};

struct rx_state {
    uint32_t part,
        next; /* next: the state of class k stands at succ[next + k]; part UINT32_MAX: not built yet */
};

struct rx_mod { /* multiples of a / 10^places, as decimal digits */
    uint64_t a;
    uint32_t places;
};

struct rx {
    struct pool *pool;
    struct rx_node *node;
    struct rx_state *state; /* [n] beside node */
    uint32_t *mark;         /* [n] epoch of the last search that saw it */
    size_t n, cap_node, cap_state, cap_mark;
    uint32_t *table; /* ids by hash, 0: free */
    size_t cap_table;
    uint32_t *list, *succ, *tmp, *stack;
    size_t n_list, cap_list, n_succ, cap_succ, n_tmp, cap_tmp, cap_stack;
    struct rx_set *set;
    size_t n_set, cap_set;
    struct rx_mod *mod;
    size_t n_mod, cap_mod;
    struct rx_part **part;
    uint32_t *by_part; /* [RX_PART_CAP] part + 1 by hash, a cache */
    size_t n_part, cap_part;
    uint64_t *product; /* [RX_PRODUCT_CAP] pairs (which two, result), a cache, see rx_part_product */
    uint32_t epoch;
    size_t search_most; /* states that the search for a string may visit; beyond them there is one, it is
                           taken */
    uint32_t memo[8];   /* nodes that callers make once: see chars.h */
};

bool rx_init(struct rx *x, struct pool *pool);
void rx_fini(struct rx *x);

/* Constructors. All return RX_EMPTY once the pool has failed. */
uint32_t rx_byte(struct rx *x, uint8_t b);
uint32_t rx_class(struct rx *x, const struct rx_set *s);
uint32_t rx_range(struct rx *x, uint8_t lo, uint8_t hi);
uint32_t rx_text(struct rx *x, const void *p, size_t n);
uint32_t rx_str(struct rx *x, const char *s);
uint32_t rx_cat(struct rx *x, uint32_t a, uint32_t b);
uint32_t rx_cat3(struct rx *x, uint32_t a, uint32_t b, uint32_t c);
uint32_t rx_alt(struct rx *x, uint32_t a, uint32_t b);
uint32_t rx_and(struct rx *x, uint32_t a, uint32_t b);
uint32_t rx_minus(struct rx *x, uint32_t a, uint32_t b); /* a without b */
uint32_t rx_not(struct rx *x, uint32_t a);
uint32_t rx_rep(struct rx *x, uint32_t a, uint32_t min, uint32_t max);
uint32_t rx_opt(struct rx *x, uint32_t a);
uint32_t
rx_multiple(struct rx *x, uint64_t a,
            uint32_t places); /* plain numbers without a sign that are multiples of a / 10^places; a < 2^32 */
/* Of many: push onto x->tmp, then close what lies above base into one node. */
void rx_push(struct rx *x, uint32_t a);
uint32_t rx_alt_of(struct rx *x, size_t base);
uint32_t rx_and_of(struct rx *x, size_t base);
/* One of n texts, shared as a trie. Sorts text. */
struct rx_lit {
    const char *p;
    size_t n;
};
uint32_t rx_lits(struct rx *x, struct rx_lit *text, size_t n);

static inline bool rx_nullable(const struct rx *x, uint32_t id) { return x->node[id].flags & RX_NULLABLE; }
const struct rx_state *
rx_state(struct rx *x, uint32_t id); /* built when it is first asked for; NULL: the pool has failed */
uint32_t rx_step(struct rx *x, uint32_t id, uint8_t b); /* d(id, b), RX_EMPTY when no string remains */
bool rx_live(struct rx *x, uint32_t id); /* some string is in it. True too when the pool failed on the way */
bool rx_match(struct rx *x, uint32_t id, const void *p, size_t n);
uint32_t rx_part_product(struct rx *x, uint32_t a, uint32_t b); /* the coarsest partition finer than both */

/* Drops all nodes but the first n of that moment, and all states. */
struct rx_mark {
    size_t n, n_list, n_set, n_mod;
};
struct rx_mark rx_mark(const struct rx *x);
void rx_rewind(struct rx *x, const struct rx_mark *m);

/* Between the files of rx. */
uint32_t rx_intern(struct rx *x, struct rx_node n, const uint32_t *child);
uint32_t rx_part_intern(struct rx *x, const struct rx_part *p);
bool rx_mod_nullable(const struct rx *x, const struct rx_node *n);
uint32_t rx_mod_step(struct rx *x, uint32_t id, uint8_t b, struct rx_set *same);

#endif
