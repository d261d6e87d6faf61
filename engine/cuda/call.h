/* call: what the host tells the device for one call, and how it waits for it. Engine thread only. Runs,
 * tokens, route bits and page patches lie in one pinned block, one of a few that are used in turn; one copy
 * brings it to the device, where plan_gpu makes the work lists. */
#ifndef FLUXD_ENGINE_CUDA_CALL_H
#define FLUXD_ENGINE_CUDA_CALL_H

#include "engine/cuda/backend.h"
#include "engine/cuda/draw.h"
#include "engine/cuda/ops.h"
#include "engine/forward.h"
#include "kernels/cuda/plan_gpu.h"

enum { CALL_BLOCKS = 4, CALL_BUCKETS = 9 };

/* What the host sends for a call. Offsets into one block of bytes, the same on the host and on the device. */
struct layout {
    int64_t run, route, tok, row, prompt, n_patch, patch, bytes;
};

/* Time in which the device had nothing to do: from the end of what was sent before a wait to the first thing
 * sent after it. */
struct idle {
    cudaEvent_t begin, end[2];
    int turn;          /* end[turn] is of the next wait, the other one of the last */
    bool waited, open; /* nothing was sent since the last wait; begin was recorded after it */
    double ms;
};

/* The call that is being made: its block on the host, the patches in it, and the prompts whose bits it
 * decides, with all of their rows in it or not. */
struct making {
    int block;
    int n_patch, n_whole, n_apart;
    int n_wide; /* pages of codes that its prefill layers read as bf16, at most */
};

struct forward_cuda {
    struct engine *e;
    struct backend_cuda *be;
    struct op_ctx ops; /* the backend's ctx */

    struct layout at;
    char *host[CALL_BLOCKS]; /* pinned; used in turn */
    cudaEvent_t sent[CALL_BLOCKS];
    int turn;
    char *dev;
    struct making now;

    int32_t *table, *shadow; /* [max_seqs][n_layer][n_block] pages: device, and what it holds */
    uint64_t
        *stamp; /* [max_seqs] page_stamp of the sequence when its first `looked` pages were looked through */
    int32_t *looked;             /* [max_seqs] */
    struct attn_seg *seg;        /* [n_layer][max_run] */
    struct plan_kind (*kind)[2]; /* [n_layer] by route bit: e->kinds for the device */
    uint8_t *fixed, *full_head;  /* [n_layer]; [n_layer][H]: the same */
    int32_t *page, *pos;         /* [n_layer][max_tok]; [max_tok] */
    int max_run, n_block;
    bool fuses;           /* decode's layers are fused: all weights are numbers */
    float *sum;           /* [row][tile of a product] squares of the rows of x */
    int64_t hold_block;   /* query blocks that a choice has room for */
    int32_t *wide, *from; /* where layers keep codes: the pages of memory.n_wide; what is in them */

    struct draw_cuda *draw;
    struct idle idle;

    struct router_weights *router; /* device pointers; NULL: none. What follows is route_cuda's too */
    float *router_mem;
    float *margin, *margin_host;     /* [n_layer][max_run]; the same, pinned */
    float *head_sum, *head_sum_host; /* sums over the first rows of a call's prompts; the same, pinned */
    cudaGraphExec_t graph[CALL_BUCKETS];
};

/* In decode n_span and n_tok of a call are what is launched for: padded to the bucket. */
static inline struct forward_cuda *cuda_of(const struct call *c) { return c->e->cuda; }

static inline void *host_at(const struct forward_cuda *f, int64_t at) { return f->host[f->now.block] + at; }
static inline void *dev_at(const struct forward_cuda *f, int64_t at) { return f->dev + at; }

/* Blocks for calls of f->max_run runs, pinned and on the device. forward_cuda_close frees them. */
enum err call_open_blocks(struct forward_cuda *f, struct err_note *note);

/* Begins a call in the next block; waits where the device has not read it yet. */
enum err call_next_block(struct forward_cuda *f);
/* Runs, tokens, bits and patches of n_real spans into the block; what the bucket has more is padding. */
enum err call_write(const struct call *c, int n_real);
enum err call_send(struct forward_cuda *f);
/* n token ids or rows to at.row on the device, by themselves: with a block of their own. */
enum err call_send_rows(struct forward_cuda *f, const int32_t *first, int n_first, const int32_t *then,
                        int n_then);

struct plan_gpu_args call_plan_args(const struct call *c);
/* Where the choice of a run's first query block stands, in query blocks: in its sequence's room, or where it
 * lives no longer than the call, behind those of the runs before. */
int64_t call_keep_block(const struct call *c, int run);

/* Before the first thing that is sent after a wait. */
void call_end_idle(struct forward_cuda *f);
/* Waits for all that was sent. */
enum err call_wait(struct forward_cuda *f);

#endif
