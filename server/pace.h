/* pace: how much of the processor the engine's threads got of what they wanted. A step that takes long
 * because other programs have the processor is no step that hangs. Loop thread.
 *
 * A thread that waits for a device, a lock or another thread sleeps. One that is ready to run at a look, and
 * has not run for most of the time since the last, waited for the processor. */
#ifndef FLUXD_SERVER_PACE_H
#define FLUXD_SERVER_PACE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PACE_NAME "fluxd-engine" /* the kernel's name of these threads; those that they start inherit it */

struct pace {
    struct pace_thread {
        pid_t id;
        int64_t ran_ns;
    } * thread; /* [n] those of the last look */
    size_t n, cap;
    int64_t looked_ns;
};

void pace_open(struct pace *p);
void pace_close(struct pace *p);
void pace_name_thread(void); /* the calling thread is one of the engine's */

/* Of the time since the last look (now_ns: any clock that goes on) the share that the most hindered of the
 * threads that are ready to run has run; 1 where none is, at the first look, and where /proc does not tell.
 */
double pace_look(struct pace *p, int64_t now_ns);

#endif
