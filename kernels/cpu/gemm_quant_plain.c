/* gemm_quant_plain: the kernels in plain C. See gemm_quant.h. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu_math.h"
#include "kernels/cpu/gemm_quant.h"

/* To nearest, ties to even, by the 1.5 * 2^23 trick; |x| < 2^21, or anything where x is not finite. */
static inline int32_t nearest(float x)
{
    int32_t v;
    x += 12582912.0f;
    memcpy(&v, &x, 4);
    return (int32_t)((uint32_t)v - 0x4b400000u);
}

void quant_row_plain(const float *x, int k, float coarse, struct quant_x *to, int row)
{
    const int n_block = k / QUANT_BLOCK;
    float sum_max = 0;
    for (int b = 0; b < n_block; b++) {
        float max = 0;
        for (int i = b * QUANT_BLOCK; i < (b + 1) * QUANT_BLOCK; i++)
            max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
        to[b].d[row] = max;
        sum_max += max;
    }
    const float loud = coarse * (sum_max / (float)n_block);
    for (int b = 0; b < n_block; b++, x += QUANT_BLOCK, to++) {
        float max = to->d[row], odd = 0; /* odd: 0, or NaN when a value is not finite */
        for (int i = 0; i < QUANT_BLOCK; i++) odd += x[i] * 0.0f;
        float inv = max > QUANT_TINY && odd == 0.0f ? QUANT_MAX / max : 0.0f;
        int32_t sum = 0;
        to->low[row] = max > loud;
        for (int i = 0; i < QUANT_BLOCK; i++) {
            int32_t v = odd == 0.0f ? nearest(x[i] * inv) : 0, hi = (v + 128) >> 8,
                    lo = to->low[row] ? v - 256 * hi : 0;
            lo = lo < -127 ? -127 : lo; /* so that its sign can be turned in 8 bits */
            to->q[i / 4][row][0][i % 4] = (int8_t)hi;
            to->q[i / 4][row][1][i % 4] = (int8_t)lo;
            sum += 256 * hi + lo;
        }
        to->d[row] = odd == 0.0f ? max * (1 / QUANT_MAX)
                                 : NAN; /* not finite comes out not finite, so that it is noticed */
        to->s[row] = to->d[row] * (float)sum;
        to->is[row] = sum;
    }
}

/* The plain kernels: what the others must equal, and what runs on other processors. Each product is added
 * with one rounding (fmaf), as the vector instructions do. */
#define PLAIN_INLINE static inline __attribute__((always_inline))

/* One block's weights as numbers. */
PLAIN_INLINE void plain_quants(const uint8_t *q, const enum quant_form form, int16_t (*z)[QUANT_BLOCK])
{
    for (int v = 0; v < 8; v++)
        for (int r = 0; r < QUANT_GROUP; r++)
            for (int j = 0; j < 4; j++) {
                int u = q[64 * (quant_is_nibble(form) ? v % 4 : v) + 4 * r + j];
                if (quant_is_nibble(form)) u = v < 4 ? u & 15 : u >> 4;
                z[r][4 * v + j] = (int16_t)(form == QUANT_BYTE128 ? u - 128 : u);
            }
}

PLAIN_INLINE void plain_rows(const struct quant_tile *t, int g, const enum quant_form form, quant_out f)
{
    memset(f, 0, sizeof(quant_out));
    for (int b = 0; b < t->n_block; b++) {
        const uint8_t *w = t->w + g * t->group_bytes + (int64_t)b * quant_block_bytes(form);
        const struct quant_x *p = &t->x[b];
        float wd[QUANT_GROUP], wm[QUANT_GROUP];
        int16_t z[QUANT_GROUP][QUANT_BLOCK];
        int32_t x[QUANT_BLOCK];
        quant_load_head(w, form, wd, wm);
        plain_quants(w + quant_head_bytes(form), form, z);
        for (int m = 0; m < t->m; m++) {
            for (int k = 0; k < QUANT_BLOCK; k++)
                x[k] = 256 * p->q[k / 4][m][0][k % 4] + p->q[k / 4][m][1][k % 4];
            for (int r = 0; r < QUANT_GROUP; r++) {
                int32_t c = 0;
                for (int k = 0; k < QUANT_BLOCK; k++) c += z[r][k] * x[k];
                f[m][r] = fmaf(wd[r] * p->d[m], (float)c, f[m][r]);
                if (form != QUANT_BYTE128) f[m][r] = fmaf(wm[r], p->s[m], f[m][r]);
            }
        }
    }
}

#define PLAIN(name, FORM)                                                                                    \
    CPU_CLONES static void name(const struct quant_tile *t, quant_out *f)                                    \
    {                                                                                                        \
        for (int g = 0; g < t->n_group; g++) plain_rows(t, g, FORM, f[g]);                                   \
    }
PLAIN(plain_nibble, QUANT_NIBBLE)
PLAIN(plain_nibble_k, QUANT_NIBBLE_K)
PLAIN(plain_byte, QUANT_BYTE)
PLAIN(plain_byte_k, QUANT_BYTE_K)
PLAIN(plain_byte128, QUANT_BYTE128)

static const struct quant_kernels plain = {{[QUANT_NIBBLE] = plain_nibble,
                                            [QUANT_NIBBLE_K] = plain_nibble_k,
                                            [QUANT_BYTE] = plain_byte,
                                            [QUANT_BYTE_K] = plain_byte_k,
                                            [QUANT_BYTE128] = plain_byte128},
                                           quant_row_plain,
                                           "plain"};

const struct quant_kernels *quant_kernels_plain(void) { return &plain; }
