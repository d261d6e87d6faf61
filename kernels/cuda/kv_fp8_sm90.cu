/* kv_fp8 on CUDA: rows of keys and values to pages of 8 bits, and pages to bf16. */
#include "kernels/cuda/kv_fp8.cuh"
#include "kernels/cuda/kv_fp8_gpu.h"
#include "kernels/cuda/gpu_ops.cuh"

enum { THREADS = 256, VEC = 8 };

/* LANES of 8 numbers are a row. */
template <int LANES> __global__ void __launch_bounds__(THREADS) write_kernel(const kv_fp8_write_args a)
{
    const int64_t row = (int64_t)blockIdx.x * (THREADS / LANES) + threadIdx.x / LANES,
                  n_row = (int64_t)a.n_tok * a.n_kv * 2; /* [token][K|V][kv head] */
    const int i = threadIdx.x % LANES * VEC, t = (int)(row / (a.n_kv * 2)), half = (int)(row / a.n_kv % 2),
              g = (int)(row % a.n_kv);
    float x[VEC] = {}, most = 0;
    begin_kernel();
    if (row < n_row) load_vec<VEC>(x, (const bf16 *)(half ? a.v : a.k) + t * a.stride + g * a.head + i);
#pragma unroll
    for (int k = 0; k < VEC; k++) most = fmaxf(most, fabsf(x[k]));
#pragma unroll
    for (int m = LANES / 2; m > 0; m /= 2) most = fmaxf(most, __shfl_xor_sync(~0u, most, m));
    const int page = row < n_row ? a.page[t] : -1;
    if (page < 0) return;
    const int e = kv_exponent(most);
    const int64_t at = (((int64_t)page * a.n_kv + g) * 2 + half) * PAGE_TOK + a.pos[t] % PAGE_TOK;
    const float down = power_of_two(-e);
    *(uint2 *)(a.pool.code + at * a.head + i) = make_uint2(kv_codes(x, down), kv_codes(x + 4, down));
    if (i == 0) a.pool.exp[at] = (int8_t)e;
}

__device__ __forceinline__ void widen_two(float *to, uint32_t codes)
{
    uint32_t h;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(h) : "h"((uint16_t)codes));
    asm("{.reg .f16 lo, hi; mov.b32 {lo, hi}, %2; cvt.f32.f16 %0, lo; cvt.f32.f16 %1, hi;}"
        : "=f"(to[0]), "=f"(to[1])
        : "r"(h));
}
/* A block of threads: a half of a page. */
__global__ void __launch_bounds__(THREADS) widen_kernel(const kv_fp8_widen_args a)
{
    begin_kernel();
    const int entry = a.from[blockIdx.x];
    if (!page_has_codes(entry)) return;
    const int64_t from = (int64_t)page_half(entry) * a.n_kv * 2 + blockIdx.y,
                  to = (int64_t)blockIdx.x * a.n_kv * 2 + blockIdx.y;
    for (int i = threadIdx.x * VEC; i < PAGE_TOK * a.head; i += THREADS * VEC) {
        const uint2 c = *(const uint2 *)(a.pool.code + from * PAGE_TOK * a.head + i);
        const float scale = power_of_two(a.pool.exp[from * PAGE_TOK + i / a.head]);
        float x[VEC];
        widen_two(x, c.x), widen_two(x + 2, c.x >> 16), widen_two(x + 4, c.y), widen_two(x + 6, c.y >> 16);
#pragma unroll
        for (int k = 0; k < VEC; k++) x[k] *= scale;
        store_vec<VEC>((bf16 *)a.to + to * PAGE_TOK * a.head + i, x);
    }
}

enum err kv_fp8_write_sm90(const struct kv_fp8_write_args *a, const struct gpu_ctx *g)
{
    if (a->n_tok == 0) return OK;
    if (a->n_tok < 0 || a->n_kv < 1 || (a->head != 64 && a->head != 128) || a->stride % VEC)
        return ERR_INVALID_VALUE;
    const int lanes = a->head / VEC, per_block = THREADS / lanes;
    const dim3 grid((unsigned)(((int64_t)a->n_tok * a->n_kv * 2 + per_block - 1) / per_block));
    return lanes == 16 ? gpu_launch(g, write_kernel<16>, grid, THREADS, 1, *a)
                       : gpu_launch(g, write_kernel<8>, grid, THREADS, 1, *a);
}

enum err kv_fp8_widen_sm90(const struct kv_fp8_widen_args *a, const struct gpu_ctx *g)
{
    if (a->n == 0) return OK;
    if (a->n < 0 || a->n_kv < 1 || (a->head != 64 && a->head != 128)) return ERR_INVALID_VALUE;
    return gpu_launch(g, widen_kernel, dim3((unsigned)a->n, (unsigned)a->n_kv * 2), THREADS, 1, *a);
}
