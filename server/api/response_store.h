/* response_store: responses that were told, so that they can be asked for again and gone on with. In memory,
 * bounded in bytes and in time; each belongs to an API key. Any thread.
 *
 * An entry holds what a response added to a conversation, and the entry that it went on from: a conversation
 * is a chain, and nothing is held twice. Where the bytes do not suffice the oldest go; one that others go on
 * from is then no longer found, and freed with the last of them. */
#ifndef FLUXD_SERVER_API_RESPONSE_STORE_H
#define FLUXD_SERVER_API_RESPONSE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct response_store;
struct response_entry; /* constant once it is there */

struct response_store *response_store_new(size_t bytes_most, int64_t ttl_s); /* NULL: out of memory */
void response_store_free(struct response_store *s); /* after every entry was released; NULL is fine */

struct response_put {
    uint32_t key_id;
    const char *id;
    struct response_entry *previous; /* that it goes on from, or NULL; stays the caller's */
    const char *answer, *items;      /* the response; its input and output items, a JSON array */
    size_t n_answer, n_items;
};
/* Copies all. False: no memory, or it is larger than the store. */
bool response_store_put(struct response_store *s, const struct response_put *p);
/* NULL: there is none of that key and id (any more). Release it. */
struct response_entry *response_store_get(struct response_store *s, uint32_t key_id, const char *id);
bool response_store_drop(struct response_store *s, uint32_t key_id,
                         const char *id);                                        /* false: there is none */
void response_store_release(struct response_store *s, struct response_entry *e); /* NULL is fine */

const char *response_entry_answer(const struct response_entry *e, size_t *n);
const char *response_entry_items(const struct response_entry *e, size_t *n);
const struct response_entry *response_entry_previous(const struct response_entry *e); /* NULL: none */

size_t response_store_bytes(struct response_store *s); /* held */
size_t response_store_count(struct response_store *s); /* that can be found */

#endif
