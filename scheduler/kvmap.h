/* kvmap: the pages of one sequence, by layer and block, and the rules by which sparse layers free
 * theirs. Engine thread only. */
#ifndef FLUXD_SCHEDULER_KVMAP_H
#define FLUXD_SCHEDULER_KVMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "scheduler/kvpool.h"

struct kvmap {
    int32_t *page; /* [L][stride] page id of a block, -1: none */
    int n_layer, stride;
    int *low;       /* [L] blocks in [sink, low) are free already: where the next sweep begins */
    int *held;      /* [L] pages held now */
    int n_held;     /* in all layers */
    uint64_t stamp; /* grows whenever a page comes in, never 0 */
};

bool kvmap_init(struct kvmap *m, int n_layer, int stride); /* false: out of memory */
void kvmap_fini(struct kvmap *m);                          /* must hold nothing */

/* Blocks [block0, block1) of one layer get the pages they lack. False, and nothing taken, when the pool is
 * short. */
bool kvmap_take(struct kvmap *m, struct kvpool *pool, int layer, int block0, int block1);
void kvmap_share(struct kvmap *m, struct kvpool *pool, int layer, int block,
                 int32_t page); /* a page that others have too, where none is */
int kvmap_lack(const struct kvmap *m, int layer, int block0, int block1); /* pages kvmap_take would take */

/* A sparse layer whose next query stands in block `next`: what lies between the sink and the window is never
 * read again (docs/attention-routes.md, streaming). Returns the number of pages freed. */
int kvmap_give_dead(struct kvmap *m, struct kvpool *pool, int layer, int sink_blocks, int local_blocks,
                    int next);
int kvmap_give_all(struct kvmap *m, struct kvpool *pool); /* the sequence is gone */

#endif
