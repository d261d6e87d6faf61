/* scheduler: continuous batching over one engine. TOKENS. The public door of the floor.
 * scheduler_run is the engine thread's life; the other calls are for the loop thread unless a line says
 * otherwise. */
#ifndef FLUXD_SCHEDULER_SCHEDULER_H
#define FLUXD_SCHEDULER_SCHEDULER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "engine/engine.h"
#include "scheduler/request.h"

enum route_policy {
    ROUTE_POLICY_ORDER, /* the rows of a step by route */
    ROUTE_POLICY_NONE,
    ROUTE_POLICY_BALANCE /* and admission: admit.h */
};

struct scheduler_conf {
    int queue_len; /* requests that wait at once; over it is ERR_QUEUE_FULL */
    int chunk_tok; /* --prefill-chunk-tokens: most prompt tokens in one piece, multiple of PAGE_TOK; 0: the
                      engine's */
    int default_max_tok; /* promise for requests that name no max_tokens */
    double
        itl_target_ms;  /* prefill pieces fill what is left of it while streams run; 0: as itl_stretch says */
    double itl_stretch; /* a step beside running streams, over its decode pass; 0: by device */
    double itl_burst_ms;   /* a step for a prompt that came before all of its streams' first tokens; 0: as
                              itl_stretch says */
    int64_t swap_bytes;    /* host memory for pages of preempted requests; 0: none, they are computed again */
    int64_t prefix_bytes;  /* of KV pages that the prefix cache may keep; 0: no cache; < 0: by device */
    bool route_pin;        /* a prompt behind cached pages takes their route */
    double route_bias_max; /* most that routers' margins are lowered under load; 0: never */
    enum route_policy route_policy;
    int64_t priority_aging_ms; /* what waited so long is overdue: admit.h says what it gets; 0: nothing */
    int64_t queue_timeout_ms, first_token_timeout_ms, progress_timeout_ms, request_timeout_ms; /* 0: none */
    const char *route; /* --route: "auto" "full" "sparse" or L characters of 0 and 1 */
    void (*wake)(
        void *arg); /* called from the engine thread when the outbox gets its first entry (uv_async_send) */
    void *wake_arg;
};

/* Histogram for Prometheus: bucket i counts values <= bound[i]; the last is +Inf. Written by one thread, read
 * by any. */
enum { HIST_BUCKETS = 24 };
struct sched_hist {
    _Atomic uint64_t bucket[HIST_BUCKETS];
    _Atomic uint64_t count;
    _Atomic uint64_t sum; /* ns, or what was counted */
};
extern const double sched_hist_bound_s[HIST_BUCKETS]; /* upper bounds in seconds, the last is INFINITY */
extern const double sched_hist_bound_n[HIST_BUCKETS]; /* the same of numbers */
void sched_hist_time(struct sched_hist *h, int64_t ns);
void sched_hist_count(struct sched_hist *h, int64_t n);

/* Read without a lock. Gauges and counters; times in ns. */
struct scheduler_stats {
    _Atomic int64_t waiting, prefilling, decoding, resting; /* requests by state */
    _Atomic uint64_t accepted, rejected_full, rejected_size;
    _Atomic uint64_t finished[FINISH_KINDS]; /* by enum finish; scheduler_count_end */
    _Atomic uint64_t prompt_tok, answer_tok, cached_tok;
    _Atomic int64_t pages_total, pages_used, pages_full,
        pages_sparse;                  /* by the kind of the layer that holds them */
    _Atomic uint64_t pages_given_back; /* dead pages of sparse layers */
    _Atomic uint64_t timed_out;        /* ended by a deadline */
    _Atomic uint64_t steps, preemptions, swaps;
    _Atomic uint64_t idle_ns, chain_ns; /* waited for us, of the time in which step followed step */
    _Atomic uint64_t taken_bytes;       /* taken from the allocator by the engine thread's turns */
    _Atomic uint64_t prefix_query_tok;  /* tokens of prompts looked up */
    _Atomic uint64_t prefix_hits,
        prefix_misses; /* prompts computed behind cached pages, and from their first token */
    _Atomic uint64_t prefix_strays,
        prefix_evicted;                       /* prompts begun again as their route differed; pages evicted */
    _Atomic int64_t pages_cached, pages_idle; /* kept by the prefix cache; of those without any other owner */
    _Atomic uint64_t full_layer_requests[256]; /* routed requests for which layer l was full */
    _Atomic uint64_t full_layers_hist[257];    /* routed requests by number of full layers */
    _Atomic uint64_t biased;                   /* prompts admitted with margins lowered */
    _Atomic int64_t bias_micro;                /* millionths that the last admitted prompt's were moved by */
    _Atomic uint64_t routed;                   /* requests whose route is known */
    _Atomic int64_t heartbeat_ns;      /* clock_ns of the engine thread's last turn: see scheduler_beat_ns */
    _Atomic bool asleep;               /* the engine thread waits for requests */
    _Atomic int64_t oldest_waiting_ns; /* when the one that waits longest began to, 0: none waits */
    struct sched_hist queue, prefill, ttft, itl, e2e, step;
    struct sched_hist decode, inference, per_tok; /* of requests that ended: times; per_tok: mean gap */
    struct sched_hist prompt_len, answer_len,
        max_len;                   /* of these: tokens; max_len: that might be generated */
    struct sched_hist step_tok;    /* tokens of a step */
    struct sched_hist mask;        /* microseconds to make one of a guided request */
    _Atomic uint64_t forced_tok;   /* that guides named, so that none was sampled */
    _Atomic uint64_t mask_wait_ns; /* in which a step had nothing to do but wait for masks */
    _Atomic int64_t swapped;       /* requests whose pages are in host memory */
};

/* The engine thread's last sign of life. One that waits for work is not silent. */
static inline int64_t scheduler_beat_ns(const struct scheduler_stats *s)
{
    return atomic_load(&s->asleep) ? clock_ns() : atomic_load(&s->heartbeat_ns);
}

struct scheduler;
/* What the shape (engine_conf.check) or the machine refuses of the settings: ERR_CONFIG that names one.
 * scheduler_open relies on it for all but the route. */
enum err scheduler_check(const struct scheduler_conf *conf, const struct engine_info *shape,
                         struct err_note *note);
/* engine is borrowed and must outlive the scheduler. Checks conf.route against the model (ERR_CONFIG, param
 * "--route"). */
enum err scheduler_open(struct scheduler **out, const struct scheduler_conf *conf, struct engine *e,
                        struct err_note *note);
void scheduler_close(struct scheduler *s); /* after scheduler_run returned; NULL is fine */

/* The engine thread: runs until scheduler_stop and every accepted request has had its DONE. Returns
 * ERR_DEVICE when the engine was lost (all requests ended with FINISH_ERROR first), else OK. */
enum err scheduler_run(struct scheduler *s);

/* OK: accepted, r is the scheduler's until its DONE is read. Otherwise r stays the caller's and note says
 * why: ERR_QUEUE_FULL, ERR_DRAINING, ERR_KV_CAPACITY (can never fit the pool), ERR_CONTEXT_LENGTH,
 * ERR_INVALID_VALUE ("route"). */
enum err scheduler_submit(struct scheduler *s, struct request *r, struct err_note *note);

/* A deadline ends a request with FINISH_ERROR: ERR_OVERLOAD while nothing was done for it, ERR_DEADLINE
 * later. Ends r with FINISH_CANCELLED within one step, whatever its state. Idempotent; harmless after DONE
 * was written (not read). */
void scheduler_cancel(struct scheduler *s, struct request *r);

/* Requests that have events; each is returned once per announcement: read all its events with
 * request_next_event. */
size_t scheduler_poll(struct scheduler *s, struct request **out, size_t n);

/* How an accepted request ended for its reader, once for each after its DONE was read: a stop string ends an
 * answer by a cancel, and may be found after the last token. So accepted == finished by reason + those whose
 * DONE was not read, at any moment of the loop thread. */
void scheduler_count_end(struct scheduler *s, enum finish finish);

/* After a full ring was read: the sequence may go on. Cheap; call it when events were read from a request
 * that had none free. */
void scheduler_resume(struct scheduler *s);

void scheduler_drain(struct scheduler *s); /* refuse new requests, finish the accepted ones */
void scheduler_stop(struct scheduler *s,
                    enum err why); /* end all requests at once with this error, then scheduler_run returns */

int scheduler_retry_after_s(
    const struct scheduler *s); /* any thread: when a part of the queue will have been served, >= 1 */

const struct scheduler_stats *scheduler_stats(const struct scheduler *s); /* any thread */
const struct engine_info *scheduler_model(const struct scheduler *s);

#endif
