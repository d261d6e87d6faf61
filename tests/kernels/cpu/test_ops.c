/* The CPU's small ops against their definitions (kernels/ops.h) in double precision, over widths that fill no
 * vector, strides, threads and what may be left out. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/kv_page.h"
#include "kernels/quant.h"
#include "tests/base/cm.h"

enum { T = 37 }; /* more rows than an op does in one thread */

static uint32_t seed = 1;
static float rnd(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(int32_t)(seed >> 8) / 8388608.0f - 1.0f;
}

/* What is written stays inside: n numbers, then a few that must not change. */
enum { GUARD = 8 };
static float *numbers(int64_t n, bool filled)
{
    float *v = test_malloc((size_t)(n + GUARD) * sizeof *v);
    for (int64_t i = 0; i < n + GUARD; i++) v[i] = i < n && filled ? rnd() : NAN;
    return v;
}
static void done(float *v, int64_t n)
{
    for (int i = 0; i < GUARD; i++) assert_true(isnan(v[n + i]));
    test_free(v);
}

/* Sums of n rounded products, each result rounded a few times. */
static void assert_near(float got, double want, double size, int n)
{
    const double most = (size + fabs(want)) * (4 + sqrt((double)n)) * 0x1p-24;
    if (!(fabs((double)got - want) <= most)) fail_msg("%.9g for %.9g, %.3g at most", (double)got, want, most);
}

static const int widths[] = {8, 16, 24, 40, 64, 104, 576};
enum { N_WIDTH = sizeof widths / sizeof *widths };

static void rmsnorm_is_its_definition(void **state)
{
    (void)state;
    struct op_ctx c = {.n_thread = 2};
    for (int k = 0; k < 3 * N_WIDTH; k++) {
        const int d = widths[k % N_WIDTH], xs = d + 3, rs = d + 5, form = k / N_WIDTH; /* x; res += x; res */
        float *x = numbers(T * xs, true), *res = numbers(T * rs, true), *w = numbers(d, true),
              *out = numbers(T * d, false), *was = numbers(T * rs, true);
        memcpy(was, res, (size_t)(T * rs) * sizeof *was);
        const struct rmsnorm_args a = {.out = out,
                                       .res = form ? res : NULL,
                                       .x = form < 2 ? x : NULL,
                                       .w = w,
                                       .x_stride = xs,
                                       .res_stride = rs,
                                       .n_tok = T,
                                       .d = d,
                                       .eps = 1e-5f};
        rmsnorm_cpu(&c, &a);
        for (int t = 0; t < T; t++) {
            double sum = 0;
            for (int i = 0; i < d; i++) {
                const float y = (form ? was[t * rs + i] : 0) + (form < 2 ? x[t * xs + i] : 0);
                if (form) assert_true(res[t * rs + i] == y);
                sum += (double)y * (double)y;
            }
            for (int i = 0; i < d; i++) {
                const double y = (double)(form ? res[t * rs + i] : x[t * xs + i]);
                assert_near(out[t * d + i], (double)w[i] * y / sqrt(sum / d + (double)1e-5f), 0, d);
            }
        }
        done(x, T * xs);
        done(res, T * rs);
        done(was, T * rs);
        done(w, d);
        done(out, T * d);
    }
}

static void swiglu_is_its_definition(void **state)
{
    (void)state;
    struct op_ctx c = {.n_thread = 2};
    for (int k = 0; k < N_WIDTH; k++) {
        const int f = widths[k], gs = 2 * f + 3, os = f + 1;
        float *gu = numbers(T * gs, true), *out = numbers(T * os, false);
        for (int i = 0; i < T * gs; i++) gu[i] *= i % 7 ? 8 : 200; /* where silu is 0 or its argument, too */
        swiglu_cpu(&c, &(struct swiglu_args){
                           .out = out, .gu = gu, .gu_stride = gs, .out_stride = os, .n_tok = T, .f = f});
        for (int t = 0; t < T; t++)
            for (int i = 0; i < f; i++) {
                const double gate = (double)gu[t * gs + i], up = (double)gu[t * gs + f + i];
                assert_near(out[t * os + i], gate / (1 + exp(-gate)) * up, 1e-24, 0);
            }
        done(gu, T * gs);
        done(out, T * os);
    }
}

/* A head normed where there is a weight, then turned where there are angles. */
static void head_of(double *y, const float *x, const float *w, const float *rope, int n)
{
    double sum = 0, v[128];
    for (int i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    for (int i = 0; i < n; i++)
        v[i] = w ? (double)w[i] * (double)x[i] / sqrt(sum / n + (double)1e-6f) : (double)x[i];
    for (int i = 0; i < n; i++) {
        const int h = n / 2, j = i % h;
        const double cos_j = rope ? (double)rope[2 * j] : 1, sin_j = rope ? (double)rope[2 * j + 1] : 0;
        y[i] = i < h ? v[i] * cos_j - v[i + h] * sin_j : v[i] * cos_j + v[i - h] * sin_j;
    }
}

struct heads {
    int H, G, K, n_page;
    enum dtype kv;
    float *qkv, *q, *raw, *rope, *qn, *kn, *pool;
    int32_t page[T], pos[T];
};

static void check_heads(const struct heads *o, bool norm)
{
    const int H = o->H, G = o->G, K = o->K, width = (H + 2 * G) * K;
    for (int t = 0; t < T; t++) {
        const float *row = o->qkv + t * width, *rope = o->rope + o->pos[t] * K;
        double want[128];
        for (int h = 0; h < H; h++) {
            head_of(want, row + h * K, norm ? o->qn : NULL, rope, K);
            for (int i = 0; i < K; i++) assert_near(o->q[(t * H + h) * K + i], want[i], 2, K);
            head_of(want, row + h * K, norm ? o->qn : NULL, NULL, K);
            for (int i = 0; i < K; i++) assert_near(o->raw[(t * H + h) * K + i], want[i], 0, K);
        }
        for (int g = 0; g < G && o->page[t] >= 0; g++)
            for (int i = 0; i < K; i++) {
                const int at = o->pos[t] % PAGE_TOK;
                const int64_t k = kv_half(o->page[t], G, g, 0, K) + kv_at_k(o->kv, K, at, i),
                              v = kv_half(o->page[t], G, g, 1, K) + kv_at_v(o->kv, K, at, i);
                const float value = row[(H + G + g) * K + i];
                head_of(want, row + (H + g) * K, norm ? o->kn : NULL, rope, K);
                if (o->kv == DT_F32) {
                    assert_near(o->pool[k], want[i], 2, K);
                    assert_true(o->pool[v] == value);
                } else {
                    const uint16_t *pool = (const uint16_t *)o->pool;
                    assert_true(fabs((double)f32_from_bf16(pool[k]) - want[i]) <=
                                0x1p-8 * fabs(want[i]) + 1e-6);
                    assert_int_equal(pool[v], f32_to_bf16(value));
                }
            }
    }
}

static void qkrope_is_its_definition(void **state)
{
    (void)state;
    static const struct {
        int H, G, K;
        bool norm;
        enum dtype kv;
    } cases[] = {{3, 1, 16, false, DT_F32},
                 {4, 2, 64, true, DT_F32},
                 {9, 3, 64, false, DT_BF16},
                 {2, 2, 128, true, DT_BF16}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        struct heads o = {.H = cases[k].H, .G = cases[k].G, .K = cases[k].K, .n_page = 3, .kv = cases[k].kv};
        const int width = (o.H + 2 * o.G) * o.K, n_q = T * o.H * o.K,
                  n_pool = o.n_page * o.G * 2 * PAGE_TOK * o.K;
        struct op_ctx c = {.n_thread = 2, .kv = o.kv};
        o.qkv = numbers(T * width, true);
        o.q = numbers(n_q, false);
        o.raw = numbers(n_q, false);
        o.qn = numbers(o.K, true);
        o.kn = numbers(o.K, true);
        o.pool = numbers(n_pool, false);
        o.rope = numbers(300 * o.K, true);
        for (int i = 0; i < 300 * o.K / 2; i++) {
            const double angle = (double)rnd() * 9;
            o.rope[2 * i] = (float)cos(angle);
            o.rope[2 * i + 1] = (float)sin(angle);
        }
        for (int t = 0; t < T; t++) { /* over two edges of pages; some are not there */
            o.pos[t] = 110 + t * 5;
            o.page[t] = t % 11 == 3 ? -1 : 2 - o.pos[t] / PAGE_TOK;
        }
        const struct qkrope_args a = {.qkv = o.qkv,
                                      .qkv_stride = width,
                                      .q = o.q,
                                      .q_raw = o.raw,
                                      .pool = o.pool,
                                      .page = o.page,
                                      .pos = o.pos,
                                      .rope = o.rope,
                                      .q_norm = cases[k].norm ? o.qn : NULL,
                                      .k_norm = cases[k].norm ? o.kn : NULL,
                                      .eps = 1e-6f,
                                      .n_tok = T,
                                      .n_head = o.H,
                                      .n_kv = o.G,
                                      .head = o.K};
        qkrope_cpu(&c, &a);
        check_heads(&o, cases[k].norm);
        done(o.qkv, T * width);
        done(o.q, n_q);
        done(o.raw, n_q);
        done(o.qn, o.K);
        done(o.kn, o.K);
        done(o.pool, n_pool);
        done(o.rope, 300 * o.K);
    }
}

static void mlp_layer(double *y, const double *x, const float *w, const float *b, int n, int k, bool act)
{
    for (int i = 0; i < n; i++) {
        double v = (double)b[i];
        for (int j = 0; j < k; j++) v += x[j] * (double)w[(int64_t)i * k + j];
        y[i] = act ? v / (1 + exp(-v)) : v;
    }
}

/* Mean of the pooled queries of all heads, five products, the margin. */
static void pool_and_router_are_their_definition(void **state)
{
    (void)state;
    enum { H = 5, K = 24, STRIDE = H * K + 4 };
    for (int n_out = 1; n_out <= 2; n_out++) {
        struct op_ctx c = {.n_thread = 2};
        const int n[] = {8 * K, 2 * K, 4 * K, K, n_out}, k[] = {K, 8 * K, 2 * K, 4 * K, K};
        struct router_weights w = {.n_out = n_out};
        float *q = numbers(T * STRIDE, true), *own[10], sum[K] = {0}, margin;
        double x[8 * K] = {0}, y[8 * K];
        for (int l = 0; l < 5; l++) {
            w.w[l] = own[2 * l] = numbers(n[l] * k[l], true);
            w.b[l] = own[2 * l + 1] = numbers(n[l], true);
        }
        pool_cpu(&c, &(struct pool_args){
                         .sum = sum, .q = q, .q_stride = STRIDE, .n_row = T, .n_head = H, .head = K});
        for (int i = 0; i < K; i++) {
            for (int t = 0; t < T; t++)
                for (int h = 0; h < H; h++) x[i] += (double)q[t * STRIDE + h * K + i];
            assert_near(sum[i], x[i], 0.25 * T * H, 0);
            x[i] /= T * H;
        }
        for (int l = 0; l < 5; l++) {
            mlp_layer(y, x, w.w[l], w.b[l], n[l], k[l], l != 1 && l != 4);
            memcpy(x, y, sizeof x);
        }
        const double want = (n_out == 2 ? y[1] - y[0] : y[0]) + 0.25;
        router_cpu(&c, &(struct router_args){
                           .sum = sum, .count = T * H, .w = &w, .head = K, .bias = 0.25f, .margin = &margin});
        assert_true(fabs((double)margin - want) <= 2e-5 * (1 + fabs(want)));
        for (int i = 0; i < 10; i++) done(own[i], i % 2 ? n[i / 2] : n[i / 2] * k[i / 2]);
        done(q, T * STRIDE);
    }
}

/* Rows of a table of each kind that files have, and rows of an activation. */
static void embed_and_gather_copy_rows(void **state)
{
    (void)state;
    enum { V = 19, D = 256, MANY = 80 };
    static const enum dtype types[] = {DT_F32, DT_BF16, DT_F16, DT_Q8_0, DT_Q4_1, DT_Q6_K};
    struct op_ctx c = {.n_thread = 2};
    int32_t id[MANY];
    float *out = numbers(MANY * D, false), *x = numbers(V * (D + 8), true), row[D];
    for (int i = 0; i < MANY; i++) id[i] = (i * 7 + 3) % V;
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        struct weight w;
        const int64_t bytes = quant_bytes(types[k], V * D), row_bytes = quant_bytes(types[k], D);
        uint8_t *raw = test_malloc((size_t)bytes);
        for (int64_t i = 0; i < bytes; i++) raw[i] = (uint8_t)(i * 37 % 60); /* no infinities in any scale */
        assert_int_equal(cpu_weight_new(&w, V, D, types[k], true, NULL), OK);
        cpu_weight_part(&w, 0, V, raw, types[k], NULL);
        embed_cpu(&c, &(struct embed_args){.out = out, .table = &w, .id = id, .n_tok = MANY, .d = D});
        for (int i = 0; i < MANY; i++) {
            assert_true(quant_to_f32(types[k], raw + id[i] * row_bytes, row, D));
            assert_memory_equal(out + i * D, row, sizeof row);
        }
        cpu_weight_free(&w);
        test_free(raw);
    }
    gather_cpu(
        &c, &(struct gather_args){.out = out, .x = x, .row = id, .x_stride = D + 8, .n_row = MANY, .d = D});
    for (int i = 0; i < MANY; i++) assert_memory_equal(out + i * D, x + id[i] * (D + 8), sizeof row);
    done(out, MANY * D);
    done(x, V * (D + 8));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rmsnorm_is_its_definition),  cmocka_unit_test(swiglu_is_its_definition),
        cmocka_unit_test(qkrope_is_its_definition),   cmocka_unit_test(pool_and_router_are_their_definition),
        cmocka_unit_test(embed_and_gather_copy_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
