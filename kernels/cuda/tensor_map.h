/* tensor_map: descriptions of bf16 arrays for Hopper's copy engine. Host side, about a microsecond each, no
 * device state. */
#ifndef FLUXD_KERNELS_CUDA_TENSOR_MAP_H
#define FLUXD_KERNELS_CUDA_TENSOR_MAP_H

#include "base/err.h"

#include <cuda.h>
#include <stdint.h>

/* Rows of n_col elements, `stride` elements apart, read in boxes of 64 columns x box_row rows, 128-byte
 * swizzle, outside: 0. */
enum err tensor_map_2d(CUtensorMap *map, const void *base, int64_t n_row, int n_col, int64_t stride,
                       int box_row);
/* The same for [n_row, n_head, n_col] with boxes of one head. */
enum err tensor_map_3d(CUtensorMap *map, const void *base, int64_t n_row, int64_t stride, int n_head,
                       int n_col, int box_row);

#endif
