/* quant_int4: weights of 4 bits as the kernels of CUDA hold them. Plain C, any thread; it owns the layout.
 *
 * What every file says in its own way (AWQ, GPTQ, pack-quantized; struct weight_scale) is
 * value = (code - zero) x scale with one scale, and perhaps one zero point, for each 32, 64 or 128 columns of
 * a row (longer groups: the same for several). Held are records of 16 rows x 128 columns, those of the same
 * rows one after the other, so that a warp's share of a record is two words of 16 bytes a lane and holds the
 * operands of mma m16n8k16 in its order:
 *   1024 bytes of codes: [half of 64 columns][lane][32 columns][step]: a word of eight codes. Lane 4g + q has
 *     rows g and g + 8, and of each 32 columns those from 8q on, four a step; operand i of a step stands in
 *     bits 4i (first column) and 16 + 4i (the one after): row g + i % 2 * 8, columns i / 2 * 2 on.
 *   32 bytes a group: [g]: scales (f16) of rows g and g + 8; with zero points 64 bytes: behind the two scales
 *     128 + zero, twice (bf16), which is what the codes become before it is taken away.
 * Behind all records stands a power of two for each row (fp32), by which its scales were divided so that the
 * largest is 2^14 to 2^15: scales in f16 and bf16 are exact in a row whose largest is no more than 2^28 times
 * its smallest, those in fp32 are rounded to 11 bits. Rows and columns that the matrix has not are codes that
 * mean 0, of scale 0. At the end stand INT4_COLS zeros of 16 bits: what x has in such columns. */
#ifndef FLUXD_KERNELS_QUANT_INT4_H
#define FLUXD_KERNELS_QUANT_INT4_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct weight;

enum { INT4_ROWS = 16, INT4_COLS = 128, INT4_CODES = INT4_ROWS * INT4_COLS / 2 };

struct int4_form {
    int n, k;
    int group;  /* 32, 64 or 128 columns */
    bool zeros; /* zero points of its own, else 8 for all */
};

/* How a matrix whose scales are for `cols` columns each is held; 0: it cannot be. */
static inline int int4_group(int k, int cols)
{
    if (cols >= k || cols % 128 == 0) return 128;
    return cols % 64 == 0 ? 64 : cols % 32 == 0 ? 32 : 0;
}
static inline int int4_strips(int n) { return (n + INT4_ROWS - 1) / INT4_ROWS; }
static inline int int4_chunks(int k) { return (k + INT4_COLS - 1) / INT4_COLS; }
static inline int int4_record(int group, bool zeros)
{
    return INT4_CODES + INT4_COLS / group * INT4_ROWS * (zeros ? 4 : 2);
}
static inline int64_t int4_record_bytes(const struct int4_form *f)
{
    return (int64_t)int4_strips(f->n) * int4_chunks(f->k) * int4_record(f->group, f->zeros);
}
static inline int64_t int4_zeros_at(const struct int4_form *f)
{
    return int4_record_bytes(f) + (int64_t)int4_strips(f->n) * INT4_ROWS * (int64_t)sizeof(float);
}
static inline int64_t int4_bytes(const struct int4_form *f) { return int4_zeros_at(f) + INT4_COLS * 2; }

/* Rows [0, w->n) of w (DT_U4 in host memory) become rows row0 on of the matrix held at `to`; `from`: which
 * row of w each is (NULL: in order). Columns stand in the order of w->s.group where it has one (int4_order).
 * Rows of one record are one thread's. */
void int4_pack(const struct int4_form *f, int row0, const struct weight *w, const int32_t *from, void *to);
/* Before the first: all of it means 0. */
void int4_clear(const struct int4_form *f, void *to);

/* Columns by group, in each as they stood: order[i] is the column of x that column i of the matrix meets. */
void int4_order(const int32_t *group, int k, int n_group, int32_t *order);

/* Row `row` as fp32, as every kernel that reads the records is held to. */
void int4_row(const struct int4_form *f, const void *from, int row, float *out);

/* Columns that share a scale where codes are made of numbers: 128, where k is no multiple of it 64, else 32;
 * 0: k is no multiple of that either. */
static inline int int4_made_group(int k)
{
    return k % 128 == 0 ? 128 : k % 64 == 0 ? 64 : k % 32 == 0 ? 32 : 0;
}
/* A row's codes (two a byte, the first column in the low bits) and scales, without zero points: a scale is
 * the largest magnitude of the group / 7 or / 7.5, rounded to bf16, whichever leaves the smaller sum of
 * squared errors (the first of equal ones). A group with a number that is not finite has a scale that is
 * none. */
void int4_make_row(const float *x, int k, int group, uint8_t *code, float *scale);

#ifdef __cplusplus
}
#endif
#endif
