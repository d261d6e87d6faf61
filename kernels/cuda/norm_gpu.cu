/* rmsnorm on CUDA: one block of threads a row, the row in registers between the two passes. */
#include "kernels/cuda/gpu_ops.cuh"

enum { THREADS = 256, VEC = 8 };

/* N: vectors a thread holds. */
template <typename T, int N> __global__ void __launch_bounds__(THREADS) rmsnorm_kernel(const rmsnorm_args a)
{
    __shared__ float sum_s[THREADS / 32];
    const int64_t t = blockIdx.x;
    const int n_vec = a.d / VEC;
    T *res = a.res ? (T *)a.res + t * a.res_stride : NULL;
    const T *x = a.x ? (const T *)a.x + t * a.x_stride : NULL;
    float y[N][VEC], w[N][VEC], sum = 0;
#pragma unroll
    for (int j = 0; j < N; j++)
        if (threadIdx.x + j * THREADS < n_vec)
            load_vec<VEC>(w[j], (const T *)a.w + (threadIdx.x + j * THREADS) * VEC);
    begin_kernel();
#pragma unroll
    for (int j = 0; j < N; j++)
        if (threadIdx.x + j * THREADS < n_vec)
            load_vec<VEC>(y[j], (res ? res : x) + (threadIdx.x + j * THREADS) * VEC);
    if (res && x) {
#pragma unroll
        for (int j = 0; j < N; j++) {
            const int at = (threadIdx.x + j * THREADS) * VEC;
            if (at >= a.d) continue;
            float add[VEC];
            load_vec<VEC>(add, x + at);
#pragma unroll
            for (int i = 0; i < VEC; i++) y[j][i] = rounded(y[j][i] + add[i], T());
            store_vec<VEC>(res + at, y[j]);
        }
    }
#pragma unroll
    for (int j = 0; j < N; j++)
        if (threadIdx.x + j * THREADS < n_vec) {
#pragma unroll
            for (int i = 0; i < VEC; i++) sum += y[j][i] * y[j][i];
        }
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) sum_s[threadIdx.x / 32] = sum;
    __syncthreads();
    sum = 0;
#pragma unroll
    for (int i = 0; i < THREADS / 32; i++) sum += sum_s[i];
    const float scale = 1.0f / sqrtf(sum / (float)a.d + a.eps);
#pragma unroll
    for (int j = 0; j < N; j++)
        if (threadIdx.x + j * THREADS < n_vec) {
#pragma unroll
            for (int i = 0; i < VEC; i++) y[j][i] = w[j][i] * (y[j][i] * scale);
            store_vec<VEC>((T *)a.out + t * a.d + (threadIdx.x + j * THREADS) * VEC, y[j]);
        }
}

template <typename T> static enum err launch(const rmsnorm_args *a, const gpu_ctx *g)
{
    const dim3 grid((unsigned)a->n_tok);
    if (a->d <= THREADS * VEC) return gpu_launch(g, rmsnorm_kernel<T, 1>, grid, THREADS, 1, *a);
    if (a->d <= 2 * THREADS * VEC) return gpu_launch(g, rmsnorm_kernel<T, 2>, grid, THREADS, 1, *a);
    if (a->d <= 4 * THREADS * VEC) return gpu_launch(g, rmsnorm_kernel<T, 4>, grid, THREADS, 1, *a);
    return gpu_launch(g, rmsnorm_kernel<T, 8>, grid, THREADS, 1, *a);
}

enum err rmsnorm_gpu(const struct rmsnorm_args *a, const struct gpu_ctx *g)
{
    if (a->n_tok == 0) return OK;
    if (a->n_tok < 0 || a->d < VEC || a->d % VEC || a->d > 8 * THREADS * VEC || a->x_stride % VEC ||
        a->res_stride % VEC || (!a->x && !a->res))
        return ERR_INVALID_VALUE;
    return g->act == DT_F32 ? launch<float>(a, g) : launch<bf16>(a, g);
}
