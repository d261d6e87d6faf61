/* gemm_int4: weights of 4 bits on devices of compute capability 8.0 and newer: products with few rows of x,
 * rows as bf16 for products with many.
 *
 * A block has 16 rows of the weight; its warps take every eighth record of their columns, weights and x
 * straight into registers, and add up in shared memory in their order. The order of a sum is the shape's. */
#include "kernels/cuda/gpu_ops.cuh"
#include "kernels/cuda/int4.cuh"
#include "kernels/cuda/int4_gpu.h"

enum { N_WARP = 8, M_MOST = 32, ROWS = INT4_ROWS, COLS = INT4_COLS, LD = ROWS + 1 };

struct params {
    void *y;
    const bf16 *x, *bias;
    const unsigned char *w;
    const float *factor;
    int64_t x_stride, y_stride;
    int n_tok, n, k, n_chunk, record, set_shift, add, y_f32;
};

template <int M, class W>
__device__ __forceinline__ void multiply(float (&acc)[M / 8][4], const params &p, const unsigned char *record,
                                         int chunk)
{
    const int lane = threadIdx.x % 32, q = lane % 4;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const W from(in_global{record}, lane, h, p.set_shift);
        float part[M / 8][4];
#pragma unroll
        for (int s = 0; s < 2; s++) {
            const int column = chunk * COLS + h * 64 + s * 32 + q * 8;
            uint32_t a[2][4];
            from.step(a[0], 2 * s);
            from.step(a[1], 2 * s + 1);
#pragma unroll
            for (int nb = 0; nb < M / 8; nb++) {
                const int t = min(nb * 8 + lane / 4, p.n_tok - 1);
                const uint4 v =
                    column < p.k ? *(const uint4 *)(p.x + t * p.x_stride + column) : make_uint4(0, 0, 0, 0);
                if (s == 0 || W::FINE)
                    mma_first(part[nb], a[0], v.x, v.y);
                else
                    mma_16816(part[nb], a[0], v.x, v.y);
                mma_16816(part[nb], a[1], v.z, v.w);
                if (s == 1 || W::FINE) from.add(acc[nb], part[nb], s);
            }
        }
    }
}

template <typename T> __device__ __forceinline__ void store(const params &p, int t, int row, float v)
{
    T *y = (T *)p.y + t * p.y_stride + row;
    if (p.bias) v += to_f32(p.bias[row]);
    if (p.add) v += to_f32(*y);
    if constexpr (sizeof(T) == 2)
        *y = __float2bfloat16(v);
    else
        *y = v;
}

template <int M, class W> __global__ void __launch_bounds__(32 * N_WARP) gemm_int4_kernel(const params p)
{
    __shared__ float part[N_WARP][M][LD];
    const int strip = blockIdx.x, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const unsigned char *w = p.w + (int64_t)strip * p.n_chunk * p.record;
    float acc[M / 8][4] = {};
    begin_kernel();
    for (int c = warp; c < p.n_chunk; c += N_WARP) multiply<M, W>(acc, p, w + (int64_t)c * p.record, c);
#pragma unroll
    for (int nb = 0; nb < M / 8; nb++)
#pragma unroll
        for (int k = 0; k < 4; k++)
            part[warp][nb * 8 + lane % 4 * 2 + k % 2][lane / 4 + k / 2 * 8] = acc[nb][k];
    __syncthreads();
    for (int i = threadIdx.x; i < p.n_tok * ROWS; i += 32 * N_WARP) {
        const int t = i / ROWS, row = strip * ROWS + i % ROWS;
        if (row >= p.n) continue;
        float v = 0;
#pragma unroll
        for (int j = 0; j < N_WARP; j++) v += part[j][t][i % ROWS];
        v *= p.factor[row];
        if (p.y_f32)
            store<float>(p, t, row, v);
        else
            store<bf16>(p, t, row, v);
    }
}

template <class W> static enum err launch(const params &p, const gpu_ctx *g)
{
    const dim3 grid((unsigned)((p.n + ROWS - 1) / ROWS));
    if (p.n_tok <= 8) return gpu_launch(g, gemm_int4_kernel<8, W>, grid, 32 * N_WARP, 1, p);
    return gpu_launch(g, gemm_int4_kernel<M_MOST, W>, grid, 32 * N_WARP, 1, p);
}

static bool is_held(const struct weight *w)
{
    return w->dt == DT_U4 && w->data && w->impl && w->n >= 1 && w->k >= 8 && w->k % 8 == 0;
}

enum err gemm_int4_gpu(const struct gemm_args *a, const struct gemm_gpu *g)
{
    const struct weight *w = a->w;
    const int4_form *f = (const int4_form *)w->impl;
    if (a->n_tok < 1 || a->n_tok > GEMM_SMALL_MAX_TOK || !is_held(w) || a->x_stride % 8 ||
        (uintptr_t)a->x % 16)
        return ERR_INVALID_VALUE;
    const gpu_ctx ctx = {g->stream, g->n_sm, DT_BF16, DT_BF16};
    params p = {};
    p.bias = (const bf16 *)a->bias;
    p.w = (const unsigned char *)w->data;
    p.factor = (const float *)(p.w + int4_record_bytes(f));
    p.x_stride = a->x_stride;
    p.y_stride = a->y_stride;
    p.n = w->n;
    p.k = w->k;
    p.n_chunk = int4_chunks(w->k);
    p.record = int4_record(f->group, f->zeros);
    p.set_shift = f->group == 128;
    p.add = a->add;
    p.y_f32 = a->y_f32;
    for (int t = 0; t < a->n_tok; t += M_MOST) {
        p.n_tok = a->n_tok - t < M_MOST ? a->n_tok - t : M_MOST;
        p.x = (const bf16 *)a->x + t * a->x_stride;
        p.y = (char *)a->y + t * a->y_stride * (a->y_f32 ? 4 : 2);
        enum err e;
        if (f->group == 32)
            e = f->zeros ? launch<u4_weights<true, true>>(p, &ctx) : launch<u4_weights<false, true>>(p, &ctx);
        else
            e = f->zeros ? launch<u4_weights<true, false>>(p, &ctx)
                         : launch<u4_weights<false, false>>(p, &ctx);
        if (e != OK) return e;
    }
    return OK;
}

/* A warp a record. */
template <class W>
__global__ void __launch_bounds__(32 * N_WARP) int4_rows_kernel(const params p, int strip0, int64_t n_record)
{
    const int lane = threadIdx.x % 32;
    bf16 *out = (bf16 *)p.y;
    begin_kernel();
    for (int64_t i = blockIdx.x * (int64_t)N_WARP + threadIdx.x / 32; i < n_record;
         i += (int64_t)gridDim.x * N_WARP) {
        const int strip = (int)(i / p.n_chunk), chunk = (int)(i % p.n_chunk);
        const unsigned char *record = p.w + ((int64_t)(strip0 + strip) * p.n_chunk + chunk) * p.record;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const W from(in_global{record}, lane, h, p.set_shift);
#pragma unroll
            for (int s = 0; s < 2; s++) {
                const int column = chunk * COLS + h * 64 + s * 32 + lane % 4 * 8;
                uint32_t a[2][4];
                from.step(a[0], 2 * s);
                from.step(a[1], 2 * s + 1);
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    const int row = strip * ROWS + lane / 4 + 8 * r;
                    if (row >= p.n || column >= p.k) continue;
                    const float scale = from.scale[W::FINE ? s : 0][r] * p.factor[strip0 * ROWS + row];
                    uint32_t v[4];
#pragma unroll
                    for (int o = 0; o < 4; o++) {
                        const uint32_t code = a[o / 2][o % 2 * 2 + r];
                        const __nv_bfloat162 two =
                            __floats2bfloat162_rn(bf16_lo(code) * scale, bf16_hi(code) * scale);
                        v[o] = *(const uint32_t *)&two;
                    }
                    *(uint4 *)(out + row * (int64_t)p.k + column) = make_uint4(v[0], v[1], v[2], v[3]);
                }
            }
        }
    }
}

enum err int4_rows_gpu(const struct weight *w, int row0, int n_row, void *out, const struct gemm_gpu *g)
{
    const int4_form *f = (const int4_form *)w->impl;
    if (!is_held(w) || row0 < 0 || row0 % ROWS || n_row < 1 || n_row > w->n - row0 || (uintptr_t)out % 16)
        return ERR_INVALID_VALUE;
    const gpu_ctx ctx = {g->stream, g->n_sm, DT_BF16, DT_BF16};
    params p = {};
    p.y = out;
    p.w = (const unsigned char *)w->data;
    p.factor = (const float *)(p.w + int4_record_bytes(f));
    p.n = n_row;
    p.k = w->k;
    p.n_chunk = int4_chunks(w->k);
    p.record = int4_record(f->group, f->zeros);
    p.set_shift = f->group == 128;
    const int64_t n_record = (int64_t)int4_strips(n_row) * p.n_chunk;
    const int64_t blocks = (n_record + N_WARP - 1) / N_WARP;
    const dim3 grid((unsigned)(blocks < 8 * g->n_sm ? blocks : 8 * g->n_sm));
    auto run = [&](auto *kernel) {
        return gpu_launch(&ctx, kernel, grid, 32 * N_WARP, 1, p, row0 / ROWS, n_record);
    };
    if (f->group == 32)
        return f->zeros ? run(int4_rows_kernel<u4_weights<true, true>>)
                        : run(int4_rows_kernel<u4_weights<false, true>>);
    return f->zeros ? run(int4_rows_kernel<u4_weights<true, false>>)
                    : run(int4_rows_kernel<u4_weights<false, false>>);
}

__global__ void __launch_bounds__(32 * N_WARP)
    int4_sort_kernel(bf16 *out, const bf16 *x, int64_t x_stride, const int32_t *order, int k)
{
    const int i = blockIdx.x * 32 * N_WARP + threadIdx.x;
    const int64_t t = blockIdx.y;
    const int from = i < k ? __ldg(order + i) : 0;
    begin_kernel();
    if (i < k) out[t * k + i] = x[t * x_stride + from];
}

enum err int4_sort_gpu(void *out, const void *x, int64_t x_stride, const int32_t *order, int n_tok, int k,
                       const struct gemm_gpu *g)
{
    enum { MOST = 65535 }; /* blocks of a grid's second dimension */
    const gpu_ctx ctx = {g->stream, g->n_sm, DT_BF16, DT_BF16};
    if (n_tok < 1 || n_tok > MOST || k < 1 || x_stride < k) return ERR_INVALID_VALUE;
    const dim3 grid((unsigned)((k + 32 * N_WARP - 1) / (32 * N_WARP)), (unsigned)n_tok);
    return gpu_launch(&ctx, int4_sort_kernel, grid, 32 * N_WARP, 1, (bf16 *)out, (const bf16 *)x, x_stride,
                      order, k);
}
