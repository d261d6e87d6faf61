/* seq: one request while it is in the engine: its slot, its pages, and how far its prompt has come. Engine
 * thread only. States: waiting (no seq yet) -> PREFILL -> DECODE -> gone. A preempted seq goes back to
 * waiting; its answer so far stays in the request and is replayed through the decode path (a generated
 * token is never recomputed as a prompt token: docs/architecture.md, phases). */
#ifndef FLUXD_SCHEDULER_SEQ_H
#define FLUXD_SCHEDULER_SEQ_H

#include <stdbool.h>
#include <stdint.h>

#include "scheduler/kvmap.h"
#include "scheduler/request.h"

enum seq_phase { SEQ_FREE, SEQ_PREFILL, SEQ_DECODE };

struct seq {
    struct request *req; /* NULL when the slot is free */
    enum seq_phase phase;
    int layer, tok;   /* prefill cursor: next token of this layer */
    int n_stray;      /* times its route was not that of the cached pages it began behind */
    int pos;          /* decode: next token to feed is req->prompt[pos] */
    int promised;     /* pages admission has promised to this seq */
    int promised_new; /* answer tokens that promise covers */
    uint64_t turn;    /* admission order: the youngest is preempted first */
    int64_t moved_ns; /* a piece or a row of it was run */
    int64_t rest_ns;  /* its client was first seen not to read; 0: it reads */
    int64_t start_ns, last_tok_ns, decode_from_ns;
    struct kvmap map;
    struct batch_seq view; /* what the engine sees */
    int32_t only;          /* what its guide says of the next token, where one is due */
    uint32_t *mask;        /* of a guided request's next token; memory of the scheduler */
    enum err mask_err;     /* how making it went */
    int64_t mask_ns;       /* and how long it took */
};

/* Decode takes pages for the first token of a page alone: all others go where the one before them is. */
static inline bool seq_on_new_page(const struct seq *q) { return q->pos % PAGE_TOK == 0; }

static inline int blocks_of(int n_tok) { return (n_tok + PAGE_TOK - 1) / PAGE_TOK; }

/* Places left for token events (one is always kept for DONE). */
uint32_t request_room(const struct request *r);
void request_push(struct request *r, const struct event *e); /* CHECKs that there is room */

#endif
