/* arena: a chain of blocks; the head is the one being filled. What is too big for a block of the usual size
 * gets one of its own behind the head. Memory is handed out once, so calloc's zeroes are still there. */
#include "base/arena.h"

#include <stdalign.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_ALIGN       16u
#define BLOCK_BYTES_FIRST 4096u
#define BLOCK_BYTES_MOST  65536u /* blocks double up to this: few calls to malloc, little left unused */

struct arena_block {
    struct arena_block *next;
    size_t used, cap;
    alignas(ARENA_ALIGN) unsigned char data[];
};

void arena_init(struct arena *a, size_t limit_bytes) { *a = (struct arena){.limit = limit_bytes}; }

void arena_fini(struct arena *a)
{
    for (struct arena_block *b = a->head, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    a->head = NULL;
    a->used = 0;
}

static struct arena_block *block_new(size_t cap)
{
    if (cap > SIZE_MAX - sizeof(struct arena_block)) return NULL;
    struct arena_block *b = calloc(1, sizeof *b + cap);
    if (b) b->cap = cap;
    return b;
}

static size_t next_cap(const struct arena_block *head)
{
    if (!head || head->cap < BLOCK_BYTES_FIRST / 2) return BLOCK_BYTES_FIRST;
    return head->cap < BLOCK_BYTES_MOST / 2 ? head->cap * 2 : BLOCK_BYTES_MOST;
}

/* A block with room for n bytes, linked in; NULL when out of memory. */
static struct arena_block *block_for(struct arena *a, size_t n)
{
    struct arena_block *head = a->head;
    if (head && head->cap - head->used >= n) return head;

    size_t cap = next_cap(head);
    bool own = n > cap / 4; /* else the rest of the head would go to waste for one big piece */
    struct arena_block *b = block_new(own ? n : cap);
    if (!b) return NULL;
    if (own && head) {
        b->next = head->next;
        head->next = b;
    } else {
        b->next = head;
        a->head = b;
    }
    return b;
}

void *arena_alloc(struct arena *a, size_t n)
{
    if (n > SIZE_MAX - ARENA_ALIGN) return NULL;
    n = n == 0 ? ARENA_ALIGN : (n + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    if (n > SIZE_MAX - a->used) return NULL;
    if (a->limit && a->used + n > a->limit) return NULL;

    struct arena_block *b = block_for(a, n);
    if (!b) return NULL;
    void *p = b->data + b->used;
    b->used += n;
    a->used += n;
    return p;
}

void *arena_array(struct arena *a, size_t n, size_t size)
{
    size_t bytes;
    return __builtin_mul_overflow(n, size, &bytes) ? NULL : arena_alloc(a, bytes);
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
    if (n == SIZE_MAX) return NULL;
    char *p = arena_alloc(a, n + 1);
    if (p && n) memcpy(p, s, n);
    return p;
}
