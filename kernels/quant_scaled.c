/* quant_scaled: codes with scales beside them (struct weight_scale), as fp32: what every kernel that reads
 * the codes is held to. */
#include "kernels/quant.h"
#include "kernels/quant_fp8.h"

/* One row against its row of scales. value: of each code. */
static void fp8_row(const struct weight *w, const uint8_t *code, const float *scale, const float *value,
                    float *out)
{
    for (int j = 0, g = 0; j < w->k; g++)
        for (const int end = w->k - j < w->s.cols ? w->k : j + w->s.cols; j < end; j++)
            out[j] = value[code[j]] * scale[g];
}

static void u4_row(const struct weight *w, const uint8_t *code, const float *scale, const uint8_t *zero,
                   float *out)
{
    for (int j = 0; j < w->k; j++) {
        const int g = w->s.group ? w->s.group[j] : j / w->s.cols;
        const int c = j % 2 ? code[j / 2] >> 4 : code[j / 2] & 15;
        out[j] = (float)(c - (zero ? zero[g] : 8)) * scale[g];
    }
}

void quant_scaled_to_f32(const struct weight *w, int row, int n, float *out)
{
    const int groups = (w->k + w->s.cols - 1) / w->s.cols;
    const int64_t row_bytes = quant_bytes(w->dt, w->k);
    float value[256];
    for (int i = 0; i < 256; i++) value[i] = w->dt == DT_FP8 ? fp8_to_f32((uint8_t)i) : 0;
    for (int i = row; i < row + n; i++, out += w->k) {
        const uint8_t *code = (const uint8_t *)w->data + i * row_bytes;
        const int64_t at = (int64_t)(i / w->s.rows) * groups;
        if (w->dt == DT_FP8)
            fp8_row(w, code, w->s.scale + at, value, out);
        else
            u4_row(w, code, w->s.scale + at, w->s.zero ? w->s.zero + at : NULL, out);
    }
}
