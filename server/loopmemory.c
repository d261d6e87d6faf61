/* loopmemory: see loopmemory.h. */
#include "server/loopmemory.h"

#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

#include "base/log.h"

static int code_then; /* written once, before there are threads */

static void *must(void *p, size_t n)
{
    if (p || n == 0) return p;
    log_say(STDERR_FILENO, "fluxd: the event loop has no memory");
    _exit(code_then);
}

static void *give(size_t n) { return must(malloc(n), n); }
static void *give_zeros(size_t n, size_t each) { return must(calloc(n, each), n && each); }
static void *give_more(void *p, size_t n) { return must(realloc(p, n), n); }

void loopmemory_hold(int exit_code)
{
    code_then = exit_code;
    uv_replace_allocator(give, give_more, give_zeros, free);
}
