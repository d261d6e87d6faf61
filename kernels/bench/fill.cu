/* fill: see fill.h. */
#include "kernels/bench/fill.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

static __global__ void fill_kernel(__nv_bfloat16 *p, int64_t n, uint64_t seed, float mean, float spread)
{
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x) {
        uint64_t x = (uint64_t)i * 0x9e3779b97f4a7c15ull + seed; /* splitmix64 */
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
        p[i] = __float2bfloat16(mean + spread * ((float)(x >> 40) * (2.0f / 16777216.0f) - 1.0f));
    }
}

void fill_random(void *bf16, int64_t n, uint64_t seed, float mean, float spread)
{
    fill_kernel<<<2048, 256>>>((__nv_bfloat16 *)bf16, n, seed, mean, spread);
    cudaDeviceSynchronize();
}

/* Most of a row's numbers are within 2^8 of its largest. */
static __global__ void fp8_kernel(uint8_t *p, int64_t n, uint64_t seed)
{
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x) {
        uint64_t x = (uint64_t)i * 0x9e3779b97f4a7c15ull + seed;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
        const uint8_t c = (uint8_t)(x >> 40);
        p[i] = (c & 0x7f) == 0x7f ? c - 1 : (c & 0x40) ? c : c | 0x20;
    }
}

void fill_fp8(void *codes, int64_t n, uint64_t seed)
{
    fp8_kernel<<<2048, 256>>>((uint8_t *)codes, n, seed);
    cudaDeviceSynchronize();
}
