/* think: parts an answer into what was reasoned (<think>...</think> at its head) and what is said. Any
 * thread, one owner per answer; knows bytes only. The tags and the white space behind each are nobody's. */
#ifndef FLUXD_SERVER_TEXT_THINK_H
#define FLUXD_SERVER_TEXT_THINK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/strbuf.h"

struct think {
    enum { THINK_HEAD, THINK_REASONS, THINK_SAYS } at;
    bool blank;    /* white space is skipped until something else comes */
    size_t n_held; /* bytes of the tag looked for that the text's end matches */
};

void think_init(struct think *t, bool open); /* open: the prompt ends inside <think> */
/* Appends what is certain. */
void think_feed(struct think *t, const char *p, size_t n, struct strbuf *reason, struct strbuf *out);
void think_end(struct think *t, struct strbuf *reason,
               struct strbuf *out); /* the text is over: what was held back is text */

/* Whether a text ends behind a <think> that no </think> follows; tail: with nothing but white space between.
 */
bool think_is_open(const char *p, size_t n, bool tail);

#endif
