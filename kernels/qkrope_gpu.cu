/* qkrope on CUDA: a group of lanes takes a head; a lane holds 4 numbers of its first half and the 4 that RoPE pairs with them. */
#include "kernels/gpu_ops.cuh"

enum { THREADS = 256, VEC = 4, HEAD_MIN = 16, HEAD_MAX = 256 };

template <typename KV> static __device__ __forceinline__ KV *page_row(const qkrope_args &a, int64_t page, int g, int v, int row)
{
    return (KV *)a.pool + (((page * a.n_kv + g) * 2 + v) * PAGE_TOK + row) * a.head;
}

/* LANES: lanes of a group, a power of two, LANES * 8 >= K. Block x: token; blocks y share its heads. */
template <typename T, typename KV, int LANES> __global__ void __launch_bounds__(THREADS) qkrope_kernel(const qkrope_args a)
{
    const int  K = a.head, half = K / 2, H = a.n_head, G = a.n_kv, n_group = THREADS / LANES * gridDim.y;
    const int  i = threadIdx.x % LANES * VEC;
    const bool in = i < half;
    float      wq[2][VEC], wk[2][VEC], cs[2 * VEC];
#pragma unroll
    for (int j = 0; j < VEC; j++)
        wq[0][j] = wq[1][j] = wk[0][j] = wk[1][j] = 1;
    if (in && a.q_norm) {
        load_vec<VEC>(wq[0], (const T *)a.q_norm + i);
        load_vec<VEC>(wq[1], (const T *)a.q_norm + half + i);
    }
    if (in && a.k_norm) {
        load_vec<VEC>(wk[0], (const T *)a.k_norm + i);
        load_vec<VEC>(wk[1], (const T *)a.k_norm + half + i);
    }
    begin_kernel();
    const int64_t t = blockIdx.x, page = a.pool ? a.page[t] : -1;
    const int     pos = a.pos[t], n_item = page < 0 ? H : H + 2 * G;
    const T      *row = (const T *)a.qkv + t * a.qkv_stride;
    if (in)
        load_vec<2 * VEC>(cs, a.rope + (int64_t)pos * K + 2 * i);
    for (int h0 = blockIdx.y * (THREADS / LANES); h0 < n_item; h0 += n_group) {
        const int  h = h0 + threadIdx.x / LANES;
        const bool on = in && h < n_item, is_q = h < H, is_v = h >= H + G;
        float      x[2][VEC] = {};
        if (on) {
            load_vec<VEC>(x[0], row + h * K + i);
            load_vec<VEC>(x[1], row + h * K + half + i);
        }
        float sum = 0;
#pragma unroll
        for (int j = 0; j < VEC; j++)
            sum += x[0][j] * x[0][j] + x[1][j] * x[1][j];
#pragma unroll
        for (int m = LANES / 2; m > 0; m /= 2)
            sum += __shfl_xor_sync(~0u, sum, m);
        if (!on)
            continue;
        if (is_v) {
            KV *to = page_row<KV>(a, page, h - H - G, 1, pos % PAGE_TOK) + i;
            store_vec<VEC>(to, x[0]);
            store_vec<VEC>(to + half, x[1]);
            continue;
        }
        if (is_q ? a.q_norm != NULL : a.k_norm != NULL) {
            const float scale = 1.0f / sqrtf(sum / (float)K + a.eps);
#pragma unroll
            for (int j = 0; j < VEC; j++) {
                x[0][j] = (is_q ? wq : wk)[0][j] * (x[0][j] * scale);
                x[1][j] = (is_q ? wq : wk)[1][j] * (x[1][j] * scale);
            }
        }
        if (is_q && a.q_raw) {
            T *to = (T *)a.q_raw + (t * H + h) * K + i;
            store_vec<VEC>(to, x[0]);
            store_vec<VEC>(to + half, x[1]);
        }
#pragma unroll
        for (int j = 0; j < VEC; j++) {
            const float lo = x[0][j], hi = x[1][j];
            x[0][j] = lo * cs[2 * j] - hi * cs[2 * j + 1];
            x[1][j] = hi * cs[2 * j] + lo * cs[2 * j + 1];
        }
        if (!is_q) {
            KV *to = page_row<KV>(a, page, h - H, 0, pos % PAGE_TOK) + i;
            store_vec<VEC>(to, x[0]);
            store_vec<VEC>(to + half, x[1]);
        } else if (a.q) {
            T *to = (T *)a.q + (t * H + h) * K + i;
            store_vec<VEC>(to, x[0]);
            store_vec<VEC>(to + half, x[1]);
        }
    }
}

template <typename T, typename KV, int LANES> static enum err launch_lanes(const qkrope_args *a, const gpu_ctx *g)
{
    const int n_item = a->n_head + 2 * a->n_kv, group = THREADS / LANES;
    const int parts = a->n_tok < 4 * g->n_sm ? (n_item + group - 1) / group : 1; /* few tokens: a head to each group */
    return gpu_launch(g, qkrope_kernel<T, KV, LANES>, dim3((unsigned)a->n_tok, (unsigned)parts), THREADS, 1, *a);
}
template <typename T, typename KV> static enum err launch(const qkrope_args *a, const gpu_ctx *g)
{
    if (a->head <= 32)
        return launch_lanes<T, KV, 4>(a, g);
    if (a->head <= 64)
        return launch_lanes<T, KV, 8>(a, g);
    return a->head <= 128 ? launch_lanes<T, KV, 16>(a, g) : launch_lanes<T, KV, 32>(a, g);
}

enum err qkrope_gpu(const struct qkrope_args *a, const struct gpu_ctx *g)
{
    if (a->n_tok == 0)
        return OK;
    if (a->n_tok < 0 || a->head < HEAD_MIN || a->head > HEAD_MAX || a->head % 8 || a->n_head < 1 || a->n_kv < 1 || a->qkv_stride % 4)
        return ERR_INVALID_VALUE;
    if (g->act == DT_F32)
        return g->kv == DT_F32 ? launch<float, float>(a, g) : launch<float, bf16>(a, g);
    return g->kv == DT_F32 ? launch<bf16, float>(a, g) : launch<bf16, bf16>(a, g);
}
