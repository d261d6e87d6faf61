/* scaled: a matrix that a Hugging Face file keeps as codes with scales, in any of the forms of spec.h, read
 * as rows of one form (struct weight with scales, host memory). Scales, zero points and orders of groups are
 * checked when it is opened. One reader, any thread. */
#ifndef FLUXD_ENGINE_SCALED_H
#define FLUXD_ENGINE_SCALED_H

#include <stdint.h>

#include "base/err.h"
#include "engine/source.h"
#include "engine/spec.h"

/* module: "model.layers.0.mlp.up_proj"; [n, k] as the model needs it. Lives as long as what it points to. */
struct scaled_conf {
    struct source *src;
    const struct stored_scheme *scheme;
    const char *module;
    int n, k;
};

enum dtype scaled_type(const struct stored_scheme *s); /* of its codes */
/* Each tensor of the matrix is there with its type and shape; nothing is read. *n_bytes (may be NULL): of
 * all. */
enum err scaled_check(const struct scaled_conf *c, int64_t *n_bytes, struct err_note *note);

struct scaled;
/* Reads all but the codes (of AWQ and GPTQ, whose words go across rows, them too). Free with scaled_close. */
enum err scaled_open(struct scaled **out, const struct scaled_conf *c, struct err_note *note);
void scaled_close(struct scaled *s);        /* NULL is fine */
float scaled_input(const struct scaled *s); /* the scale that is fixed for the inputs; 0: none is */
/* Which group each column is of, [k], where columns stand in another order than their groups; else NULL. The
 * caller's to free. */
enum err scaled_order(const struct scaled_conf *c, int32_t **group, struct err_note *note);
/* Rows that may be asked for together begin at multiples of this. */
int scaled_step(const struct scaled *s);
/* n rows from `row` on, their codes in `codes` (quant_bytes of n x k) and *out over it and the scales. */
enum err scaled_rows(const struct scaled *s, int row, int n, void *codes, struct weight *out,
                     struct err_note *note);

/* Scales for a layer's keys and values, which are not used where KV pages hold numbers: looked up, checked.
 * Read: 0 looks them up alone. */
enum err scaled_check_kv(struct source *src, const struct stored_spec *s, int layer, bool read,
                         struct err_note *note);

#endif
