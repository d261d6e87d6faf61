/* distance: how far two words are from each other, for "did you mean". */
#ifndef FLUXD_BASE_DISTANCE_H
#define FLUXD_BASE_DISTANCE_H

#include <stddef.h>

enum { DISTANCE_BYTES = 64, DISTANCE_FAR = 999 };

/* Bytes to put in, leave out or replace so that a becomes b (Levenshtein); DISTANCE_FAR if either is longer
 * than DISTANCE_BYTES. */
int distance(const char *a, size_t n_a, const char *b, size_t n_b);

#endif
