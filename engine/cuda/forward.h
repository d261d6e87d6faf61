/* forward: calls on a CUDA device. The same transformer as engine/forward.c, but for a device that runs
 * behind the host: the work lists of all layers are made on the device, a prompt's route bits too, and decode
 * steps are replayed as graphs, one for each bucket of batch sizes. */
#ifndef FLUXD_ENGINE_CUDA_FORWARD_H
#define FLUXD_ENGINE_CUDA_FORWARD_H

#include "engine/forward.h"

/* Whether the kernels take the model's shape; said by name before anything is loaded. */
enum err forward_cuda_takes(const struct spec *s, struct err_note *note);

/* e->cuda, after weights and memory are there; forward_cuda_close frees it, also half open. */
enum err forward_cuda_open(struct engine *e, struct err_note *note);
void forward_cuda_close(struct engine *e);

extern const struct forward forward_on_device;

#endif
