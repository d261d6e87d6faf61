/* parts: a text made of parts as a network. */
#ifndef FLUXD_SERVER_TEXT_GRAMMAR_PARTS_H
#define FLUXD_SERVER_TEXT_GRAMMAR_PARTS_H

#include "server/text/grammar/matcher.h"

/* Rule 0 of g's network becomes the whole. */
enum err parts_build(struct grammar *g, const struct grammar_part *root, const struct grammar_opts *opts,
                     struct err_note *note);

/* body.c: a new rule for one schema, pattern, list of choices or GBNF. */
enum err body_build(struct grammar *g, enum grammar_kind kind, const char *text, size_t n,
                    const struct grammar_opts *opts, uint32_t *rule, struct err_note *note);

#endif
