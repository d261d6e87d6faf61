/* fault_gpu: what breaks a device for real: a kernel that writes where nothing is, and one that never ends.
 */
#include "tests/server/fault_gpu.h"

static __global__ void write_nowhere(int *p) { *p = 1; }

static __global__ void spin(const volatile int *p)
{
    while (*p == 0) {
    }
}

static int *one_zero(void)
{
    int *p = nullptr;
    return cudaMalloc(&p, sizeof *p) == cudaSuccess && cudaMemset(p, 0, sizeof *p) == cudaSuccess ? p
                                                                                                  : nullptr;
}

extern "C" bool fault_gpu_address(cudaStream_t stream)
{
    write_nowhere<<<1, 1, 0, stream>>>((int *)16);
    return cudaGetLastError() == cudaSuccess;
}

extern "C" bool fault_gpu_spin(cudaStream_t stream)
{
    int *p = one_zero();
    if (p) spin<<<1, 1, 0, stream>>>(p);
    return p && cudaGetLastError() == cudaSuccess;
}
