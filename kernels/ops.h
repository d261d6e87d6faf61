/* ops: every operation of the transformer by name, and the struct each one takes. One list generates the
 * declarations and the tables of every backend, so an op without a reference does not link.
 *
 * Letters: T tokens in the step, D model width, H query heads, G kv heads, K head size, F ffn width, V
 * vocabulary, P page size (128 tokens), L layers, S prompt length. Strides count elements. Pointers are the
 * backend's memory (host memory on the CPU, device memory on CUDA) unless a line says "host".
 *
 * Result of a row never depends on which other rows are in the call: reference and kernels keep one fixed
 * order of sums.
 */
#ifndef FLUXD_KERNELS_OPS_H
#define FLUXD_KERNELS_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"

enum {
    PAGE_TOK = 128
}; /* tokens a page holds = block of the sparse patterns (b in docs/attention-routes.md) */

struct op_ctx; /* the backend's own: threads and scratch on the CPU, stream and workspace on CUDA */

/* What stands beside a weight's codes. Each rows x cols of them share a scale: n x k where there is one for
 * the tensor, 1 x k for each channel, 128 x 128 in blocks, 1 x 32, 64 or 128 in groups. Ends may be cut off.
 */
struct weight_scale {
    int rows, cols;       /* 0: no scales, the numbers are the values */
    const float *scale;   /* [ceil(n / rows), ceil(k / cols)] */
    const uint8_t *zero;  /* likewise, DT_U4: the code that means 0; NULL: 8 for all */
    const int32_t *group; /* [k] which column of scale and zero holds for a column; NULL: column / cols */
};

/* A weight matrix as the backend keeps it: [n, k] rows of n outputs. `impl` is made once by the backend at
 * load. DT_FP8 and DT_U4 are codes: value = code x scale, (code - zero) x scale. The loader hands such
 * matrices over as rows of fp32 (engine/scaled.h); a backend that holds codes takes them from there. */
struct weight {
    enum dtype dt; /* as held: DT_F32, DT_BF16, or a block-quantised type */
    int n, k;
    const void *data; /* row-major [n, k] in dt; NULL when only impl holds it */
    void *impl;       /* packed form, owned by the backend */
    struct weight_scale s;
};

/* out[t] = table[id[t]]. Ids are checked by the caller. */
struct embed_args {
    void *out;                  /* [T, D] activation type */
    const struct weight *table; /* [V, D] */
    const int32_t *id;          /* [T] */
    int n_tok, d;
};

/* y = x, or y = res += x when res; out = w * y / sqrt(mean(y^2) + eps). Float inside.
 * Moves 2*T*D elements, 4*T*D with res. */
struct rmsnorm_args {
    void *out;                    /* [T, D] */
    void *res;                    /* [T, D] in/out with res_stride, may be NULL */
    const void *x, *w;            /* [T, D] with x_stride (may be NULL when res: then y = res); [D] */
    int64_t x_stride, res_stride; /* elements, >= D */
    int n_tok, d;                 /* d % 8 == 0 */
    float eps;
};

/* y = x w^T (+ bias); y[T, N]. add: y += instead of =. */
struct gemm_args {
    void *y;
    const void *x;
    const struct weight *w;
    const void *bias; /* [N] or NULL */
    int64_t x_stride, y_stride;
    int n_tok;
    bool add;    /* residual */
    bool decode; /* rows of the decode phase (a backend may use another kernel; never depends on n_tok) */
    bool coarse; /* CPU, quantised weights: inputs that the row's others dwarf may be rounded to 8 bits */
    bool y_f32;  /* CUDA: y is fp32 whatever the type of activations (logits) */
};

/* Splits qkv [T, (H+2G)*K], applies q/k norm (if any) and RoPE (rotate-half pairs i, i+K/2), writes q and the
 * K/V pages. q_raw, when given, receives q after q_norm and before RoPE: what the Layer Router pools. */
struct qkrope_args {
    const void *qkv;
    int64_t qkv_stride;
    void *q;                     /* [T, H, K] */
    void *q_raw;                 /* [T, H, K] or NULL */
    void *pool;                  /* KV pages, [page][G][K|V][PAGE_TOK][K]; may be NULL: no write */
    const int32_t *page;         /* [T] page that holds this token in this layer; < 0: not written */
    const int32_t *pos;          /* [T] position; the row inside the page is pos % PAGE_TOK */
    const float *rope;           /* [max positions, K/2, 2] cos, sin (with any scaling applied) */
    const void *q_norm, *k_norm; /* [K] or NULL */
    float eps;
    int n_tok, n_head, n_kv, head; /* H, G, K */
};

/* Which keys a query row sees (docs/attention-routes.md, kinds). All are causal. */
enum attn_kind {
    ATTN_FULL,
    ATTN_STREAMING, /* block j of query block i: j < sink_blocks or j > i - local_blocks */
    ATTN_TRIANGLE,  /* streaming, but rows with pos >= dense_from are full */
    ATTN_LIST,      /* per (query block, query head) list of blocks, ascending */
    ATTN_NONE,      /* layer is skipped: out = 0 */
    ATTN_SPLIT,     /* some query heads full, the others streaming (CUDA: whole kv heads) */
    ATTN_KIND_COUNT
};

/* One contiguous run of query rows of one sequence. On CUDA the array and what it points to are device
 * memory. */
struct attn_seg {
    int32_t row0, n_row;               /* rows of q and out */
    int32_t pos0;                      /* position of row0 */
    int32_t kind;                      /* enum attn_kind */
    int32_t sink_blocks, local_blocks; /* local_blocks >= 1, counts the diagonal block */
    int32_t dense_from;                /* ATTN_TRIANGLE: S - n */
    int32_t codes;       /* CUDA: its layer keeps codes (kernels/kv_fp8.h): decode reads them, prefill finds
                            them widened in bf16 pages */
    const int32_t *page; /* [blocks up to the last row's] page of each block of this layer; < 0: freed,
                            never visited */
    const int32_t
        *list_off; /* ATTN_LIST: [H, n_qblock + 1] offsets into list, n_qblock = query blocks of this run */
    const int32_t *list;  /* ATTN_LIST: block indexes */
    const uint64_t *keep; /* ATTN_LIST, instead of list where not NULL: bit b of the words of (head, query
                             block of the run) */
    int64_t keep_head_stride, keep_block_stride; /* words between heads, between query blocks */
    const uint8_t *full_head;                    /* ATTN_SPLIT: [H] 1 where the head is full */
};

struct attn_args {
    void *out;     /* [T, H, K] with out_stride per token */
    const void *q; /* [T, H, K] with q_stride per token, after RoPE */
    int64_t out_stride, q_stride;
    const void *pool; /* KV pages */
    const struct attn_seg *seg;
    int n_seg;
    int n_head, n_kv, head; /* H, G, K; K % 8 == 0 */
    float scale;            /* 1/sqrt(K) */
    bool decode;            /* every run is one row */
};

/* How a prompt's query blocks choose their key blocks. Scores are fp32. */
enum choose_rule {
    CHOOSE_XATTN, /* antidiagonal sums of groups of 16 rows, softmax over groups, summed over the block
                     (docs/attention-routes.md, xattn) */
    CHOOSE_FLEX, /* softmax of mean query against mean key of each block (FlexPrefill, 2502.20766: query-aware
                    estimate) */
};

/* For each query head and query block of a run of one prompt: which key blocks attention will visit. Kept are
 * block 0, the diagonal block, and the others in falling score (ties to the lowest index) until the kept sum
 * reaches threshold times the sum of all. The run begins on a block edge and ends on one or with the prompt,
 * so that a choice needs no row outside the run. */
struct choose_args {
    const void *q; /* [n_row, H, K] after RoPE, q_stride per row */
    int64_t q_stride;
    const void *pool;    /* KV pages */
    const int32_t *page; /* page of each block of this layer */
    int pos0, n_row;     /* pos0 % PAGE_TOK == 0 */
    int n_prompt;        /* S: rows from here on count as zero */
    int n_head, n_kv, head;
    int rule; /* enum choose_rule */
    float threshold;
    uint64_t *keep; /* out: bit b of the words of (head, query block of the run): block b is kept */
    int64_t head_stride, block_stride; /* words between heads, between query blocks */
    float *mean;                       /* CHOOSE_FLEX: scratch, [G, key blocks, K] */
    float *work; /* scratch: work_stride floats for each thread, at least choose_work(key blocks, K); CUDA:
                    choose_gpu_work */
    int64_t work_stride;
};
static inline int64_t choose_work(int64_t n_block, int head)
{
    return n_block * 66 + 10 * 16 * (int64_t)head;
}
/* CUDA: scores of this many pairs of query and key blocks at once, of eight groups in each head. */
enum { CHOOSE_GPU_PAIRS = 1 << 15 };
static inline int64_t choose_gpu_work(int64_t n_block, int n_head)
{
    return 8 * n_head * (n_block > CHOOSE_GPU_PAIRS ? n_block : CHOOSE_GPU_PAIRS);
}

/* Adds rows of q (after q_norm, before RoPE) to a sequence's pooled sum: sum[k] += sum over rows and heads,
 * in row order. pool_sum is fp32 [K]. */
struct pool_args {
    float *sum;
    const void *q; /* [n_row, H, K] with q_stride per row */
    int64_t q_stride;
    int n_row, n_head, head;
};

/* Layer Router MLP in fp32 (docs/attention-routes.md, steps 3 and 4). x = sum / count. */
struct router_weights {
    const float *w[5], *b[5]; /* K->8K, 8K->2K | 2K->4K, 4K->K, K->n_out; row-major [out, in] */
    int n_out;                /* 2: softmax form, 1: sigmoid form */
};
struct router_args {
    const float *sum; /* [K] pooled sum */
    float count;
    const struct router_weights *w;
    int head;      /* K */
    float bias;    /* added to the full side's margin; 0 normally */
    float *margin; /* out: logit[1]-logit[0], or logit; > 0 means full */
};

/* out[t, f] = silu(gate[t, f]) * up[t, f], gu = [T, 2F] gate first. */
struct swiglu_args {
    void *out;
    const void *gu;
    int64_t gu_stride, out_stride;
    int n_tok, f;
};

/* out[i] = x[row[i]]. */
struct gather_args {
    void *out;
    const void *x;
    const int32_t *row;
    int64_t x_stride;
    int n_row, d;
};

/* One row to sample from. Logprobs are of the raw logits (before penalties, bias and temperature). */
enum { SAMPLE_TOP_MAX = 20 };
struct sample_row {
    float temperature, top_p, min_p;       /* temperature < 1e-5: greedy, ties to the lowest id */
    int32_t top_k;                         /* <= 0: off */
    float presence, frequency, repetition; /* 0, 0, 1: off */
    uint64_t seed;                         /* random number = f(seed, pos): independent of the batch */
    int32_t pos;                           /* position of the token to be sampled */
    int32_t n_top;                         /* 0..SAMPLE_TOP_MAX */
    const int32_t
        *hist; /* host: prompt then answer so far (repetition: both, presence/frequency: the answer) */
    int32_t n_hist, n_prompt;
    const int32_t *bias_id; /* host: n_bias ids with bias_value, added to the logits */
    const float *bias_value;
    int32_t n_bias;
    const int32_t *ban_id; /* host: never sampled (min_tokens: eos and stop ids) */
    int32_t n_ban;
    const int32_t *allow_id; /* host: when n_allow > 0 only these may be sampled */
    int32_t n_allow;
    const uint32_t *mask; /* host: bit id % 32 of word id / 32: the token may be sampled; NULL: each may */
    int32_t force_id;     /* >= 0: no sampling, report this token's logprob (echo) */
};
struct sample_out {
    int32_t id;
    float logprob;
    int32_t n_top;
    bool bad;                       /* NaN, or nothing left to sample from */
    bool none;                      /* it is bad for the second reason */
    int32_t top_id[SAMPLE_TOP_MAX]; /* falling logprob, ties to the lower id */
    float top_logprob[SAMPLE_TOP_MAX];
};
struct sample_args {
    const float *logits; /* [n_row, V] fp32 */
    int64_t logits_stride;
    const struct sample_row *row; /* host */
    struct sample_out *out;       /* host */
    float *work;                  /* [n_row, 2V] scratch */
    int n_row, vocab;
};

/* X(name): <name>_args above; each backend has its own. Tests hold them against definitions in plain C
 * (tests/ kernels), that share nothing with them. */
#define KERNEL_OPS(X) LAYER_OPS(X) HOST_OPS(X)
/* What the list of a layer's stages calls (engine/forward.c): every backend has them in its table. */
#define LAYER_OPS(X) X(embed) X(rmsnorm) X(gemm) X(qkrope) X(attn) X(swiglu) X(gather)
/* What takes one prompt or row at a time on the host. A device's own take those of a whole call. */
#define HOST_OPS(X) X(choose) X(pool) X(router) X(sample)

#endif
