/* kvpool: a stack of free page ids and a count of owners per page. Engine thread only.
 * Last given, first taken: a page that was just read is likely still in the cache. */
#include "scheduler/kvpool.h"

#include <stdlib.h>

#include "base/check.h"

enum { KEEPS_MOST = 2 }; /* blocks in a page */

struct kvpool {
    int n, n_free, n_idle, n_kept, n_keeps;
    int32_t *stack;  /* [n_free] */
    int32_t *owners; /* [n] */
    uint8_t *kept;   /* [n] by the prefix cache, so many times */
};

struct kvpool *kvpool_new(int n_pages)
{
    struct kvpool *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->stack = calloc((size_t)n_pages, sizeof *p->stack);
    p->owners = calloc((size_t)n_pages, sizeof *p->owners);
    p->kept = calloc((size_t)n_pages, 1);
    if (!p->stack || !p->owners || !p->kept) {
        kvpool_free(p);
        return NULL;
    }
    p->n = p->n_free = n_pages;
    for (int i = 0; i < n_pages; i++)
        p->stack[i] = n_pages - 1 - i; /* low ids first: memory is touched from the bottom */
    return p;
}

void kvpool_free(struct kvpool *p)
{
    if (!p) return;
    free(p->stack);
    free(p->owners);
    free(p->kept);
    free(p);
}

bool kvpool_take(struct kvpool *p, int n, int32_t *page)
{
    CHECK(n >= 0);
    if (n > p->n_free) return false;
    for (int i = 0; i < n; i++) {
        page[i] = p->stack[--p->n_free];
        p->owners[page[i]] = 1;
    }
    return true;
}

void kvpool_share(struct kvpool *p, int32_t page)
{
    CHECK(page >= 0 && page < p->n && (p->owners[page] > 0 || p->kept[page]));
    p->n_idle -= p->owners[page]++ == 0;
}

void kvpool_give(struct kvpool *p, int n, const int32_t *page)
{
    for (int i = 0; i < n; i++) {
        CHECK(page[i] >= 0 && page[i] < p->n && p->owners[page[i]] > 0);
        if (--p->owners[page[i]] > 0) continue;
        if (p->kept[page[i]])
            p->n_idle++;
        else
            p->stack[p->n_free++] = page[i];
    }
}

void kvpool_keep(struct kvpool *p, int32_t page)
{
    CHECK(page >= 0 && page < p->n && p->owners[page] > 0 && p->kept[page] < KEEPS_MOST);
    p->n_kept += p->kept[page]++ == 0;
    p->n_keeps++;
}

void kvpool_drop(struct kvpool *p, int32_t page)
{
    CHECK(page >= 0 && page < p->n && p->kept[page]);
    p->n_keeps--;
    if (--p->kept[page] > 0) return;
    p->n_kept--;
    if (p->owners[page] > 0) return;
    p->n_idle--;
    p->stack[p->n_free++] = page;
}

int kvpool_n_idle(const struct kvpool *p) { return p->n_idle; }
int kvpool_n_used(const struct kvpool *p) { return p->n - p->n_free - p->n_idle; }
int kvpool_n_kept(const struct kvpool *p) { return p->n_kept; }
int kvpool_n_keeps(const struct kvpool *p) { return p->n_keeps; }
int kvpool_owners(const struct kvpool *p, int32_t page) { return p->owners[page]; }

int kvpool_n_free(const struct kvpool *p) { return p->n_free; }
int kvpool_n_pages(const struct kvpool *p) { return p->n; }

void kvpool_check(const struct kvpool *p)
{
    int owned = 0, idle = 0, kept = 0, keeps = 0;
    for (int i = 0; i < p->n; i++) {
        owned += p->owners[i] > 0;
        kept += p->kept[i] > 0;
        keeps += p->kept[i];
        idle += p->kept[i] && p->owners[i] == 0;
    }
    CHECK(owned == kvpool_n_used(p) && idle == p->n_idle && kept == p->n_kept && keeps == p->n_keeps);
    for (int i = 0; i < p->n_free; i++) CHECK(p->owners[p->stack[i]] == 0 && !p->kept[p->stack[i]]);
}
