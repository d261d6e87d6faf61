/* count_malloc: linked into a test, it sees every allocation of the process, the libraries' too. */
#ifndef FLUXD_TESTS_KERNELS_COUNT_MALLOC_H
#define FLUXD_TESTS_KERNELS_COUNT_MALLOC_H

#include <stdint.h>

struct malloc_count {
    int64_t n, bytes;
    const void *first_asker; /* the code that the first of them returns to */
};

/* Allocations between the two, of the calling thread. */
void malloc_count_begin(void);
struct malloc_count malloc_count_end(void);

#endif
