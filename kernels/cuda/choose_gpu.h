/* choose_gpu: which key blocks a prompt's query blocks attend to, found on the device: choose_args of ops.h
 * with all pointers in device memory, one run of one prompt a call, and no word to the host. Host side;
 * engine thread only.
 *
 * Antidiagonal sums are products of bf16 tiles with fp32 sums; of each row of groups only the log of the sum
 * of exponentials over each key block is kept, from which the softmax's share of the block follows. A choice
 * depends on its query block alone, not on the piece. */
#ifndef FLUXD_KERNELS_CUDA_CHOOSE_GPU_H
#define FLUXD_KERNELS_CUDA_CHOOSE_GPU_H

#include "base/err.h"
#include "kernels/ops.h"

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

struct choose_gpu {
    cudaStream_t stream;
    enum dtype act; /* of q and pages: DT_BF16 or DT_F32 */
    const struct attn_seg
        *seg; /* device: the run's. Nothing is chosen unless its kind is `kind` when the kernels run */
    int kind; /* enum attn_kind; < 0: whatever the kind */
};

/* K 64 or 128; work_stride: choose_gpu_work's or more. The run ends on a block edge or with its prompt.
 * Capturable. ERR_INVALID_VALUE for a shape that it lacks. */
enum err choose_gpu(const struct choose_args *a, const struct choose_gpu *g);

#ifdef __cplusplus
}
#endif
#endif
