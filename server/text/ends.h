/* ends: tokens that end a turn by their text, whatever a model's files say: many of them name none, or the
 * wrong one. Any thread. */
#ifndef FLUXD_SERVER_TEXT_ENDS_H
#define FLUXD_SERVER_TEXT_ENDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tokenizer;

/* Appends to id[n], of `most` places, those that are not in it yet; returns the new n. */
int ends_add(const struct tokenizer *t, int32_t *id, int n, int most);
/* The text is one of them and can be nothing else: a file that calls its token plain text is mistaken. */
bool ends_is_marker(const char *text, size_t n);

#endif
