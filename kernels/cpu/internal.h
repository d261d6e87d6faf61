/* internal: what the files of the CPU backend's kernels share with each other alone. */
#ifndef FLUXD_KERNELS_CPU_INTERNAL_H
#define FLUXD_KERNELS_CPU_INTERNAL_H

#include "kernels/cpu/cpu.h"

struct dnnl_box; /* gemm_dnnl.c: engine, stream, primitives by shape */

struct cpu_scratch {
    struct dnnl_box *dnnl;
    float *x, *y; /* padded tiles: [TILE][max_k] and [TILE][max_n] */
    uint16_t *xh; /* [max_tok][max_k] bf16 activations */
    int max_tok, max_k, max_n;
    float *part; /* attn_bf16: partial results of decode rows, [max_tok][ATTN_PARTS][max_k * 5 / 4] */
    struct quant_acts *quant; /* gemm_quant.c: int8 activations */
};

/* How a weight is held (struct weight, impl). */
struct cpu_weight {
    int64_t bytes;
    void *rows;   /* staging [n, k] until packed, or the raw rows */
    void *packed; /* oneDNN's or gemm_quant's own layout */
    bool raw;
};

enum { DNNL_TILE = 64 };
enum { ATTN_PARTS = 16 }; /* most parts a decode row's keys are cut into */

enum err dnnl_box_new(struct dnnl_box **out, struct err_note *note);
void dnnl_box_free(struct dnnl_box *b);
bool dnnl_has_bf16(void); /* the processor multiplies bf16 itself */
enum err dnnl_pack(struct dnnl_box *b, struct weight *w, struct err_note *note);
void gemm_dnnl(struct op_ctx *c, const struct gemm_args *a);
bool attn_bf16(struct op_ctx *c,
               const struct attn_args *a); /* false: not for this processor, head size or kind */

#endif
