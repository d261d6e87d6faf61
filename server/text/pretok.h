/* pretok: cuts text into the pieces that byte pair merges may not cross. A pre-tokenizer is a list of
 * patterns applied in turn: the matches of the first, and what lies between them, are pieces; the second cuts
 * each of those, and so on. Read-only after pretok_new; a pretok_run belongs to one call. */
#ifndef FLUXD_SERVER_TEXT_PRETOK_H
#define FLUXD_SERVER_TEXT_PRETOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "server/text/tokenizer.h"

struct pretok;

/* pattern (n_pattern of them, of the kinds in split, enum split_kind, NULL: all regular expressions), or,
 * when n_pattern is 0, the patterns known under name (which may be NULL). ERR_MODEL_FILE: unknown name, a
 * pattern that does not compile, means something else to the tokenizers than to PCRE2, can match empty text,
 * or exceeds its budget on a set of trial texts. ERR_NOMEM. Free with pretok_free (NULL is fine). */
enum err pretok_new(struct pretok **out, const char *name, const char *const *pattern, const uint8_t *split,
                    int n_pattern, struct err_note *note);
void pretok_free(struct pretok *p);
/* What else the name says about the model; false for patterns without a name. */
bool pretok_nfc(const struct pretok *p);           /* text is normalised first */
bool pretok_ignore_merges(const struct pretok *p); /* a piece that is in the vocabulary is taken whole */

/* What a name of tokenizer.ggml.pre stands for, as steps whose patterns Oniguruma reads alike; how many, -1:
 * an unknown name. */
enum { PRETOK_STEPS_MOST = 2 };
struct pretok_step {
    enum split_kind split;
    const char *pattern; /* of SPLIT_REGEX */
};
int pretok_steps(const char *name, struct pretok_step step[PRETOK_STEPS_MOST], bool *nfc,
                 bool *ignore_merges);

/* What the pattern uses that Oniguruma, for which patterns are written, and PCRE2 read in two ways; NULL:
 * nothing. */
const char *pretok_foreign(const char *pattern);

struct pretok_run;
struct pretok_run *pretok_run_new(void); /* scratch of one thread; NULL when out of memory */
void pretok_run_free(struct pretok_run *r);

/* Calls emit for each piece of text in order; no piece is empty. emit returns false to stop (out of memory).
 * text is valid UTF-8. ERR_INVALID_REQUEST when a pattern exceeds its budget; ERR_NOMEM. */
enum err pretok_split(const struct pretok *p, struct pretok_run *r, const char *text, size_t n,
                      bool (*emit)(void *arg, const char *piece, size_t n), void *arg, struct err_note *note);

#endif
