/* attn_gpu: what the attention kernels need beside attn_args. Host side; one per stream, engine thread only.
 *
 * Segments of one launch may be of any kind, mixed. Prefill takes full, streaming, triangle, list and none; decode the
 * same but list, since the query heads of a kv head walk its blocks together. Query block i of a run is the rows whose
 * position lies in [128 i, 128 i + 128), wherever the run starts, so a row's bits do not depend on how a prompt was cut. */
#ifndef FLUXD_KERNELS_ATTN_GPU_H
#define FLUXD_KERNELS_ATTN_GPU_H

#include "base/err.h"
#include "kernels/ops.h"

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    ATTN_MAX_SEG = 1024,   /* runs in one launch */
    ATTN_MAX_CHUNK = 64,   /* pieces a decoding row's blocks are cut into, by its own length alone */
};

struct attn_gpu {
    cudaStream_t stream;
    int          n_sm;
    int64_t      n_row;  /* rows q and out hold */
    int64_t      n_page; /* pages the pool holds */
    void        *work;   /* device, zeroed once; kernels leave its counters at zero */
    int          max_row; /* decode: rows `work` was sized for */
};

size_t attn_gpu_work_bytes(int max_row, int n_head, int n_kv, int head); /* size of `work` for both kernels */

/* out = attention of every run's rows. Rows of no run are left alone. ERR_INVALID_VALUE for a shape the kernel lacks. */
enum err attn_prefill_sm90(const struct attn_args *a, const struct attn_gpu *g);
/* The same for runs of one row each (n_row 0: a padding slot, skipped). A row's bits do not depend on the other rows. */
enum err attn_decode_sm90(const struct attn_args *a, const struct attn_gpu *g);

#ifdef __cplusplus
}
#endif
#endif
