/* backend: one device as the engine sees it - a table of ops, weights in the device's own form, memory. Made
 * at open; all calls come from the engine thread, but for weight_* of different weights, which may come from
 * several while loading. */
#ifndef FLUXD_ENGINE_BACKEND_H
#define FLUXD_ENGINE_BACKEND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/engine.h"
#include "kernels/ops.h"

/* What a weight is for: products, or lookups of rows (embeddings), whose rows stay as the file has them. */
enum weight_use { WEIGHT_GEMM, WEIGHT_TABLE };

/* The table of ops, from the one list. A device leaves those of HOST_OPS out. */
struct backend_ops {
#define BACKEND_OP(name) enum err (*name)(struct op_ctx *, const struct name##_args *);
    KERNEL_OPS(BACKEND_OP)
#undef BACKEND_OP
};

/* Where a backend computes: what the engine asks before it does a thing in one way or another. */
enum backend_kind { BACKEND_HOST, BACKEND_CUDA };

struct backend {
    enum backend_kind kind;
    char device[64];
    struct op_ctx *ctx; /* a device's is there when its work lists are */
    struct backend_ops op;
    enum dtype act, kv; /* types of activations and of the KV pages */
    bool kv_codes;      /* pages may hold codes of 8 bits instead (kernels/kv_fp8.h) */
    int n_thread;
    bool tries_shapes; /* the first weight_done of a shape and type must run outside parallel regions */

    enum dtype (*hold_type)(const struct backend *b,
                            enum dtype src); /* how a product's weight stored as src is held */
    enum err (*weight_new)(struct backend *b, struct weight *w, int n, int k, enum dtype hold,
                           enum weight_use use, struct err_note *note);
    /* Row row0 + i from src's row rows[i] (i if NULL); tables and quantised weights need src_type == hold. */
    void (*weight_part)(struct backend *b, struct weight *w, int row0, int n_row, const void *src,
                        enum dtype src_type, const int32_t *rows);
    /* Memory that src is read into, where a device wants its own kind; both NULL: malloc's. host_free takes
     * NULL. */
    void *(*host_new)(struct backend *b, int64_t bytes);
    void (*host_free)(void *p);
    enum err (*weight_done)(struct backend *b, struct weight *w,
                            struct err_note *note); /* after the last part */
    /* Codes with scales, held as they are: made like `like`, which has no data, filled by rows of host memory
     * with the scales behind them, then weight_done. input: the scale that the file fixes for what the codes
     * are multiplied with; 0: none, each row has its own. NULL, or not holds_codes: as numbers. */
    bool (*holds_codes)(const struct backend *b, const struct weight *like);
    enum err (*codes_new)(struct backend *b, struct weight *w, const struct weight *like,
                          struct err_note *note);
    void (*codes_part)(struct backend *b, struct weight *w, int row0, const struct weight *rows, float input);
    void (*weight_free)(struct weight *w); /* also of a zeroed one */
    int64_t (*weight_bytes)(const struct weight *w);
    void *(*vector_new)(struct backend *b, const float *v, int n); /* in type act; free with mem_free */

    void *(*mem_new)(struct backend *b,
                     int64_t bytes); /* zeroed, 64-byte aligned, backed by memory when first touched; NULL */
    void (*mem_free)(struct backend *b, void *p, int64_t bytes);
    /* Bytes of the device's memory that may still be taken; the host's is not counted: INT64_MAX. */
    int64_t (*mem_left)(struct backend *b);
    void (*move)(struct backend *b, void *to, const void *from, int64_t bytes); /* inside the device */
    enum err (*copy_in)(struct backend *b, void *to, const void *host, int64_t bytes);
    enum err (*copy_out)(struct backend *b, void *host, const void *from, int64_t bytes);
    void (*kv_exp)(struct backend *b, int8_t *exp); /* of such pages, for ops of a host's ctx; else NULL */
    void (*close)(struct backend *b);
};

/* Memory is the host's, and what was called is done when the call returns. */
static inline bool backend_on_host(const struct backend *b) { return b->kind == BACKEND_HOST; }

/* What a backend must be able to take. */
struct backend_conf {
    enum engine_dtype dtype;
    int device_index;    /* which of several GPUs */
    int n_thread;        /* 0: one per core */
    int max_tok;         /* most rows of one call */
    int max_k, max_n;    /* widest row of a product, in and out */
    double memory_share; /* of a device's memory that may be taken, what others hold included; 0: all */
};
enum err backend_cpu_open(struct backend **out, const struct backend_conf *conf, struct err_note *note);
enum err backend_cuda_open(struct backend **out, const struct backend_conf *conf,
                           struct err_note *note); /* builds with CUDA */

#endif
