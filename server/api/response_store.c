/* response_store: see response_store.h. One lock; what it guards is short work on lists. */
#include "server/api/response_store.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/list.h"

enum { N_BUCKET = 4096 };

struct response_entry {
    struct list bucket, age; /* alone once it is not to be found any more */
    int refs;                /* the table's, those of entries that go on from it, and those handed out */
    uint32_t key_id;
    int64_t made_ns;
    struct response_entry *previous;
    size_t bytes;
    const char *id, *answer, *items; /* in the entry's own memory */
    size_t n_answer, n_items;
};

struct response_store {
    uv_mutex_t lock;
    size_t bytes_most, bytes, count;
    int64_t ttl_ns;
    uint8_t hash_key[16];
    struct list age; /* oldest first */
    struct list bucket[N_BUCKET];
};

struct response_store *response_store_new(size_t bytes_most, int64_t ttl_s)
{
    struct response_store *s = calloc(1, sizeof *s);
    if (!s || uv_mutex_init(&s->lock)) {
        free(s);
        return NULL;
    }
    s->bytes_most = bytes_most;
    s->ttl_ns = ttl_s > INT64_MAX / INT64_C(1000000000) ? INT64_MAX : ttl_s * INT64_C(1000000000);
    hash_random_key(s->hash_key);
    list_init(&s->age);
    for (int i = 0; i < N_BUCKET; i++) list_init(&s->bucket[i]);
    return s;
}

/* --- under the lock */

/* An entry without owners goes, and with it its hold on the one before. */
static void let_go(struct response_store *s, struct response_entry *e)
{
    while (e && --e->refs == 0) {
        struct response_entry *before = e->previous;
        s->bytes -= e->bytes;
        free(e);
        e = before;
    }
}

static void unlist(struct response_store *s, struct response_entry *e)
{
    list_remove(&e->bucket);
    list_remove(&e->age);
    s->count--;
    let_go(s, e);
}

static struct response_entry *oldest(const struct response_store *s)
{
    return list_empty(&s->age) ? NULL : LIST_ITEM(s->age.next, struct response_entry, age);
}

static void drop_expired(struct response_store *s)
{
    const int64_t now = clock_ns();
    for (struct response_entry *e; (e = oldest(s)) && now - e->made_ns >= s->ttl_ns;) unlist(s, e);
}

static struct list *bucket_of(struct response_store *s, uint32_t key_id, const char *id)
{
    return &s->bucket[(hash64(s->hash_key, id, strlen(id)) + key_id) % N_BUCKET];
}

static struct response_entry *find(struct response_store *s, uint32_t key_id, const char *id)
{
    drop_expired(s);
    struct list *head = bucket_of(s, key_id, id);
    LIST_EACH (it, head) {
        struct response_entry *e = LIST_ITEM(it, struct response_entry, bucket);
        if (e->key_id == key_id && !strcmp(e->id, id)) return e;
    }
    return NULL;
}

/* --- */

void response_store_free(struct response_store *s)
{
    if (!s) return;
    for (struct response_entry *e; (e = oldest(s));) unlist(s, e);
    CHECK(s->bytes == 0);
    uv_mutex_destroy(&s->lock);
    free(s);
}

static struct response_entry *entry_new(const struct response_put *p)
{
    const size_t n_id = strlen(p->id) + 1, n = n_id + p->n_answer + p->n_items;
    struct response_entry *e = malloc(sizeof *e + n);
    if (!e) return NULL;
    char *at = (char *)(e + 1);
    *e = (struct response_entry){.refs = 1,
                                 .key_id = p->key_id,
                                 .made_ns = clock_ns(),
                                 .bytes = sizeof *e + n,
                                 .id = at,
                                 .answer = at + n_id,
                                 .items = at + n_id + p->n_answer,
                                 .n_answer = p->n_answer,
                                 .n_items = p->n_items};
    memcpy(at, p->id, n_id);
    memcpy(at + n_id, p->answer, p->n_answer);
    memcpy(at + n_id + p->n_answer, p->items, p->n_items);
    return e;
}

bool response_store_put(struct response_store *s, const struct response_put *p)
{
    struct response_entry *e = entry_new(p);
    if (!e) return false;
    uv_mutex_lock(&s->lock);
    struct response_entry *same = find(s, p->key_id, p->id);
    if (same) unlist(s, same);
    s->bytes += e->bytes;
    if (p->previous) {
        e->previous = p->previous;
        p->previous->refs++;
    }
    while (s->bytes > s->bytes_most && oldest(s)) unlist(s, oldest(s));
    const bool fits = s->bytes <= s->bytes_most;
    if (fits) {
        list_push_back(bucket_of(s, e->key_id, e->id), &e->bucket);
        list_push_back(&s->age, &e->age);
        s->count++;
    } else {
        let_go(s, e);
    }
    uv_mutex_unlock(&s->lock);
    return fits;
}

struct response_entry *response_store_get(struct response_store *s, uint32_t key_id, const char *id)
{
    uv_mutex_lock(&s->lock);
    struct response_entry *e = find(s, key_id, id);
    if (e) e->refs++;
    uv_mutex_unlock(&s->lock);
    return e;
}

bool response_store_drop(struct response_store *s, uint32_t key_id, const char *id)
{
    uv_mutex_lock(&s->lock);
    struct response_entry *e = find(s, key_id, id);
    const bool found = e != NULL;
    if (found) unlist(s, e);
    uv_mutex_unlock(&s->lock);
    return found;
}

void response_store_release(struct response_store *s, struct response_entry *e)
{
    if (!e) return;
    uv_mutex_lock(&s->lock);
    let_go(s, e);
    uv_mutex_unlock(&s->lock);
}

const char *response_entry_answer(const struct response_entry *e, size_t *n)
{
    *n = e->n_answer;
    return e->answer;
}

const char *response_entry_items(const struct response_entry *e, size_t *n)
{
    *n = e->n_items;
    return e->items;
}

const struct response_entry *response_entry_previous(const struct response_entry *e) { return e->previous; }

size_t response_store_bytes(struct response_store *s)
{
    uv_mutex_lock(&s->lock);
    drop_expired(s);
    const size_t n = s->bytes;
    uv_mutex_unlock(&s->lock);
    return n;
}

size_t response_store_count(struct response_store *s)
{
    uv_mutex_lock(&s->lock);
    drop_expired(s);
    const size_t n = s->count;
    uv_mutex_unlock(&s->lock);
    return n;
}
