/* heap: see heap.h. jemalloc counts for each thread and hands out where it does. */
#include "base/heap.h"

#include <stddef.h>
#include <unistd.h>

int mallctl(const char *name, void *old, size_t *old_len, void *now, size_t now_len)
    __attribute__((weak)); /* jemalloc(3) */

uint64_t heap_taken(void)
{
    static _Thread_local const uint64_t *count;
    static _Thread_local int asked;
    if (!asked) {
        void *at = NULL;
        size_t len = sizeof at;
        asked = 1;
        if (mallctl && mallctl("thread.allocatedp", &at, &len, NULL, 0) == 0) count = at;
    }
    return count ? *count : 0;
}

int64_t heap_host_bytes(void)
{
    const int64_t n = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    return n > 0 ? n : INT64_MAX;
}
