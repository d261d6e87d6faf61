/* backend: one CUDA device as the engine's floor sees it, beyond the common backend. Engine thread only. */
#ifndef FLUXD_ENGINE_CUDA_BACKEND_H
#define FLUXD_ENGINE_CUDA_BACKEND_H

#include <cuda_runtime_api.h>

#include "engine/backend.h"
#include "engine/cuda/refuse.h"

struct backend_cuda {
    struct backend b; /* first: a backend is its backend_cuda */
    cudaStream_t stream;
    int index; /* of the device: the current one of each thread that makes something on it */
    int n_sm;
    bool hopper;     /* capability 9.0, which has kernels of its own */
    enum dtype hold; /* of weights, activations and KV: DT_BF16, or DT_F32 for the exact mode */
    double share;    /* of the device's memory that may be taken, others' part included */
};

#endif
