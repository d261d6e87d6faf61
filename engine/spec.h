/* spec: everything a model file says about a model's shape, checked. Plain data, read once at open. */
#ifndef FLUXD_ENGINE_SPEC_H
#define FLUXD_ENGINE_SPEC_H

#include <stdint.h>

#include "base/err.h"
#include "engine/families.h"
#include "engine/source.h"

enum { SPEC_EOS_MOST = 16, SPEC_LAYER_MOST = 512 };

/* What routes and sparse layers need; -1 where the file does not say. Tokens. */
struct flux_spec {
    int sparse_kind; /* enum attn_kind */
    int sink_size, local_window_size, pool_size, triangle_n_last;
    int retrieval_kind; /* enum attn_kind of full layers in prefill */
};

struct spec {
    char                 name[96];
    const struct family *family;
    int                  n_layer, d, n_head, n_kv, head, f, n_vocab;
    int                  max_len; /* context the model was made for */
    float                eps;
    double               rope_base;
    double               rope_linear; /* positions are divided by it; 1: off */
    int                  n_eos;
    int32_t              eos[SPEC_EOS_MOST];
    struct flux_spec     flux;
};

/* Refuses what is missing, out of range or inconsistent, naming the key. */
enum err spec_load(struct spec *out, struct source *src, struct err_note *note);

int spec_dim(const struct spec *s, enum dim d);

#endif
