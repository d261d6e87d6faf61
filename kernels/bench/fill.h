/* fill: random values on the device, for benches. Both wait. */
#ifndef FLUXD_KERNELS_BENCH_FILL_H
#define FLUXD_KERNELS_BENCH_FILL_H
#include "kernels/quant_int4.h"

#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
void fill_random(void *bf16, int64_t n, uint64_t seed, float mean, float spread); /* mean +- spread, even */
void fill_fp8(void *codes, int64_t n, uint64_t seed);                             /* no NaN */
/* A weight of 4 bits as it is held: scales of factor x 1 to 2, some zero points. */
void fill_int4(void *to, const struct int4_form *f, float factor, uint64_t seed);
void fill_tame(void *p, int64_t bytes); /* no byte is a code of NaN any more */
#ifdef __cplusplus
}
#endif
#endif
