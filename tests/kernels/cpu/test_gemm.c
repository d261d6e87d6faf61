/* gemm: oneDNN's products equal the reference, and a row's bits do not depend on its neighbours or its place.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/quant.h"
#include "tests/base/cm.h"

enum { N = 192, K = 96, T = 150 };

static float rnd(uint32_t *s)
{
    *s = *s * 1664525u + 1013904223u;
    return (float)(int32_t)(*s >> 8) / 8388608.0f - 1.0f;
}

struct world {
    struct op_ctx c;
    struct weight w, raw;
    float x[T * K], y[T * N], z[T * N];
};

static struct world *open_packed(enum dtype hold, bool in_parallel)
{
    struct world *o = calloc(1, sizeof *o);
    uint32_t seed = 7;
    static float w[N * K];
    assert_int_equal(cpu_open(&o->c, 2, DT_F32, T, 256, 256, NULL), OK);
    for (int i = 0; i < N * K; i++)
        w[i] = hold == DT_BF16 ? f32_from_bf16(f32_to_bf16(rnd(&seed))) : rnd(&seed);
    for (int i = 0; i < T * K; i++)
        o->x[i] = hold == DT_BF16 ? f32_from_bf16(f32_to_bf16(rnd(&seed))) : rnd(&seed);
    assert_int_equal(cpu_weight_new(&o->w, N, K, hold, false, NULL), OK);
    cpu_weight_part(&o->w, 0, N, w, DT_F32, NULL);
    enum err e = OK;
#pragma omp parallel num_threads(2) if (in_parallel)
#pragma omp single
    e = cpu_weight_done(&o->c, &o->w, NULL);
    assert_int_equal(e, OK);
    assert_int_equal(cpu_weight_new(&o->raw, N, K, DT_F32, true, NULL), OK);
    cpu_weight_part(&o->raw, 0, N, w, DT_F32, NULL);
    return o;
}

static struct world *open_world(enum dtype hold) { return open_packed(hold, false); }

static void close_world(struct world *o)
{
    cpu_weight_free(&o->w);
    cpu_weight_free(&o->raw);
    cpu_close(&o->c);
    free(o);
}

/* By definition, in double precision. */
static void gemm_ref(const struct gemm_args *a)
{
    const float *w = a->w->data;
    for (int t = 0; t < a->n_tok; t++)
        for (int i = 0; i < a->w->n; i++) {
            float *y = (float *)a->y + t * a->y_stride + i;
            double v = a->add ? (double)*y : 0;
            for (int k = 0; k < a->w->k; k++)
                v += (double)((const float *)a->x)[t * a->x_stride + k] * (double)w[(int64_t)i * a->w->k + k];
            *y = (float)v;
        }
}

static void equals_reference(enum dtype hold)
{
    struct world *o = open_world(hold);
    for (int add = 0; add < 2; add++) {
        for (int i = 0; i < T * N; i++) o->y[i] = o->z[i] = 0.5f;
        struct gemm_args a = {
            .y = o->y, .x = o->x, .w = &o->w, .x_stride = K, .y_stride = N, .n_tok = T, .add = add};
        gemm_cpu(&o->c, &a);
        a.y = o->z;
        a.w = &o->raw;
        gemm_ref(&a);
        for (int i = 0; i < T * N; i++) assert_true(fabsf(o->y[i] - o->z[i]) < 2e-4f);
    }
    close_world(o);
}
static void f32_equals_reference(void **s)
{
    (void)s;
    equals_reference(DT_F32);
}
static void bf16_equals_reference(void **s)
{
    (void)s;
    if (cpu_hold_type(DT_BF16) == DT_BF16) equals_reference(DT_BF16);
}

static void neighbours_do_not_matter(bool in_parallel)
{
    for (int bf = 0; bf < 2; bf++) {
        if (bf && cpu_hold_type(DT_BF16) != DT_BF16) continue;
        struct world *o = open_packed(bf ? DT_BF16 : DT_F32, in_parallel);
        struct gemm_args a = {.y = o->y, .x = o->x, .w = &o->w, .x_stride = K, .y_stride = N, .n_tok = T};
        a.decode = true;
        gemm_cpu(&o->c, &a);
        for (int r = 0; r < T; r += 7) { /* alone */
            a = (struct gemm_args){.y = o->z,
                                   .x = o->x + r * K,
                                   .w = &o->w,
                                   .x_stride = K,
                                   .y_stride = N,
                                   .n_tok = 1,
                                   .decode = true};
            gemm_cpu(&o->c, &a);
            assert_memory_equal(o->z, o->y + r * N, N * sizeof(float));
        }
        a = (struct gemm_args){.y = o->y, .x = o->x, .w = &o->w, .x_stride = K, .y_stride = N, .n_tok = T};
        gemm_cpu(&o->c, &a);
        for (int r = 0; r < T; r += 128) { /* in pieces of a page */
            a = (struct gemm_args){.y = o->z,
                                   .x = o->x + r * K,
                                   .w = &o->w,
                                   .x_stride = K,
                                   .y_stride = N,
                                   .n_tok = T - r < 128 ? T - r : 128};
            gemm_cpu(&o->c, &a);
            assert_memory_equal(o->z, o->y + r * N, (size_t)a.n_tok * N * sizeof(float));
        }
        close_world(o);
    }
}

static void bits_do_not_depend_on_neighbours(void **s)
{
    (void)s;
    neighbours_do_not_matter(false);
}

/* Loading packs in parallel, where oneDNN has one thread; products run with all. */
static void bits_do_not_depend_on_neighbours_when_packed_in_parallel(void **s)
{
    (void)s;
    neighbours_do_not_matter(true);
}

static void strided_rows_give_the_same(void **s)
{
    (void)s;
    struct world *o = open_world(DT_F32);
    struct gemm_args a = {.y = o->y, .x = o->x, .w = &o->w, .x_stride = K, .y_stride = N, .n_tok = 9};
    gemm_cpu(&o->c, &a);
    static float wide[9 * (K + 5)], out[9 * (N + 3)];
    for (int t = 0; t < 9; t++) memcpy(wide + t * (K + 5), o->x + t * K, K * sizeof(float));
    a = (struct gemm_args){.y = out, .x = wide, .w = &o->w, .x_stride = K + 5, .y_stride = N + 3, .n_tok = 9};
    gemm_cpu(&o->c, &a);
    for (int t = 0; t < 9; t++) assert_memory_equal(out + t * (N + 3), o->y + t * N, N * sizeof(float));
    close_world(o);
}

int main(void)
{
    const struct CMUnitTest t[] = {cmocka_unit_test(f32_equals_reference),
                                   cmocka_unit_test(bf16_equals_reference),
                                   cmocka_unit_test(bits_do_not_depend_on_neighbours),
                                   cmocka_unit_test(bits_do_not_depend_on_neighbours_when_packed_in_parallel),
                                   cmocka_unit_test(strided_rows_give_the_same)};
    return cmocka_run_group_tests(t, NULL, NULL);
}
