/* special: finds the vocabulary's whole-text tokens (special and added ones) in raw text. Any thread. */
#ifndef FLUXD_SERVER_TEXT_SPECIAL_H
#define FLUXD_SERVER_TEXT_SPECIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct special;

#define SPECIAL_BYTES_MAX 1024 /* longest token text: bounds the work per byte of input */

/* n tokens: text[i] of len[i] bytes is id[i]. Empty texts never match. Texts are borrowed and outlive the
 * matcher. ERR_MODEL_FILE for a text above SPECIAL_BYTES_MAX; ERR_NOMEM. Free with special_free (NULL is
 * fine). */
enum err special_new(struct special **out, size_t n, const char *const *text, const size_t *len,
                     const int32_t *id, struct err_note *note);
void special_free(struct special *s);

struct special_hit {
    size_t at, len;
    int32_t id;
};
/* The leftmost token at or after `from`, the longest of those that start there, the lowest id of equal texts;
 * false: none. */
bool special_next(const struct special *s, const char *text, size_t n, size_t from, struct special_hit *hit);

#endif
