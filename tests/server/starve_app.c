/* starve_app: the whole server with the real engine, over calls of the C library that can be made to fail.
 * Any thread.
 *
 * The file that STARVE_FILE names is shared with the test and written while the server runs. Its head says
 * how many allocations were asked for, and the first and the last of those that get nothing
 * (test_starve_memory.py). Where the file is longer it has places too (torture.py): a place is a kind of call
 * (CALL_LIST) with the addresses that it comes from, as far as they are in the program, which keeps frame
 * pointers. A table notes all that were seen, and the call of one of them is the one that fails.
 *
 * OpenMP's library always gets what it asks for, and is not counted: without it, it ends the process. With
 * the address sanitizer, whose allocator must stay, allocations fail in the program alone, not in its
 * libraries. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/server/starve.h"

enum { N_SITE = 1 << 14 };

struct site {
    _Atomic uint64_t hash;
    _Atomic uint32_t n;
    uint32_t kind;
    uintptr_t from[STARVE_FRAMES];
};

struct starve {
    _Atomic int64_t n_asked, first, last;
    /* places */
    _Atomic uint64_t armed, kinds; /* bits of enum starve_call that are noted at all */
    _Atomic int64_t nth, every;    /* which call of the armed place fails, and whether all behind it do */
    _Atomic int64_t felt;          /* calls that failed */
    struct site site[N_SITE];
};

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static struct starve *_Atomic shared;
static bool has_sites;
static struct {
    uintptr_t begin, end;
} spared[2]; /* where the libraries lie that always get what they ask for */

static int find_spared(struct dl_phdr_info *lib, size_t n, void *arg)
{
    (void)n;
    (void)arg;
    const int at = strstr(lib->dlpi_name, "libgomp") ? 0 : strstr(lib->dlpi_name, "libdnnl") ? 1 : -1;
    for (int i = 0; at >= 0 && i < lib->dlpi_phnum; i++)
        if (lib->dlpi_phdr[i].p_type == PT_LOAD)
            spared[at].end = lib->dlpi_addr + lib->dlpi_phdr[i].p_vaddr + lib->dlpi_phdr[i].p_memsz;
    if (at >= 0) spared[at].begin = lib->dlpi_addr;
    return 0;
}

__attribute__((constructor)) static void open_shared(void)
{
    const char *path = getenv("STARVE_FILE");
    const int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    struct stat st;
    if (fd < 0 || fstat(fd, &st)) return;
    dl_iterate_phdr(find_spared, NULL);
    has_sites = st.st_size >= (off_t)sizeof(struct starve);
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (p != MAP_FAILED) atomic_store(&shared, (struct starve *)p);
}

/* --- places */

static bool is_ours(uintptr_t at)
{
    extern const char __executable_start[], etext[];
    return at >= (uintptr_t)__executable_start && at < (uintptr_t)etext;
}

/* In a build that keeps frame pointers (STARVE_WALKS) code of the program has them, that of libraries does
 * not: so the walk ends with the first address that is not the program's. */
#ifndef STARVE_WALKS
#define STARVE_WALKS false
#endif
static uint64_t walk(enum starve_call kind, void *const *frame, uintptr_t *from)
{
    uint64_t h = 1469598103934665603ull ^ (uint64_t)kind;
    bool go_on = true;
    for (int i = 0; i < STARVE_FRAMES; i++) {
        from[i] = go_on ? (uintptr_t)frame[1] : 0;
        h = (h ^ from[i]) * 1099511628211ull;
        go_on = STARVE_WALKS && go_on && is_ours(from[i]) && frame[0] > (void *)frame;
        if (go_on) frame = frame[0];
    }
    return h | 1;
}

static struct site *site_of(struct starve *s, enum starve_call kind, uint64_t h, const uintptr_t *from)
{
    for (uint64_t i = h; i < h + N_SITE; i++) {
        struct site *p = &s->site[i * 0x9E3779B97F4A7C15ull >> 50];
        uint64_t was = 0;
        if (atomic_compare_exchange_strong(&p->hash, &was, h)) {
            p->kind = kind;
            memcpy(p->from, from, sizeof p->from);
            return p;
        }
        if (was == h) return p;
    }
    return NULL;
}

static bool fails_here(struct starve *s, enum starve_call kind, void *const *frame)
{
    uintptr_t from[STARVE_FRAMES];
    if (!(atomic_load_explicit(&s->kinds, memory_order_relaxed) >> kind & 1)) return false;
    const uint64_t h = walk(kind, frame, from);
    struct site *p = site_of(s, kind, h, from);
    const int64_t n = p ? atomic_fetch_add(&p->n, 1) : 0;
    if (!p || h != atomic_load(&s->armed)) return false;
    const int64_t nth = atomic_load(&s->nth);
    return n == nth || (n > nth && atomic_load(&s->every));
}

bool starve_fails(enum starve_call kind, void *const *frame)
{
    struct starve *s = atomic_load_explicit(&shared, memory_order_relaxed);
    const uintptr_t at = (uintptr_t)frame[1];
    if (!s) return false;
    for (size_t i = 0; i < sizeof spared / sizeof *spared; i++)
        if (at >= spared[i].begin && at < spared[i].end) return false;
    bool fails = false;
    if (kind == CALL_MEMORY) {
        const int64_t i = atomic_fetch_add(&s->n_asked, 1);
        fails = i >= atomic_load(&s->first) && i <= atomic_load(&s->last);
    }
    if (!fails && has_sites) fails = fails_here(s, kind, frame);
    if (fails && has_sites) atomic_fetch_add(&s->felt, 1);
    return fails;
}

/* --- allocations */

#ifdef __SANITIZE_ADDRESS__
#define OURS(name)   __wrap_##name
#define THEIRS(name) __real_##name
void *__real_malloc(size_t);
void *__real_calloc(size_t, size_t);
void *__real_realloc(void *, size_t);
void *__real_aligned_alloc(size_t, size_t);
char *__real_strdup(const char *);
char *__real_strndup(const char *, size_t);
#define THEIR_ALIGNED __real_aligned_alloc
#else
#define OURS(name)    name
#define THEIRS(name)  __libc_##name
#define THEIR_ALIGNED __libc_memalign
#endif
#define NO_MEMORY (starve_fails(CALL_MEMORY, __builtin_frame_address(0)) && (errno = ENOMEM))

void *OURS(malloc)(size_t n) { return NO_MEMORY ? NULL : THEIRS(malloc)(n); }
void *OURS(calloc)(size_t n, size_t each) { return NO_MEMORY ? NULL : THEIRS(calloc)(n, each); }
void *OURS(realloc)(void *p, size_t n) { return NO_MEMORY ? NULL : THEIRS(realloc)(p, n); }
void *OURS(aligned_alloc)(size_t align, size_t n) { return NO_MEMORY ? NULL : THEIR_ALIGNED(align, n); }

int OURS(posix_memalign)(void **out, size_t align, size_t n)
{
    return !NO_MEMORY && (*out = THEIR_ALIGNED(align, n)) ? 0 : ENOMEM;
}

#ifdef __SANITIZE_ADDRESS__
char *OURS(strdup)(const char *s) { return NO_MEMORY ? NULL : THEIRS(strdup)(s); }
char *OURS(strndup)(const char *s, size_t n) { return NO_MEMORY ? NULL : THEIRS(strndup)(s, n); }
#else
void *memalign(size_t align, size_t n) { return NO_MEMORY ? NULL : THEIR_ALIGNED(align, n); }
#endif
