/* keys: which API key a request carries, and whose it is. Keys are compared as keyed hashes of equal size and
 * every key is looked at, so the time tells neither how much of a key was right nor which one it was. Loop
 * thread. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"
#include "server/http/internal.h"

struct key_slot {
    struct hash128 hash;
    struct http_account *account;
};

static void account_release(struct http_account *a)
{
    if (a->n_key > 0 || a->n_hold > 0) return;
    list_remove(&a->all);
    free(a);
}

static bool is_same(struct hash128 a, struct hash128 b) { return a.lo == b.lo && a.hi == b.hi; }

static struct http_account *find_account(struct http *h, const struct key_row *row, struct hash128 key)
{
    LIST_EACH (it, &h->accounts) {
        struct http_account *a = LIST_ITEM(it, struct http_account, all);
        if (row->name[0] ? !strcmp(a->name, row->name) : !a->name[0] && is_same(a->key, key)) return a;
    }
    return NULL;
}

static struct http_account *take_account(struct http *h, const struct key_row *row, struct hash128 key)
{
    struct http_account *a = find_account(h, row, key);
    if (!a) {
        a = calloc(1, sizeof *a);
        if (!a) return NULL;
        a->id = ++h->last_account;
        memcpy(a->name, row->name, sizeof a->name);
        a->key = key;
        list_push_back(&h->accounts, &a->all);
    }
    a->n_key++;
    return a;
}

static void drop_slots(struct key_slot *slot, int n)
{
    for (int i = 0; i < n; i++) {
        slot[i].account->n_key--;
        account_release(slot[i].account);
    }
    free(slot);
}

/* The new ones are there before the old ones go, so who stays keeps account, limits and counts. */
bool http_keys_set(struct http *h, const struct key_list *keys)
{
    const int n = keys ? keys->n : 0;
    struct key_slot *slot = calloc((size_t)n + 1, sizeof *slot);
    if (!slot) return false;
    for (int i = 0; i < n; i++) {
        const char *key = keys->row[i].key;
        slot[i].hash = hash128(h->hash_key, key, strlen(key));
        slot[i].account = take_account(h, &keys->row[i], slot[i].hash);
        if (!slot[i].account) {
            drop_slots(slot, i);
            return false;
        }
    }
    for (int i = 0; i < n; i++) {
        slot[i].account->running_most = keys->row[i].running_most;
        slot[i].account->tok_per_minute = keys->row[i].tok_per_minute;
    }
    drop_slots(h->key, h->n_key);
    h->key = slot;
    h->n_key = n;
    return true;
}

bool http_keys_init(struct http *h)
{
    hash_random_key(h->hash_key);
    list_init(&h->accounts);
    return http_keys_set(h, h->conf.keys);
}

void http_keys_fini(struct http *h)
{
    drop_slots(h->key, h->n_key);
    h->key = NULL;
    h->n_key = 0;
}

/* "Bearer" in any case, one space, the key; or, where nobody is authorized so, x-api-key with the key alone.
 * White space at the end is no part of a header's value (RFC 9110, 5.5). */
struct http_account *http_keys_find(const struct http *h, const char *authorization, const char *api_key)
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
    for (int i = 0; i < h->n_key; i++) {
        uint64_t differs = (got.lo ^ h->key[i].hash.lo) | (got.hi ^ h->key[i].hash.hi);
        uint64_t mask = (differs | (0 - differs)) >> 63; /* 1 where they differ */
        found = (int)((uint64_t)(int64_t)found * mask + (uint64_t)i * (1 - mask));
    }
    return (bearer || bare) && n_key > 0 && found >= 0 ? h->key[found].account : NULL;
}

struct http_account *http_account_hold(struct http_account *a)
{
    if (a) a->n_hold++;
    return a;
}

void http_account_drop(struct http_account *a)
{
    if (!a) return;
    CHECK(a->n_hold > 0);
    a->n_hold--;
    account_release(a);
}

const struct http_account *http_account_next(const struct http *h, const struct http_account *a)
{
    const struct list *next = a ? a->all.next : h->accounts.next;
    return next == &h->accounts ? NULL : LIST_ITEM(next, const struct http_account, all);
}
