/* gpu_ops: the small operations of a layer on CUDA: embed, rmsnorm, qkrope, swiglu, gather, router, sample.
 * Host side; one context per stream, engine thread only.
 *
 * Every op takes its args of ops.h with all pointers in device memory, ids, positions, pages and rows among
 * them. Nothing is read by the host, allocated or waited for, so every call can be captured in a graph.
 * Activations and vectors (norm weights) are of type act, sums are fp32, bf16 rounding happens where an op
 * stores. Rows are worked on alone: a row's bits do not depend on the others. ERR_INVALID_VALUE for a shape
 * that a kernel lacks; ERR_DEVICE when the launch failed. */
#ifndef FLUXD_KERNELS_CUDA_GPU_OPS_H
#define FLUXD_KERNELS_CUDA_GPU_OPS_H

#include "base/err.h"
#include "kernels/ops.h"

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gpu_ctx {
    cudaStream_t stream;
    int n_sm;
    enum dtype act, kv; /* DT_BF16 or DT_F32 */
};

/* Table of bf16 or fp32, d % 8 == 0. An id outside of the table gives zeros. */
enum err embed_gpu(const struct embed_args *a, const struct gpu_ctx *g);
/* d up to 16384. With res and x, what is normed is the sum as res holds it (rounded to act). */
enum err rmsnorm_gpu(const struct rmsnorm_args *a, const struct gpu_ctx *g);
/* K 16..256, K % 8 == 0. Pages are [page][G][K|V][PAGE_TOK][K] of type kv. q may be NULL: not written. */
enum err qkrope_gpu(const struct qkrope_args *a, const struct gpu_ctx *g);
enum err swiglu_gpu(const struct swiglu_args *a, const struct gpu_ctx *g); /* f % 8 == 0 */
enum err gather_gpu(const struct gather_args *a,
                    const struct gpu_ctx *g); /* d % 8 == 0; row < 0: out's row is left alone */

/* Layer Router, one launch for a layer and all prompts that it decides: pooling of the first and last
 * pool_size rows of each prompt's q_raw (both clipped to the prompt; where they overlap, a row counts twice),
 * the MLP, the choice. What the first rows add up to is made by itself and the last rows are added to it, so
 * a prompt that goes on behind them with that sum has the bits of one with all its rows. */
struct router_gpu_prompt {
    int32_t row0, n_row; /* its rows of q_raw; n_row 0: skipped */
    int32_t run;         /* index into seg and margin */
    float bias;          /* added to the full side's margin */
    int32_t need;        /* layers from layer0 on that must be full; 0 or less: the router's word is enough */
    int32_t resumed; /* its first rows are not there (n_row >= pool_size are, to its end): head_sum has what
                        they add up to */
};
struct router_gpu_args {
    const void *q_raw; /* [T, H, K] of type act */
    int64_t q_stride;
    const struct router_gpu_prompt *prompt; /* device [n_prompt] */
    int n_prompt, pool_size, n_head, head;  /* K % 8 == 0, K <= 256 */
    struct router_weights w;                /* device pointers; fp32 */
    struct attn_seg *seg; /* this layer's; seg[run].kind is written where it is negative (open); NULL: not */
    bool codes;           /* and seg[run].codes: whether it is full */
    float *margin;        /* margin[run] is written; > 0 means full */
    int32_t full_kind, sparse_kind;
    int32_t n_below,
        n_left; /* layers of this call below this one; this one and those behind it that may be full */
    const uint8_t *fixed; /* device: bits that a plan gives the layers (2: none), this layer's first; NULL: it
                             gives none */
    int64_t seg_stride;   /* from one layer's seg to the next's */
    float *head_sum; /* device [n_prompt][K] sum of q over the first rows and all heads: read where resumed,
                        else written; NULL: not kept, and nobody resumed */
};
enum err router_gpu(const struct router_gpu_args *a, const struct gpu_ctx *g);

/* One row to sample from, as sample_row; lists are n numbers from an offset into sample_gpu_args.id or
 * .value. */
struct sample_gpu_row {
    int32_t on; /* 0: a padding slot, nothing is written */
    int32_t pos, top_k, n_top, force_id;
    float temperature, top_p, min_p, presence, frequency, repetition;
    int32_t n_hist, n_prompt, n_bias, n_ban, n_allow;
    int32_t n_mask; /* 0: none, else the words of a bit for each token */
    uint64_t seed;
    int64_t hist, bias_id, bias_value, ban_id, allow_id, mask; /* offsets */
};
struct sample_gpu_args {
    const float *logits; /* [n_row, V] */
    int64_t logits_stride;
    const struct sample_gpu_row *row; /* device [n_row] */
    const int32_t *id;  /* device: history, bias, ban and allow lists, masks; ids are checked by the caller */
    const float *value; /* device: bias values */
    struct sample_out *out; /* device [n_row] */
    float *work;            /* device [n_row, 2V] scratch */
    int n_row, vocab;
};
enum err sample_gpu(const struct sample_gpu_args *a, const struct gpu_ctx *g);

#ifdef __cplusplus
}
#endif
#endif
