/* kvpool: which KV page belongs to whom. Engine thread only. Deals in ids, never in memory. */
#ifndef FLUXD_SCHEDULER_KVPOOL_H
#define FLUXD_SCHEDULER_KVPOOL_H

#include <stdbool.h>
#include <stdint.h>

struct kvpool;
struct kvpool *kvpool_new(int n_pages); /* free with kvpool_free; NULL when out of memory */
void kvpool_free(struct kvpool *p);
bool kvpool_take(struct kvpool *p, int n, int32_t *page); /* all n or none; refcount 1 each */
void kvpool_share(struct kvpool *p, int32_t page);        /* one more owner, or the first of an idle page */
void kvpool_give(struct kvpool *p, int n,
                 const int32_t *page); /* one owner less each; a page without owner is free, or idle */
/* A page kept by the prefix cache outlives its owners: it is idle then, until it is shared again or dropped.
 */
void kvpool_keep(struct kvpool *p, int32_t page); /* has an owner; once for each half that is kept */
void kvpool_drop(struct kvpool *p, int32_t page); /* once less; free where nothing keeps or owns it */
int kvpool_n_idle(const struct kvpool *p);
int kvpool_n_used(const struct kvpool *p);  /* pages with an owner */
int kvpool_n_kept(const struct kvpool *p);  /* pages kept */
int kvpool_n_keeps(const struct kvpool *p); /* kvpool_keep calls that stand */
int kvpool_owners(const struct kvpool *p, int32_t page);
int kvpool_n_free(const struct kvpool *p);
int kvpool_n_pages(const struct kvpool *p);
void kvpool_check(const struct kvpool *p); /* aborts unless every page is either free once, idle or owned */

#endif
