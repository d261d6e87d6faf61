/* kv_fp8_gpu: pages of 8 bits on CUDA (kernels/kv_fp8.h): written, widened to bf16, attended to. Host side;
 * engine thread only. Hopper; K 64 or 128. */
#ifndef FLUXD_KERNELS_KV_FP8_GPU_H
#define FLUXD_KERNELS_KV_FP8_GPU_H

#include "kernels/cuda/attn_gpu.h"
#include "kernels/cuda/gpu_ops.h"
#include "kernels/kv_fp8.h"

#ifdef __cplusplus
extern "C" {
#endif

struct kv_fp8_pool {
    uint8_t *code; /* [half][G][K|V][PAGE_TOK][K] */
    int8_t *exp;   /* [half][G][K|V][PAGE_TOK], 16-byte aligned */
};

/* qkrope_gpu of bf16 where entries of a->page may name halves of codes, which lie in pool; a->pool: the pages
 * of the others. */
enum err qkrope_fp8_gpu(const struct qkrope_args *a, const struct kv_fp8_pool *pool, const struct gpu_ctx *g);

/* Rows of keys (after RoPE) and values, bf16, into their pages: the same bytes. */
struct kv_fp8_write_args {
    struct kv_fp8_pool pool;
    const void *k, *v; /* [T, G, K] each, stride elements a token */
    int64_t stride;
    const int32_t *page, *pos; /* [T] half of each token, < 0: none; position */
    int n_tok, n_kv, head;
};
enum err kv_fp8_write_sm90(const struct kv_fp8_write_args *a, const struct gpu_ctx *g);

/* Blocks as the bf16 that their codes stand for: what prefill attends to. */
struct kv_fp8_widen_args {
    struct kv_fp8_pool pool;
    const int32_t *from; /* [n] entries of page tables; those that name no codes are left out */
    void *to;            /* [n][G][K|V][PAGE_TOK][K] bf16 */
    int n, n_kv, head;
};
enum err kv_fp8_widen_sm90(const struct kv_fp8_widen_args *a, const struct gpu_ctx *g);

/* attn_decode_sm90 of the runs that have seg.codes; a->pool is not looked at, g->n_page counts halves.
 * Products are of f16, in which every code and 11 bits of q and of the probabilities are exact; a value whose
 * row's exponent is 24 below the largest in its 32 keys counts as zero. */
enum err attn_decode_fp8_sm90(const struct attn_args *a, const struct kv_fp8_pool *pool,
                              const struct attn_gpu *g);

#ifdef __cplusplus
}
#endif
#endif
