/* plan_gpu: the work lists of a call, made on the device for all layers in one launch: which page every token
 * goes to, and what each run of rows attends to. The host sends runs, tokens, route bits and what changed in
 * the page tables; nothing by layer. */
#ifndef FLUXD_KERNELS_CUDA_PLAN_GPU_H
#define FLUXD_KERNELS_CUDA_PLAN_GPU_H

#include "base/err.h"
#include "kernels/ops.h"

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One run of rows of one sequence, as the host describes it. n_row 0: a padding slot. */
struct plan_run {
    int32_t slot, row0, n_row, pos0, dense_from;
    int32_t keep;      /* place of its first query block's choice, in query blocks */
    int32_t own, wide; /* where layers keep codes: the first block that it writes itself; in prefill, place of
                          its first page in plan_gpu_args.wide */
};

/* What a layer does with runs of a route bit. */
struct plan_kind {
    int32_t prefill, decode; /* enum attn_kind */
    int32_t sink_blocks;
    int32_t hold;             /* which of the choices that live at once ATTN_LIST takes; -1: none */
    const uint8_t *full_head; /* ATTN_SPLIT: device, [H] */
};

struct plan_gpu_args {
    const struct plan_run *run; /* [n_run], rows of the runs follow each other without gaps */
    const uint8_t
        *route; /* [n_run][n_layer] 0 sparse, 1 full, 2 open: kind -1 until the router has written it */
    const struct plan_kind (*kind)[2]; /* [n_layer] by route bit; an open layer's two differ in `prefill`
                                          alone, or one has no choice */
    int32_t *table;                    /* [slots][n_layer][n_block] pages; patched first */
    const int32_t (*patch)[2];         /* [n_patch] index into table, page */
    const int32_t *n_patch;            /* device */
    struct attn_seg *seg;              /* out [n_layer][max_run] */
    int32_t *page;                     /* out [n_layer][max_tok]; < 0 in padding rows */
    int32_t *pos;                      /* out [max_tok] */
    int n_run, n_tok, n_layer, n_block, max_run, max_tok;
    int layer0, layer1; /* the layers that the call runs through */
    int local_blocks;
    bool decode;
    uint64_t *keep;      /* choices: [hold][query blocks][H][keep_words]; NULL: none */
    int64_t hold_stride; /* query blocks */
    int n_head, keep_words;
    const int32_t
        *wide;     /* [n_wide] pages into which a layer's codes are widened; NULL: none keeps codes.
                      Else the table has entries of halves where a bit is 1, and pages where it is open */
    int32_t *from; /* out: [n_wide] what plan_settle_gpu finds for each of them */
    int n_wide;    /* of this call's runs */
};

/* n_run runs and n_tok rows (rows past the last run are padding). Capturable: sizes are the bucket's,
 * contents are read on the device. */
enum err plan_gpu(const struct plan_gpu_args *a, cudaStream_t stream);

/* A prefill layer's bits are decided (seg.kind and seg.codes of those that were open): its page and seg as
 * they are by then, and which entry each page of wide is filled from; -1 where the layer keeps no codes. */
enum err plan_settle_gpu(const struct plan_gpu_args *a, int layer, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
