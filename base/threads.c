/* threads: see threads.h. Those that only show that they can start wait for a gate to open, so that they
 * stand side by side. Afterwards the kernel is waited for too: it wakes the thread that joins before it takes
 * the ended one off the count that the limit is about. */
#include "base/threads.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TRIES = 1000, TRY_NS = 1000000 }; /* of the wait for the kernel */

struct thread {
    pthread_t id;
    void (*run)(void *arg);
    void *arg;
};

static void *run_thread(void *arg)
{
    const struct thread *t = arg;
    t->run(t->arg);
    return NULL;
}

struct thread *thread_start(void (*run)(void *arg), void *arg)
{
    struct thread *t = calloc(1, sizeof *t);
    sigset_t all, before;
    if (!t) return NULL;
    *t = (struct thread){.run = run, .arg = arg};
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = pthread_create(&t->id, NULL, run_thread, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!failed) return t;
    free(t);
    return NULL;
}

void thread_join(struct thread *t)
{
    if (!t) return;
    pthread_join(t->id, NULL);
    free(t);
}

struct gate {
    pthread_mutex_t lock;
    pthread_cond_t opened;
    bool open;
};

static void *wait_at_gate(void *arg)
{
    struct gate *g = arg;
    pthread_mutex_lock(&g->lock);
    while (!g->open) pthread_cond_wait(&g->opened, &g->lock);
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

/* Threads of this process that the kernel counts; 0 where it does not say. */
static int n_counted(void)
{
    char line[128];
    int n = 0;
    FILE *f = fopen("/proc/self/status", "re");
    if (!f) return 0;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "Threads: %d", &n) == 1) break;
    fclose(f);
    return n;
}

bool threads_can_start(int n)
{
    const int n_before = n_counted();
    struct gate g = {.lock = PTHREAD_MUTEX_INITIALIZER, .opened = PTHREAD_COND_INITIALIZER};
    pthread_t *t = calloc((size_t)n + 1, sizeof *t);
    sigset_t all, before;
    int n_started = 0;
    if (!t) return false;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* a signal of these moments is for the caller's thread */
    while (n_started < n && pthread_create(&t[n_started], NULL, wait_at_gate, &g) == 0) n_started++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);

    pthread_mutex_lock(&g.lock);
    g.open = true;
    pthread_cond_broadcast(&g.opened);
    pthread_mutex_unlock(&g.lock);
    for (int i = 0; i < n_started; i++) pthread_join(t[i], NULL);
    for (int i = 0; i < TRIES && n_counted() > n_before; i++)
        nanosleep(&(struct timespec){.tv_nsec = TRY_NS}, NULL);
    pthread_cond_destroy(&g.opened);
    pthread_mutex_destroy(&g.lock);
    free(t);
    return n_started == n;
}
