/* weights: the model's matrices and vectors in the backend's form. Filled once at open, then read only. */
#ifndef FLUXD_ENGINE_WEIGHTS_H
#define FLUXD_ENGINE_WEIGHTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/backend.h"
#include "engine/families.h"
#include "engine/source.h"
#include "engine/spec.h"

struct layer_weights {
    struct weight mat[MAT_COUNT];
    void *vec[VEC_COUNT]; /* NULL where the family has none */
    int64_t vec_bytes[VEC_COUNT];
};

struct weights {
    struct layer_weights *layer;
    int n_layer;
    struct weight embed, head; /* lookups; products (of the same tensor when tied) */
    void *norm;
    float *rope_factor;        /* host [K/2], divides the frequencies; NULL: none */
    int64_t norm_bytes, bytes; /* bytes: all memory held */
    char held[32];             /* "q4_1", "q5_0+bf16": types of the layers' matrices */
    char held_head[16];        /* of the last product's */
};

struct weights_load {
    struct source *src;
    const struct spec *spec;
    struct backend *backend;
    enum dtype made; /* numbers of the layers' matrices become DT_FP8 or DT_U4; else: they stay */
    bool head_fp8;   /* those of the last product's become DT_FP8 */
    void (*progress)(void *arg, const char *what, double share); /* one at a time; may be NULL */
    void *progress_arg;
    const atomic_bool *stop; /* may be NULL */
};

/* Every tensor that spec asks for is there with its shape; nothing is read. */
enum err weights_check(const struct weights_load *l, struct err_note *note);
/* Reads in parallel. On failure weights_free what there is; note names file and tensor. */
enum err weights_load(struct weights *out, const struct weights_load *l, struct err_note *note);
void weights_free(struct weights *w, struct backend *b);

#endif
