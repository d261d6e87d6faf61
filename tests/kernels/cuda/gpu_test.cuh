/* gpu_test: what the tests of GPU kernels share: checks that are counted, CUDA calls that must succeed. */
#ifndef FLUXD_TESTS_KERNELS_CUDA_GPU_TEST_CUH
#define FLUXD_TESTS_KERNELS_CUDA_GPU_TEST_CUH

#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>

static int n_fail, n_check;

#define CUDA(x)                                                                                              \
    do {                                                                                                     \
        cudaError_t e_ = (x);                                                                                \
        if (e_ != cudaSuccess) {                                                                             \
            printf("%s:%d %s: %s\n", __FILE__, __LINE__, #x, cudaGetErrorString(e_));                        \
            exit(2);                                                                                         \
        }                                                                                                    \
    } while (0)

static void check(bool ok, const char *law, const char *detail)
{
    n_check++;
    n_fail += !ok;
    if (!ok) printf("FAIL %s: %s\n", law, detail);
}

/* main's exit status */
static int report(const char *test)
{
    printf("%s: %d checks, %d failed\n", test, n_check, n_fail);
    return n_fail != 0;
}

#endif
