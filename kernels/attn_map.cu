/* attn_map: tensor maps for the copy engine, made on the host at each launch (a microsecond; no device state). */
#include "kernels/attn_gpu.cuh"

#include <cuda_runtime.h>

enum { BOX_COL = 64, BOX_ROW = PAGE_TOK };

/* The driver's function, found once; the product does not link libcuda so that it starts without a GPU. */
static CUresult encode(CUtensorMap *map, int rank, const void *base, const cuuint64_t *dim, const cuuint64_t *stride, const cuuint32_t *box)
{
    typedef CUresult (*encode_t)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *, const cuuint64_t *,
                                 const cuuint32_t *, const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle,
                                 CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
    static encode_t fn;
    if (!fn) {
        void                           *p = NULL;
        enum cudaDriverEntryPointQueryResult found;
        if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &p, 12000, cudaEnableDefault, &found) != cudaSuccess || !p)
            return CUDA_ERROR_NOT_FOUND;
        fn = (encode_t)p;
    }
    static const cuuint32_t one[3] = {1, 1, 1};
    return fn(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, (cuuint32_t)rank, (void *)base, dim, stride, box, one,
              CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
              CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}

enum err attn_map_pool(CUtensorMap *map, const void *pool, int64_t n_row, int head)
{
    const cuuint64_t dim[2] = {(cuuint64_t)head, (cuuint64_t)n_row};
    const cuuint64_t stride[1] = {(cuuint64_t)head * 2};
    const cuuint32_t box[2] = {BOX_COL, BOX_ROW};
    return encode(map, 2, pool, dim, stride, box) == CUDA_SUCCESS ? OK : ERR_DEVICE;
}

enum err attn_map_query(CUtensorMap *map, const void *q, int64_t n_row, int64_t stride_elem, int n_head, int head)
{
    const cuuint64_t dim[3] = {(cuuint64_t)head, (cuuint64_t)n_head, (cuuint64_t)n_row};
    const cuuint64_t stride[2] = {(cuuint64_t)head * 2, (cuuint64_t)stride_elem * 2};
    const cuuint32_t box[3] = {BOX_COL, 1, BOX_ROW};
    return encode(map, 3, q, dim, stride, box) == CUDA_SUCCESS ? OK : ERR_DEVICE;
}

size_t attn_gpu_work_bytes(int max_row, int n_head, int n_kv, int head)
{
    return attn_work_plan(max_row, n_head, n_kv, head).bytes;
}
