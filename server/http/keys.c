/* keys: which API key a request carries. Keys are compared as keyed hashes of equal size and every key is
 * looked at, so the time tells neither how much of a key was right nor which one it was. Loop thread. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "server/http/internal.h"

bool http_keys_init(struct http *h)
{
    hash_random_key(h->hash_key);
    h->key_hash = calloc((size_t)h->conf.n_api_key + 1, sizeof *h->key_hash);
    if (!h->key_hash) return false;
    for (int i = 0; i < h->conf.n_api_key; i++)
        h->key_hash[i] = hash128(h->hash_key, h->conf.api_key[i], strlen(h->conf.api_key[i]));
    return true;
}

/* "Bearer" in any case, one space, the key; or, where nobody is authorized so, x-api-key with the key alone.
 * White space at the end is no part of a header's value (RFC 9110, 5.5). */
int http_keys_find(const struct http *h, const char *authorization, const char *api_key)
{
    static const char scheme[] = "Bearer ";
    const size_t n = sizeof scheme - 1;
    const bool bearer = authorization && !strncasecmp(authorization, scheme, n);
    const bool bare = !authorization && api_key;
    const char *key = bearer ? authorization + n : bare ? api_key : "";
    size_t n_key = strlen(key);
    while (n_key > 0 && (key[n_key - 1] == ' ' || key[n_key - 1] == '\t')) n_key--;
    struct hash128 got = hash128(h->hash_key, key, n_key);
    int found = -1;
    for (int i = 0; i < h->conf.n_api_key; i++) {
        uint64_t differs = (got.lo ^ h->key_hash[i].lo) | (got.hi ^ h->key_hash[i].hi);
        uint64_t mask = (differs | (0 - differs)) >> 63; /* 1 where they differ */
        found = (int)((uint64_t)(int64_t)found * mask + (uint64_t)i * (1 - mask));
    }
    return (bearer || bare) && n_key > 0 ? found : -1;
}
