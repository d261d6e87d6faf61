/* keys: see keys.h. Its one idea: objects close in the reverse order of opening, so keys leave the table in
 * the reverse order of their coming, and the last to come is in nobody's probe path: linear probing needs no
 * tombstones. */
#include "server/json/keys.h"

#include <stdlib.h>
#include <string.h>

enum { KEYS_FIRST = 128 };

void json_keys_init(struct json_keys *k)
{
    memset(k, 0, sizeof *k);
    hash_random_key(k->secret);
}

void json_keys_fini(struct json_keys *k)
{
    free(k->key);
    free(k->slot);
    memset(k, 0, sizeof *k);
}

/* The slot that holds h, or the empty one where it belongs. */
static size_t find_slot(const struct json_keys *k, struct hash128 h)
{
    const size_t mask = k->n_slot - 1;
    size_t j = (size_t)h.lo & mask;
    for (; k->slot[j] != 0; j = (j + 1) & mask) {
        const struct hash128 at = k->key[k->slot[j] - 1];
        if (at.lo == h.lo && at.hi == h.hi) {
            break;
        }
    }
    return j;
}

static enum err grow(struct json_keys *k)
{
    const size_t cap = k->cap == 0 ? KEYS_FIRST : 2 * k->cap;
    struct hash128 *key = realloc(k->key, cap * sizeof *key);
    if (key == NULL) {
        return ERR_NOMEM;
    }
    k->key = key;
    uint32_t *slot = calloc(2 * cap, sizeof *slot);
    if (slot == NULL) {
        return ERR_NOMEM; /* cap is unchanged: the longer key array is only spare room */
    }
    free(k->slot);
    k->slot = slot;
    k->n_slot = 2 * cap;
    k->cap = cap;
    for (size_t i = 0; i < k->n; i++) { /* in the order of coming, which json_keys_close relies on */
        k->slot[find_slot(k, k->key[i])] = (uint32_t)(i + 1);
    }
    return OK;
}

enum err json_keys_put(struct json_keys *k, int depth, const char *name, size_t n)
{
    if (k->n == JSON_KEYS_MAX) {
        return ERR_INVALID_VALUE;
    }
    if (k->n == k->cap) {
        const enum err e = grow(k);
        if (e != OK) {
            return e;
        }
    }
    struct hash128 h = hash128(k->secret, name, n);
    h.hi += (uint64_t)depth;
    const size_t j = find_slot(k, h);
    if (k->slot[j] != 0) {
        return ERR_DUPLICATE_KEY;
    }
    k->key[k->n++] = h;
    k->slot[j] = (uint32_t)k->n;
    return OK;
}

void json_keys_close(struct json_keys *k, size_t mark)
{
    if (mark == 0 && k->n > k->n_slot / 8) { /* wiping all is cheaper than probing for most */
        memset(k->slot, 0, k->n_slot * sizeof *k->slot);
        k->n = 0;
    }
    while (k->n > mark) {
        k->slot[find_slot(k, k->key[k->n - 1])] = 0;
        k->n--;
    }
}
