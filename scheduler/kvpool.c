/* kvpool: a stack of free page ids and a count of owners per page. Engine thread only.
 * Last given, first taken: a page that was just read is likely still in the cache. */
#include "scheduler/kvpool.h"

#include <stdlib.h>

#include "base/check.h"

struct kvpool {
    int      n, n_free;
    int32_t *stack; /* [n_free] */
    int32_t *owners; /* [n] */
};

struct kvpool *kvpool_new(int n_pages)
{
    struct kvpool *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->stack = calloc((size_t)n_pages, sizeof *p->stack);
    p->owners = calloc((size_t)n_pages, sizeof *p->owners);
    if (!p->stack || !p->owners) {
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
    if (!p)
        return;
    free(p->stack);
    free(p->owners);
    free(p);
}

bool kvpool_take(struct kvpool *p, int n, int32_t *page)
{
    CHECK(n >= 0);
    if (n > p->n_free)
        return false;
    for (int i = 0; i < n; i++) {
        page[i] = p->stack[--p->n_free];
        p->owners[page[i]] = 1;
    }
    return true;
}

void kvpool_share(struct kvpool *p, int32_t page)
{
    CHECK(page >= 0 && page < p->n && p->owners[page] > 0);
    p->owners[page]++;
}

void kvpool_give(struct kvpool *p, int n, const int32_t *page)
{
    for (int i = 0; i < n; i++) {
        CHECK(page[i] >= 0 && page[i] < p->n && p->owners[page[i]] > 0);
        if (--p->owners[page[i]] == 0)
            p->stack[p->n_free++] = page[i];
    }
}

int kvpool_n_free(const struct kvpool *p) { return p->n_free; }
int kvpool_n_pages(const struct kvpool *p) { return p->n; }

void kvpool_check(const struct kvpool *p)
{
    int owned = 0;
    for (int i = 0; i < p->n; i++)
        owned += p->owners[i] > 0;
    CHECK(owned + p->n_free == p->n);
    for (int i = 0; i < p->n_free; i++)
        CHECK(p->owners[p->stack[i]] == 0);
}
