/* kv_fp8: keys and values of 8 bits. Plain C, any thread; it owns the rounding that the kernels of CUDA
 * repeat bit for bit.
 *
 * A row (a token's key or value of one kv head) has an exponent of its own: the least e with its largest
 * magnitude <= 448 x 2^e. A number's code is the nearest e4m3 (kernels/quant_fp8.h) to number / 2^e; what it
 * stands for, code x 2^e, is a bf16 exactly. A row depends on no other row, so a page holds the same bytes
 * however its tokens came: by ones, by pieces, again.
 *
 * In the pool a page holds a block of bf16 or two of codes, in its halves: an even block in the lower one, an
 * odd block in the upper one. An entry of a page table says which: a plain page id, or PAGE_CODES and the
 * half. */
#ifndef FLUXD_KERNELS_KV_FP8_H
#define FLUXD_KERNELS_KV_FP8_H

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { KV_FP8_EXP_MOST = 120 }; /* exponents lie between this and its negative */

enum { PAGE_CODES = 1 << 30 };
#ifdef __CUDACC__
#define KV_FP8_BOTH __host__ __device__
#else
#define KV_FP8_BOTH
#endif
KV_FP8_BOTH static inline int32_t page_codes(int32_t page, int block)
{
    return PAGE_CODES | page * 2 | (block & 1);
}
KV_FP8_BOTH static inline bool page_has_codes(int32_t entry) { return entry >= PAGE_CODES; }
KV_FP8_BOTH static inline int32_t page_half(int32_t entry) { return entry & ~PAGE_CODES; }
KV_FP8_BOTH static inline int32_t page_id(int32_t entry)
{
    return page_has_codes(entry) ? page_half(entry) >> 1 : entry;
}
#undef KV_FP8_BOTH

/* Halves are [half][G][K|V][PAGE_TOK][K] codes, their exponents [half][G][K|V][PAGE_TOK]. */
void kv_fp8_row_ref(uint8_t *code, int8_t *exp, const float *x, int n); /* an infinity becomes NaN */
float kv_fp8_value(uint8_t code, int8_t exp);
/* The same bits, fast; n % 8 == 0. */
void kv_fp8_row_cpu(uint8_t *code, int8_t *exp, const float *x, int n);

#ifdef __cplusplus
}
#endif
#endif
