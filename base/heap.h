/* heap: the machine's memory, and how much a thread has taken from the allocator, so that "nothing is
 * allocated here" can be counted. Any thread. */
#ifndef FLUXD_BASE_HEAP_H
#define FLUXD_BASE_HEAP_H

#include <stdint.h>

/* Bytes that the calling thread has ever asked for; it only grows. 0 always where the allocator is not
 * jemalloc. */
uint64_t heap_taken(void);

/* Bytes of memory that this machine has; INT64_MAX where it does not say. */
int64_t heap_host_bytes(void);

#endif
