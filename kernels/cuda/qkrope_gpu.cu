/* qkrope on CUDA: a group of lanes takes a head; a lane holds 4 numbers of its first half and the 4 that RoPE
 * pairs with them. */
#include "kernels/cuda/gpu_ops.cuh"
#include "kernels/cuda/kv_fp8.cuh"
#include "kernels/cuda/kv_fp8_gpu.h"

enum { THREADS = 256, VEC = 4, HEADS = 3, HEAD_MIN = 16, HEAD_MAX = 256 };

template <typename KV>
static __device__ __forceinline__ KV *page_row(const qkrope_args &a, int64_t page, int g, int v, int row)
{
    return (KV *)a.pool + (((page * a.n_kv + g) * 2 + v) * PAGE_TOK + row) * a.head;
}

static __device__ __forceinline__ void scale_head(float (&x)[2][VEC], const float (&w)[2][VEC], float scale)
{
#pragma unroll
    for (int j = 0; j < VEC; j++) {
        x[0][j] = w[0][j] * (x[0][j] * scale);
        x[1][j] = w[1][j] * (x[1][j] * scale);
    }
}
static __device__ __forceinline__ void rotate(float (&x)[2][VEC], const float (&cs)[2 * VEC])
{
#pragma unroll
    for (int j = 0; j < VEC; j++) {
        const float lo = x[0][j], hi = x[1][j];
        x[0][j] = lo * cs[2 * j] - hi * cs[2 * j + 1];
        x[1][j] = hi * cs[2 * j] + lo * cs[2 * j + 1];
    }
}
template <typename T>
static __device__ __forceinline__ void store_head(T *to, const float (&x)[2][VEC], int half)
{
    store_vec<VEC>(to, x[0]);
    store_vec<VEC>(to + half, x[1]);
}

/* Where pages may hold codes (kernels/kv_fp8.h): of what would be stored as bf16, by all LANES of a group,
 * that have no columns but the head's. */
struct codes {
};
template <int LANES>
static __device__ __forceinline__ void store_codes(const qkrope_args &a, const kv_fp8_pool &pool, int64_t row,
                                                   float (&x)[2][VEC], int i)
{
#if __CUDA_ARCH__ >= 890
    const unsigned group = (unsigned)((1ull << LANES) - 1) << threadIdx.x % 32 / LANES * LANES;
    float most = 0;
#pragma unroll
    for (int j = 0; j < VEC; j++) {
        x[0][j] = rounded(x[0][j], bf16()), x[1][j] = rounded(x[1][j], bf16());
        most = fmaxf(most, fmaxf(fabsf(x[0][j]), fabsf(x[1][j])));
    }
#pragma unroll
    for (int m = LANES / 2; m > 0; m /= 2) most = fmaxf(most, __shfl_xor_sync(group, most, m));
    const int e = kv_exponent(most);
    const float down = power_of_two(-e);
    uint8_t *to = pool.code + row * a.head + i;
    *(uint32_t *)to = kv_codes(x[0], down);
    *(uint32_t *)(to + a.head / 2) = kv_codes(x[1], down);
    if (i == 0) pool.exp[row] = (int8_t)e;
#endif
}

/* LANES: lanes of a group, a power of two, LANES * 8 >= K. Block x: token; blocks y share its heads. HEADS
 * heads of a group are on their way at once. */
template <typename T, typename KV, int LANES>
__global__ void __launch_bounds__(THREADS, 3) qkrope_kernel(const qkrope_args a, const kv_fp8_pool pool)
{
    const int K = a.head, half = K / 2, H = a.n_head, G = a.n_kv, n_group = THREADS / LANES * gridDim.y;
    const int i = threadIdx.x % LANES * VEC;
    const bool in = i < half;
    float wq[2][VEC], wk[2][VEC], cs[2 * VEC];
#pragma unroll
    for (int j = 0; j < VEC; j++) wq[0][j] = wq[1][j] = wk[0][j] = wk[1][j] = 1;
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
    const int pos = a.pos[t], n_item = H + 2 * G;
    const T *row = (const T *)a.qkv + t * a.qkv_stride;
    for (int h0 = blockIdx.y * (THREADS / LANES) + threadIdx.x / LANES;
         h0 - (int)threadIdx.x / LANES < n_item; h0 += HEADS * n_group) {
        float x[HEADS][2][VEC] = {};
#pragma unroll
        for (int n = 0; n < HEADS; n++)
            if (in && h0 + n * n_group < n_item) {
                load_vec<VEC>(x[n][0], row + (h0 + n * n_group) * K + i);
                load_vec<VEC>(x[n][1], row + (h0 + n * n_group) * K + half + i);
            }
        if (in) load_vec<2 * VEC>(cs, a.rope + (int64_t)pos * K + 2 * i);
#pragma unroll
        for (int n = 0; n < HEADS; n++) {
            const int h = h0 + n * n_group;
            float sum = 0;
#pragma unroll
            for (int j = 0; j < VEC; j++) sum += x[n][0][j] * x[n][0][j] + x[n][1][j] * x[n][1][j];
#pragma unroll
            for (int m = LANES / 2; m > 0; m /= 2) sum += __shfl_xor_sync(~0u, sum, m);
            if (!in || h >= n_item) continue;
            const float scale = 1.0f / sqrtf(sum / (float)K + a.eps);
            if (h < H) {
                if (a.q_norm) scale_head(x[n], wq, scale);
                if (a.q_raw) store_head((T *)a.q_raw + (t * H + h) * K + i, x[n], half);
                rotate(x[n], cs);
                if (a.q) store_head((T *)a.q + (t * H + h) * K + i, x[n], half);
            } else if (page >= 0) {
                const int v = h >= H + G;
                if (!v && a.k_norm) scale_head(x[n], wk, scale);
                if (!v) rotate(x[n], cs);
                const int g = h - H - v * G, row_in = pos % PAGE_TOK;
                if constexpr (std::is_same<KV, codes>::value) {
                    if (page_has_codes((int32_t)page))
                        store_codes<LANES>(a, pool,
                                           (((int64_t)page_half((int32_t)page) * G + g) * 2 + v) * PAGE_TOK +
                                               row_in,
                                           x[n], i);
                    else
                        store_head(page_row<T>(a, page, g, v, row_in) + i, x[n], half);
                } else {
                    store_head(page_row<KV>(a, page, g, v, row_in) + i, x[n], half);
                }
            }
        }
    }
}

template <typename T, typename KV, int LANES>
static enum err launch_lanes(const qkrope_args *a, const kv_fp8_pool &pool, const gpu_ctx *g)
{
    const int n_item = a->n_head + 2 * a->n_kv, group = THREADS / LANES;
    const int parts =
        a->n_tok < 4 * g->n_sm ? (n_item + group - 1) / group : 1; /* few tokens: a head to each group */
    return gpu_launch(g, qkrope_kernel<T, KV, LANES>, dim3((unsigned)a->n_tok, (unsigned)parts), THREADS, 1,
                      *a, pool);
}
template <typename T, typename KV> static enum err launch(const qkrope_args *a, const gpu_ctx *g)
{
    const kv_fp8_pool none = {};
    if (a->head <= 32) return launch_lanes<T, KV, 4>(a, none, g);
    if (a->head <= 64) return launch_lanes<T, KV, 8>(a, none, g);
    return a->head <= 128 ? launch_lanes<T, KV, 16>(a, none, g) : launch_lanes<T, KV, 32>(a, none, g);
}

static bool takes(const qkrope_args *a)
{
    return a->n_tok >= 0 && a->head >= HEAD_MIN && a->head <= HEAD_MAX && a->head % 8 == 0 &&
           a->n_head >= 1 && a->n_kv >= 1 && a->qkv_stride % 4 == 0;
}

enum err qkrope_gpu(const struct qkrope_args *a, const struct gpu_ctx *g)
{
    if (a->n_tok == 0) return OK;
    if (!takes(a)) return ERR_INVALID_VALUE;
    if (g->act == DT_F32) return g->kv == DT_F32 ? launch<float, float>(a, g) : launch<float, bf16>(a, g);
    return g->kv == DT_F32 ? launch<bf16, float>(a, g) : launch<bf16, bf16>(a, g);
}

enum err qkrope_fp8_gpu(const struct qkrope_args *a, const struct kv_fp8_pool *pool, const struct gpu_ctx *g)
{
    if (a->n_tok == 0) return OK;
    if (!takes(a) || g->act != DT_BF16 || !gpu_is_sm90(qkrope_kernel<bf16, codes, 16>))
        return ERR_INVALID_VALUE;
    switch (a->head) {
    case 64:
        return launch_lanes<bf16, codes, 8>(a, *pool, g);
    case 128:
        return launch_lanes<bf16, codes, 16>(a, *pool, g);
    default:
        return ERR_INVALID_VALUE;
    }
}
