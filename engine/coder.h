/* coder: rows of a matrix between numbers and codes while it is loaded (struct weight with scales). A
 * thread's own; its memory is kept from matrix to matrix. */
#ifndef FLUXD_ENGINE_CODER_H
#define FLUXD_ENGINE_CODER_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/ops.h"

struct coder {
    uint8_t *code; /* [n, k] */
    float *scale;  /* [n, groups of at least 32 columns] */
    float *value;  /* [n, k] */
    int64_t n, n_element;
};

/* Room for n rows of k. False: there is no memory; coder_free what there is. */
bool coder_fit(struct coder *c, int n, int k);
void coder_free(struct coder *c); /* also of a zeroed one */

/* n rows of numbers, row i from src's row rows[i] (i if NULL), to `to`: DT_FP8 with a scale for each row, by
 * the rules of kernels/quant_fp8.h, or DT_U4 in groups of int4_made_group(k), by those of
 * kernels/quant_int4.h. *out lies over the coder's memory. */
void coder_make(struct coder *c, enum dtype to, const void *src, enum dtype dt, const int32_t *rows, int n,
                int k, struct weight *out);
/* Codes to the numbers that they stand for: [n, k], in the coder's memory. Not after coder_make's rows were
 * given away. */
const float *coder_numbers(struct coder *c, const struct weight *codes);
/* Whether each code, or each scale of it, stands for a finite number. */
bool coder_finite(const struct weight *codes);

#endif
