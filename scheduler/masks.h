/* masks: what guided requests may sample next, made on a thread of its own while the forward pass runs.
 * Engine thread; the helper's part is inside. Between masks_wait and the next masks_ask the helper sleeps, so
 * the engine thread may call the guides itself then. */
#ifndef FLUXD_SCHEDULER_MASKS_H
#define FLUXD_SCHEDULER_MASKS_H

#include "scheduler/scheduler.h"
#include "scheduler/seq.h"

struct masks;
struct masks *masks_open(int max_seqs, struct scheduler_stats *stats); /* NULL: no memory */
void masks_close(struct masks *m);                                     /* NULL is fine */

/* Begins to make q->mask for the next token of q's guided request. Once for each step. */
void masks_ask(struct masks *m, struct seq *q);
/* All that were asked for are made: q->mask and q->mask_err are written, times are counted. m: struct masks,
 * as batch.masks_arg. */
void masks_wait(void *m);

#endif
