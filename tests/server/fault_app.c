/* fault_app: the whole server with the real engine, whose steps can be made to fail. It is linked with
 * --wrap=engine_step, so every step of the scheduler comes by here. Engine thread only.
 *
 * A prompt of token ids FAULT_MARK, FAULT_MARK, kind, argument, ... brings a fault about once it has been
 * read and 2 tokens of its answer are drawn: 1  the device is lost 2  the logits of this sequence are NaN 3
 * one step takes argument * 100 ms 4  the sequence's first page of KV, in a layer that sees all of it, is
 * filled with NaN 5  on a GPU: a kernel writes where nothing is 6  on a GPU: a kernel never ends 7  one step
 * lasts as long as the file that FAULT_HOLD names is there; meanwhile one of its name and ".on" is there too
 * 8 in one step the engine's thread needs argument ms of a processor that it shares with many others
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/check.h"
#include "engine/state.h"
#ifdef FLUXD_CUDA
#include "engine/cuda/backend.h"
#include "tests/server/fault_gpu.h"
#endif

enum {
    FAULT_MARK = 4242,
    FAULT_LOST = 1,
    FAULT_NAN,
    FAULT_SLOW,
    FAULT_PAGE,
    FAULT_ADDRESS,
    FAULT_SPIN,
    FAULT_HELD,
    FAULT_STARVED,
    CROWD = 24, /* others on the starved thread's processor */
    AFTER_TOK = 2
};

enum err __real_engine_step(struct engine *e, const struct batch *b, struct step_out *out,
                            struct err_note *note);
enum err __wrap_engine_step(struct engine *e, const struct batch *b, struct step_out *out,
                            struct err_note *note);

static int fault_of(const struct batch_row *r)
{
    const struct batch_seq *s = r->seq;
    return s->n_prompt >= 4 && s->tok[0] == FAULT_MARK && s->tok[1] == FAULT_MARK &&
                   r->pos == s->n_prompt + AFTER_TOK - 1
               ? s->tok[2]
               : 0;
}

static void spoil_page(struct engine *e, const struct batch_seq *s)
{
    void *nan = malloc((size_t)e->mem.page_bytes);
    CHECK(nan);
    memset(nan, 0xff, (size_t)e->mem.page_bytes); /* in bf16 and in fp32 alike */
    CHECK(engine_page_write(e, s->page[0], nan) == OK);
    free(nan);
}

static void break_device(struct engine *e, int fault)
{
#ifdef FLUXD_CUDA
    cudaStream_t stream = ((struct backend_cuda *)e->be)->stream;
    if (e->cuda && fault == FAULT_ADDRESS) CHECK(fault_gpu_address(stream));
    if (e->cuda && fault == FAULT_SPIN) CHECK(fault_gpu_spin(stream));
#endif
    (void)e;
    (void)fault;
}

static void hold(void)
{
    char on[4096];
    const char *file = getenv("FAULT_HOLD");
    CHECK(file && (size_t)snprintf(on, sizeof on, "%s.on", file) < sizeof on);
    int fd = open(on, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && close(fd) == 0);
    while (access(file, F_OK) == 0) usleep(2000);
    CHECK(unlink(on) == 0);
}

static void *crowd(void *over)
{
    while (!atomic_load((atomic_bool *)over)) continue;
    return NULL;
}

static int64_t ran_us(void)
{
    struct rusage use;
    CHECK(getrusage(RUSAGE_THREAD, &use) == 0);
    return (int64_t)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1000000 + use.ru_utime.tv_usec +
           use.ru_stime.tv_usec;
}

static void starve(int ms)
{
    pthread_t other[CROWD];
    atomic_bool over = false;
    cpu_set_t all, one;
    CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
    CPU_ZERO(&one);
    for (size_t i = 0; CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &all)) CPU_SET(i, &one);
    CHECK(sched_setaffinity(0, sizeof one, &one) == 0); /* those that it starts stay there too */
    for (int i = 0; i < CROWD; i++) CHECK(pthread_create(&other[i], NULL, crowd, &over) == 0);
    for (const int64_t end = ran_us() + 1000 * ms; ran_us() < end;) continue;
    atomic_store(&over, true);
    for (int i = 0; i < CROWD; i++) pthread_join(other[i], NULL);
    CHECK(sched_setaffinity(0, sizeof all, &all) == 0);
}

enum err __wrap_engine_step(struct engine *e, const struct batch *b, struct step_out *out,
                            struct err_note *note)
{
    for (int i = 0; i < b->n_row; i++) {
        if (fault_of(&b->row[i]) == FAULT_LOST)
            return err_set(note, ERR_DEVICE, NULL, "the device was lost in a test");
        if (fault_of(&b->row[i]) == FAULT_SLOW) usleep(100000u * (unsigned)b->row[i].seq->tok[3]);
        if (fault_of(&b->row[i]) == FAULT_HELD) hold();
        if (fault_of(&b->row[i]) == FAULT_STARVED) starve(b->row[i].seq->tok[3]);
        if (fault_of(&b->row[i]) == FAULT_PAGE) spoil_page(e, b->row[i].seq);
        break_device(e, fault_of(&b->row[i]));
    }
    const enum err failed = __real_engine_step(e, b, out, note);
    for (int i = 0; !failed && i < b->n_row; i++)
        if (fault_of(&b->row[i]) == FAULT_NAN) out->row[i].bad = true;
    return failed;
}
