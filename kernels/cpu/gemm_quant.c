/* gemm_quant: packing, activations and the walk over groups. See gemm_quant.h.
 *
 * Packed form: groups of 16 outputs; for each group and block of 32 inputs: 16 scales, 16 minima (not for
 * Q8_0), then quants so that four inputs of 16 outputs make one 64-byte vector (what VNNI multiplies): byte
 * 4*r + j of vector v is input 4*v + j of output r. Nibble types keep two inputs a byte: low nibbles are
 * inputs 0..15, high 16..31. */
#include "kernels/cpu/gemm_quant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "kernels/cpu/cpu_math.h"
#include "kernels/quant.h"

/* Where a block of the file keeps things; value = d * q + m. */
struct layout {
    enum quant_form form;
    bool has_m;   /* the block stores m */
    float m_of_d; /* else m = m_of_d * d */
    int high_at;  /* fifth bits, -1: none */
    int quant_at;
};
static const struct layout layouts[DT_COUNT] = {
    [DT_Q4_0] = {QUANT_NIBBLE, false, -8, -1, 2}, [DT_Q4_1] = {QUANT_NIBBLE, true, 0, -1, 4},
    [DT_Q5_0] = {QUANT_BYTE, false, -16, 2, 6},   [DT_Q5_1] = {QUANT_BYTE, true, 0, 4, 8},
    [DT_Q8_0] = {QUANT_BYTE128, false, 0, -1, 2}, [DT_Q4_K] = {QUANT_NIBBLE_K, true, 0, -1, 16},
    [DT_Q5_K] = {QUANT_BYTE_K, true, 0, 16, 48},
};

struct quant_acts {
    struct quant_x *x; /* [tiles of rows][blocks] */
    int max_tok, max_k;
    const struct quant_kernels *kernels;
};

bool quant_can_pack(enum dtype dt, int n, int k)
{
    return layouts[dt].form != QUANT_NONE && n % QUANT_GROUP == 0 && k % quant_type(dt)->block == 0;
}

int64_t quant_pack_bytes(enum dtype dt, int n, int k)
{
    return (int64_t)(n / QUANT_GROUP) * (k / QUANT_BLOCK) * quant_block_bytes(layouts[dt].form);
}

/* fp16 of m_of_d * d: a power of two, so the product is exact unless it leaves fp16's range, where it is held
 * at the end. */
static uint16_t f16_scaled(uint16_t d, float by)
{
    int e = (d >> 10) & 31, add = by == -8 ? 3 : 4;
    bool zero = (d & 0x7fff) == 0;
    if (zero) return d;
    if (e == 0) { /* subnormal: shift the fraction until it carries into the exponent */
        uint32_t f = (uint32_t)(d & 0x3ff) << add;
        int up = 0;
        while (f >= 0x800) {
            f >>= 1;
            up++;
        }
        return (uint16_t)((~d & 0x8000) | (f < 0x400 ? f : (uint32_t)(up + 1) << 10 | (f & 0x3ff)));
    }
    e = e + add > 30 ? 30 : e + add;
    return (uint16_t)((~d & 0x8000) | e << 10 | (d & 0x3ff));
}

/* 32 inputs of one output. */
struct block {
    uint16_t d, m; /* fp16 bits */
    float kd, km;  /* of K-quants */
    uint8_t q[QUANT_BLOCK];
};

static void take_block(const struct layout *l, const uint8_t *src, struct block *b)
{
    const uint8_t *s = src + l->quant_at;
    memcpy(&b->d, src, 2);
    if (l->has_m)
        memcpy(&b->m, src + 2, 2);
    else
        b->m = l->form == QUANT_BYTE128 ? 0 : f16_scaled(b->d, l->m_of_d);
    for (int i = 0; i < 16 && l->form != QUANT_BYTE128; i++) {
        b->q[i] = s[i] & 15;
        b->q[i + 16] = s[i] >> 4;
    }
    for (int i = 0; i < QUANT_BLOCK && l->form == QUANT_BYTE128; i++) b->q[i] = (uint8_t)(s[i] + 128);
    uint32_t high = 0;
    if (l->high_at >= 0) memcpy(&high, src + l->high_at, 4);
    for (int i = 0; i < QUANT_BLOCK && high; i++) b->q[i] = (uint8_t)(b->q[i] | (high >> i & 1) << 4);
}

/* Group j of a K-block: two groups share bytes, and all eight those of the fifth bits. */
static void take_k_block(const struct layout *l, const uint8_t *src, int j, struct block *b)
{
    const uint8_t *s = src + l->quant_at + j / 2 * 32;
    uint16_t d, m;
    int scale, min;
    memcpy(&d, src, 2);
    memcpy(&m, src + 2, 2);
    quant_k_scale_min(src + 4, j, &scale, &min);
    b->kd = f32_from_f16(d) * (float)scale;
    b->km = -(f32_from_f16(m) * (float)min);
    for (int i = 0; i < QUANT_BLOCK; i++) {
        b->q[i] = j % 2 ? s[i] >> 4 : s[i] & 15;
        if (l->high_at >= 0) b->q[i] = (uint8_t)(b->q[i] | (src[l->high_at + i] >> j & 1) << 4);
    }
}

/* As output r of a packed block. */
static void put_block(enum quant_form form, const struct block *b, uint8_t *out, int r)
{
    uint8_t *q = out + quant_head_bytes(form) + 4 * r, both[16];
    if (quant_is_k(form)) {
        memcpy(out + 4 * r, &b->kd, 4);
        memcpy(out + 64 + 4 * r, &b->km, 4);
    } else {
        memcpy(out + 2 * r, &b->d, 2);
        if (form != QUANT_BYTE128) memcpy(out + 32 + 2 * r, &b->m, 2);
    }
    for (int i = 0; i < 16; i++) both[i] = (uint8_t)(b->q[i] | b->q[i + 16] << 4);
    for (int v = 0; v < (quant_is_nibble(form) ? 4 : 8); v++)
        memcpy(q + 64 * v, (quant_is_nibble(form) ? both : b->q) + 4 * v, 4);
}

void quant_pack(enum dtype dt, int n, int k, const void *rows, void *out)
{
    const struct layout *l = &layouts[dt];
    int64_t row = quant_bytes(dt, k), blk = quant_type(dt)->block_bytes, to = quant_block_bytes(l->form);
    for (int i = 0; i < n; i++)
        for (int b = 0; b < k / QUANT_BLOCK; b++) {
            const uint8_t *src = (const uint8_t *)rows + i * row;
            struct block x;
            if (quant_is_k(l->form))
                take_k_block(l, src + b / 8 * blk, b % 8, &x);
            else
                take_block(l, src + b * blk, &x);
            put_block(l->form, &x, (uint8_t *)out + ((int64_t)(i / QUANT_GROUP) * (k / QUANT_BLOCK) + b) * to,
                      i % QUANT_GROUP);
        }
}

void quant_unpack_row(const struct weight *w, int row, float *out)
{
    const struct cpu_weight *h = w->impl;
    const struct layout *l = &layouts[w->dt];
    int n_block = w->k / QUANT_BLOCK, r = row % QUANT_GROUP, step = quant_block_bytes(l->form);
    const uint8_t *p = (const uint8_t *)h->packed + (int64_t)(row / QUANT_GROUP) * n_block * step;
    for (int b = 0; b < n_block; b++, p += step) {
        float wd[QUANT_GROUP], wm[QUANT_GROUP];
        const uint8_t *q = p + quant_head_bytes(l->form) + 4 * r;
        quant_load_head(p, l->form, wd, wm);
        for (int i = 0; i < QUANT_BLOCK; i++) {
            bool nibble = quant_is_nibble(l->form);
            int at = nibble ? i % 16 : i, v = q[at / 4 * 64 + at % 4];
            if (nibble) v = i < 16 ? v & 15 : v >> 4;
            if (l->form == QUANT_BYTE128) v -= 128;
            /* as the file defines it: Q4_0 and Q5_0 are d * (q - 8 or 16), without a minimum */
            out[b * QUANT_BLOCK + i] = l->has_m ? wd[r] * (float)v + wm[r] : wd[r] * ((float)v + l->m_of_d);
        }
    }
}

static const struct quant_kernels *best_kernels(void)
{
    const struct quant_kernels *all[] = {quant_kernels_vnni(), quant_kernels_avx2(), quant_kernels_plain()};
    int i = 0;
    while (!all[i]) i++;
    return all[i];
}

void quant_acts_use(struct quant_acts *a, const struct quant_kernels *k) { a->kernels = k; }

enum err quant_acts_new(struct quant_acts **out, int max_tok, int max_k, struct err_note *note)
{
    struct quant_acts *a = calloc(1, sizeof *a);
    if (a) {
        size_t n = (size_t)((max_tok + QUANT_ROWS - 1) / QUANT_ROWS) * (size_t)(max_k / QUANT_BLOCK + 1);
        *a = (struct quant_acts){.max_tok = max_tok, .max_k = max_k, .kernels = best_kernels()};
        a->x = aligned_alloc(64, n * sizeof *a->x);
    }
    *out = a;
    if (a && a->x) return OK;
    quant_acts_free(a);
    *out = NULL;
    return err_set(note, ERR_NOMEM, NULL, "no memory for the kernels' buffers");
}

void quant_acts_free(struct quant_acts *a)
{
    if (!a) return;
    free(a->x);
    free(a);
}

/* Rows that go through all groups before the next rows: their integers stay in the second-level cache. */
enum { CHUNK_ROWS = 128 };
/* So few rows are made integers sooner by one thread than two threads meet. */
enum { FEW_ROWS = 4 };

static struct quant_x *act_tile(const struct quant_acts *x, int row, int k)
{
    return x->x + (int64_t)(row / QUANT_ROWS) * (k / QUANT_BLOCK);
}

CPU_CLONES static void put_tile(float *y, int64_t y_stride, bool add, quant_out *f, int m, int n_group)
{
    for (int i = 0; i < m; i++, y += y_stride)
        for (int h = 0; h < n_group; h++)
            for (int o = 0; o < QUANT_GROUP; o++)
                y[h * QUANT_GROUP + o] = add ? f[h][i][o] + y[h * QUANT_GROUP + o] : f[h][i][o];
}

/* Rows [t0, t1) of one or two groups of outputs. */
static void walk_groups(const struct gemm_args *a, const struct quant_acts *x, quant_kernel *kernel,
                        struct quant_tile tile, int g, int t0, int t1)
{
    quant_out f[2];
    for (int t = t0; t < t1; t += QUANT_ROWS) {
        tile.x = act_tile(x, t, a->w->k);
        tile.m = t1 - t < QUANT_ROWS ? t1 - t : QUANT_ROWS;
        tile.cold = t == t0;
        kernel(&tile, f);
        put_tile((float *)a->y + t * a->y_stride + g * QUANT_GROUP, a->y_stride, a->add, f, tile.m,
                 tile.n_group);
    }
}

static void quantise_rows(const struct gemm_args *a, const struct quant_acts *x, float coarse, int t0, int t1)
{
    for (int t = t0; t < t1; t++)
        x->kernels->quantise((const float *)a->x + t * a->x_stride, a->w->k, coarse, act_tile(x, t, a->w->k),
                             t % QUANT_ROWS);
}

void gemm_quant(struct op_ctx *c, const struct gemm_args *a)
{
    struct quant_acts *x = c->scratch->quant;
    const struct cpu_weight *h = a->w->impl;
    const struct layout *l = &layouts[a->w->dt];
    quant_kernel *kernel = x->kernels->by_form[l->form];
    const int K = a->w->k, groups = a->w->n / QUANT_GROUP;
    const int64_t group_bytes = (int64_t)(K / QUANT_BLOCK) * quant_block_bytes(l->form);
    const float coarse = a->coarse ? QUANT_COARSE : 0;
    CHECK(a->n_tok <= x->max_tok && K <= x->max_k);
    const int alone = a->n_tok <= FEW_ROWS ? a->n_tok : 0;
    quantise_rows(a, x, coarse, 0, alone);
#pragma omp parallel num_threads(c->n_thread)
    {
        if (!alone) {
#pragma omp for schedule(static) /* a tile's rows share their cache lines */
            for (int t = 0; t < a->n_tok; t += QUANT_ROWS)
                quantise_rows(a, x, coarse, t, a->n_tok - t < QUANT_ROWS ? a->n_tok : t + QUANT_ROWS);
        }
        for (int t = 0; t < a->n_tok; t += CHUNK_ROWS)
#pragma omp for schedule(static) nowait
            for (int g = 0; g < groups; g += 2) {
                struct quant_tile tile = {.w = (const uint8_t *)h->packed + g * group_bytes,
                                          .group_bytes = group_bytes,
                                          .n_block = K / QUANT_BLOCK,
                                          .n_group = groups - g < 2 ? 1 : 2};
                walk_groups(a, x, kernel, tile, g, t, a->n_tok - t < CHUNK_ROWS ? a->n_tok : t + CHUNK_ROWS);
            }
    }
}
