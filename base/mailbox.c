/* mailbox: a ring under one mutex. A poke is a flag beside the ring, so it needs no room and is never
 * refused. */
#include "base/mailbox.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/check.h"

struct mailbox {
    pthread_mutex_t lock;
    pthread_cond_t filled; /* signalled once per put and once per poke */
    void **ring;
    size_t cap, first, n_items;
    bool poked;
    void (*wake)(void *);
    void *wake_arg;
};

static void lock(const struct mailbox *m) { CHECK(pthread_mutex_lock((pthread_mutex_t *)&m->lock) == 0); }

static void unlock(const struct mailbox *m) { CHECK(pthread_mutex_unlock((pthread_mutex_t *)&m->lock) == 0); }

/* Deadlines are monotonic: a step of the wall clock must not hold up or hurry the engine. */
static bool cond_init_monotonic(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    if (pthread_condattr_init(&attr) != 0) return false;
    bool ok = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0 && pthread_cond_init(cond, &attr) == 0;
    pthread_condattr_destroy(&attr);
    return ok;
}

struct mailbox *mailbox_new(size_t capacity, void (*wake)(void *), void *arg)
{
    CHECK(capacity > 0);
    struct mailbox *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->cap = capacity;
    m->wake = wake;
    m->wake_arg = arg;
    m->ring = calloc(capacity, sizeof *m->ring);
    if (!m->ring) goto fail;
    if (!cond_init_monotonic(&m->filled)) goto fail;
    if (pthread_mutex_init(&m->lock, NULL) != 0) {
        pthread_cond_destroy(&m->filled);
        goto fail;
    }
    return m;

fail:
    free(m->ring);
    free(m);
    return NULL;
}

void mailbox_free(struct mailbox *m)
{
    if (!m) return;
    CHECK(mailbox_len(m) == 0);
    pthread_mutex_destroy(&m->lock);
    pthread_cond_destroy(&m->filled);
    free(m->ring);
    free(m);
}

bool mailbox_put(struct mailbox *m, void *item)
{
    CHECK(item);
    /* read before the unlock: from then on the taker may have the item and be done with the box */
    void (*wake)(void *) = m->wake;
    void *wake_arg = m->wake_arg;

    lock(m);
    bool was_empty = m->n_items == 0;
    bool fits = m->n_items < m->cap;
    if (fits) {
        m->ring[(m->first + m->n_items) % m->cap] = item;
        m->n_items++;
        pthread_cond_signal(&m->filled);
    }
    unlock(m);
    if (fits && was_empty && wake) wake(wake_arg);
    return fits;
}

static void *pop_locked(struct mailbox *m)
{
    if (m->n_items == 0) return NULL;
    void *item = m->ring[m->first];
    m->first = (m->first + 1) % m->cap;
    m->n_items--;
    return item;
}

void *mailbox_take(struct mailbox *m)
{
    lock(m);
    void *item = pop_locked(m);
    unlock(m);
    return item;
}

size_t mailbox_take_all(struct mailbox *m, void **item, size_t n)
{
    size_t taken = 0;
    lock(m);
    while (taken < n && m->n_items > 0) item[taken++] = pop_locked(m);
    unlock(m);
    return taken;
}

static struct timespec deadline_in(int64_t timeout_ms)
{
    const int64_t most_ms = INT64_C(1000) * 86400 * 365; /* keeps tv_sec far from its end */
    if (timeout_ms > most_ms) timeout_ms = most_ms;
    struct timespec t;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
    int64_t ns = t.tv_nsec + timeout_ms % 1000 * 1000000;
    t.tv_sec += (time_t)(timeout_ms / 1000 + ns / 1000000000);
    t.tv_nsec = (long)(ns % 1000000000);
    return t;
}

void *mailbox_wait(struct mailbox *m, int64_t timeout_ms)
{
    struct timespec until = {0};
    if (timeout_ms > 0) until = deadline_in(timeout_ms);

    lock(m);
    int rc = timeout_ms == 0 ? ETIMEDOUT : 0;
    while (!m->poked && m->n_items == 0 && rc != ETIMEDOUT) {
        rc = timeout_ms < 0 ? pthread_cond_wait(&m->filled, &m->lock)
                            : pthread_cond_timedwait(&m->filled, &m->lock, &until);
        CHECK(rc == 0 || rc == ETIMEDOUT);
    }
    void *item =
        m->poked ? NULL : pop_locked(m); /* a poke goes first: it ends a wait even while items pour in */
    m->poked = false;
    unlock(m);
    return item;
}

void mailbox_poke(struct mailbox *m)
{
    lock(m);
    m->poked = true;
    pthread_cond_signal(&m->filled);
    unlock(m);
}

size_t mailbox_len(const struct mailbox *m)
{
    lock(m);
    size_t n = m->n_items;
    unlock(m);
    return n;
}
