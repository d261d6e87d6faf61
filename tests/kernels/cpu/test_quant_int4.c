/* quant_int4: what is held is what codes stand for, whatever the groups, zero points, orders and types of
 * scales; codes made of numbers are near them. */
#include "tests/base/cm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/quant.h"
#include "kernels/quant_int4.h"

static uint32_t draw(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}
static float draw_float(uint32_t *seed) /* -1 .. 1 */ { return (float)draw(seed) / 0x1p23f - 1; }

enum scale_type { SCALE_F16, SCALE_BF16, SCALE_F32 };

struct matrix {
    struct weight w;
    uint8_t *code, *zero;
    float *scale;
    int32_t *group;
};

static struct matrix matrix_new(int n, int k, int cols, bool zeros, bool ordered, enum scale_type type)
{
    uint32_t seed = (uint32_t)(n * 31 + k * 7 + cols);
    const int groups = (k + cols - 1) / cols;
    struct matrix m = {.code = malloc((size_t)n * (size_t)k / 2),
                       .zero = malloc((size_t)n * (size_t)groups),
                       .scale = malloc((size_t)n * (size_t)groups * sizeof(float)),
                       .group = malloc((size_t)k * sizeof(int32_t))};
    for (int i = 0; i < n * k / 2; i++) m.code[i] = (uint8_t)draw(&seed);
    for (int i = 0; i < n * groups; i++) {
        const float s = ldexpf(1 + draw_float(&seed) / 2, -(int)(draw(&seed) % 8) - i / groups % 40);
        m.zero[i] = (uint8_t)(draw(&seed) & 15);
        m.scale[i] = type == SCALE_F16    ? f32_from_f16((uint16_t)(0x0c00 + draw(&seed) % 0x6c00))
                     : type == SCALE_BF16 ? f32_from_bf16(f32_to_bf16(s))
                                          : s;
    }
    for (int i = 0; i < k; i++) m.group[i] = i / cols;
    for (int i = k - 1; i > 0; i--) {
        const int j = (int)(draw(&seed) % (uint32_t)(i + 1)), t = m.group[i];
        m.group[i] = m.group[j];
        m.group[j] = t;
    }
    m.w = (struct weight){.dt = DT_U4, .n = n, .k = k, .data = m.code};
    m.w.s = (struct weight_scale){1, cols, m.scale, zeros ? m.zero : NULL, ordered ? m.group : NULL};
    return m;
}
static void matrix_free(struct matrix *m)
{
    free(m->code);
    free(m->zero);
    free(m->scale);
    free(m->group);
}

/* most: of an error, over the value. */
static void held_is_what_codes_mean(int n, int k, int cols, bool zeros, bool ordered, enum scale_type type,
                                    float most)
{
    struct matrix m = matrix_new(n, k, cols, zeros, ordered, type);
    const struct int4_form f = {n + 5, k, int4_group(k, cols), zeros};
    unsigned char *to = malloc((size_t)int4_bytes(&f) + 64);
    float *want = malloc((size_t)n * (size_t)k * sizeof *want), *got = malloc((size_t)k * sizeof *got);
    int32_t *order = malloc((size_t)k * sizeof *order), *from = malloc((size_t)n * sizeof *from);
    memset(to + int4_bytes(&f), 0x55, 64);
    for (int i = 0; i < n; i++) from[i] = n - 1 - i;
    int4_clear(&f, to);
    int4_pack(&f, 3, &m.w, from, to);
    quant_scaled_to_f32(&m.w, 0, n, want);
    for (int i = 0; i < k; i++) order[i] = i;
    if (ordered) int4_order(m.group, k, (k + cols - 1) / cols, order);
    for (int i = 0; i < n + 5; i++) {
        int4_row(&f, to, i, got);
        for (int c = 0; c < k; c++) {
            const float v = i < 3 || i >= n + 3 ? 0 : want[(int64_t)from[i - 3] * k + order[c]];
            if (!(fabsf(got[c] - v) <= most * fabsf(v)))
                fail_msg("n=%d k=%d cols=%d zeros=%d row %d column %d: %a, not %a", n, k, cols, zeros, i, c,
                         (double)got[c], (double)v);
        }
    }
    for (int i = 0; i < 64; i++) assert_int_equal(to[int4_bytes(&f) + i], 0x55);
    free(to);
    free(want);
    free(got);
    free(order);
    free(from);
    matrix_free(&m);
}

static void held_is_exact_for_16_bits_and_near_for_32(void **state)
{
    (void)state;
    static const int shape[][3] = {{1, 32, 32},   {16, 64, 64},   {17, 128, 128}, {40, 288, 32},
                                   {33, 576, 64}, {20, 576, 576}, {9, 768, 256},  {8, 264, 264}};
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++)
        for (int zeros = 0; zeros < 2; zeros++)
            for (int ordered = 0; ordered < 2; ordered++) {
                const int *s = shape[i];
                held_is_what_codes_mean(s[0], s[1], s[2], zeros, ordered, SCALE_F16, 0);
                held_is_what_codes_mean(s[0], s[1], s[2], zeros, ordered, SCALE_BF16, 0);
                held_is_what_codes_mean(s[0], s[1], s[2], zeros, ordered, SCALE_F32, 0x1p-11f);
            }
}

static void groups_are_those_that_kernels_have(void **state)
{
    (void)state;
    static const int row[][3] = {{4096, 128, 128}, {4096, 4096, 128}, {4096, 256, 128}, {576, 576, 128},
                                 {576, 64, 64},    {96, 32, 32},      {96, 192, 128},   {96, 24, 0},
                                 {4096, 16, 0},    {576, 192, 64}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        assert_int_equal(int4_group(row[i][0], row[i][1]), row[i][2]);
    assert_int_equal(int4_made_group(4096), 128);
    assert_int_equal(int4_made_group(576), 64);
    assert_int_equal(int4_made_group(96), 32);
    assert_int_equal(int4_made_group(40), 0);
}

/* No code is further from its number than half a scale, but where the scale was chosen to cut the largest. */
static void made_codes_are_the_nearest(void **state)
{
    (void)state;
    enum { K = 512 };
    float x[K], scale[K / 32];
    uint8_t code[K / 2];
    uint32_t seed = 5;
    for (int turn = 0; turn < 40; turn++) {
        const int group = 32 << turn % 3;
        double error = 0, size = 0;
        for (int i = 0; i < K; i++) x[i] = draw_float(&seed) * ldexpf(1, turn - 20);
        int4_make_row(x, K, group, code, scale);
        for (int i = 0; i < K; i++) {
            const int c = (i % 2 ? code[i / 2] >> 4 : code[i / 2] & 15) - 8;
            const float s = scale[i / group], d = fabsf(x[i] - (float)c * s);
            assert_true(f32_from_bf16(f32_to_bf16(s)) == s && s > 0);
            if (c > -8 && c < 7) assert_true(d <= s * 0.5001f);
            assert_true(d <= s);
            error += (double)d * d;
            size += (double)x[i] * x[i];
        }
        assert_true(error < 0.01 * size);
    }
}

static void what_is_not_finite_stays_so(void **state)
{
    (void)state;
    enum { K = 64 };
    float x[K] = {1, 2, NAN}, scale[2], got[K];
    uint8_t code[K / 2];
    x[40] = 3;
    int4_make_row(x, K, 32, code, scale);
    assert_true(isnan(scale[0]) && scale[1] > 0);
    const struct int4_form f = {1, K, 32, false};
    unsigned char *to = malloc((size_t)int4_bytes(&f));
    const struct weight w = {
        .dt = DT_U4, .n = 1, .k = K, .data = code, .s = {.rows = 1, .cols = 32, .scale = scale}};
    int4_clear(&f, to);
    int4_pack(&f, 0, &w, NULL, to);
    int4_row(&f, to, 0, got);
    assert_true(isnan(got[0]) && isnan(got[31]) && fabsf(got[40] - 3) < 0.1f);
    x[2] = INFINITY;
    int4_make_row(x, K, 32, code, scale);
    assert_true(isnan(scale[0]));
    for (int i = 0; i < K; i++) x[i] = 0;
    int4_make_row(x, K, 32, code, scale);
    assert_true(scale[0] == 0 && code[0] == 0x88);
    free(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(held_is_exact_for_16_bits_and_near_for_32),
        cmocka_unit_test(groups_are_those_that_kernels_have),
        cmocka_unit_test(made_codes_are_the_nearest),
        cmocka_unit_test(what_is_not_finite_stays_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
