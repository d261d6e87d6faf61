/* starve_app: the whole server with the real engine, over the C library's allocator, which can be made to
 * fail. Any thread.
 *
 * The file that STARVE_FILE names is shared with the test: how many allocations were asked for, and the first
 * and the last of those that get nothing. It is written while the server runs. OpenMP's library always gets
 * its memory, and is not counted: without it, it ends the process, which cuts every answer. */
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct starve {
    _Atomic int64_t n_asked, first, last;
};

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static struct starve *_Atomic shared;
static uintptr_t omp_begin, omp_end; /* where OpenMP's library lies */

static int find_omp(struct dl_phdr_info *lib, size_t n, void *arg)
{
    (void)n;
    (void)arg;
    if (!strstr(lib->dlpi_name, "libgomp")) return 0;
    omp_begin = omp_end = lib->dlpi_addr;
    for (int i = 0; i < lib->dlpi_phnum; i++)
        if (lib->dlpi_phdr[i].p_type == PT_LOAD)
            omp_end = lib->dlpi_addr + lib->dlpi_phdr[i].p_vaddr + lib->dlpi_phdr[i].p_memsz;
    return 1;
}

__attribute__((constructor)) static void open_shared(void)
{
    const char *path = getenv("STARVE_FILE");
    const int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    dl_iterate_phdr(find_omp, NULL);
    void *p = mmap(NULL, sizeof(struct starve), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (p != MAP_FAILED) atomic_store(&shared, (struct starve *)p);
}

static bool refused(const void *asker)
{
    struct starve *s = atomic_load_explicit(&shared, memory_order_relaxed);
    const uintptr_t at = (uintptr_t)asker;
    if (!s || (at >= omp_begin && at < omp_end)) return false;
    const int64_t i = atomic_fetch_add(&s->n_asked, 1);
    if (i < atomic_load(&s->first) || i > atomic_load(&s->last)) return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t n) { return refused(__builtin_return_address(0)) ? NULL : __libc_malloc(n); }

void *calloc(size_t n, size_t each)
{
    return refused(__builtin_return_address(0)) ? NULL : __libc_calloc(n, each);
}

void *realloc(void *p, size_t n)
{
    return refused(__builtin_return_address(0)) ? NULL : __libc_realloc(p, n);
}

void *memalign(size_t align, size_t n)
{
    return refused(__builtin_return_address(0)) ? NULL : __libc_memalign(align, n);
}

void *aligned_alloc(size_t align, size_t n)
{
    return refused(__builtin_return_address(0)) ? NULL : __libc_memalign(align, n);
}

int posix_memalign(void **out, size_t align, size_t n)
{
    return !refused(__builtin_return_address(0)) && (*out = __libc_memalign(align, n)) ? 0 : ENOMEM;
}
