/* kvmap: the pages of one sequence, by layer and block, and the rules by which sparse layers free
 * theirs. Engine thread only.
 *
 * Entries are those of kernels/kv_fp8.h: a page, or the half of one that holds codes. Where a layer keeps
 * codes, an even block that the sequence takes itself has the lower half of a page and the block after it the
 * upper one. It never writes into what it shares: behind shared blocks it begins a page of its own. */
#ifndef FLUXD_SCHEDULER_KVMAP_H
#define FLUXD_SCHEDULER_KVMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "scheduler/kvpool.h"

struct kvmap {
    int32_t *page; /* [L][stride] entry of a block, -1: none */
    int n_layer, stride;
    int *low;   /* [L] blocks in [sink, low) are free already: where the next sweep begins */
    int *held;  /* [L] pages held now */
    int n_held; /* in all layers */
    int own;    /* blocks before it are shared, those from it on the sequence's own */
    int odd; /* pages by which shared halves, and where its own begin behind them, are more than whole ones */
    uint64_t stamp; /* grows whenever a page comes in, never 0 */
};

bool kvmap_init(struct kvmap *m, int n_layer, int stride); /* false: out of memory */
void kvmap_fini(struct kvmap *m);                          /* must hold nothing */

/* Blocks [block0, block1) of one layer get the pages they lack; codes: it keeps codes. False, and nothing
 * taken, when the pool is short. */
bool kvmap_take(struct kvmap *m, struct kvpool *pool, int layer, int block0, int block1, bool codes);
void kvmap_share(struct kvmap *m, struct kvpool *pool, int layer, int block,
                 int32_t entry); /* a page that others have too, where none is */
int kvmap_lack(const struct kvmap *m, int layer, int block0, int block1,
               bool codes); /* pages kvmap_take would take */

/* Blocks [block0, block1) were taken as whole pages before the layer was known to keep codes, and the engine
 * has written them so (batch_code_page). Returns the number of pages that this frees. */
int kvmap_settle(struct kvmap *m, struct kvpool *pool, int layer, int block0, int block1);

void kvmap_shared(struct kvmap *m); /* all that is shared is: counts odd */

/* A sparse layer whose next query stands in block `next`: what lies between the sink and the window is never
 * read again (docs/attention-routes.md, streaming). Returns the number of pages freed. */
int kvmap_give_dead(struct kvmap *m, struct kvpool *pool, int layer, int sink_blocks, int local_blocks,
                    int next);
int kvmap_give_all(struct kvmap *m, struct kvpool *pool); /* the sequence is gone */

#endif
