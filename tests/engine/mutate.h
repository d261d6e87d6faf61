/* mutate: for tests that break model files on purpose. Watches every allocation while a file is read: under
 * the sanitizers by their allocator's hooks, else because malloc and its relatives (and mmap) are taken over
 * here and passed on to the C library. Include once, in the test's own file. FLUXD_MUTATE_SEED=N makes other
 * files of the random ones. */
#ifndef FLUXD_TESTS_ENGINE_MUTATE_H
#define FLUXD_TESTS_ENGINE_MUTATE_H

#include "tests/base/cm.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"

static struct {
    atomic_bool on;
    atomic_llong most, live, peak; /* largest single block; bytes in use, now and at most */
} watch;

static inline void watch_take(size_t n)
{
    if (!atomic_load(&watch.on)) return;
    long long size = (long long)n, live = atomic_fetch_add(&watch.live, size) + size,
              v = atomic_load(&watch.most);
    while (size > v && !atomic_compare_exchange_weak(&watch.most, &v, size)) {
    }
    v = atomic_load(&watch.peak);
    while (live > v && !atomic_compare_exchange_weak(&watch.peak, &v, live)) {
    }
}

static inline void watch_give(size_t n)
{
    if (atomic_load(&watch.on)) atomic_fetch_sub(&watch.live, (long long)n);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
/* As in sanitizer/allocator_interface.h, which not every installation of the compiler has. */
int __sanitizer_install_malloc_and_free_hooks(void (*taken)(const volatile void *, size_t),
                                              void (*given)(const volatile void *));
size_t __sanitizer_get_allocated_size(const volatile void *p);

static void watch_taken(const volatile void *p, size_t n)
{
    (void)p;
    watch_take(n);
}

static void watch_given(const volatile void *p)
{
    if (p) watch_give(__sanitizer_get_allocated_size(p));
}

static inline void watch_install(void)
{
    static bool done;
    if (!done) assert_true(__sanitizer_install_malloc_and_free_hooks(watch_taken, watch_given) > 0);
    done = true;
}
#else
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);
void __libc_free(void *p);

static void *watch_block(void *p, size_t asked)
{
    (void)asked;
    if (p) watch_take(malloc_usable_size(p));
    return p;
}

void *malloc(size_t n) { return watch_block(__libc_malloc(n), n); }
void *calloc(size_t n, size_t size) { return watch_block(__libc_calloc(n, size), n * size); }
void *memalign(size_t align, size_t n) { return watch_block(__libc_memalign(align, n), n); }
void *aligned_alloc(size_t align, size_t n) { return watch_block(__libc_memalign(align, n), n); }

int posix_memalign(void **out, size_t align, size_t n)
{
    *out = watch_block(__libc_memalign(align, n), n);
    return *out ? 0 : 12; /* ENOMEM */
}

void *realloc(void *p, size_t n)
{
    size_t old = p ? malloc_usable_size(p) : 0;
    void *q = __libc_realloc(p, n);
    if (q || n == 0) watch_give(old);
    return q ? watch_block(q, n) : NULL;
}

void free(void *p)
{
    if (p) watch_give(malloc_usable_size(p));
    __libc_free(p);
}

void *mmap(void *at, size_t n, int prot, int flags, int fd, off_t from)
{
    void *p = (void *)syscall(SYS_mmap, at, n, prot, flags, fd, from);
    if (p != MAP_FAILED) watch_take(n);
    return p;
}

static inline void watch_install(void) {}
#endif

static inline void watch_begin(void)
{
    watch_install();
    atomic_store(&watch.most, 0);
    atomic_store(&watch.live, 0);
    atomic_store(&watch.peak, 0);
    atomic_store(&watch.on, true);
}

static inline void watch_end(void) { atomic_store(&watch.on, false); }

static inline uint32_t mutate_hash(uint32_t x)
{
    x = (x ^ x >> 16) * 0x7FEB352Du;
    x = (x ^ x >> 15) * 0x846CA68Bu;
    return x ^ x >> 16;
}

static inline uint32_t mutate_next(uint32_t *s)
{
    *s += 0x9E3779B9u;
    return mutate_hash(*s);
}

static inline uint32_t mutate_seed(uint32_t own)
{
    const char *other = getenv("FLUXD_MUTATE_SEED");
    return other ? mutate_hash((uint32_t)strtoul(other, NULL, 10) * 31 + own) : own;
}

/* A refusal is one line that names the file; `names` (NULL: nothing) stands in it too. what describes the
 * mutation. */
static inline void assert_refusal(const struct err_note *note, const char *path, const char *names,
                                  const char *what)
{
    if (!note->text[0]) fail_msg("%s: refused without a word", what);
    if (!strstr(note->text, path)) fail_msg("%s: \"%s\" does not name the file", what, note->text);
    if (names && !strstr(note->text, names)) fail_msg("%s: \"%s\" does not name %s", what, note->text, names);
    for (const char *p = note->text; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            fail_msg("%s: \"%s\" is not one plain line", what, note->text);
}

#endif
