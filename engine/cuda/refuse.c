/* refuse: see refuse.h. */
#include "engine/cuda/refuse.h"

enum err cuda_check(cudaError_t e, const char *what, struct err_note *note)
{
    return e == cudaSuccess ? OK
                            : err_set(note, ERR_DEVICE, NULL, "CUDA: %s: %s", what, cudaGetErrorString(e));
}

enum err cuda_no_room(const char *what, struct err_note *note)
{
    size_t left = 0, all = 0;
    cudaGetLastError();
    cudaMemGetInfo(&left, &all);
    return err_set(note, ERR_CONFIG, "--gpu-memory-utilization",
                   "%s do not fit: %lld of the device's %lld MiB are free; lower it or --kv-pool-bytes", what,
                   (long long)left >> 20, (long long)all >> 20);
}

enum err cuda_no_weights(int64_t bytes, struct err_note *note)
{
    size_t left = 0, all = 0;
    cudaGetLastError();
    cudaMemGetInfo(&left, &all);
    return err_set(
        note, ERR_CONFIG, "--device",
        "the weights do not fit: the next takes %lld MiB, and %lld of the device's %lld MiB are free: end what else holds its memory, or take a smaller model",
        (long long)bytes >> 20, (long long)left >> 20, (long long)all >> 20);
}
