/* keys: the keys of all JSON objects open at one time, to find duplicates. One owner, one
 * scan. A set of 128-bit keyed hashes: the secret is new for each scan, so nobody can aim at a slot, and two
 * different keys are taken for equal with a chance of 2^-95 in the largest set. */
#ifndef FLUXD_SERVER_JSON_KEYS_H
#define FLUXD_SERVER_JSON_KEYS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"

enum {
    JSON_KEYS_MAX = 131072
}; /* at one time: bounds the set to 3 MiB, which stays in the processor's cache */

struct json_keys {
    uint8_t secret[16];
    struct hash128 *key; /* [n] in the order of their coming, so those of the innermost object are the last */
    size_t n, cap;
    uint32_t *slot; /* [n_slot] open addressing, at most half full */
    size_t n_slot;
};

void json_keys_init(struct json_keys *k);
void json_keys_fini(struct json_keys *k);

/* depth tells the open objects apart. ERR_DUPLICATE_KEY, ERR_INVALID_VALUE (JSON_KEYS_MAX), ERR_NOMEM. */
enum err json_keys_put(struct json_keys *k, int depth, const char *name, size_t n);
/* Forgets the keys of an object that closes: all that came after k->n was `mark`. Cost: the number of them.
 */
void json_keys_close(struct json_keys *k, size_t mark);

#endif
