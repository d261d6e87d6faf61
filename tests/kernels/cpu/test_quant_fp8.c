/* quant_fp8: codes of 8 bits are what the format says, rounding is to the nearest, rows' scales fit their
 * largest number. */
#include "tests/base/cm.h"

#include <math.h>
#include <stdlib.h>

#include "kernels/quant.h"
#include "kernels/quant_fp8.h"

static float value_of(int code) /* the format's definition */
{
    int exp = code >> 3 & 15, man = code & 7;
    double x = exp ? ldexp(1 + man / 8.0, exp - 7) : ldexp(man / 8.0, -6);
    return (float)(code & 0x80 ? -x : x);
}

static void every_code_has_its_value_and_comes_back(void **state)
{
    (void)state;
    for (int code = 0; code < 256; code++) {
        const float x = fp8_to_f32((uint8_t)code);
        if ((code & 0x7f) == 0x7f) {
            assert_true(isnan(x));
            assert_int_equal(fp8_from_f32(x) & 0x7f, 0x7f);
            continue;
        }
        assert_true(x == value_of(code) && (signbit(x) != 0) == (code >= 128));
        assert_int_equal(fp8_from_f32(x), code);
    }
    assert_true(fp8_to_f32(0x7e) == FP8_MOST);
}

/* Between two neighbours: below the middle down, above it up, on it to the even code. */
static void numbers_go_to_the_nearest_code(void **state)
{
    (void)state;
    for (int code = 0; code < 0x7e; code++)
        for (int sign = 0; sign < 2; sign++) {
            const float lo = value_of(code), hi = value_of(code + 1), mid = (lo + hi) / 2, s = sign ? -1 : 1;
            const int top = sign ? 0x80 : 0;
            assert_int_equal(fp8_from_f32(s * nextafterf(mid, 0)), top | code);
            assert_int_equal(fp8_from_f32(s * mid), top | (code % 2 ? code + 1 : code));
            assert_int_equal(fp8_from_f32(s * nextafterf(mid, 1e9f)), top | (code + 1));
        }
}

static void beyond_the_largest_stands_the_largest(void **state)
{
    (void)state;
    const float far[] = {448.0f, 449.0f, 464.0f, 480.0f, 1e30f, INFINITY};
    for (size_t i = 0; i < sizeof far / sizeof *far; i++) {
        assert_int_equal(fp8_from_f32(far[i]), 0x7e);
        assert_int_equal(fp8_from_f32(-far[i]), 0xfe);
    }
    assert_int_equal(fp8_from_f32(NAN) & 0x7f, 0x7f);
}

static float draw(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(int32_t)*seed * 0x1p-31f;
}

enum { K = 1000 };
static void rows_reach_the_largest_code_and_lose_little(void **state)
{
    (void)state;
    static float x[K], scale[8];
    static uint8_t code[K];
    uint32_t seed = 7;
    for (int turn = 0; turn < 40; turn++) {
        const float size = ldexpf(1, turn * 4 - 80);
        for (int i = 0; i < K; i++) x[i] = size * draw(&seed);
        for (int block = 0; block < 2; block++) {
            fp8_row_ref(code, scale, x, K, block);
            int top[8] = {0};
            for (int i = 0; i < K; i++) {
                const int b = block ? i / FP8_BLOCK : 0;
                const float back = fp8_to_f32(code[i]) * scale[b], most = scale[b] * FP8_MOST;
                assert_true(fabsf(back - x[i]) <= fmaxf(fabsf(x[i]) / 16, most * 0x1p-18f) * 1.0001f);
                if ((code[i] & 0x7f) > top[b]) top[b] = code[i] & 0x7f;
            }
            for (int b = 0; b < (block ? 8 : 1); b++) assert_int_equal(top[b], 0x7e);
        }
    }
}

static void rows_of_nothing_and_of_no_numbers(void **state)
{
    (void)state;
    float x[256] = {0}, scale[2];
    uint8_t code[256];
    fp8_row_ref(code, scale, x, 256, false);
    assert_true(scale[0] == FP8_SCALE_LEAST);
    for (int i = 0; i < 256; i++) assert_int_equal(code[i], 0);
    x[3] = 1;
    x[200] = NAN;
    fp8_row_ref(code, scale, x, 256, true);
    assert_int_equal(code[3], 0x7e);
    assert_int_equal(code[200] & 0x7f, 0x7f);
    assert_true(scale[0] == 1 / FP8_MOST && scale[1] == FP8_SCALE_LEAST);
    x[200] = -INFINITY;
    fp8_row_ref(code, scale, x, 256, false);
    assert_int_equal(code[200] & 0x7f, 0x7f); /* inf / inf */
    assert_int_equal(code[3], 0);
}

/* Scales by row and by block, bias, what stood there and gates are what plain sums over the values say. */
static void products_are_sums_of_values(void **state)
{
    (void)state;
    enum { T = 3, N = 260, D = 330, XT = 5, GK = 3, WK = 4 };
    static uint8_t x[T * (D + 6)], w[N * D];
    static float xs[GK * XT], ws[N * WK], bias[N], y[T * N], want;
    uint32_t seed = 3;
    for (size_t i = 0; i < sizeof x; i++) x[i] = fp8_from_f32(8 * draw(&seed));
    for (size_t i = 0; i < sizeof w; i++) w[i] = fp8_from_f32(8 * draw(&seed));
    for (int i = 0; i < GK * XT; i++) xs[i] = 1 + draw(&seed) / 2;
    for (int i = 0; i < N * WK; i++) ws[i] = 1 + draw(&seed) / 2;
    for (int i = 0; i < N; i++) bias[i] = draw(&seed);
    for (int mode = 0; mode < 8; mode++) {
        const bool block = mode & 1, gated = mode & 2, more = mode & 4;
        const int n = gated ? N / 2 : N;
        struct gemm_fp8_args a = {.y = y,
                                  .x = x,
                                  .x_scale = xs,
                                  .w = w,
                                  .w_scale = ws,
                                  .bias = more ? bias : NULL,
                                  .x_stride = D + 6,
                                  .y_stride = N,
                                  .x_scale_stride = XT,
                                  .w_scale_stride = WK,
                                  .n_tok = T,
                                  .n = N,
                                  .k = D,
                                  .block = block,
                                  .add = more,
                                  .gated = gated};
        for (int i = 0; i < T * N; i++) y[i] = 5;
        gemm_fp8_ref(&a);
        for (int t = 0; t < T; t++)
            for (int i = 0; i < N; i++) {
                double v[2] = {0, 0};
                for (int h = 0; h < (gated ? 2 : 1) && i < n; h++) {
                    for (int k = 0; k < D; k++) {
                        const int row = h * n + i;
                        const double s = block ? (double)xs[k / 128 * XT + t] * ws[row / 128 * WK + k / 128]
                                               : (double)xs[t] * ws[row];
                        v[h] += s * value_of(x[t * (D + 6) + k]) * value_of(w[row * D + k]);
                    }
                    if (more) v[h] += bias[h * n + i];
                }
                want = i >= n ? 5 : (float)((gated ? v[0] / (1 + exp(-v[0])) * v[1] : v[0]) + (more ? 5 : 0));
                assert_true(fabsf(y[t * N + i] - want) <= 1e-4f * (1 + fabsf(want)));
            }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_its_value_and_comes_back),
        cmocka_unit_test(numbers_go_to_the_nearest_code),
        cmocka_unit_test(beyond_the_largest_stands_the_largest),
        cmocka_unit_test(rows_reach_the_largest_code_and_lose_little),
        cmocka_unit_test(rows_of_nothing_and_of_no_numbers),
        cmocka_unit_test(products_are_sums_of_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
