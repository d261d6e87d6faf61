/* draw: from logits on the device to tokens on the host. Rows and their lists go up in one copy, results come
 * down in one. */
#ifndef FLUXD_ENGINE_CUDA_DRAW_H
#define FLUXD_ENGINE_CUDA_DRAW_H

#include "base/err.h"
#include "engine/batch.h"
#include "kernels/cuda/gpu_ops.h"

struct draw_cuda;

/* max_row: rows of one call. Lists (history, bias, bans) and masks of one call may hold list_most numbers
 * together. */
enum err draw_cuda_open(struct draw_cuda **out, const struct gpu_ctx *ops, int max_row, int vocab,
                        int64_t list_most, struct err_note *note);
void draw_cuda_close(struct draw_cuda *d);

/* How many of the n rows the lists have room for: at least 1, or 0 if the first row alone has too much. */
int draw_cuda_fit(const struct draw_cuda *d, const struct sample_row *row, int n);

/* Draws n rows of logits [n, V]. work: device [n, 2V] floats. The results may be taken when the stream was
 * waited for. */
enum err draw_cuda_send(struct draw_cuda *d, const float *logits, float *work, int vocab, int n,
                        const struct sample_row *row);
void draw_cuda_take(const struct draw_cuda *d, int n, struct sample_out *out);

#endif
