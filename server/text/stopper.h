/* stopper: stop strings over a text that comes in parts. Any thread, one owner per stopper; a stop_set is
 * read-only and shared by all choices of a call. Knows bytes only.
 *
 * Each stop string is followed as Knuth, Morris and Pratt do, so a byte costs a few steps whatever came
 * before. What could still become a stop string is held back: the longest end of the text that begins one. Of
 * several, the one that ends first wins, and the longest of those that end at the same byte. */
#ifndef FLUXD_SERVER_TEXT_STOPPER_H
#define FLUXD_SERVER_TEXT_STOPPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/strbuf.h"
#include "server/json/in.h"

enum { STOP_MOST = 4, STOP_BYTES_MOST = 256 };

struct stop_set {
    int n;
    const char *text[STOP_MOST];
    size_t len[STOP_MOST];
    uint16_t *fall[STOP_MOST]; /* [len]: length of the longest border of the first i + 1 bytes */
};

/* Copies the strings (1..STOP_BYTES_MOST bytes each, STOP_MOST at most) into the arena; false: out of memory.
 */
bool stop_set_init(struct stop_set *set, struct arena *mem, const struct json_strs *stop);

struct stopper {
    const struct stop_set *set;
    uint16_t at[STOP_MOST]; /* bytes of each that the text's end matches */
    char held[STOP_BYTES_MOST];
    size_t n_held;
    int hit;   /* which matched; -1: none so far */
    bool keep; /* the stop string itself belongs to the answer */
};

void stopper_init(struct stopper *s, const struct stop_set *set, bool keep);
/* Appends to out what is certain. True: a stop string is complete, out has the end of the answer, feed
 * nothing more. */
bool stopper_feed(struct stopper *s, const char *p, size_t n, struct strbuf *out);
void stopper_end(struct stopper *s, struct strbuf *out); /* the text is over: what was held back is text */

#endif
