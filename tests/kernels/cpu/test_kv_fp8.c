/* kv_fp8: a row's exponent is the least that holds its largest number, what codes stand for is near and a
 * bf16, rows stand alone. */
#include "tests/base/cm.h"

#include <math.h>

#include "kernels/kv_fp8.h"
#include "kernels/quant.h"
#include "kernels/quant_fp8.h"

static float draw(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(int32_t)*seed * 0x1p-31f;
}

enum { K = 128 };
static void exponents_are_the_least_that_hold(void **state)
{
    (void)state;
    float x[K];
    uint8_t code[K];
    int8_t exp;
    uint32_t seed = 1;
    for (int turn = -110; turn < 110; turn++) {
        for (int i = 0; i < K; i++) x[i] = ldexpf(draw(&seed), turn);
        x[turn & 127] = ldexpf(turn % 3 == 0   ? FP8_MOST
                               : turn % 3 == 1 ? nextafterf(FP8_MOST, 1e9f)
                                               : -300,
                               turn);
        float most = 0;
        for (int i = 0; i < K; i++) most = fmaxf(most, fabsf(x[i]));
        kv_fp8_row_ref(code, &exp, x, K);
        assert_true(most <= ldexpf(FP8_MOST, exp) && most > ldexpf(FP8_MOST, exp - 1));
    }
}

static void values_are_near_and_bf16(void **state)
{
    (void)state;
    float x[K];
    uint8_t code[K];
    int8_t exp;
    uint32_t seed = 2;
    for (int turn = 0; turn < 200; turn++) {
        for (int i = 0; i < K; i++) x[i] = ldexpf(draw(&seed), turn - 100);
        kv_fp8_row_ref(code, &exp, x, K);
        for (int i = 0; i < K; i++) {
            const float y = kv_fp8_value(code[i], exp);
            assert_true(fabsf(y - x[i]) <= fmaxf(fabsf(x[i]) / 16, ldexpf(1, exp - 10)));
            assert_true(f32_from_bf16(f32_to_bf16(y)) == y);
        }
    }
}

static void odd_rows_stay_odd(void **state)
{
    (void)state;
    float x[K] = {0};
    uint8_t code[K];
    int8_t exp;
    kv_fp8_row_ref(code, &exp, x, K);
    for (int i = 0; i < K; i++) assert_int_equal(code[i], 0);
    assert_int_equal(exp, -KV_FP8_EXP_MOST);
    x[5] = INFINITY;
    x[6] = NAN;
    x[7] = 1;
    kv_fp8_row_ref(code, &exp, x, K);
    assert_true(isnan(kv_fp8_value(code[5], exp)) && isnan(kv_fp8_value(code[6], exp)) &&
                !isnan(kv_fp8_value(code[7], exp)));
    x[5] = 3.0e38f;
    kv_fp8_row_ref(code, &exp, x, K);
    assert_true(fabsf(kv_fp8_value(code[5], exp) / 3.0e38f - 1) < 0.07f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exponents_are_the_least_that_hold),
        cmocka_unit_test(values_are_near_and_bf16),
        cmocka_unit_test(odd_rows_stay_odd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
