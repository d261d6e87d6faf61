/* mailbox: a bounded queue of pointers between threads, with a wake call. The only mutex in the house. */
#ifndef FLUXD_BASE_MAILBOX_H
#define FLUXD_BASE_MAILBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mailbox;

/* capacity: most items that wait at once. wake(arg) is called, outside the lock, after a put into an empty
 * box (e.g. uv_async_send); NULL for none. NULL when out of memory. */
struct mailbox *mailbox_new(size_t capacity, void (*wake)(void *), void *arg);
void mailbox_free(struct mailbox *m); /* the box must be empty */

bool mailbox_put(struct mailbox *m, void *item); /* any thread; false when full: item stays the caller's */
void *mailbox_take(struct mailbox *m);           /* NULL when empty */
size_t mailbox_take_all(struct mailbox *m, void **item, size_t n);
void *mailbox_wait(struct mailbox *m, int64_t timeout_ms); /* < 0: for ever; NULL on timeout or a poke */
void mailbox_poke(struct mailbox *m); /* ends one mailbox_wait (or the next) without an item */
size_t mailbox_len(const struct mailbox *m);

#endif
