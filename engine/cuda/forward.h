/* forward: engine_step on a CUDA device. The same transformer as forward.c, but for a device that runs behind
 * the host: the work lists of all layers are made on the device, a prompt's route bits too, and decode steps
 * are replayed as graphs, one for each bucket of batch sizes. */
#ifndef FLUXD_ENGINE_CUDA_FORWARD_H
#define FLUXD_ENGINE_CUDA_FORWARD_H

#include "engine/state.h"

struct forward_cuda;

/* Whether the kernels take the model's shape; said by name before anything is loaded. */
enum err forward_cuda_takes(const struct spec *s, struct err_note *note);

/* After weights and memory are there; captures nothing yet. */
enum err forward_cuda_open(struct forward_cuda **out, struct engine *e, struct err_note *note);
void forward_cuda_close(struct forward_cuda *f); /* NULL is fine */
enum err forward_cuda_step(struct forward_cuda *f, const struct batch *b, struct step_out *out,
                           struct err_note *note);

#endif
