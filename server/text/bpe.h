/* bpe: byte pair merges, from one piece of the pre-tokenizer to ids. Read-only once built; scratch is the
 * caller's. */
#ifndef FLUXD_SERVER_TEXT_BPE_H
#define FLUXD_SERVER_TEXT_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/text/bpe_queue.h"
#include "server/text/token_vec.h"

#define BPE_PIECE_BYTES_MAX ((size_t)1 << 30) /* positions are 32 bits */

struct bpe;

struct bpe *bpe_new(size_t n_merge); /* NULL when out of memory; free with bpe_free (NULL is fine) */
void bpe_free(struct bpe *b);
/* The byte's piece; -1, as all are from the start: none, the byte is dropped. */
void bpe_set_byte(struct bpe *b, uint8_t byte, int32_t id);
/* rank < n_merge, the least first; merges of one rank go from left to right, whatever they are. Of equal
 * pairs the last one set counts. */
void bpe_set_merge(struct bpe *b, uint32_t rank, int32_t left, int32_t right, int32_t to);

struct bpe_scratch {
    struct bpe_symbol *symbol;
    size_t cap; /* symbols */
    uint64_t *heap;
    struct bpe_queue queue; /* for long pieces */
};
void bpe_scratch_fini(struct bpe_scratch *s); /* zeroed memory is a fresh one */

/* The same for symbols that are ids already. */
bool bpe_encode_ids(const struct bpe *b, struct bpe_scratch *s, const int32_t *id, size_t n,
                    struct token_vec *out);

/* Appends the ids of p[0, n), n <= BPE_PIECE_BYTES_MAX, in linear time. False: out of memory. */
bool bpe_encode(const struct bpe *b, struct bpe_scratch *s, const char *p, size_t n, struct token_vec *out);

#endif
