/* cpu: what the CPU backend's kernels share. Activations are fp32; weights are fp32, bf16 or the file's
 * quantised blocks; KV pages are fp32 (exact mode) or bf16. Threads are OpenMP's: every op may be called from
 * one thread at a time. */
#ifndef FLUXD_KERNELS_CPU_CPU_H
#define FLUXD_KERNELS_CPU_CPU_H

#include "base/err.h"
#include "kernels/ops.h"

struct cpu_scratch; /* per-thread buffers and oneDNN handles, made at open, grown never */

struct op_ctx {
    int n_thread;
    enum dtype kv;  /* DT_F32 or DT_BF16: type of the KV pages */
    int8_t *kv_exp; /* of pages that hold codes (kernels/kv_fp8.h); NULL: none does */
    struct cpu_scratch *scratch;
};

/* max_tok: most rows any op will see; max_k, max_n: widest row of a product, in and out. ERR_NOMEM. */
enum err cpu_open(struct op_ctx *c, int n_thread, enum dtype kv, int max_tok, int max_k, int max_n,
                  struct err_note *note);
void cpu_close(struct op_ctx *c);

/* What "--dtype auto" holds for a tensor that the file stores as src: its own blocks where a kernel takes
 * them, else bf16 where the processor has bf16 products, else fp32. */
enum dtype cpu_hold_type(enum dtype src);

/* A weight is made in three moves, so that a fused matrix (q, k, v; gate, up) is filled from several tensors
 * and rows can be permuted on the way: new, part..., done. Several threads may make different weights at
 * once. hold: DT_F32 or DT_BF16 (oneDNN's blocked layout), or a quantised type with a packed kernel (see
 * cpu_hold_type). w->dt tells what became of it: sizes that a quantised kernel cannot pack are held as bf16
 * or fp32. raw: the rows stay as the file has them, for lookups (embed) and references, not for gemm_cpu. */
enum err cpu_weight_new(struct weight *w, int n, int k, enum dtype hold, bool raw, struct err_note *note);
/* Rows [row0, row0 + n_row) from src, n_row rows of type src_type one after another; row i from src row
 * rows[i], or i when rows is NULL. raw and quantised weights need src_type == hold. */
void cpu_weight_part(struct weight *w, int row0, int n_row, const void *src, enum dtype src_type,
                     const int32_t *rows);
enum err cpu_weight_done(struct op_ctx *c, struct weight *w,
                         struct err_note *note); /* packs; one thread at a time per c */
void cpu_weight_free(struct weight *w);
int64_t cpu_weight_bytes(const struct weight *w); /* memory held */

/* Row of a raw or quantised weight as fp32 [k]. */
void cpu_weight_row(const struct weight *w, int row, float *out);

/* Vectorised and threaded. What they are held against stands in tests/kernels. */
#define DECLARE(op) void op##_cpu(struct op_ctx *c, const struct op##_args *a);
KERNEL_OPS(DECLARE)
#undef DECLARE

#endif
