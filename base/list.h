/* list: intrusive doubly linked list with a sentinel. */
#ifndef FLUXD_BASE_LIST_H
#define FLUXD_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *prev, *next;
};

#define LIST_ITEM(node, type, member) ((type *)((char *)(node)-offsetof(type, member)))
#define LIST_EACH(it, head)           for (struct list *it = (head)->next; it != (head); it = it->next)
/* body may remove `it` */
#define LIST_EACH_SAFE(it, head)                                                                             \
    for (struct list *it = (head)->next, *it##_n = it->next; it != (head); it = it##_n, it##_n = it->next)

static inline void list_init(struct list *h) { h->prev = h->next = h; }
static inline bool list_empty(const struct list *h) { return h->next == h; }
static inline void list_push_back(struct list *h, struct list *n)
{
    n->prev = h->prev;
    n->next = h;
    h->prev->next = n;
    h->prev = n;
}
static inline void list_push_front(struct list *h, struct list *n) { list_push_back(h->next, n); }
/* after it n is a list of its own, so removing twice is harmless */
static inline void list_remove(struct list *n)
{
    n->prev->next = n->next;
    n->next->prev = n->prev;
    n->prev = n->next = n;
}

#endif
