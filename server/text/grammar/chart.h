/* chart: which texts a network (rtn) accepts, byte by byte. This is Earley's algorithm with two changes. A
 * row is not a place in the text but a value: rows with the same items are one row, so an item's origin is a
 * row, and all that was ever computed for a row or a config holds wherever it comes up again. And lexemes are
 * not cut by a lexer: a lexeme that may end here starts a new row while it may also go on, so no choice is
 * lost.
 *
 * A config is where a text stands: threads, each of which is inside a lexeme of a row. Configs are states of
 * an automaton that is built as it is needed; a text's state is one number, and going back is taking an
 * earlier number. One thread at a time. */
#ifndef FLUXD_SERVER_TEXT_GRAMMAR_CHART_H
#define FLUXD_SERVER_TEXT_GRAMMAR_CHART_H

#include "server/text/grammar/rtn.h"

enum { CHART_DEAD = 0 /* the config of a text that cannot be finished */ };
#define CHART_UNKNOWN UINT32_MAX

struct chart_item { /* of a row's kernel, and where a lexeme or a call leads */
    uint32_t state, origin;
};

struct chart_exit { /* what a row may read (a lexeme) or waits for (a rule), sorted by id */
    uint32_t id;
    struct chart_item then;
};

struct chart_row {
    uint64_t hash;
    uint32_t kernel, n_kernel;
    uint32_t lexeme, n_lexeme; /* in exit */
    uint32_t wait, n_wait;     /* in exit */
    uint32_t part;             /* classes of the first byte; CHART_UNKNOWN until asked for */
    bool accept;               /* the whole text may end here */
};

struct chart_thread {
    uint32_t row, lexeme,
        at; /* at: what is left of the lexeme. lexeme CHART_UNKNOWN: the row's beginning, all its lexemes */
};

struct chart_config {
    uint64_t hash;
    uint32_t thread, n_thread;
    uint32_t part, next; /* next[next + class]: config or CHART_UNKNOWN; part CHART_UNKNOWN until asked for */
    bool accept;
};

struct chart {
    struct pool *pool;
    struct rx *x;
    const struct rtn *g;
    uint32_t threads_max; /* of a config, and items of a row */
    struct chart_row *row;
    struct chart_item *kernel;
    struct chart_exit *exit;
    struct chart_config *config;
    struct chart_thread *thread;
    uint32_t *next, *row_table, *config_table;
    size_t n_row, cap_row, n_kernel, cap_kernel, n_exit, cap_exit, n_config, cap_config, n_thread, cap_thread;
    size_t n_next, cap_next, cap_row_table, cap_config_table;
    /* scratch */
    struct chart_item *item;
    uint32_t *seen; /* item + 1 by hash */
    struct chart_exit *lexeme, *wait;
    struct chart_thread *out;
    struct chart_item *ended;
    size_t n_item, cap_item, cap_seen, n_lexeme, cap_lexeme, n_wait, cap_wait, n_out, cap_out, n_ended,
        cap_ended;
};

void chart_init(struct chart *c, struct pool *pool, struct rx *x, const struct rtn *g, uint32_t threads_max);
void chart_fini(struct chart *c);
void chart_reset(struct chart *c);                                /* forgets all rows and configs */
uint32_t chart_begin(struct chart *c);                            /* config of the empty text */
uint32_t chart_step(struct chart *c, uint32_t config, uint8_t b); /* CHART_DEAD, also when the pool failed */
uint32_t chart_step_class(struct chart *c, uint32_t config,
                          unsigned cls); /* computes next[] of a class of the config's part */
uint32_t
chart_after(struct chart *c,
            const struct chart_thread *t); /* config of the row that begins when the thread's lexeme ends */
uint32_t chart_config(struct chart *c, const struct chart_thread *t, size_t n, bool accept);
bool chart_open(struct chart *c, uint32_t config); /* makes part and next; false: the pool failed */

/* Between the files of chart. */
uint32_t chart_row(struct chart *c, struct chart_item *kernel,
                   size_t n);              /* sorts; CHART_UNKNOWN: the pool failed */
uint32_t chart_row_first(struct chart *c); /* of the empty text */

#endif
