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

static __global__ void tame_kernel(uint8_t *p, int64_t n)
{
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x)
        if ((p[i] & 0x7f) == 0x7f) p[i]--;
}

void fill_tame(void *p, int64_t bytes)
{
    tame_kernel<<<2048, 256>>>((uint8_t *)p, bytes);
    cudaDeviceSynchronize();
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

static __global__ void fill_records(unsigned char *p, int64_t n_byte, int record, bool zeros, uint64_t seed)
{
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n_byte / 4;
         i += (int64_t)gridDim.x * blockDim.x) {
        uint64_t x = (uint64_t)i * 0x9e3779b97f4a7c15ull + seed;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
        uint32_t v = (uint32_t)(x >> 32);
        const int at = (int)(i * 4 % record) - INT4_CODES;
        if (at >= 0) v = zeros && at % 8 ? 0x43004300u | (v & 0x000f000fu) : 0x3c003c00u | (v & 0x03ff03ffu);
        *(uint32_t *)(p + i * 4) = v;
    }
}
static __global__ void fill_f32(float *p, int n, float v)
{
    for (int i = threadIdx.x; i < n; i += blockDim.x) p[i] = v;
}

void fill_int4(void *to, const struct int4_form *f, float factor, uint64_t seed)
{
    const int64_t bytes = int4_record_bytes(f);
    fill_records<<<2048, 256>>>((unsigned char *)to, bytes, int4_record(f->group, f->zeros), f->zeros, seed);
    fill_f32<<<1, 1024>>>((float *)((unsigned char *)to + bytes), int4_strips(f->n) * INT4_ROWS, factor);
    cudaDeviceSynchronize();
}
