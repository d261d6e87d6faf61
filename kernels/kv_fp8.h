/* kv_fp8: keys and values of 8 bits. Plain C, any thread; it owns the rounding that the kernels of CUDA
 * repeat bit for bit.
 *
 * A row (a token's key or value of one kv head) has an exponent of its own: the least e with its largest
 * magnitude <= 448 x 2^e. A number's code is the nearest e4m3 (kernels/quant_fp8.h) to number / 2^e; what it
 * stands for, code x 2^e, is a bf16 exactly. A row depends on no other row, so a page holds the same bytes
 * however its tokens came: by ones, by pieces, again. */
#ifndef FLUXD_KERNELS_KV_FP8_H
#define FLUXD_KERNELS_KV_FP8_H

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { KV_FP8_EXP_MOST = 120 }; /* exponents lie between this and its negative */

/* Pages are [page][G][K|V][PAGE_TOK][K] codes, exponents [page][G][K|V][PAGE_TOK]. */
void kv_fp8_row_ref(uint8_t *code, int8_t *exp, const float *x, int n); /* an infinity becomes NaN */
float kv_fp8_value(uint8_t code, int8_t exp);

#ifdef __cplusplus
}
#endif
#endif
