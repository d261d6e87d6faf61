/* mask: what the files that make masks share. */
#ifndef FLUXD_SERVER_TEXT_GRAMMAR_MASK_H
#define FLUXD_SERVER_TEXT_GRAMMAR_MASK_H

#include "server/text/grammar/matcher.h"

static inline void mask_set(const struct grammar_vocab *v, uint32_t *bits, int32_t token)
{
    for (; token >= 0; token = v->same[token]) bits[token >> 5] |= 1u << (token & 31);
}

static inline void mask_or(const struct grammar_vocab *v, uint32_t *bits, const uint32_t *more)
{
    for (size_t i = 0; i < v->n_word; i++) bits[i] |= more[i];
}

/* mask_inside.c */
bool inside_is_quick(struct grammar *g, uint32_t rx); /* most of its plain tokens need no walk */
bool inside_helps(struct grammar *g, uint32_t rx);    /* the state is worth keeping */
/* Adds the tokens that end inside the lexeme where a thread stands or with it. out: for each slice the places
 * where longer tokens go on behind the lexeme, none where n_exit is 0; good until the next call. False: no
 * memory, or the pool failed. */
bool inside_add(struct grammar *g, const struct chart_thread *thread, uint32_t *bits,
                struct inside out[VOCAB_SLICES]);
void inside_forget(struct grammar *g);

#endif
