/* swap: pages of preempted sequences in host memory, taken at start. A sequence that decodes may be swapped:
 * its pages come back as they were, so nothing is computed again. Engine thread only. */
#ifndef FLUXD_SCHEDULER_SWAP_H
#define FLUXD_SCHEDULER_SWAP_H

#include "engine/engine.h"
#include "scheduler/seq.h"

struct swap;
enum err swap_open(struct swap **out, const struct engine_info *m, int64_t bytes,
                   struct err_note *note); /* 0 bytes: holds nothing */
void swap_close(struct swap *w);           /* NULL is fine */

/* Time to bring a sequence of so many pages out and in again; INFINITY where there is no room for it. */
double swap_ms(const struct swap *w, int n_pages);

/* Copies q's pages out and makes them the request's (r->swapped). False, and nothing taken: no room, or the
 * engine failed. */
bool swap_out(struct swap *w, struct engine *e, struct seq *q);

/* Pages from pool for q, filled from what r holds; q decodes on. False, and nothing taken: the engine failed.
 * What r held is freed in both cases. */
bool swap_in(struct swap *w, struct engine *e, struct kvpool *pool, struct seq *q, struct request *r);
void swap_drop(struct swap *w,
               struct request *r);       /* it ends, or is computed again; harmless when nothing is swapped */
int swap_pages(const struct request *r); /* what swap_in would take; 0 where nothing is swapped */
int swap_held(const struct swap *w);     /* sequences swapped out; NULL: none */
void swap_check(const struct swap *w);   /* aborts unless every page is free or held once */

#endif
