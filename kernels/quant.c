/* quant: block layouts of the GGUF types. Packed fields are read by byte offset, since blocks have odd sizes
 * and stand unaligned. */
#include "kernels/quant.h"

static uint16_t u16_at(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint32_t u32_at(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static void q8_0_block(const uint8_t *b, float *y)
{
    float d = f32_from_f16(u16_at(b));
    for (int i = 0; i < 32; i++) y[i] = d * (float)(int8_t)b[2 + i];
}

/* 4-bit types: element i in the low half of byte i, element i + 16 in the high half. */
static void q4_0_block(const uint8_t *b, float *y)
{
    float d = f32_from_f16(u16_at(b));
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)((b[2 + i] & 15) - 8);
        y[i + 16] = d * (float)((b[2 + i] >> 4) - 8);
    }
}

static void q4_1_block(const uint8_t *b, float *y)
{
    float d = f32_from_f16(u16_at(b)), m = f32_from_f16(u16_at(b + 2));
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)(b[4 + i] & 15) + m;
        y[i + 16] = d * (float)(b[4 + i] >> 4) + m;
    }
}

/* 5-bit types: the fifth bits of all 32 elements in one word. */
static int fifth(uint32_t high, int i) { return (int)(high >> i & 1) << 4; }

static void q5_0_block(const uint8_t *b, float *y)
{
    float d = f32_from_f16(u16_at(b));
    uint32_t high = u32_at(b + 2);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)(((b[6 + i] & 15) | fifth(high, i)) - 16);
        y[i + 16] = d * (float)(((b[6 + i] >> 4) | fifth(high, i + 16)) - 16);
    }
}

static void q5_1_block(const uint8_t *b, float *y)
{
    float d = f32_from_f16(u16_at(b)), m = f32_from_f16(u16_at(b + 2));
    uint32_t high = u32_at(b + 4);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)((b[8 + i] & 15) | fifth(high, i)) + m;
        y[i + 16] = d * (float)((b[8 + i] >> 4) | fifth(high, i + 16)) + m;
    }
}

/* K-quants: 256 elements in 8 (or 16) groups; group j's 6-bit scale and minimum are packed in 12 bytes. */
void quant_k_scale_min(const uint8_t *s, int j, int *scale, int *min)
{
    if (j < 4) {
        *scale = s[j] & 63;
        *min = s[j + 4] & 63;
    } else {
        *scale = (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
        *min = (s[j + 4] >> 4) | (s[j] >> 6) << 4;
    }
}

static void q45_k_block(const uint8_t *b, float *y, const uint8_t *high, const uint8_t *low)
{
    float d = f32_from_f16(u16_at(b)), dmin = f32_from_f16(u16_at(b + 2));
    for (int j = 0; j < 8; j++) { /* groups 2i and 2i + 1 share bytes: low halves, then high halves */
        int scale, min;
        quant_k_scale_min(b + 4, j, &scale, &min);
        float ds = d * (float)scale, dm = dmin * (float)min;
        const uint8_t *q = low + j / 2 * 32;
        for (int i = 0; i < 32; i++) {
            int v = j % 2 ? q[i] >> 4 : q[i] & 15;
            if (high) v |= (high[i] >> j & 1) << 4;
            y[j * 32 + i] = ds * (float)v - dm;
        }
    }
}

static void q4_k_block(const uint8_t *b, float *y) { q45_k_block(b, y, NULL, b + 16); }
static void q5_k_block(const uint8_t *b, float *y) { q45_k_block(b, y, b + 16, b + 48); }

static void q6_k_block(const uint8_t *b, float *y)
{
    float d = f32_from_f16(u16_at(b + 208));
    for (int i = 0; i < 256; i++) {
        int half = i / 128, r = i % 128, part = r / 32, l = r % 32;
        int low = b[half * 64 + (part & 1) * 32 + l], high = b[128 + half * 32 + l];
        int v = ((part < 2 ? low & 15 : low >> 4) | (high >> (2 * part) & 3) << 4) - 32;
        y[i] = d * (float)(int8_t)b[192 + i / 16] * (float)v;
    }
}

static void f16_block(const uint8_t *b, float *y) { *y = f32_from_f16(u16_at(b)); }
static void bf16_block(const uint8_t *b, float *y) { *y = f32_from_bf16(u16_at(b)); }

bool quant_to_f32(enum dtype dt, const void *src, float *dst, int64_t n)
{
    static void (*const block[DT_COUNT])(const uint8_t *, float *) = {
        [DT_BF16] = bf16_block, [DT_F16] = f16_block,   [DT_Q8_0] = q8_0_block, [DT_Q4_0] = q4_0_block,
        [DT_Q4_1] = q4_1_block, [DT_Q5_0] = q5_0_block, [DT_Q5_1] = q5_1_block, [DT_Q4_K] = q4_k_block,
        [DT_Q5_K] = q5_k_block, [DT_Q6_K] = q6_k_block,
    };
    if (dt == DT_F32) {
        memcpy(dst, src, (size_t)n * sizeof *dst);
        return true;
    }
    if (!block[dt]) return false;
    const uint8_t *p = src;
    const struct quant_type *t = quant_type(dt);
    for (int64_t i = 0; i < n; i += t->block, p += t->block_bytes) block[dt](p, dst + i);
    return true;
}

/* Fields of 16-bit floats in a block: where, and how many side by side. */
static const struct {
    uint8_t at, n;
} scales[DT_COUNT] = {
    [DT_BF16] = {0, 1}, [DT_F16] = {0, 1},  [DT_Q8_0] = {0, 1}, [DT_Q4_0] = {0, 1}, [DT_Q4_1] = {0, 2},
    [DT_Q5_0] = {0, 1}, [DT_Q5_1] = {0, 2}, [DT_Q4_K] = {0, 2}, [DT_Q5_K] = {0, 2}, [DT_Q6_K] = {208, 1},
};

bool quant_finite(enum dtype dt, const void *src, int64_t n)
{
    const uint8_t *p = src;
    int64_t step = quant_type(dt)->block_bytes, bytes = quant_bytes(dt, n);
    uint32_t exp16 = dt == DT_BF16 ? 0x7f80u : 0x7c00u, bad = 0;
    if (dt == DT_F32)
        for (int64_t i = 0; i < bytes; i += step) bad |= (u32_at(p + i) & 0x7f800000u) == 0x7f800000u;
    if (dt == DT_BF16 || dt == DT_F16) { /* the compiler vectorises a step that it knows */
        for (int64_t i = 0; i < n; i++) bad |= (u16_at(p + 2 * i) & exp16) == exp16;
        return !bad;
    }
    for (int64_t i = 0; i < bytes; i += step)
        for (int j = 0; j < scales[dt].n; j++)
            bad |= (u16_at(p + i + scales[dt].at + 2 * j) & exp16) == exp16;
    return !bad;
}
