/* gpu_attn_ref: what attention is, straight from its definition, in fp32 and one row at a time. The kernels'
 * oracle. */
#ifndef FLUXD_TESTS_KERNELS_CUDA_GPU_ATTN_REF_H
#define FLUXD_TESTS_KERNELS_CUDA_GPU_ATTN_REF_H

#include "kernels/ops.h"

#include <cuda_bf16.h>
#include <math.h>

enum { REF_MAX_KEYS = 8192 }; /* whose scores lie in shared memory */

/* Does the row at position t of this run see key j, for query head h? (docs/attention-routes.md, kinds) */
__host__ __device__ inline bool ref_sees(const attn_seg &s, int t, int j, int h)
{
    if (j > t || s.kind == ATTN_NONE) return false;
    int i = t / 128, b = j / 128;
    bool near = b < s.sink_blocks || b > i - s.local_blocks;
    switch (s.kind) {
    case ATTN_FULL:
        return true;
    case ATTN_STREAMING:
        return near;
    case ATTN_TRIANGLE:
        return t >= s.dense_from || near;
    case ATTN_SPLIT:
        return s.full_head[h] || near;
    default:
        break;
    }
    int first = s.pos0 / 128, n_q = (s.pos0 + s.n_row - 1) / 128 - first + 1;
    const int32_t *off = s.list_off + h * (n_q + 1) + i - first;
    for (int x = off[0]; x < off[1]; x++)
        if (s.list[x] == b) return true;
    return false;
}

__host__ __device__ inline int64_t ref_key(const attn_args &a, const attn_seg &s, int j, int g)
{
    return (((int64_t)s.page[j / 128] * a.n_kv + g) * 2 * PAGE_TOK + j % 128) * a.head;
}

/* grid (rows of the run, heads), 128 threads, as many floats of shared memory as there are keys; or, for few
 * rows of more, of score. */
__global__ void ref_attn(attn_args a, int seg_i, float *out, float *score, int64_t score_stride)
{
    extern __shared__ float few_s[];
    float *s_s = score ? score + (blockIdx.y * gridDim.x + blockIdx.x) * score_stride : few_s;
    __shared__ float red[128];
    const attn_seg &s = a.seg[seg_i];
    int t = s.pos0 + blockIdx.x, h = blockIdx.y, g = h / (a.n_head / a.n_kv), thread = threadIdx.x;
    const __nv_bfloat16 *q = (const __nv_bfloat16 *)a.q + (s.row0 + blockIdx.x) * a.q_stride + h * a.head,
                        *pool = (const __nv_bfloat16 *)a.pool;
    for (int j = thread / 32; j <= t; j += 4) {
        float x = -INFINITY;
        if (ref_sees(s, t, j, h)) {
            const __nv_bfloat16 *k = pool + ref_key(a, s, j, g);
            x = 0;
            for (int d = thread % 32; d < a.head; d += 32)
                x += __bfloat162float(q[d]) * __bfloat162float(k[d]);
            for (int d = 16; d; d /= 2) x += __shfl_xor_sync(~0u, x, d);
        }
        if (thread % 32 == 0) s_s[j] = x * a.scale;
    }
    __syncthreads();
    float m = -INFINITY, l = 0;
    for (int j = thread; j <= t; j += 128) m = fmaxf(m, s_s[j]);
    red[thread] = m;
    __syncthreads();
    for (int i = 0; i < 128; i++) m = fmaxf(m, red[i]);
    __syncthreads();
    for (int j = thread; j <= t; j += 128) {
        s_s[j] = s_s[j] == -INFINITY ? 0.0f : expf(s_s[j] - m);
        l += s_s[j];
    }
    red[thread] = l;
    __syncthreads();
    l = 0;
    for (int i = 0; i < 128; i++) l += red[i];
    for (int d = thread; d < a.head; d += 128) {
        double acc = 0; /* of so many keys that fp32's own error would show */
        for (int j = 0; j <= t; j++)
            if (s_s[j] != 0)
                acc += s_s[j] * __bfloat162float(pool[ref_key(a, s, j, g) + PAGE_TOK * a.head + d]);
        out[((int64_t)(s.row0 + blockIdx.x) * a.n_head + h) * a.head + d] = l > 0 ? (float)(acc / l) : 0;
    }
}

#endif
