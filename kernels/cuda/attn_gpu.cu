/* attn_gpu: which kernels attend, by type and device. */
#include "kernels/cuda/attn_gpu.cuh"

#include <cuda_runtime.h>

size_t attn_gpu_work_bytes(int max_row, int n_head, int n_kv, int head)
{
    return attn_work_plan(max_row, n_head, n_kv, head).bytes;
}

/* sm_90a code runs on capability 9.0 alone. */
static bool is_hopper()
{
    int device = 0, major = 0, minor = 0;
    return cudaGetDevice(&device) == cudaSuccess &&
           cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
           cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess &&
           major == 9 && minor == 0;
}
static bool uses_sm90(const attn_gpu *g)
{
    return g->use == ATTN_USE_SM90 || (g->use == ATTN_USE_BEST && is_hopper());
}

enum err attn_prefill_gpu(const struct attn_args *a, const struct attn_gpu *g)
{
    if (g->act == DT_F32) return attn_prefill_f32(a, g);
    return uses_sm90(g) ? attn_prefill_sm90(a, g) : attn_prefill_mma(a, g);
}

enum err attn_decode_gpu(const struct attn_args *a, const struct attn_gpu *g)
{
    if (g->act == DT_F32) return attn_decode_f32(a, g);
    return uses_sm90(g) ? attn_decode_sm90(a, g) : attn_decode_mma(a, g);
}
