/* pace: see pace.h. A look costs some microseconds a thread, so it is for when the engine is silent. */
#include "server/pace.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void pace_open(struct pace *p) { *p = (struct pace){.n = 0}; }

void pace_close(struct pace *p)
{
    free(p->thread);
    pace_open(p);
}

void pace_name_thread(void) { pthread_setname_np(pthread_self(), PACE_NAME); }

/* The state of an engine's thread as in proc(5), or 0: it is none, or has ended. */
static char engine_state(int tasks, const char *id)
{
    static const char name[] = "(" PACE_NAME ") ";
    char path[32], text[96];
    if (snprintf(path, sizeof path, "%s/stat", id) >= (int)sizeof path) return '\0';
    const int fd = openat(tasks, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return '\0';
    const ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    const char *at = strstr(text, name);
    return at ? at[sizeof name - 1] : '\0';
}

/* The kernel's own number for the clock of any thread of this process (clock_getcpuclockid(3) has it for
 * processes). */
static int64_t ran_ns(pid_t id)
{
    enum { OF_THREAD = 4, SCHEDULED = 2 };
    struct timespec t = {0};
    const clockid_t clock = (clockid_t)(~(unsigned)id << 3 | OF_THREAD | SCHEDULED);
    if (clock_gettime(clock, &t) != 0) return -1;
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Threads are listed in one order, so that it mostly stands where it stood. -1: it is new. */
static int64_t ran_before(const struct pace *p, size_t at, pid_t id)
{
    for (size_t i = 0; i < p->n; i++) {
        const struct pace_thread *t = &p->thread[(at + i) % p->n];
        if (t->id == id) return t->ran_ns;
    }
    return -1;
}

static bool add(struct pace *next, struct pace_thread t)
{
    if (next->n == next->cap) {
        const size_t cap = next->cap ? 2 * next->cap : 16;
        struct pace_thread *more = realloc(next->thread, cap * sizeof *more);
        if (!more) return false;
        next->thread = more;
        next->cap = cap;
    }
    next->thread[next->n++] = t;
    return true;
}

double pace_look(struct pace *p, int64_t now_ns)
{
    struct pace next = {.looked_ns = now_ns};
    const double past = (double)(now_ns - p->looked_ns);
    double share = 1;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *d; tasks && (d = readdir(tasks));) {
        const char state = engine_state(dirfd(tasks), d->d_name);
        if (!state) continue;
        const struct pace_thread t = {.id = (pid_t)atoi(d->d_name), .ran_ns = ran_ns((pid_t)atoi(d->d_name))};
        const int64_t before = ran_before(p, next.n, t.id);
        if (!add(&next, t)) break;
        if (state != 'R' || t.ran_ns < 0 || before < 0 || past <= 0) continue;
        const double ran = (double)(t.ran_ns - before) / past;
        if (ran < share) share = ran;
    }
    if (tasks) closedir(tasks);
    free(p->thread);
    *p = next;
    return share;
}
