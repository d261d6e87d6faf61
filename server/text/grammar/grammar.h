/* grammar: constrained text. A grammar (a JSON Schema, a regular expression, a list of choices, GBNF) is
 * compiled for one vocabulary; a matcher stands somewhere in a text and says which tokens may come next.
 * Whatever a matcher lets through is a beginning of a whole text of the grammar, and every whole text is let
 * through, however it is cut into tokens.
 *
 * Threads: a vocabulary is read-only and may be shared. grammar_compile may run on any thread. What a grammar
 * learns on the way (its automaton, ready masks) is kept in it and shared by its matchers, so a grammar and
 * all its matchers belong to one thread at a time; references may be taken and given on any. */
#ifndef FLUXD_SERVER_TEXT_GRAMMAR_GRAMMAR_H
#define FLUXD_SERVER_TEXT_GRAMMAR_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/strbuf.h"

/* --- vocabulary */

struct grammar_token {
    const char *p; /* its bytes, not always whole characters; borrowed during grammar_vocab_new only */
    size_t n;      /* 0: never part of a constrained text (ends of text) */
};
/* Before the bytes of a token that is not text (a special one): no text has this byte, so only marks and free
 * parts let such a token through. */
#define GRAMMAR_SPECIAL '\xff'

struct grammar_vocab;
/* eos: tokens that end a text; they are allowed where the text may end. Takes one reference. Tokens of more
 * than GRAMMAR_TOKEN_BYTES are never allowed. ERR_NOMEM, or ERR_MODEL_FILE for a vocabulary of more than
 * GRAMMAR_TOKENS. */
enum { GRAMMAR_TOKEN_BYTES = 255, GRAMMAR_TOKENS = 1 << 23 };
enum err grammar_vocab_new(struct grammar_vocab **out, const struct grammar_token *token, int n_token,
                           const int32_t *eos, int n_eos, struct err_note *note);
void grammar_vocab_take(struct grammar_vocab *v);
void grammar_vocab_give(struct grammar_vocab *v);          /* NULL is fine */
size_t grammar_vocab_words(const struct grammar_vocab *v); /* of 32 bits in a mask */

/* --- grammar */

enum grammar_kind {
    GRAMMAR_SCHEMA, /* JSON Schema */
    GRAMMAR_REGEX,  /* an ECMA-262 pattern that the whole text matches */
    GRAMMAR_CHOICE, /* a JSON array of strings: the text is one of them */
    GRAMMAR_GBNF,
};

enum grammar_space {
    GRAMMAR_SPACED,  /* ", " and ": ", as most models write and Python's json.dumps */
    GRAMMAR_COMPACT, /* "," and ":" */
    GRAMMAR_ANY,     /* any white space, GRAMMAR_SPACE_MOST characters in one place at most */
};
enum { GRAMMAR_SPACE_MOST = 64 };

enum grammar_format {
    GRAMMAR_ENFORCE,  /* `format` holds; one that is not known is refused */
    GRAMMAR_ANNOTATE, /* `format` says nothing, as in JSON Schema 2020-12's default */
};

struct grammar_opts {
    enum grammar_space space;
    enum grammar_format format;
};

/* 0 in a field: the default. Compiling beyond a limit is refused with ERR_UNSUPPORTED, which names it. */
struct grammar_limits {
    size_t text_bytes;      /* of the schema, pattern or grammar */
    size_t compile_bytes;   /* memory of the compiled grammar */
    uint64_t compile_steps; /* derivatives, items and edges made: about 20 million a second */
    uint32_t states;        /* of its network, and edges */
    uint32_t alternatives;  /* ways to satisfy one value, after allOf, anyOf, oneOf, not and if are multiplied
                               out */
    uint32_t threads;       /* readings of one text that are open at one time */
    size_t run_bytes;       /* memory for what is learnt while running; when it is full it is learnt anew */
    size_t mask_bytes;      /* for ready masks */
    uint64_t mask_steps;    /* as compile_steps, for one mask or token; beyond it the matcher fails */
};
#define GRAMMAR_TEXT_BYTES    ((size_t)8 << 20)
#define GRAMMAR_COMPILE_BYTES ((size_t)64 << 20)
#define GRAMMAR_COMPILE_STEPS ((uint64_t)3000000)
#define GRAMMAR_STATES        ((uint32_t)400000)
#define GRAMMAR_ALTERNATIVES  ((uint32_t)512)
#define GRAMMAR_THREADS       ((uint32_t)100000)
#define GRAMMAR_RUN_BYTES     ((size_t)64 << 20)
#define GRAMMAR_MASK_BYTES    ((size_t)8 << 20)
#define GRAMMAR_MASK_STEPS    ((uint64_t)3000000)

struct grammar;
/* *out has one reference. Refusals: ERR_UNSUPPORTED (a keyword, pattern or limit; note->param is the
 * keyword's JSON pointer or "line:column"), ERR_INVALID_VALUE (not a schema, pattern or grammar, or one that
 * nothing satisfies), ERR_INVALID_JSON, ERR_TOO_LARGE, ERR_NOMEM. opts, lim and note may be NULL. */
enum err grammar_compile(struct grammar **out, struct grammar_vocab *v, enum grammar_kind kind,
                         const char *text, size_t n, const struct grammar_opts *opts,
                         const struct grammar_limits *lim, struct err_note *note);

/* A text made of parts: what stands around a constrained body, as a thought before it or the marks of a call.
 */
enum grammar_part_kind {
    GRAMMAR_BODY,  /* text[n] read as `body` says: a schema, pattern, list of choices or GBNF */
    GRAMMAR_TEXT,  /* text[n] itself */
    GRAMMAR_MARK,  /* text[n], as plain text or as the special token of that text */
    GRAMMAR_UNTIL, /* any bytes up to text[n] and with it: over where it first occurs. No text of avoid before
                    */
    GRAMMAR_FREE,  /* any bytes in which no text of avoid occurs; may be none */
    GRAMMAR_SEQ,   /* part[0 .. n_part) one behind the other */
    GRAMMAR_ALT,   /* one of them */
    GRAMMAR_REP,   /* part[0] min to max times; max 0: without a bound */
};
struct grammar_part {
    enum grammar_part_kind kind;
    enum grammar_kind body;
    const char *text;
    size_t n;
    const char *name;         /* of a BODY: stands before the pointer in note->param; may be NULL */
    const char *const *avoid; /* [n_avoid] */
    size_t n_avoid;
    const struct grammar_part *part;
    size_t n_part;
    uint32_t min, max;
};
enum { GRAMMAR_PARTS_DEEP = 32 }; /* parts inside each other */
/* As grammar_compile. A free part lets every token through but ends of text, where the text may not end. */
enum err grammar_compile_parts(struct grammar **out, struct grammar_vocab *v, const struct grammar_part *root,
                               const struct grammar_opts *opts, const struct grammar_limits *lim,
                               struct err_note *note);
/* Appends bytes that are equal for equal parts, and different for others: for caches. */
void grammar_part_key(const struct grammar_part *p, struct strbuf *out);

const struct grammar_vocab *grammar_vocab_of(const struct grammar *g);
void grammar_take(struct grammar *g);
void grammar_give(struct grammar *g);               /* NULL is fine */
const char *grammar_limit(const struct grammar *g); /* which one a matcher's last failure met; NULL: none */
size_t grammar_bytes(const struct grammar *g);      /* held now, without the vocabulary */

/* --- matcher */

struct grammar_matcher;
/* At the beginning of a text; holds a reference to g. ERR_NOMEM, or ERR_UNSUPPORTED when g's running limits
 * are too small. */
enum err grammar_matcher_new(struct grammar_matcher **out, struct grammar *g);
enum err grammar_matcher_fork(struct grammar_matcher **out,
                              struct grammar_matcher *m); /* stands where m does; O(tokens) */
void grammar_matcher_free(struct grammar_matcher *m);     /* NULL is fine */

/* bits[grammar_vocab_words]: bit i % 32 of word i / 32 says whether token i may come next. Ends of text are
 * allowed where grammar_matcher_done. All zero after an end of text. On failure (ERR_NOMEM, ERR_UNSUPPORTED:
 * mask_steps, threads) the constraint cannot be held up any more, and the request must end with that error.
 */
enum err grammar_matcher_mask(struct grammar_matcher *m, uint32_t *bits);
/* ERR_INVALID_VALUE: the token may not come here, and m is as before. */
enum err grammar_matcher_accept(struct grammar_matcher *m, int32_t token);
size_t grammar_matcher_tokens(const struct grammar_matcher *m); /* accepted and not rolled back */
void grammar_matcher_rollback(struct grammar_matcher *m,
                              size_t n);              /* forgets the last n tokens; O(1). n <= tokens */
bool grammar_matcher_done(struct grammar_matcher *m); /* the text is whole here */
/* The bytes that must come next whatever the model wants, up to cap; 0 when there is a choice or the text is
 * done. */
size_t grammar_matcher_forced(struct grammar_matcher *m, char *out, size_t cap);
/* Of tokens that spell forced bytes (as the tokenizer cuts them), how many may go in without sampling: a
 * token is left out when a longer token of the vocabulary could still begin at its first byte or earlier,
 * since then the model may prefer that. */
size_t grammar_vocab_settled(const struct grammar_vocab *v, const int32_t *token, size_t n);

#endif
