/* refuse: what goes wrong on a CUDA device, in words for the operator. Any thread. */
#ifndef FLUXD_ENGINE_CUDA_REFUSE_H
#define FLUXD_ENGINE_CUDA_REFUSE_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#include "base/err.h"

/* OK, or ERR_DEVICE with CUDA's words in note. */
enum err cuda_check(cudaError_t e, const char *what, struct err_note *note);

/* It has none for the next weight, of `bytes`. */
enum err cuda_no_weights(int64_t bytes, struct err_note *note);

/* The device has no memory for what is made last: work lists, routers' weights, graphs. */
enum err cuda_no_room(const char *what, struct err_note *note);

#endif
