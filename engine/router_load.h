/* router_load: Layer Routers (docs/attention-routes.md) from a safetensors file. The weights are fp32 on
 * the host. */
#ifndef FLUXD_ENGINE_ROUTER_LOAD_H
#define FLUXD_ENGINE_ROUTER_LOAD_H

#include <stdint.h>

#include "base/err.h"
#include "engine/spec.h"
#include "kernels/ops.h"

struct routers {
    struct router_weights *layer; /* [n_layer], or NULL: the model has no routers */
    float *mem;
    int64_t bytes;
    struct flux_spec flux; /* sizes from the file's metadata; -1 where it gives none */
};

/* Every layer's ten tensors with the shapes that head gives, or a refusal naming file and tensor. */
enum err routers_load(struct routers *out, const char *path, const struct spec *spec, struct err_note *note);
/* The same from the model's own files: none where its configuration speaks of none. */
enum err routers_take(struct routers *out, struct source *src, const struct spec *spec,
                      struct err_note *note);
void routers_free(struct routers *r);

#endif
