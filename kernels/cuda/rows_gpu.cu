/* embed, gather and swiglu on CUDA: whole rows moved or combined, 8 numbers a thread. */
#include "kernels/cuda/gpu_ops.cuh"

enum { THREADS = 256, VEC = 8 };

template <typename T, typename W>
__global__ void __launch_bounds__(THREADS)
    embed_kernel(T *out, const W *table, const int32_t *id, int n, int d)
{
    begin_kernel();
    const int64_t t = blockIdx.x, row = id[t];
    for (int i = threadIdx.x * VEC; i < d; i += THREADS * VEC) {
        float v[VEC] = {};
        if (row >= 0 && row < n) load_vec<VEC>(v, table + row * d + i);
        store_vec<VEC>(out + t * d + i, v);
    }
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
    gather_kernel(T *out, const T *x, const int32_t *row, int64_t x_stride, int d)
{
    begin_kernel();
    const int64_t t = blockIdx.x, from = row[t];
    if (from < 0) return;
    for (int i = threadIdx.x * VEC; i < d; i += THREADS * VEC) {
        float v[VEC];
        load_vec<VEC>(v, x + from * x_stride + i);
        store_vec<VEC>(out + t * d + i, v);
    }
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
    swiglu_kernel(T *out, const T *gu, int64_t gu_stride, int64_t out_stride, int f)
{
    begin_kernel();
    const int64_t t = blockIdx.y;
    const int i = (blockIdx.x * THREADS + threadIdx.x) * VEC;
    if (i >= f) return;
    float gate[VEC], up[VEC];
    load_vec<VEC>(gate, gu + t * gu_stride + i);
    load_vec<VEC>(up, gu + t * gu_stride + f + i);
#pragma unroll
    for (int j = 0; j < VEC; j++) up[j] *= silu(gate[j]);
    store_vec<VEC>(out + t * out_stride + i, up);
}

template <typename T, typename W> static enum err embed(const embed_args *a, const gpu_ctx *g)
{
    return gpu_launch(g, embed_kernel<T, W>, dim3((unsigned)a->n_tok), THREADS, 1, (T *)a->out,
                      (const W *)a->table->data, a->id, a->table->n, a->d);
}

enum err embed_gpu(const struct embed_args *a, const struct gpu_ctx *g)
{
    const struct weight *w = a->table;
    if (a->n_tok == 0) return OK;
    if (a->n_tok < 0 || a->d < VEC || a->d % VEC || w->k != a->d || !w->data ||
        (w->dt != DT_F32 && w->dt != DT_BF16))
        return ERR_INVALID_VALUE;
    if (g->act == DT_F32) return w->dt == DT_F32 ? embed<float, float>(a, g) : embed<float, bf16>(a, g);
    return w->dt == DT_F32 ? embed<bf16, float>(a, g) : embed<bf16, bf16>(a, g);
}

template <typename T> static enum err gather(const gather_args *a, const gpu_ctx *g)
{
    return gpu_launch(g, gather_kernel<T>, dim3((unsigned)a->n_row), THREADS, 1, (T *)a->out, (const T *)a->x,
                      a->row, a->x_stride, a->d);
}

enum err gather_gpu(const struct gather_args *a, const struct gpu_ctx *g)
{
    if (a->n_row == 0) return OK;
    if (a->n_row < 0 || a->d < VEC || a->d % VEC || a->x_stride % VEC) return ERR_INVALID_VALUE;
    return g->act == DT_F32 ? gather<float>(a, g) : gather<bf16>(a, g);
}

/* Rows of a call lie in the grid's second dimension, at most 65535 in one launch. */
template <typename T> static enum err swiglu(const swiglu_args *a, const gpu_ctx *g)
{
    const int per_block = THREADS * VEC, most = 65535;
    enum err e = OK;
    for (int t = 0; t < a->n_tok && e == OK; t += most) {
        int n = a->n_tok - t < most ? a->n_tok - t : most;
        e = gpu_launch(g, swiglu_kernel<T>, dim3((unsigned)((a->f + per_block - 1) / per_block), (unsigned)n),
                       THREADS, 1, (T *)a->out + t * a->out_stride, (const T *)a->gu + t * a->gu_stride,
                       a->gu_stride, a->out_stride, a->f);
    }
    return e;
}

enum err swiglu_gpu(const struct swiglu_args *a, const struct gpu_ctx *g)
{
    if (a->n_tok < 0 || a->f < VEC || a->f % VEC || a->gu_stride % VEC || a->out_stride % VEC)
        return ERR_INVALID_VALUE;
    return g->act == DT_F32 ? swiglu<float>(a, g) : swiglu<bf16>(a, g);
}
