/* count_malloc: see count_malloc.h. The C library's allocator under its other name, behind a counter. */
#include "tests/kernels/count_malloc.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static _Thread_local bool counting;
static _Thread_local struct malloc_count count;

void malloc_count_begin(void)
{
    count = (struct malloc_count){0};
    counting = true;
}

struct malloc_count malloc_count_end(void)
{
    counting = false;
    return count;
}

static void note(size_t bytes, const void *asker)
{
    if (!counting) return;
    if (count.n++ == 0) count.first_asker = asker;
    count.bytes += (int64_t)bytes;
}

void *malloc(size_t n)
{
    note(n, __builtin_return_address(0));
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t each)
{
    note(n * each, __builtin_return_address(0));
    return __libc_calloc(n, each);
}

void *realloc(void *p, size_t n)
{
    note(n, __builtin_return_address(0));
    return __libc_realloc(p, n);
}

void *memalign(size_t align, size_t n)
{
    note(n, __builtin_return_address(0));
    return __libc_memalign(align, n);
}

void *aligned_alloc(size_t align, size_t n)
{
    note(n, __builtin_return_address(0));
    return __libc_memalign(align, n);
}

int posix_memalign(void **out, size_t align, size_t n)
{
    note(n, __builtin_return_address(0));
    return (*out = __libc_memalign(align, n)) ? 0 : ENOMEM;
}
