/* vocab: the tokens of a vocabulary as tries in depth-first order, and ready masks for the tokens of plain
 * characters. */
#ifndef FLUXD_SERVER_TEXT_GRAMMAR_VOCAB_H
#define FLUXD_SERVER_TEXT_GRAMMAR_VOCAB_H

#include <stdatomic.h>

#include "server/text/grammar/grammar.h"

/* Tokens that are whole plain characters (see mask_inside.c), by how many, and all others by their bytes. */
enum vocab_slice { VOCAB_OTHER, VOCAB_OTHER_LONG, VOCAB_SHORT, VOCAB_MIDDLE, VOCAB_LONG, VOCAB_SLICES };
enum { VOCAB_SHORT_CHARS = 10 /* characters, or bytes of others */, VOCAB_MIDDLE_CHARS = 30 };

#define VOCAB_NO_TOKEN 0xffffffu
struct vocab_node {
    uint32_t token_byte; /* token << 8 | byte; VOCAB_NO_TOKEN: none ends here */
    uint32_t skip_depth; /* nodes of the subtree with this one << 8 | bytes from the root, 1..255 */
};

struct vocab_trie {
    struct vocab_node *node;
    size_t n;
    uint32_t first[257]; /* nodes of the tokens that begin with a byte: [first[b], first[b + 1]) */
};

struct grammar_vocab {
    atomic_int refs;
    int n_token, n_eos;
    size_t n_word;
    struct vocab_trie trie[VOCAB_SLICES];
    uint32_t *plain[VOCAB_MIDDLE_CHARS +
                    2]; /* masks of the tokens of up to n plain characters; the last: of all plain ones */
    int32_t *same;      /* [n_token] the next token with the same bytes, -1: none */
    int32_t *eos;
    char *text;   /* the bytes of all tokens */
    uint32_t *at; /* [n_token + 1] where a token's bytes begin */
};

static inline const char *vocab_bytes(const struct grammar_vocab *v, int32_t token, size_t *n)
{
    *n = v->at[token + 1] - v->at[token];
    return v->text + v->at[token];
}

#endif
