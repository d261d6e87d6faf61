/* tensor_map: the driver's encoder, found at run time: the product does not link libcuda, so that it starts
 * without a GPU. */
#include "kernels/cuda/tensor_map.h"

#include <cuda_runtime.h>

enum { BOX_COL = 64 };

typedef CUresult (*encode_fn)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *,
                              const cuuint64_t *, const cuuint32_t *, const cuuint32_t *,
                              CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion,
                              CUtensorMapFloatOOBfill);

static encode_fn find_encode()
{
    void *p = NULL;
    enum cudaDriverEntryPointQueryResult found;
    return cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &p, 12000, cudaEnableDefault, &found) ==
                   cudaSuccess
               ? (encode_fn)p
               : NULL;
}

static CUresult encode(CUtensorMap *map, int rank, const void *base, const cuuint64_t *dim,
                       const cuuint64_t *stride, const cuuint32_t *box)
{
    static const encode_fn fn = find_encode(); /* the driver's, whatever the device */
    if (!fn) return CUDA_ERROR_NOT_FOUND;
    static const cuuint32_t one[3] = {1, 1, 1};
    /* A box's rows are whole lines of L2. With promotion to 256 bytes pages are read at 4.32 TB/s instead
     * of 4.58 (H200). */
    return fn(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, (cuuint32_t)rank, (void *)base, dim, stride, box, one,
              CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_NONE,
              CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}

enum err tensor_map_2d(CUtensorMap *map, const void *base, int64_t n_row, int n_col, int64_t stride,
                       int box_row)
{
    const cuuint64_t dim[2] = {(cuuint64_t)n_col, (cuuint64_t)n_row}, bytes[1] = {(cuuint64_t)stride * 2};
    const cuuint32_t box[2] = {BOX_COL, (cuuint32_t)box_row};
    return encode(map, 2, base, dim, bytes, box) == CUDA_SUCCESS ? OK : ERR_DEVICE;
}

enum err tensor_map_3d(CUtensorMap *map, const void *base, int64_t n_row, int64_t stride, int n_head,
                       int n_col, int box_row)
{
    const cuuint64_t dim[3] = {(cuuint64_t)n_col, (cuuint64_t)n_head, (cuuint64_t)n_row};
    const cuuint64_t bytes[2] = {(cuuint64_t)n_col * 2, (cuuint64_t)stride * 2};
    const cuuint32_t box[3] = {BOX_COL, 1, (cuuint32_t)box_row};
    return encode(map, 3, base, dim, bytes, box) == CUDA_SUCCESS ? OK : ERR_DEVICE;
}
