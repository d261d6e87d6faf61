/* coder: see coder.h. */
#include "engine/coder.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "kernels/quant.h"

bool coder_fit(struct coder *c, int n, int k)
{
    const int64_t n_element = (int64_t)n * k;
    if (n <= c->n && n_element <= c->n_element) return true;
    const int64_t rows = n > c->n ? n : c->n, elements = n_element > c->n_element ? n_element : c->n_element;
    coder_free(c);
    c->code = malloc((size_t)elements);
    c->scale = malloc((size_t)(rows + elements / 32) * sizeof *c->scale);
    c->value = malloc((size_t)elements * sizeof *c->value);
    if (!c->code || !c->scale || !c->value) return false;
    c->n = rows;
    c->n_element = elements;
    return true;
}

void coder_free(struct coder *c)
{
    free(c->code);
    free(c->scale);
    free(c->value);
    *c = (struct coder){0};
}

void coder_make(struct coder *c, enum dtype to, const void *src, enum dtype dt, const int32_t *rows, int n,
                int k, struct weight *out)
{
    const int cols = to == DT_U4 ? int4_made_group(k) : k;
    const int64_t row_bytes = quant_bytes(dt, k);
    CHECK(n <= c->n && (int64_t)n * k <= c->n_element);
    for (int i = 0; i < n; i++) {
        CHECK(quant_to_f32(dt, (const char *)src + (rows ? rows[i] : i) * row_bytes, c->value, k));
        if (to == DT_U4)
            int4_make_row(c->value, k, cols, c->code + (int64_t)i * (k / 2),
                          c->scale + (int64_t)i * (k / cols));
        else
            fp8_row_ref(c->code + (int64_t)i * k, c->scale + i, c->value, k, false);
    }
    *out = (struct weight){
        .dt = to, .n = n, .k = k, .data = c->code, .s = {.rows = 1, .cols = cols, .scale = c->scale}};
}

const float *coder_numbers(struct coder *c, const struct weight *codes)
{
    CHECK((int64_t)codes->n * codes->k <= c->n_element);
    quant_scaled_to_f32(codes, 0, codes->n, c->value);
    return c->value;
}

bool coder_finite(const struct weight *w)
{
    const uint8_t *code = w->data;
    const int64_t n = w->dt == DT_FP8 ? (int64_t)w->n * w->k : 0,
                  n_scale = (int64_t)((w->n - 1) / w->s.rows + 1) * ((w->k + w->s.cols - 1) / w->s.cols);
    int n_nan = 0;
    for (int64_t i = 0; i < n; i++) n_nan += (code[i] & 0x7f) == 0x7f;
    for (int64_t i = 0; i < n_scale; i++) n_nan += !isfinite(w->s.scale[i]);
    return n_nan == 0;
}
