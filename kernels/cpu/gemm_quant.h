/* gemm_quant: products with the file's own quantised blocks, repacked once, and activations of 16 bits, x = d
 * * (256 hi + lo) with one scale per 32, or of 8 bits (lo = 0) in the quiet blocks of a coarse product: those
 * whose largest value is not above QUANT_COARSE times the row's mean of that. Measured on SmolLM2 Q4_1
 * against fp32, 4,368 tokens of prose, code and chat: 8 bits everywhere move the best token's logprob by
 * 0.041, 16 bits everywhere by 0.0046, which is bf16's attention, and the MLP's products coarse by 0.0098
 * with 0.8% of the best tokens changed; a tile of four rows then spares the low bytes of 54% of the blocks of
 * gate and up, and of 27% of those of down. One kernel and one order of sums for prefill and decode: a row's
 * bits do not depend on how many rows there are (sums run block by block over k, integers inside a block,
 * where they are exact; whether a block has low bytes is the row's own affair, and zeros add nothing). */
#ifndef FLUXD_KERNELS_CPU_GEMM_QUANT_H
#define FLUXD_KERNELS_CPU_GEMM_QUANT_H

#include <string.h>

#include "kernels/cpu/internal.h"
#include "kernels/quant.h"

struct quant_acts; /* the activations of one product as integers */

bool quant_can_pack(enum dtype dt, int n, int k);
int64_t quant_pack_bytes(enum dtype dt, int n, int k);
/* rows: [n, k] blocks as in the file. out: quant_pack_bytes, 64-byte aligned. */
void quant_pack(enum dtype dt, int n, int k, const void *rows, void *out);
void quant_unpack_row(const struct weight *w, int row, float *out); /* [k], the exact values of the blocks */
enum err quant_acts_new(struct quant_acts **out, int max_tok, int max_k, struct err_note *note);
void quant_acts_free(struct quant_acts *a);
void gemm_quant(struct op_ctx *c, const struct gemm_args *a);

/* How a packed block of 32 inputs looks: scales and minima in fp16, or fp32 (K: theirs are products); two
 * inputs a byte or one; BYTE128: inputs + 128, no minima. */
enum quant_form {
    QUANT_NONE,
    QUANT_NIBBLE,
    QUANT_NIBBLE_K,
    QUANT_BYTE,
    QUANT_BYTE_K,
    QUANT_BYTE128,
    QUANT_FORMS
};

/* A tile is up to QUANT_ROWS rows times one or two groups of 16 outputs. Activations lie as the kernels read
 * them: for each tile of rows, block after block, with one pointer and fixed distances. */
enum { QUANT_ROWS = 4, QUANT_GROUP = 16, QUANT_BLOCK = 32 };
struct quant_x { /* one block of inputs of a tile's rows */
    _Alignas(64)
        int8_t q[QUANT_BLOCK / 4][QUANT_ROWS][2][4]; /* four inputs' hi, then their lo; |hi|, |lo| <= 127 */
    float d[QUANT_ROWS], s[QUANT_ROWS];              /* scale, and scale times the sum of the integers */
    int32_t is[QUANT_ROWS];                          /* sum of the integers 256 hi + lo */
    uint8_t low[QUANT_ROWS];                         /* 0: all lo are 0 */
};
struct quant_tile {
    const uint8_t *w;        /* packed group; the second one follows group_bytes later */
    const struct quant_x *x; /* [n_block] */
    int64_t group_bytes;
    int n_block, n_group, m; /* m: rows */
    bool cold;               /* the weights are not in the cache yet */
};
#define QUANT_MAX    32512.0f /* 127 * 256: the largest |256 hi + lo| that is aimed at */
#define QUANT_COARSE 1.0f
#define QUANT_TINY   1e-30f /* a block of smaller numbers counts as zero: its inverse would leave the range */
typedef float quant_out[QUANT_ROWS][QUANT_GROUP];                    /* sums of one group */
typedef void quant_kernel(const struct quant_tile *t, quant_out *f); /* f: [n_group] */
/* One row of k activations into its place in the tile; 8 bits for blocks that do not reach coarse times the
 * mean of the blocks' largest values (0: 16 bits for all). A block that is not finite gets d = NaN. */
typedef void quant_row_kernel(const float *x, int k, float coarse, struct quant_x *to, int row);
struct quant_kernels {
    quant_kernel *by_form[QUANT_FORMS];
    quant_row_kernel *quantise;
    const char *name;
};

static inline bool quant_is_nibble(enum quant_form f) { return f == QUANT_NIBBLE || f == QUANT_NIBBLE_K; }
static inline bool quant_is_k(enum quant_form f) { return f == QUANT_NIBBLE_K || f == QUANT_BYTE_K; }
static inline int quant_head_bytes(enum quant_form f)
{
    return f == QUANT_BYTE128 ? 32 : quant_is_k(f) ? 128 : 64;
}
static inline int quant_block_bytes(enum quant_form f)
{
    return quant_head_bytes(f) + (quant_is_nibble(f) ? 256 : 512);
}
/* Scales and minima of a packed block. */
static inline __attribute__((always_inline)) void
quant_load_head(const uint8_t *w, const enum quant_form form, float *wd, float *wm)
{
    for (int r = 0; r < QUANT_GROUP; r++) {
        uint16_t h[2] = {0};
        if (quant_is_k(form)) {
            memcpy(&wd[r], w + 4 * r, 4);
            memcpy(&wm[r], w + 64 + 4 * r, 4);
            continue;
        }
        memcpy(h, w + 2 * r, 2);
        if (form != QUANT_BYTE128) memcpy(h + 1, w + 32 + 2 * r, 2);
        wd[r] = f32_from_f16(h[0]);
        wm[r] = f32_from_f16(h[1]);
    }
}
quant_row_kernel quant_row_plain;
/* By instruction set, the best first; NULL where the build or the processor lacks it. All give the same bits.
 */
const struct quant_kernels *quant_kernels_vnni(void);
const struct quant_kernels *quant_kernels_avx2(void);
const struct quant_kernels *quant_kernels_plain(void);
/* The best set is chosen by quant_acts_new; tests ask for others. */
void quant_acts_use(struct quant_acts *a, const struct quant_kernels *k);

#endif
