/* fill: random bf16 values on the device, for benches. */
#ifndef FLUXD_KERNELS_BENCH_FILL_H
#define FLUXD_KERNELS_BENCH_FILL_H
#include <stdint.h>
#ifdef __cplusplus
extern "C"
#endif
    void
    fill_random(void *bf16, int64_t n, uint64_t seed, float mean,
                float spread); /* uniform in mean +- spread; waits */
#endif
