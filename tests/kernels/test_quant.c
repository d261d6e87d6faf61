/* quant: the bytes of every type mean what the `gguf` package says they mean, bit for bit
 * (tests/goldens/make_quant.py), and blocks with scales that are not finite are told. */
#include "tests/base/cm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/quant.h"

enum { N_TYPE = 11, ELEM_MOST = 4096 };

struct record {
    char name[9];
    int32_t n_elem, n_bytes;
    uint8_t block[ELEM_MOST * 4];
    float value[ELEM_MOST];
};

static bool next_record(FILE *f, struct record *r)
{
    memset(r->name, 0, sizeof r->name);
    if (fread(r->name, 8, 1, f) != 1) return false;
    assert_int_equal(fread(&r->n_elem, 4, 1, f), 1);
    assert_int_equal(fread(&r->n_bytes, 4, 1, f), 1);
    assert_true(r->n_elem > 0 && r->n_elem <= ELEM_MOST && r->n_bytes > 0 && r->n_bytes <= ELEM_MOST * 4);
    assert_int_equal(fread(r->block, 1, (size_t)r->n_bytes, f), r->n_bytes);
    assert_int_equal(fread(r->value, sizeof(float), (size_t)r->n_elem, f), r->n_elem);
    return true;
}

static enum dtype dtype_by_name(const char *name)
{
    for (int i = 0; i < DT_COUNT; i++)
        if (strcmp(quant_type((enum dtype)i)->name, name) == 0) return (enum dtype)i;
    fail_msg("type %s is unknown", name);
    return DT_COUNT;
}

static void values_equal_the_package_s_bit_for_bit(void **state)
{
    (void)state;
    static struct record r;
    static float got[ELEM_MOST];
    int n = 0, odd = 0;
    FILE *f = fopen("tests/goldens/quant.bin", "rb");
    assert_non_null(f);
    for (; next_record(f, &r); n++) {
        enum dtype dt = dtype_by_name(r.name);
        assert_int_equal(quant_bytes(dt, r.n_elem), r.n_bytes);
        memset(got, 0x55, sizeof got);
        assert_true(quant_to_f32(dt, r.block, got, r.n_elem));
        for (int i = 0; i < r.n_elem; i++) {
            bool none = isnan(r.value[i]); /* which NaN is the processor's affair */
            odd += !isfinite(r.value[i]);
            if (none ? !isnan(got[i]) : memcmp(&got[i], &r.value[i], sizeof *got) != 0)
                fail_msg("%s, element %d: %a, the package says %a", r.name, i, (double)got[i],
                         (double)r.value[i]);
        }
        for (int i = 0; i < r.n_elem;
             i += quant_type(dt)->block) { /* a block without odd values has finite scales */
            const uint8_t *b = r.block + quant_bytes(dt, i);
            bool all = true;
            for (int k = 0; k < quant_type(dt)->block; k++) all = all && isfinite(r.value[i + k]);
            if (!all) assert_false(quant_finite(dt, b, quant_type(dt)->block));
            if (quant_finite(dt, b, quant_type(dt)->block)) assert_true(all);
        }
    }
    fclose(f);
    assert_int_equal(n, N_TYPE);
    assert_true(odd > 0);
}

static void every_half_is_read_exactly(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        int e = (int)(h >> 10 & 31), m = (int)(h & 1023);
        double want = e == 31 ? (m ? NAN : INFINITY) : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
        float got = f32_from_f16((uint16_t)h);
        if (isnan(want))
            assert_true(isnan(got));
        else
            assert_true((double)got == (h & 0x8000 ? -want : want) && (signbit(got) != 0) == (h >> 15));
    }
}

static void infinite_scales_are_told(void **state)
{
    (void)state;
    static const struct {
        enum dtype dt;
        int at; /* of a scale */
    } scale[] = {{DT_F16, 0},  {DT_BF16, 0}, {DT_Q8_0, 0}, {DT_Q4_0, 0},  {DT_Q4_1, 0},
                 {DT_Q4_1, 2}, {DT_Q5_0, 0}, {DT_Q5_1, 0}, {DT_Q5_1, 2},  {DT_Q4_K, 0},
                 {DT_Q4_K, 2}, {DT_Q5_K, 0}, {DT_Q5_K, 2}, {DT_Q6_K, 208}};
    for (size_t i = 0; i < sizeof scale / sizeof *scale; i++) {
        const struct quant_type *t = quant_type(scale[i].dt);
        uint8_t b[3 * 256] = {0};
        uint16_t inf = scale[i].dt == DT_BF16 ? 0xff80 : 0xfc00;
        assert_true(quant_finite(scale[i].dt, b, 3 * t->block));
        memcpy(b + 2 * t->block_bytes + scale[i].at, &inf, 2); /* the last of three blocks */
        assert_false(quant_finite(scale[i].dt, b, 3 * t->block));
        assert_true(quant_finite(scale[i].dt, b, 2 * t->block));
    }
}

int main(void)
{
    const struct CMUnitTest t[] = {cmocka_unit_test(values_equal_the_package_s_bit_for_bit),
                                   cmocka_unit_test(every_half_is_read_exactly),
                                   cmocka_unit_test(infinite_scales_are_told)};
    return cmocka_run_group_tests(t, NULL, NULL);
}
