/* mma: copies into shared memory that do not hold up the thread, capability 8.0 and newer. Device code only.
 */
#ifndef FLUXD_KERNELS_CUDA_MMA_CUH
#define FLUXD_KERNELS_CUDA_MMA_CUH

#include <stdint.h>

/* 16 bytes; `from_bytes` 0: zeros are written and src is not read. */
__device__ __forceinline__ void copy_async(uint32_t dst, const void *src, int from_bytes = 16)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst),
                 "l"(__cvta_generic_to_global(src)), "r"(from_bytes)
                 : "memory");
}
__device__ __forceinline__ void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/* Waits until at most N of this thread's groups are under way. */
template <int N> __device__ __forceinline__ void copy_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

#endif
