/* turn: an answer as ordered blocks: thoughts, text, calls. What a choice has grown goes in, in any pieces;
 * what begins, grows and ends is told in order. Loop thread; knows no dialect. */
#ifndef FLUXD_SERVER_API_TURN_H
#define FLUXD_SERVER_API_TURN_H

#include <stdbool.h>
#include <stddef.h>

#include "server/api/choice.h"
#include "server/api/custom_input.h"

enum turn_kind { TURN_THOUGHT, TURN_TEXT, TURN_CALL, TURN_CUSTOM }; /* CUSTOM: a call whose input is a text */

struct turn_block {
    enum turn_kind kind;
    int index;
    struct strbuf text;     /* of a call its arguments, or its input */
    struct strbuf id, name; /* of a call */
    bool open;              /* it may still grow */
    bool whole;             /* of a call: it came to its end */
    int call;               /* of a call: which of the answer */
    struct custom_input input;
};
static inline bool turn_is_call(enum turn_kind kind) { return kind == TURN_CALL || kind == TURN_CUSTOM; }

/* Who listens; each may be NULL. */
struct turn_ear {
    void (*begin)(void *arg, const struct turn_block *b);
    void (*grow)(void *arg, const struct turn_block *b, const char *p, size_t n); /* b->text has it already */
    void (*end)(void *arg, const struct turn_block *b);
};

struct turn {
    struct turn_block *block; /* [n] */
    int n, cap;
    const struct turn_ear *ear; /* NULL: nobody */
    void *arg;
    bool more;   /* the block that ends is not the last one */
    bool cut;    /* by turn_hush */
    bool failed; /* out of memory; sticky */
};

void turn_init(struct turn *t, const struct turn_ear *ear, void *arg);
void turn_fini(struct turn *t);

/* Goes on with the open block where that is of the kind (TURN_THOUGHT, TURN_TEXT), else ends it and begins
 * one. */
void turn_put(struct turn *t, enum turn_kind kind, const char *p, size_t n);
void turn_open(struct turn *t, enum turn_kind kind); /* one without bytes */
/* A call begins; its arguments follow by turn_arguments, its end by turn_end or the next block. */
void turn_call(struct turn *t, enum turn_kind kind, const char *id, size_t n_id, const char *name,
               size_t n_name);
void turn_arguments(struct turn *t, const char *p, size_t n);
void turn_call_end(struct turn *t); /* of the open call, which is whole */
void turn_end(struct turn *t);      /* of the open block; nothing where there is none */

void turn_hush(struct turn *t); /* the answer failed: the open block is cut, and nobody hears of it */

/* What is new of the choice, which counts as told then. */
void turn_take(struct turn *t, struct choice *c);
bool turn_failed(const struct turn *t);

#endif
