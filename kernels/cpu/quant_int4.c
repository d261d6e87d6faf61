/* quant_int4: see quant_int4.h. */
#include "kernels/quant_int4.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/quant.h"

enum { ZERO_MID = 8, F16_TOP = 15 }; /* a row's largest scale is below 2^F16_TOP */

/* Round to nearest even; x is not negative and, if it is finite, below 2^F16_TOP. */
static uint16_t f16_of(float x)
{
    const uint32_t u = f32_bits(x);
    if (!isfinite(x)) return 0x7e00;
    if (x < 0x1p-14f) return (uint16_t)lrintf(x * 0x1p24f);
    return (uint16_t)((u - 0x38000000u + 0xfffu + (u >> 13 & 1u)) >> 13);
}

static unsigned char *record_at(const struct int4_form *f, void *to, int row, int chunk)
{
    const int64_t at = (int64_t)(row / INT4_ROWS) * int4_chunks(f->k) + chunk;
    return (unsigned char *)to + at * int4_record(f->group, f->zeros);
}

/* Byte and shift of a code in its record. */
static int code_at(int row, int col, int *shift)
{
    const int g = row % 8, seg = col / 32, q = col % 32 / 8, v = col % 8, step = v / 4,
              operand = v % 4 / 2 * 2 + row % 16 / 8, bit = v % 2 * 16 + operand * 4;
    *shift = bit % 8;
    return seg / 2 * 512 + (4 * g + q) * 16 + seg % 2 * 8 + step * 4 + bit / 8;
}

static int scale_at(const struct int4_form *f, int row, int set)
{
    return INT4_CODES + (set * 8 + row % 8) * (f->zeros ? 8 : 4) + row % 16 / 8 * 2;
}

static float *factor_at(const struct int4_form *f, void *to, int row)
{
    return (float *)((unsigned char *)to + int4_record_bytes(f)) + row;
}

static void put16(unsigned char *to, uint16_t v) { memcpy(to, &v, sizeof v); }
static uint16_t get16(const unsigned char *from)
{
    uint16_t v;
    memcpy(&v, from, sizeof v);
    return v;
}

void int4_clear(const struct int4_form *f, void *to)
{
    const int record = int4_record(f->group, f->zeros);
    const int64_t n = int4_record_bytes(f) / record;
    unsigned char *r = to;
    for (int64_t i = 0; i < n; i++, r += record) {
        memset(r, ZERO_MID | ZERO_MID << 4, INT4_CODES);
        memset(r + INT4_CODES, 0, (size_t)(record - INT4_CODES));
        for (int at = INT4_CODES + 4; f->zeros && at < record; at += 8) {
            put16(r + at, f32_to_bf16(128 + ZERO_MID));
            put16(r + at + 2, f32_to_bf16(128 + ZERO_MID));
        }
    }
    for (int i = 0; i < int4_strips(f->n) * INT4_ROWS; i++) *factor_at(f, to, i) = 1;
    memset((unsigned char *)to + int4_zeros_at(f), 0, INT4_COLS * 2);
}

static float factor_of(const float *scale, int n)
{
    float most = 0;
    int e = 0;
    for (int i = 0; i < n; i++)
        if (isfinite(scale[i])) most = fmaxf(most, scale[i]);
    frexpf(most, &e);
    return most > 0 ? ldexpf(1, e - F16_TOP) : 1;
}

static void pack_row(const struct int4_form *f, int row, const uint8_t *code, const float *scale,
                     const uint8_t *zero, int cols, const int32_t *order, void *to)
{
    const float factor = factor_of(scale, (f->k + cols - 1) / cols);
    *factor_at(f, to, row) = factor;
    for (int c = 0; c < f->k; c += f->group) {
        unsigned char *r = record_at(f, to, row, c / INT4_COLS);
        const int at = scale_at(f, row, c % INT4_COLS / f->group);
        put16(r + at, f16_of(scale[c / cols] / factor));
        if (f->zeros) put16(r + at + 4, f32_to_bf16(128 + (zero ? zero[c / cols] : ZERO_MID)));
    }
    for (int c = 0; c < f->k; c++) {
        const int from = order ? order[c] : c;
        const int v = from % 2 ? code[from / 2] >> 4 : code[from / 2] & 15;
        int shift;
        unsigned char *at = record_at(f, to, row, c / INT4_COLS) + code_at(row, c % INT4_COLS, &shift);
        *at = (unsigned char)((*at & ~(15 << shift)) | v << shift);
    }
}

void int4_pack(const struct int4_form *f, int row0, const struct weight *w, const int32_t *from, void *to)
{
    const int groups = (w->k + w->s.cols - 1) / w->s.cols;
    int32_t *order = w->s.group ? malloc((size_t)w->k * sizeof *order) : NULL;
    if (order) int4_order(w->s.group, w->k, groups, order);
    for (int i = 0; i < w->n; i++) {
        const int r = from ? from[i] : i;
        const int64_t at = (int64_t)(r / w->s.rows) * groups;
        pack_row(f, row0 + i, (const uint8_t *)w->data + (int64_t)r * (w->k / 2), w->s.scale + at,
                 w->s.zero ? w->s.zero + at : NULL, w->s.cols, order, to);
    }
    free(order);
}

void int4_order(const int32_t *group, int k, int n_group, int32_t *order)
{
    int n = 0;
    for (int g = 0; g < n_group; g++)
        for (int i = 0; i < k; i++)
            if (group[i] == g) order[n++] = i;
}

void int4_row(const struct int4_form *f, const void *from, int row, float *out)
{
    void *p = (void *)from; /* record_at is for both */
    const float factor = *factor_at(f, p, row);
    for (int c = 0; c < f->k; c++) {
        int shift;
        const unsigned char *r = record_at(f, p, row, c / INT4_COLS);
        const int byte = r[code_at(row, c % INT4_COLS, &shift)],
                  at = scale_at(f, row, c % INT4_COLS / f->group);
        const int code = byte >> shift & 15;
        const float zero = f->zeros ? f32_from_bf16(get16(r + at + 4)) - 128 : ZERO_MID;
        out[c] = ((float)code - zero) * (f32_from_f16(get16(r + at)) * factor);
    }
}

/* Sum of squared errors of a group under a scale; its codes are left behind. */
static double codes_under(const float *x, int n, float scale, int *code)
{
    double sum = 0;
    for (int i = 0; i < n; i++) {
        const float v = scale > 0 ? rintf(x[i] / scale) : 0;
        code[i] = v < -8 ? -8 : v > 7 ? 7 : (int)v;
        const double d = (double)x[i] - (double)((float)code[i] * scale);
        sum += d * d;
    }
    return sum;
}

void int4_make_row(const float *x, int k, int group, uint8_t *code, float *scale)
{
    for (int c = 0; c < k; c += group) {
        float most = 0, bad = 0;
        int got[2][INT4_COLS] = {{0}};
        for (int i = 0; i < group; i++) {
            most = fmaxf(most, fabsf(x[c + i]));
            bad += x[c + i] * 0;
        }
        const float s[2] = {f32_from_bf16(f32_to_bf16(most / 7)), f32_from_bf16(f32_to_bf16(most / 7.5f))};
        int best = 0;
        if (bad == 0)
            best = codes_under(x + c, group, s[1], got[1]) < codes_under(x + c, group, s[0], got[0]);
        scale[c / group] = bad == 0 ? s[best] : NAN;
        for (int i = 0; i < group; i += 2)
            code[(c + i) / 2] = (uint8_t)((got[best][i] + ZERO_MID) | (got[best][i + 1] + ZERO_MID) << 4);
    }
}
