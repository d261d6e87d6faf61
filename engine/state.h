/* state: the open engine, as the floor's own files see it. Engine thread only. */
#ifndef FLUXD_ENGINE_STATE_H
#define FLUXD_ENGINE_STATE_H

#include "engine/backend.h"
#include "engine/engine.h"
#include "engine/kinds.h"
#include "engine/memory.h"
#include "engine/rank.h"
#include "engine/router_load.h"
#include "engine/spec.h"
#include "engine/weights.h"

struct engine {
    struct engine_info info;
    struct rank rank;
    struct spec spec;
    struct flux_spec flux; /* settled: flag, router file, checkpoint, default */
    struct kinds kinds;
    struct backend *be;
    struct weights w;
    struct routers routers;
    struct memory mem;
    const struct forward *forward; /* what runs the calls of a step */
    struct forward_cuda *cuda;     /* its state on a device */
    /* host, [max_tok] each: what one call is made of */
    struct attn_seg *seg;
    struct span *span;
    int *row;
    struct sample_row *sample;
    struct sample_out *out;
    float attn_scale;
    int max_tok, logit_tok;
};

#endif
