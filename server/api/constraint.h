/* constraint: what answers must be, compiled. Grammars are kept for the next request that asks for the same;
 * what they hold together, in use or kept, is bounded. Any thread may ask for one (a worker does); the guides
 * of answers are the scheduler's to call, and it calls one at a time. */
#ifndef FLUXD_SERVER_API_CONSTRAINT_H
#define FLUXD_SERVER_API_CONSTRAINT_H

#include "base/arena.h"
#include "scheduler/scheduler.h"
#include "server/text/grammar/grammar.h"
#include "server/text/tokenizer.h"

/* Why an answer is constrained. X(name, word in metrics) */
#define CONSTRAINT_LIST(X)                                                                                   \
    X(NONE, "none")                                                                                          \
    X(OBJECT, "json_object")                                                                                 \
    X(SCHEMA, "json_schema")                                                                                 \
    X(REGEX, "regex")                                                                                        \
    X(CHOICE, "choice")                                                                                      \
    X(GRAMMAR, "grammar")                                                                                    \
    X(TOOLS, "tools")
enum constraint_kind {
#define CONSTRAINT_ENUM(name, word) CONSTRAINT_##name,
    CONSTRAINT_LIST(CONSTRAINT_ENUM)
#undef CONSTRAINT_ENUM
        CONSTRAINT_KINDS
};

struct constraint_conf {
    const struct tokenizer *tokenizer; /* borrowed, as is eos */
    const int32_t *eos;
    int n_eos, n_vocab; /* tokens of the model, those without a piece too */
    struct grammar_opts opts;
    struct grammar_limits lim;
    size_t bytes_most; /* of all grammars */
};

struct constraint_stats {
    _Atomic uint64_t asked[CONSTRAINT_KINDS]; /* calls */
    _Atomic uint64_t hits, compiled, refused, evicted;
    _Atomic int64_t bytes, n; /* grammars in memory */
    struct sched_hist compile;
};

struct constraints;
struct constraints *constraints_new(const struct constraint_conf *conf); /* NULL: no memory */
void constraints_free(struct constraints *c); /* no constraint is in use; NULL is fine */
const struct constraint_stats *constraints_stats(const struct constraints *c);

struct constraint;
/* The grammar of root, from memory or compiled (which takes 20 million steps a second; the limits bound
 * them). opts NULL: the conf's. One reference. Errors of grammar_compile, and ERR_OVERLOAD: those in use
 * leave no room. */
enum err constraints_get(struct constraints *c, enum constraint_kind kind, const struct grammar_part *root,
                         const struct grammar_opts *opts, struct constraint **out, struct err_note *note);
const struct grammar_opts *constraints_opts(const struct constraints *c);
void constraint_give(struct constraint *c); /* NULL is fine */

/* A guide for one answer, in mem; c must outlive its request. t: the tokenizer that c's grammar is for. NULL:
 * no memory. */
struct guide *constraint_guide(struct constraint *c, const struct tokenizer *t, struct arena *mem);

/* What may stand before the constrained part of an answer. */
struct constraint_thought {
    const char *open; /* [n_open], not terminated */
    size_t n_open;
    const char *close; /* [n_close]; n_close 0: this model does not think */
    size_t n_close;
    bool is_open; /* the prompt ends inside one */
};
/* As constraints_get, for body behind the thought: one that is open must end first, else the model may begin
 * with one. White space of 8 characters at most may follow it. */
enum err constraints_behind(struct constraints *c, enum constraint_kind kind, const struct grammar_part *body,
                            const struct constraint_thought *thought, const struct grammar_opts *opts,
                            struct constraint **out, struct err_note *note);

#endif
