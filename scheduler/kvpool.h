/* kvpool: which KV page belongs to whom. Engine thread only. Deals in ids, never in memory. */
#ifndef FLUXD_SCHEDULER_KVPOOL_H
#define FLUXD_SCHEDULER_KVPOOL_H

#include <stdbool.h>
#include <stdint.h>

struct kvpool;
struct kvpool *kvpool_new(int n_pages);                     /* free with kvpool_free; NULL when out of memory */
void kvpool_free(struct kvpool *p);
bool kvpool_take(struct kvpool *p, int n, int32_t *page);   /* all n or none; refcount 1 each */
void kvpool_share(struct kvpool *p, int32_t page);          /* one more owner */
void kvpool_give(struct kvpool *p, int n, const int32_t *page); /* one owner less each; a page without owner is free */
int  kvpool_n_free(const struct kvpool *p);
int  kvpool_n_pages(const struct kvpool *p);
void kvpool_check(const struct kvpool *p);                  /* aborts unless every page is either free once or owned */

#endif
