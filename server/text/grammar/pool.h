/* pool: the memory and work accounts of one grammar. Every growing array, table and step of it is charged
 * here, so that hostile input ends at a named limit. The first failure stays: later calls do nothing, and
 * callers look once at the end. */
#ifndef FLUXD_SERVER_TEXT_GRAMMAR_POOL_H
#define FLUXD_SERVER_TEXT_GRAMMAR_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct pool {
    size_t bytes, bytes_max;
    uint64_t steps, steps_max;
    enum err fail;    /* OK until something failed */
    const char *what; /* the limit that was met; NULL when memory ran out */
};

static inline void pool_fail(struct pool *p, enum err e, const char *what)
{
    if (p->fail != OK) return;
    p->fail = e;
    p->what = what;
}

static inline bool pool_step(struct pool *p, uint64_t n)
{
    p->steps += n;
    if (p->steps > p->steps_max) pool_fail(p, ERR_UNSUPPORTED, "steps");
    return p->fail == OK;
}

/* Room for need items of size bytes at *at, which has room for *cap; doubles. False: the pool has failed. */
bool pool_grow(struct pool *p, void *at, size_t *cap, size_t need, size_t size);
void *pool_alloc(struct pool *p, size_t n, size_t size); /* zeroed; free with free() and pool_forget */
void pool_forget(struct pool *p, size_t bytes);
uint64_t pool_hash(const void *at, size_t n,
                   uint64_t seed); /* of n bytes; for tables that live and die with their grammar */

#endif
