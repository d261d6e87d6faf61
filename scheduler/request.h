/* request and event: what crosses between server and scheduler.
 *
 * A request is made by the server (prep), belongs to the scheduler from scheduler_submit until its DONE event
 * has been read, and is freed by the server. The law: every accepted request gives exactly one DONE event,
 * and nothing after it.
 *
 * Events go through a small ring inside the request (one producer: the engine thread; one consumer: the loop
 * thread). A consumer that stops reading fills the ring, and the scheduler lets that sequence rest: back
 * pressure without a message. One place is kept for DONE, so DONE never waits. */
#ifndef FLUXD_SCHEDULER_REQUEST_H
#define FLUXD_SCHEDULER_REQUEST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "engine/batch.h" /* struct sample_row, struct sample_out */

enum { EVENT_RING = 32 }; /* power of two */

enum route_ask {
    ROUTE_ASK_DEFAULT /* the server's --route */,
    ROUTE_ASK_AUTO,
    ROUTE_ASK_FULL,
    ROUTE_ASK_SPARSE,
    ROUTE_ASK_MASK,
    ROUTE_ASK_MIN_FULL
};

enum finish {
    FINISH_NONE,
    FINISH_STOP /* eos or stop id */,
    FINISH_LENGTH,
    FINISH_ROUTED /* route_only: the route is known */,
    FINISH_CANCELLED,
    FINISH_ERROR,
    FINISH_KINDS
};

enum event_kind { EVENT_TOKEN, EVENT_DONE };

struct event {
    enum event_kind kind;
    struct sample_out token; /* EVENT_TOKEN */
    bool last;               /* EVENT_TOKEN: it is an eos or stop id (not text, unless ignore_eos) */
    /* EVENT_DONE */
    enum finish finish;
};

/* What a request would cost by its route, and with every layer full. Milliseconds from the cost model, NaN
 * where that has seen no step yet; pages held once the prompt was read and max_new tokens were generated. */
struct request_price {
    double prefill_ms, prefill_full_ms;
    double token_ms, token_full_ms; /* a decode step of this request alone, at the end of its prompt */
    int64_t kv_pages, kv_pages_full;
};

/* What a finished or running request used. Written by the engine thread; stable for the reader once the first
 * event is out (route fields) or DONE is (all). */
struct request_use {
    int n_prompt, n_cached, n_answer;
    uint8_t *route; /* [L] enum route_bit; memory of the request's maker */
    float
        *margin; /* [L] margin of each bit that a router decided, 0 of others; memory of the maker, or NULL */
    int full_layers;
    int64_t kv_pages_peak,
        kv_pages_full; /* pages held at the worst moment; what all-full would hold at the same end */
    int64_t queued_ns, prefill_ns, decode_ns; /* durations */
    struct request_price price;               /* of route_only */
};

/* What was added to the routers' margins of all choices of one prompt, so that they have one route: settled
 * when the first is admitted. */
struct request_bias {
    bool on;     /* under --route-bias-max, with bits for routers to decide */
    float value; /* 0 or less */
};

/* A rule of a request's own about what may be sampled next; its maker's memory and code. The scheduler knows
 * these calls alone. It makes no two of them at one time, whatever guides they are about, so guides may share
 * what they learn without a lock. */
struct guide;
enum {
    GUIDE_MASK = -1, /* what mask says may come */
    GUIDE_FREE = -2, /* anything may: no mask is needed */
};
struct guide_ops {
    /* What may come now: bit id % 32 of word id / 32 for each token of the model. On a thread of the
     * scheduler while the forward pass runs. An error ends the request. May be asked again for the same
     * token. */
    enum err (*mask)(struct guide *g, uint32_t *bits, struct err_note *note);
    /* Engine thread: this token came, which the mask allowed. Never of a token that is replayed after a
     * preemption. An error ends the request. */
    enum err (*take)(struct guide *g, int32_t token, struct err_note *note);
    bool (*whole)(struct guide *g); /* engine thread: the answer may end here */
    /* Engine thread: the token that comes next whatever the model says, so that none is sampled; or one of
     * the words below. Asked again for the same token it says the same. NULL: GUIDE_MASK, always. */
    int32_t (*only)(struct guide *g);
    void (*end)(struct guide *g); /* engine thread, once, before DONE: nothing more will be asked */
};
struct guide {
    const struct guide_ops *op;
};
static inline int32_t guide_only(struct guide *g) { return g->op->only ? g->op->only(g) : GUIDE_MASK; }

/* What is asked. The maker's, constant from scheduler_submit on. */
struct request_ask {
    uint64_t id;
    int32_t *prompt;       /* [n_prompt]; room for n_prompt + max_new ids: the scheduler appends the answer */
    int n_prompt, max_new; /* max_new >= 0; 0 only with prompt_out (scoring) */
    bool max_new_given;    /* the client named it (else promised as --default-max-tokens) */
    struct sample_row sample; /* all but hist, pos, n_hist, n_prompt, force_id, mask */
    struct guide *guide;      /* NULL: none. When it leaves nothing to sample from, the answer ends: stopped
                                 where it is whole, else cut (FINISH_LENGTH) */
    const int32_t *stop_id;   /* end the answer (eos included by the maker unless ignore_eos) */
    int n_stop_id;
    int min_new; /* stop ids are banned before */
    enum route_ask route_ask;
    const uint8_t *route_mask; /* [L] for ROUTE_ASK_MASK */
    int route_min_full;
    struct request_bias *bias; /* memory of the maker, one for all choices of a prompt; NULL: none wanted */
    bool route_only; /* ends, with FINISH_ROUTED and its price, as soon as its route is known; max_new is for
                        the price */
    int priority;    /* lower first */
    uint32_t key_id; /* the API key's, for fairness between keys; 0: none */
    const void
        *siblings; /* groups the choices of one prompt of one call: compared by address only; NULL: none */
    const char *cache_salt;        /* the prefix cache shares only among equal ones; NULL: none */
    struct sample_out *prompt_out; /* [n_prompt] or NULL */
    int prompt_top;
    const struct request *donor; /* with prompt_out: an earlier one of the same call that has it too and
                                    begins with the same n_donor tokens; lives as long. NULL: none */
    int n_donor;
    void *owner; /* the server's; not looked at */
};

/* What both threads see: who writes it is said of each. */
struct request_shared {
    atomic_int cancel;     /* set by scheduler_cancel */
    atomic_bool announced; /* it stands in the outbox */
    uint32_t n_put; /* times it was put there, DONE's last one counted; the engine's until DONE is written */
    uint32_t n_taken; /* times it was taken out; the loop's. DONE waits for the last, so no pointer is left
                         there */
    _Atomic uint32_t ring_head, ring_tail; /* head: next to write; tail: next to read */
    struct event ring[EVENT_RING];
    struct request_use use;
    struct err_note note;       /* why, when DONE says FINISH_ERROR */
    _Atomic int64_t *in_flight; /* the scheduler's count of requests whose DONE was not read yet */
};

/* Its place among all that wait or run. The scheduler's alone. */
struct seq;
struct swapped;
struct request_queue {
    struct list node;
    struct list wait_node; /* among all that wait, in the order in which they began to */
    int64_t wait_ns;       /* when it began to wait: submitted, or preempted; stays while it runs */
    int n_before;          /* that waited when it began to */
    bool scored;           /* all of prompt_out is written */
    bool over;             /* DONE is on its way */
    bool aged;             /* it was overdue when it was admitted */
    bool parked;           /* its client does not read, and others had its place: see park.c */
    struct seq *seq;
    struct swapped *swapped; /* its pages in host memory, while it waits preempted */
    int64_t submit_ns;
    int64_t first_tok_ns; /* its first token was told; 0: none was yet. Stays when it is preempted */
    int64_t order_ns;     /* place in the queue: arrival plus predicted prefill */
    int64_t moved_ns;     /* when it last came forward, while it waits */
    double work_ms;       /* predicted for all of it */
    int passed;           /* times it was overtaken while it waited */
};

struct request {
    struct request_ask ask;
    struct request_shared shared;
    struct request_queue queue;
};

/* Loop thread: takes the next event; false when there is none now, or when DONE has still to be announced by
 * scheduler_poll. After DONE the request is the maker's again. */
bool request_next_event(struct request *r, struct event *out);

#endif
