/* threads: one for a helper, and whether as many threads as will be needed may be started. Libraries that
 * start their own (libuv's pool, OpenMP's team) end the process without a word of use where the machine
 * refuses one. */
#ifndef FLUXD_BASE_THREADS_H
#define FLUXD_BASE_THREADS_H

#include <stdbool.h>

/* A thread that runs run(arg). Signals are for the others. NULL: the machine refuses one. */
struct thread;
struct thread *thread_start(void (*run)(void *arg), void *arg);
void thread_join(struct thread *t); /* waits until run has returned; NULL is fine */

/* Starts n threads that all stand at once, and ends them: true when all n stood. Any thread. */
bool threads_can_start(int n);

#endif
