/* codes4: products' weights that a CUDA device holds as codes of 4 bits (DT_U4, kernels/quant_int4.h). Rows
 * of few numbers are multiplied with the codes; for prompts the codes become numbers before the library's
 * product. */
#ifndef FLUXD_ENGINE_CUDA_CODES4_H
#define FLUXD_ENGINE_CUDA_CODES4_H

#include "engine/cuda/ops.h"

/* struct backend's; weights of several threads at once. Of `like`: s.cols, s.zero (not NULL: parts may have
 * zero points), s.group (the order of the columns, NULL: as they stand), as of the made weight, where it is
 * of the device. Records are made in host memory and sent when they are done. */
bool codes4_held(const struct backend *b, const struct weight *like);
enum err codes4_new(struct backend *b, struct weight *w, const struct weight *like, struct err_note *note);
void codes4_part(struct weight *w, int row0, const struct weight *rows);
enum err codes4_done(struct backend *b, struct weight *w, struct err_note *note);
void codes4_free(struct weight *w); /* but for data */
int64_t codes4_bytes(const struct weight *w);

/* Engine thread. A product as it is to be launched: with the columns of x in the weight's order. */
enum err codes4_sort(const struct op_ctx *c, const struct gemm_args *a, struct gemm_args *out);
/* Decode's, where Hopper's kernel is not used; any number of rows. */
enum err codes4_few(const struct op_ctx *c, const struct gemm_args *a);
/* A prompt's. */
enum err codes4_many(const struct op_ctx *c, const struct gemm_args *a);
/* Fixes the library's algorithm for it before it is needed. */
enum err codes4_plan(const struct op_ctx *c, const struct gemm_args *a);

#endif
