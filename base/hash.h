/* hash: keyed hashing (SipHash-2-4, Aumasson & Bernstein 2012) and a map from byte strings to int32. */
#ifndef FLUXD_BASE_HASH_H
#define FLUXD_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hash128 {
    uint64_t lo, hi;
};

uint64_t hash64(const uint8_t key[16], const void *p, size_t n);
struct hash128 hash128(const uint8_t key[16], const void *p, size_t n); /* SipHash-2-4-128 */
void hash_random_key(uint8_t key[16]);                                  /* from getrandom(2) */

/* Open addressing, built once, then read by any thread. Keys are borrowed: they must outlive the map. */
struct strmap;
struct strmap *strmap_new(size_t n_expected); /* NULL when out of memory */
void strmap_free(struct strmap *m);
bool strmap_put(struct strmap *m, const char *key, size_t n,
                int32_t value); /* false: key there already, or out of memory */
int32_t strmap_get(const struct strmap *m, const char *key, size_t n); /* -1 when absent; values are >= 0 */

#endif
