/* gemm_quant: packed blocks keep their exact values; products equal those of the dequantised weights and the
 * rounded activations; bits do not depend on neighbours; the instruction sets agree. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/gemm_quant.h"
#include "kernels/quant.h"
#include "tests/base/cm.h"

enum { N = 64, K = 512, T = 40 };
static const enum dtype types[] = {DT_Q4_0, DT_Q4_1, DT_Q5_0, DT_Q5_1, DT_Q8_0, DT_Q4_K, DT_Q5_K};
enum { N_TYPE = sizeof types / sizeof *types };

static uint32_t rnd(uint32_t *s)
{
    *s = *s * 1664525u + 1013904223u;
    return *s >> 8;
}

static uint8_t blocks[N * K * 2];

/* Random blocks with sane fp16 scales, now and then zero or subnormal ones. */
static void fill_blocks(enum dtype dt, uint32_t seed)
{
    int64_t blk = quant_type(dt)->block_bytes, n = (int64_t)N * K / quant_type(dt)->block;
    bool has_m = dt == DT_Q4_1 || dt == DT_Q5_1 || dt == DT_Q4_K || dt == DT_Q5_K;
    for (int64_t i = 0; i < n * blk; i++) blocks[i] = (uint8_t)rnd(&seed);
    for (int64_t i = 0; i < n; i++)
        for (int h = 0; h < (has_m ? 2 : 1); h++) {
            uint32_t r = rnd(&seed);
            uint16_t v = (uint16_t)((r & 0x83ff) | ((r >> 16) % 13 == 0 ? 0 : (8 + (r >> 18) % 5) << 10));
            memcpy(blocks + i * blk + 2 * h, &v, 2);
        }
}

static void packed_blocks_keep_their_values(void **st)
{
    (void)st;
    struct op_ctx c;
    assert_int_equal(cpu_open(&c, 1, DT_F32, T, K, N, NULL), OK);
    for (int i = 0; i < N_TYPE; i++) {
        struct weight w;
        float a[K], b[K];
        fill_blocks(types[i], 11);
        assert_int_equal(cpu_weight_new(&w, N, K, types[i], false, NULL), OK);
        cpu_weight_part(&w, 0, N, blocks, types[i], NULL);
        assert_int_equal(cpu_weight_done(&c, &w, NULL), OK);
        for (int r = 0; r < N; r++) {
            cpu_weight_row(&w, r, a);
            assert_true(quant_to_f32(types[i], blocks + r * quant_bytes(types[i], K), b, K));
            for (int k = 0; k < K; k++) assert_true(a[k] == b[k]);
        }
        cpu_weight_free(&w);
    }
    cpu_close(&c);
}

static void products_equal_the_dequantised_ones(void **st)
{
    (void)st;
    struct op_ctx c;
    static float x[T * K], y[T * N], z[T * N], w32[N * K];
    assert_int_equal(cpu_open(&c, 2, DT_F32, T, K, N, NULL), OK);
    for (int i = 0; i < N_TYPE; i++) {
        struct weight w;
        uint32_t seed = 5;
        fill_blocks(types[i], 21);
        for (int t = 0; t < T; t++) /* integers times a scale: rounding to int8 loses nothing */
            for (int k = 0; k < K; k++)
                x[t * K + k] = (float)(k % 32 == 0 ? 127 : (int)(rnd(&seed) % 255) - 127) * 0.0078125f;
        assert_int_equal(cpu_weight_new(&w, N, K, types[i], false, NULL), OK);
        cpu_weight_part(&w, 0, N, blocks, types[i], NULL);
        assert_int_equal(cpu_weight_done(&c, &w, NULL), OK);
        struct gemm_args a = {.y = y, .x = x, .w = &w, .x_stride = K, .y_stride = N, .n_tok = T};
        gemm_cpu(&c, &a);
        assert_true(quant_to_f32(types[i], blocks, w32, N * K));
        for (int t = 0; t < T; t++)
            for (int n = 0; n < N; n++) {
                double v = 0, mag = 0;
                for (int k = 0; k < K; k++) {
                    v += (double)x[t * K + k] * (double)w32[n * K + k];
                    mag += fabs((double)x[t * K + k] * (double)w32[n * K + k]);
                }
                assert_true(fabs(v - (double)y[t * N + n]) <= 4e-6 * mag + 1e-6);
            }
        for (int t = 0; t < T; t++) { /* alone and in odd pieces: the same bits */
            a = (struct gemm_args){
                .y = z, .x = x + t * K, .w = &w, .x_stride = K, .y_stride = N, .n_tok = t % 3 ? 1 : T - t};
            gemm_cpu(&c, &a);
            assert_memory_equal(z, y + t * N, N * sizeof(float));
        }
        memcpy(z, y, sizeof z);
        a = (struct gemm_args){
            .y = z, .x = x, .w = &w, .x_stride = K, .y_stride = N, .n_tok = T, .add = true};
        gemm_cpu(&c, &a);
        for (int k = 0; k < T * N; k++) assert_true(z[k] == y[k] + y[k]);
        cpu_weight_free(&w);
    }
    cpu_close(&c);
}

/* Random activations: 16 bits lose next to nothing (8 would lose 0.5%). */
static void sixteen_bits_are_close(void **st)
{
    (void)st;
    struct op_ctx c;
    struct weight w;
    static float x[T * K], y[T * N], w32[N * K];
    uint32_t seed = 9;
    assert_int_equal(cpu_open(&c, 2, DT_F32, T, K, N, NULL), OK);
    fill_blocks(DT_Q4_1, 4);
    assert_int_equal(cpu_weight_new(&w, N, K, DT_Q4_1, false, NULL), OK);
    cpu_weight_part(&w, 0, N, blocks, DT_Q4_1, NULL);
    assert_int_equal(cpu_weight_done(&c, &w, NULL), OK);
    assert_true(quant_to_f32(DT_Q4_1, blocks, w32, N * K));
    for (int i = 0; i < T * K; i++) x[i] = (float)(int)(rnd(&seed) % 20001) * 1e-4f - 1;
    struct gemm_args a = {.y = y, .x = x, .w = &w, .x_stride = K, .y_stride = N, .n_tok = T};
    gemm_cpu(&c, &a);
    double err = 0, all = 0;
    for (int t = 0; t < T; t++)
        for (int n = 0; n < N; n++) {
            double v = 0;
            for (int k = 0; k < K; k++) v += (double)x[t * K + k] * (double)w32[n * K + k];
            err += (v - (double)y[t * N + n]) * (v - (double)y[t * N + n]);
            all += v * v;
        }
    assert_true(sqrt(err / all) < 4e-5);
    cpu_weight_free(&w);
    cpu_close(&c);
}

static void not_finite_comes_out_not_finite(void **st)
{
    (void)st;
    struct op_ctx c;
    struct weight w;
    static float x[2 * K], y[2 * N];
    assert_int_equal(cpu_open(&c, 1, DT_F32, T, K, N, NULL), OK);
    fill_blocks(DT_Q4_1, 3);
    assert_int_equal(cpu_weight_new(&w, N, K, DT_Q4_1, false, NULL), OK);
    cpu_weight_part(&w, 0, N, blocks, DT_Q4_1, NULL);
    assert_int_equal(cpu_weight_done(&c, &w, NULL), OK);
    x[K + 7] = NAN;
    struct gemm_args a = {.y = y, .x = x, .w = &w, .x_stride = K, .y_stride = N, .n_tok = 2};
    gemm_cpu(&c, &a);
    assert_true(isfinite(y[0]) && isnan(y[N]));
    cpu_weight_free(&w);
    cpu_close(&c);
}

/* Every instruction set that this processor has: the plain kernels' bits, for every type and number of rows.
 */
static void same_bits(bool coarse)
{
    const struct quant_kernels *sets[] = {quant_kernels_avx2(), quant_kernels_vnni()};
    struct op_ctx c;
    static float x[T * K], want[T * N], got[T * N];
    uint32_t seed = 17;
    assert_int_equal(cpu_open(&c, 2, DT_F32, T, K, N, NULL), OK);
    for (int i = 0; i < T * K; i++)
        x[i] = (float)((int)(rnd(&seed) % 20001) - 10000) * (i / 32 % 7 ? 1e-4f : 3e-9f) *
               (coarse && rnd(&seed) % 100 == 0 ? 9 : 1);
    for (int k = 0; k < K; k++) /* the largest integers of both signs */
        x[k] = k % 3 ? 1 : -1;
    for (int i = 0; i < N_TYPE; i++) {
        struct weight w;
        fill_blocks(types[i], 31 + (uint32_t)i);
        memset(blocks + quant_type(types[i])->block_bytes - 16, 0xff, 16); /* and of the weights */
        memset(blocks + 2 * quant_type(types[i])->block_bytes - 16, 0x80, 16);
        assert_int_equal(cpu_weight_new(&w, N, K, types[i], false, NULL), OK);
        cpu_weight_part(&w, 0, N, blocks, types[i], NULL);
        assert_int_equal(cpu_weight_done(&c, &w, NULL), OK);
        struct gemm_args a = {
            .y = want, .x = x, .w = &w, .x_stride = K, .y_stride = N, .n_tok = T, .coarse = coarse};
        quant_acts_use(c.scratch->quant, quant_kernels_plain());
        gemm_cpu(&c, &a);
        for (int s = 0; s < 2; s++) {
            if (!sets[s]) continue;
            quant_acts_use(c.scratch->quant, sets[s]);
            for (int m = 1; m <= 9; m++) {
                memset(got, 0, sizeof got);
                a.y = got;
                for (int t = 0; t < T; t += m) {
                    a.x = x + t * K;
                    a.y = got + t * N;
                    a.n_tok = T - t < m ? T - t : m;
                    gemm_cpu(&c, &a);
                }
                if (memcmp(got, want, sizeof got) != 0)
                    fail_msg("%s, %s, %d rows: other bits than plain", sets[s]->name,
                             quant_type(types[i])->name, m);
            }
        }
        cpu_weight_free(&w);
    }
    cpu_close(&c);
}

static void instruction_sets_give_the_same_bits(void **st)
{
    (void)st;
    same_bits(false);
    same_bits(true);
}

/* Of a coarse product: 16 bits for a row's loud blocks, 8 for the quiet ones. Each error alone: the other
 * half of the inputs is exact in 8 bits, so that only one kind of block can err. */
static void coarse_spares_the_quiet_blocks_alone(void **st)
{
    (void)st;
    struct op_ctx c;
    struct weight w;
    static float x[T * K], y[T * N], w32[N * K];
    assert_int_equal(cpu_open(&c, 2, DT_F32, T, K, N, NULL), OK);
    fill_blocks(DT_Q4_1, 4);
    assert_int_equal(cpu_weight_new(&w, N, K, DT_Q4_1, false, NULL), OK);
    cpu_weight_part(&w, 0, N, blocks, DT_Q4_1, NULL);
    assert_int_equal(cpu_weight_done(&c, &w, NULL), OK);
    assert_true(quant_to_f32(DT_Q4_1, blocks, w32, N * K));
    for (int loud_errs = 0; loud_errs < 2; loud_errs++) {
        uint32_t seed = 9;
        for (int i = 0; i < T * K; i++) {
            bool loud = i / 32 % 4 == 0;
            float odd = (float)(int)(rnd(&seed) % 20001) * 1e-4f - 1,
                  even = i % 32 == 0 ? 1 : (float)((int)(rnd(&seed) % 255) - 127) / 127;
            x[i] = (loud == loud_errs ? odd : even) * (loud ? 8 : 1);
        }
        struct gemm_args a = {
            .y = y, .x = x, .w = &w, .x_stride = K, .y_stride = N, .n_tok = T, .coarse = true};
        gemm_cpu(&c, &a);
        double err = 0, all = 0;
        for (int t = 0; t < T; t++)
            for (int n = 0; n < N; n++) {
                double v = 0, part = 0;
                for (int k = 0; k < K; k++) {
                    v += (double)x[t * K + k] * (double)w32[n * K + k];
                    if ((k / 32 % 4 == 0) == loud_errs) part += (double)x[t * K + k] * (double)w32[n * K + k];
                }
                err += (v - (double)y[t * N + n]) * (v - (double)y[t * N + n]);
                all += part * part;
            }
        if (loud_errs)
            assert_true(sqrt(err / all) < 4e-5);
        else
            assert_true(sqrt(err / all) > 1e-3 && sqrt(err / all) < 8e-3);
    }
    cpu_weight_free(&w);
    cpu_close(&c);
}

int main(void)
{
    const struct CMUnitTest t[] = {cmocka_unit_test(packed_blocks_keep_their_values),
                                   cmocka_unit_test(products_equal_the_dequantised_ones),
                                   cmocka_unit_test(sixteen_bits_are_close),
                                   cmocka_unit_test(instruction_sets_give_the_same_bits),
                                   cmocka_unit_test(not_finite_comes_out_not_finite),
                                   cmocka_unit_test(coarse_spares_the_quiet_blocks_alone)};
    return cmocka_run_group_tests(t, NULL, NULL);
}
