/* route: the Layer Routers on the device: their weights, which runs of a call they decide, margins and the
 * sums over prompts' first rows on their way between host and device. Bits come to the host when the call is
 * over. Engine thread only. */
#ifndef FLUXD_ENGINE_CUDA_ROUTE_H
#define FLUXD_ENGINE_CUDA_ROUTE_H

#include "engine/cuda/call.h"

enum err route_cuda_open(struct forward_cuda *f, struct err_note *note); /* after call_open_blocks */
void route_cuda_close(struct forward_cuda *f);                           /* also of one half open */

/* All rows of the prompt that are computed at all are in this run. */
static inline bool route_cuda_is_whole(const struct span *sp)
{
    return sp->pos0 == sp->seq->n_cached && sp->pos0 + sp->n == sp->seq->n_prompt;
}

/* Rows that a router pools at each end of the prompt. */
int route_cuda_pooled_rows(const struct engine *e, const struct batch_seq *seq);

/* Fills the block's list of prompts: runs whose bits this call decides, c->n_whole of them with all their
 * rows in it, then c->n_apart that are pooled by themselves. */
void route_cuda_find(struct call *c);

/* The sums of prompts that go on behind cached pages, to the device. */
enum err route_cuda_send_sums(const struct call *c);

/* Decides n of the call's prompts from the first-th on, from memory.q_raw. */
enum err route_cuda_decide(const struct call *c, int layer, int first, int n);

/* After the layers: what the device decided, into route, margin, head_sum and strayed of the call's
 * sequences. */
enum err route_cuda_take(const struct call *c);

#endif
