/* fault_gpu: see fault_gpu.cu. True: it was launched on the stream. */
#ifndef FLUXD_TESTS_FAULT_GPU_H
#define FLUXD_TESTS_FAULT_GPU_H

#include <cuda_runtime_api.h>
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif
bool fault_gpu_address(cudaStream_t stream);
bool fault_gpu_spin(cudaStream_t stream);
#ifdef __cplusplus
}
#endif

#endif
