/* route: the Layer Routers on the device: their weights, which runs of a call they decide, margins and the
 * sums over prompts' first rows on their way between host and device. Bits come to the host when the call is
 * over. Engine thread only. */
#ifndef FLUXD_ENGINE_CUDA_ROUTE_H
#define FLUXD_ENGINE_CUDA_ROUTE_H

#include "engine/cuda/call.h"

enum err route_cuda_open(struct forward_cuda *f, struct err_note *note); /* after call_open_blocks */
void route_cuda_close(struct forward_cuda *f);                           /* also of one half open */

/* Fills the block's list of prompts: runs whose bits this call decides, now.n_whole of them with all their
 * rows in it, then now.n_apart that are pooled by themselves. */
void route_cuda_find(const struct call *c);

/* The sums of prompts that go on behind cached pages, to the device. */
enum err route_cuda_send_sums(const struct call *c);

/* Decides n of the call's prompts from the first-th on, from memory.q_raw. */
enum err route_cuda_decide(const struct call *c, int layer, int first, int n);

/* After the layers: what the device decided, into route, margin, head_sum and strayed of the call's
 * sequences. */
enum err route_cuda_take(const struct call *c);

#endif
