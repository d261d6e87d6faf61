/* cpu: what the CPU backend's kernels share. Activations are fp32; weights are fp32, bf16 or the file's quantised blocks;
 * KV pages are fp32 (exact mode) or bf16. Threads are OpenMP's: every op may be called from one thread at a time. */
#ifndef FLUXD_KERNELS_CPU_H
#define FLUXD_KERNELS_CPU_H

#include "base/err.h"
#include "kernels/ops.h"

struct cpu_scratch; /* per-thread buffers and oneDNN handles, made at open, grown never */

struct op_ctx {
    int                 n_thread;
    enum dtype          kv;       /* DT_F32 or DT_BF16: type of the KV pages */
    struct cpu_scratch *scratch;
};

/* max_tok: most rows any op will see; max_k: widest row; max_len: longest sequence. ERR_NOMEM. */
enum err cpu_open(struct op_ctx *c, int n_thread, enum dtype kv, int max_tok, int max_k, int max_len, struct err_note *note);
void     cpu_close(struct op_ctx *c);

/* What "--dtype auto" holds for a tensor that the file stores as src: its own blocks where a kernel takes them, else bf16 where
 * the processor has bf16 products, else fp32. */
enum dtype cpu_hold_type(enum dtype src);

/* Makes w hold the [n, k] row-major matrix src (of type src_type, as in the file) as type hold, packed for gemm_cpu. Frees nothing of
 * src. rows: optional map [n], packed row i is row rows[i] of src (GGUF's permuted q/k, or fused q,k,v made by several calls
 * is not needed: see cpu_weight_part). Several threads may pack different weights at once. */
enum err cpu_weight_new(struct op_ctx *c, struct weight *w, int n, int k, enum dtype hold, struct err_note *note);
/* Fills packed rows [row0, row0 + n_row) from src rows (row i from src row rows[i], or i when rows is NULL). */
enum err cpu_weight_part(struct weight *w, int row0, int n_row, const void *src, enum dtype src_type, const int32_t *rows,
                         struct err_note *note);
enum err cpu_weight_done(struct op_ctx *c, struct weight *w, struct err_note *note); /* after the last part */
void     cpu_weight_free(struct weight *w);
int64_t  cpu_weight_bytes(const struct weight *w); /* memory held */

/* op_cpu: the fast versions (vectorised, threaded); op_ref: plain C, one thread, easy to read: the oracle of op_cpu's tests.
 * gemm_ref and embed_ref read w->impl through cpu_weight_row. */
void cpu_weight_row(const struct weight *w, int row, float *out); /* dequantised [k] */
#define DECLARE(op)                                                                                \
    void op##_ref(struct op_ctx *c, const struct op##_args *a);                                    \
    void op##_cpu(struct op_ctx *c, const struct op##_args *a);
KERNEL_OPS(DECLARE)
#undef DECLARE

#endif
