/* fuzz: what the targets share. Each is a program for libFuzzer (`make fuzz`): whatever the bytes, the reader
 * refuses them with a word, or reads them; the sanitizers watch. */
#ifndef FLUXD_TESTS_FUZZ_FUZZ_H
#define FLUXD_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define FUZZ_CHECK(x) ((x) ? (void)0 : abort())

/* A refusal has its word. */
static inline void fuzz_refused(enum err e, const struct err_note *note)
{
    FUZZ_CHECK(e != OK && note->code == e && note->text[0]);
}

/* The bytes as a file; its path. One at a time. */
static inline const char *fuzz_file(const uint8_t *data, size_t n)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) fd = memfd_create("fuzz", 0);
    FUZZ_CHECK(fd >= 0 && ftruncate(fd, 0) == 0 && pwrite(fd, data, n, 0) == (ssize_t)n);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return path;
}

#endif
