/* pool: see pool.h. */
#include "server/text/grammar/pool.h"

#include <stdlib.h>
#include <string.h>

static bool charge(struct pool *p, size_t bytes)
{
    if (p->fail != OK) return false;
    if (bytes > p->bytes_max - p->bytes) {
        pool_fail(p, ERR_UNSUPPORTED, "bytes");
        return false;
    }
    p->bytes += bytes;
    return true;
}

bool pool_grow(struct pool *p, void *at, size_t *cap, size_t need, size_t size)
{
    if (p->fail != OK) return false;
    if (need <= *cap) return true;
    size_t more = *cap < 16 ? 16 : *cap * 2, bytes;
    if (more < need) more = need;
    if (__builtin_mul_overflow(more, size, &bytes)) {
        pool_fail(p, ERR_NOMEM, NULL);
        return false;
    }
    if (!charge(p, bytes - *cap * size)) return false;
    void *old;
    memcpy(&old, at, sizeof old);
    void *grown = realloc(old, bytes);
    if (!grown) {
        p->bytes -= bytes - *cap * size;
        pool_fail(p, ERR_NOMEM, NULL);
        return false;
    }
    memcpy(at, &grown, sizeof grown);
    *cap = more;
    return true;
}

void *pool_alloc(struct pool *p, size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes)) {
        pool_fail(p, ERR_NOMEM, NULL);
        return NULL;
    }
    if (!charge(p, bytes)) return NULL;
    void *at = calloc(1, bytes ? bytes : 1);
    if (!at) {
        p->bytes -= bytes;
        pool_fail(p, ERR_NOMEM, NULL);
    }
    return at;
}

void pool_forget(struct pool *p, size_t bytes) { p->bytes -= bytes < p->bytes ? bytes : p->bytes; }

/* A multiply-and-fold hash over words (as in wyhash). Its tables probe linearly and are bounded by the
 * limits, so a client who finds collisions gains a scan of at most the limit's length. */
uint64_t pool_hash(const void *at, size_t n, uint64_t seed)
{
    const unsigned char *p = at;
    uint64_t h = seed ^ (n * 0x9e3779b97f4a7c15u), w;
    for (; n >= 8; n -= 8, p += 8) {
        memcpy(&w, p, 8);
        __uint128_t m = (__uint128_t)(h ^ w) * 0xa0761d6478bd642fu;
        h = (uint64_t)m ^ (uint64_t)(m >> 64);
    }
    w = 0;
    if (n) memcpy(&w, p, n);
    __uint128_t m = (__uint128_t)(h ^ w ^ 0xe7037ed1a0b428dbu) * 0xa0761d6478bd642fu;
    h = (uint64_t)m ^ (uint64_t)(m >> 64);
    return h ^ (h >> 29);
}
