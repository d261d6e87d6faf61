/* bpe_queue: the pairs of one long piece that may merge, the lowest rank first and, of equal ranks, the
 * leftmost. Linear in all the pairs that come and go, where a heap is n log n steps all over memory. One
 * thread. */
#ifndef FLUXD_SERVER_TEXT_BPE_QUEUE_H
#define FLUXD_SERVER_TEXT_BPE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BPE_QUEUE_LEVELS_MAX 5 /* 64 to this power are more ranks than there can be */

struct bpe_queue {
    struct bpe_bucket *bucket;             /* [n_rank] */
    uint64_t *level[BPE_QUEUE_LEVELS_MAX]; /* bit i of a level: word i of the one below is not 0; of the
                                              first: bucket i is not empty */
    int n_level;
    struct bpe_link *link; /* [cap] */
    size_t cap;
    uint64_t steps; /* so far: what tests count instead of time */
};

/* Room for n positions and n_rank ranks, always the same. False: out of memory. Zeroed memory is a fresh one.
 */
bool bpe_queue_reserve(struct bpe_queue *q, size_t n, uint32_t n_rank);
void bpe_queue_fini(struct bpe_queue *q);

/* Each position stands in the queue at most once. */
void bpe_queue_add(struct bpe_queue *q, uint32_t rank, uint32_t at);
void bpe_queue_remove(struct bpe_queue *q, uint32_t rank, uint32_t at);
bool bpe_queue_take(struct bpe_queue *q, uint32_t *rank,
                    uint32_t *at); /* the first; false: the queue is empty */

#endif
