/* attn_gpu: what the attention kernels need beside attn_args. Host side; one per stream, engine thread only.
 *
 * Segments of one launch may be of any kind, mixed. Prefill takes all kinds; decode all but list, since the
 * query heads of a kv head walk its blocks together, and for the same reason decode's split goes by the first
 * query head of each kv head. A list is either offsets and block indexes or, where attn_seg.keep is given,
 * bits as `choose` writes them. Query block i of a run is the rows whose position lies in [128 i, 128 i +
 * 128), wherever the run starts, so a row's bits do not depend on how a prompt was cut. */
#ifndef FLUXD_KERNELS_CUDA_ATTN_GPU_H
#define FLUXD_KERNELS_CUDA_ATTN_GPU_H

#include "base/err.h"
#include "kernels/ops.h"

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Which kernels run. The tests name them; all others leave the choice to the device. */
enum attn_use {
    ATTN_USE_BEST, /* the fastest that the device and the type allow */
    ATTN_USE_SM90, /* Hopper alone; bf16 */
    ATTN_USE_MMA,  /* capability 8.0 and newer; bf16 */
};

enum {
    ATTN_MAX_SEG = 1024, /* runs in one launch */
    ATTN_MAX_CHUNK = 64, /* pieces a decoding row's blocks are cut into, by its own length alone */
};

struct attn_gpu {
    cudaStream_t stream;
    int n_sm;
    int64_t n_row;  /* rows q and out hold */
    int64_t n_page; /* pages the pool holds */
    void *work;     /* device, zeroed once; kernels leave its counters at zero */
    int max_row;    /* decode: rows `work` was sized for */
    enum dtype act; /* of q, out and pages: DT_BF16 or DT_F32 */
    enum attn_use use;
};

size_t attn_gpu_work_bytes(int max_row, int n_head, int n_kv, int head); /* size of `work` for both kernels */

/* out = attention of every run's rows. Rows of no run are left alone. ERR_INVALID_VALUE for a shape the
 * kernels lack. */
enum err attn_prefill_gpu(const struct attn_args *a, const struct attn_gpu *g);
/* The same for runs of one row each (n_row 0: a padding slot, skipped). A row's bits do not depend on the
 * other rows. */
enum err attn_decode_gpu(const struct attn_args *a, const struct attn_gpu *g);

/* What they choose from; act and use are not looked at. fp32 sums everywhere; the last pair multiplies in
 * fp32 too. */
enum err attn_prefill_sm90(const struct attn_args *a, const struct attn_gpu *g);
enum err attn_decode_sm90(const struct attn_args *a, const struct attn_gpu *g);
enum err attn_prefill_mma(const struct attn_args *a, const struct attn_gpu *g);
enum err attn_decode_mma(const struct attn_args *a, const struct attn_gpu *g);
enum err attn_prefill_f32(const struct attn_args *a, const struct attn_gpu *g);
enum err attn_decode_f32(const struct attn_args *a, const struct attn_gpu *g);

#ifdef __cplusplus
}
#endif
#endif
