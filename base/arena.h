/* arena: many small allocations with one life. Not thread safe; one owner. */
#ifndef FLUXD_BASE_ARENA_H
#define FLUXD_BASE_ARENA_H

#include <stddef.h>

struct arena_block;
struct arena {
    struct arena_block *head;
    size_t used;  /* bytes handed out so far, each piece rounded up to 16 */
    size_t limit; /* bytes it may hand out in all; 0 = no limit */
};

void arena_init(struct arena *a, size_t limit_bytes);
void arena_fini(struct arena *a);             /* frees everything; the arena may be init'ed again */
void *arena_alloc(struct arena *a, size_t n); /* 16-byte aligned, zeroed; NULL when out of memory or limit */
void *arena_array(struct arena *a, size_t n, size_t size);     /* as arena_alloc with a checked product */
char *arena_strndup(struct arena *a, const char *s, size_t n); /* copy of all n bytes, and a NUL */

#endif
