/* codes: products' weights that a CUDA device holds as codes of 8 bits with scales (DT_FP8), and what they
 * are multiplied by: rows become codes, norms and gates with them. Hopper's alone; elsewhere the loader
 * hands such weights over as numbers. */
#ifndef FLUXD_ENGINE_CUDA_CODES_H
#define FLUXD_ENGINE_CUDA_CODES_H

#include "engine/backend.h"
#include "engine/forward.h"

/* struct backend's; weights of several threads at once. Scales lie as the kernels read them: one for each
 * row, or by block with rows of codes_scale_stride. */
bool codes_held(const struct backend *b, const struct weight *like);
enum err codes_new(struct backend *b, struct weight *w, const struct weight *like, struct err_note *note);
void codes_part(struct backend *b, struct weight *w, int row0, const struct weight *rows, float input);
void codes_free(struct weight *w); /* scales, and what stands beside them */
int64_t codes_bytes(const struct weight *w);

/* struct forward's: engine thread. */
enum err codes_multiply(const struct call *c, const struct gemm_args *a, const struct around *around);
/* The product of a few rows as a prompt's, so that the library chooses its algorithm before it is needed. Its
 * rows are of nothing. */
enum err codes_plan(struct engine *e, const struct gemm_args *a);

#endif
