/* fill: random values on the device, for benches. Both wait. */
#ifndef FLUXD_KERNELS_BENCH_FILL_H
#define FLUXD_KERNELS_BENCH_FILL_H
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
void fill_random(void *bf16, int64_t n, uint64_t seed, float mean, float spread); /* mean +- spread, even */
void fill_fp8(void *codes, int64_t n, uint64_t seed);                             /* no NaN */
#ifdef __cplusplus
}
#endif
#endif
