/* kv_codes: the fast rounding is the reference's; attention and choices over pages of codes have the bits of
 * those over bf16 pages that hold what the codes stand for; qkrope writes the codes of what it writes as
 * bf16, and two blocks of a page do not touch each other. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/kv_codes.h"
#include "kernels/quant.h"
#include "tests/base/cm.h"
#include "tests/kernels/choose_ref.h"
#include "tests/kernels/cpu/attn_ref.h"

enum { G = 2, BLOCKS = 7, S = BLOCKS * PAGE_TOK - 45, PAGES = 16, K_MOST = 128 };

static float draw(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(int32_t)*seed * 0x1p-31f;
}

static void assert_rows_alike(const float *x, int n)
{
    uint8_t want[K_MOST], got[K_MOST];
    int8_t e, f;
    kv_fp8_row_ref(want, &e, x, n);
    kv_fp8_row_cpu(got, &f, x, n);
    assert_int_equal(e, f);
    for (int i = 0; i < n; i++)
        assert_true(got[i] == want[i] || ((got[i] & 0x7f) == 0x7f && (want[i] & 0x7f) == 0x7f));
}

static void fast_rows_are_the_reference(void **state)
{
    (void)state;
    uint32_t seed = 3;
    float x[K_MOST];
    for (int turn = 0; turn < 3000; turn++) {
        for (int i = 0; i < K_MOST; i++) x[i] = ldexpf(draw(&seed), turn % 250 - 125 - i % 23);
        if (turn % 5 == 1) x[turn % K_MOST] = turn % 2 ? INFINITY : -NAN;
        if (turn % 7 == 2) memset(x, 0, sizeof x / 2);
        assert_rows_alike(x, turn % 3 ? K_MOST : 64);
    }
    for (int e = -118; e < 110; e++) /* halves between two codes, and what lies just beside them */
        for (int i = 0; i < 256; i++) {
            const float v = ldexpf((float)(i + 256) / 256, e % 19 - 10);
            for (int k = 0; k < 64; k++)
                x[k] = k == 0 ? ldexpf(256, e)
                              : ldexpf(k % 3 ? nextafterf(v, k % 3 == 1 ? 0 : 9) : v, e - k % 16);
            assert_rows_alike(x, 64);
        }
}

static void rows_as_bf16_are_what_codes_stand_for(void **state)
{
    (void)state;
    static uint8_t code[16 * K_MOST];
    static uint16_t keys[16 * K_MOST], values[16 * K_MOST];
    int8_t exp[16];
    for (int e = -KV_FP8_EXP_MOST; e <= 118; e++) { /* above, the largest codes are no bf16 */
        for (int i = 0; i < 16 * K_MOST; i++) code[i] = (uint8_t)(i + e);
        for (int t = 0; t < 16; t++) exp[t] = (int8_t)e;
        kv_codes_keys(keys, code, exp, K_MOST, 16);
        kv_codes_values(values, code, exp, K_MOST, 16);
        for (int t = 0; t < 16; t++)
            for (int i = 0; i < K_MOST; i++) {
                const float want = kv_fp8_value(code[t * K_MOST + i], exp[t]),
                            key = f32_from_bf16(keys[kv_at_k(DT_BF16, K_MOST, t, i)]),
                            value = f32_from_bf16(values[kv_at_v(DT_BF16, K_MOST, t, i)]);
                assert_true(isnan(want) ? isnan(key) && isnan(value) : key == want && value == want);
            }
    }
}

/* One sequence, its pages three times: bf16 as qkrope writes them, codes, and bf16 of what the codes stand
 * for. */
struct world {
    struct op_ctx c;
    int H, K;
    float *q, *qkv, *rope;
    uint16_t *plain, *codes, *wide;
    int8_t *exp;
    int32_t page[BLOCKS], half[BLOCKS], pos[S], tok_page[S];
};

static void write_pages(struct world *w, const int32_t *page, void *pool, int from, int to)
{
    const int width = (w->H + 2 * G) * w->K;
    for (int t = from; t < to; t++) w->pos[t] = t, w->tok_page[t] = page[t / PAGE_TOK];
    qkrope_cpu(&w->c, &(struct qkrope_args){.qkv = w->qkv + (int64_t)from * width,
                                            .qkv_stride = width,
                                            .pool = pool,
                                            .page = w->tok_page + from,
                                            .pos = w->pos + from,
                                            .rope = w->rope,
                                            .n_tok = to - from,
                                            .n_head = w->H,
                                            .n_kv = G,
                                            .head = w->K});
}

/* Numbers of a page of either kind that were written. */
static int count_wrong(const struct world *w, const void *pool, const int32_t *page)
{
    int wrong = 0;
    for (int t = 0; t < S; t++)
        for (int g = 0; g < G; g++)
            for (int v = 0; v < 2; v++) {
                float x[K_MOST];
                uint8_t code[K_MOST];
                int8_t exp;
                for (int i = 0; i < w->K; i++)
                    x[i] = kv_number(&w->c, w->plain, w->page[t / PAGE_TOK], G, g, v, w->K, t % PAGE_TOK, i);
                kv_fp8_row_ref(code, &exp, x, w->K);
                for (int i = 0; i < w->K; i++)
                    wrong += kv_number(&w->c, pool, page[t / PAGE_TOK], G, g, v, w->K, t % PAGE_TOK, i) !=
                             kv_fp8_value(code[i], exp);
            }
    return wrong;
}

static void widen(struct world *w)
{
    for (int t = 0; t < S; t++)
        for (int g = 0; g < G; g++)
            for (int v = 0; v < 2; v++)
                for (int i = 0; i < w->K; i++) {
                    const int row = t % PAGE_TOK,
                              at = v ? kv_at_v(DT_BF16, w->K, row, i) : kv_at_k(DT_BF16, w->K, row, i);
                    w->wide[kv_half(w->page[t / PAGE_TOK], G, g, v, w->K) + at] =
                        f32_to_bf16(kv_number(&w->c, w->codes, w->half[t / PAGE_TOK], G, g, v, w->K, row, i));
                }
}

static struct world *open_world(int rep, int K)
{
    struct world *w = calloc(1, sizeof *w);
    const size_t bytes = (size_t)PAGES * G * 2 * PAGE_TOK * (size_t)K * 2;
    uint32_t seed = (uint32_t)K + 5;
    w->H = rep * G;
    w->K = K;
    assert_int_equal(cpu_open(&w->c, 2, DT_BF16, 64, 64 + w->H * K, 64, NULL), OK);
    const size_t width = (size_t)((w->H + 2 * G) * K);
    w->q = malloc((size_t)S * (size_t)(w->H * K) * 4);
    w->qkv = malloc(S * width * 4);
    w->rope = malloc((size_t)S * (size_t)K * 4);
    w->plain = malloc(bytes), w->codes = malloc(bytes), w->wide = malloc(bytes);
    w->c.kv_exp = malloc((size_t)PAGES * 2 * G * 2 * PAGE_TOK);
    for (size_t i = 0; i < (size_t)S * (size_t)(w->H * K); i++) w->q[i] = 2 * draw(&seed);
    for (size_t i = 0; i < S * width; i++) w->qkv[i] = ldexpf(draw(&seed), (int)(i / (size_t)K) * 7 % 5 - 2);
    for (int i = 0; i < S * K / 2; i++) w->rope[2 * i] = cosf((float)i), w->rope[2 * i + 1] = sinf((float)i);
    memset(w->plain, 0xff, bytes), memset(w->codes, 0xff, bytes), memset(w->wide, 0xff, bytes);
    for (int b = 0; b < BLOCKS; b++) {
        w->page[b] = (b * 5 + 3) % PAGES;
        w->half[b] = page_codes(w->page[b / 2 * 2], b);
    }
    w->half[3] = page_codes(15, 3); /* one behind shared pages: alone in its page */
    write_pages(w, w->page, w->plain, 0, S);
    for (int from = 0; from < S; from += 100)
        write_pages(w, w->half, w->codes, from, from + 100 < S ? from + 100 : S);
    widen(w);
    return w;
}

static void close_world(struct world *w)
{
    void *const part[] = {w->q, w->qkv, w->rope, w->plain, w->codes, w->wide, w->c.kv_exp};
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) free(part[i]);
    cpu_close(&w->c);
    free(w);
}

static void attend(struct world *w, const void *pool, struct attn_seg s, bool decode, bool ref, float *out)
{
    const size_t n = (size_t)S * (size_t)(w->H * w->K);
    for (size_t i = 0; i < n; i++) out[i] = 0;
    const struct attn_args a = {.out = out,
                                .q = w->q,
                                .out_stride = w->H * w->K,
                                .q_stride = w->H * w->K,
                                .pool = pool,
                                .seg = &s,
                                .n_seg = 1,
                                .n_head = w->H,
                                .n_kv = G,
                                .head = w->K,
                                .scale = 1 / sqrtf((float)w->K),
                                .decode = decode};
    (ref ? attn_ref : attn_cpu)(&w->c, &a);
}

static void attention_has_the_bits_of_bf16_pages_with_the_values(void **state)
{
    (void)state;
    for (int turn = 0; turn < 3; turn++) {
        struct world *w = open_world(turn == 1 ? 1 : 3, turn == 2 ? 128 : turn ? 64 : 16);
        const size_t n = (size_t)S * (size_t)(w->H * w->K);
        float *a = malloc(n * 4), *b = malloc(n * 4);
        assert_int_equal(count_wrong(w, w->codes, w->half), 0);
        for (int kind = ATTN_FULL; kind <= ATTN_TRIANGLE; kind++)
            for (int part = 0; part < 3; part++) { /* all rows, some in the middle, the last by decode */
                struct attn_seg s = {.kind = kind,
                                     .n_row = part == 0   ? S
                                              : part == 1 ? 200
                                                          : 1,
                                     .pos0 = part == 0   ? 0
                                             : part == 1 ? 250
                                                         : S - 1,
                                     .sink_blocks = 1,
                                     .local_blocks = 2,
                                     .dense_from = S - 50};
                for (int ref = 0; ref < 1 + (part == 2); ref++) {
                    s.page = w->half;
                    attend(w, w->codes, s, part == 2, ref, a);
                    s.page = w->page;
                    attend(w, w->wide, s, part == 2, ref, b);
                    assert_memory_equal(a, b, n * 4);
                }
            }
        free(a);
        free(b);
        close_world(w);
    }
}

static void choices_are_those_of_bf16_pages_with_the_values(void **state)
{
    (void)state;
    struct world *w = open_world(3, 64);
    const int64_t stride = choose_work(BLOCKS, w->K);
    float *work = malloc((size_t)(2 * stride) * 4), *mean = malloc((size_t)(G * BLOCKS * w->K) * 4);
    for (int rule = CHOOSE_XATTN; rule <= CHOOSE_FLEX; rule++)
        for (int ref = 0; ref < 2; ref++) {
            uint64_t keep[2][BLOCKS * 8] = {{0}};
            int chosen = 0;
            for (int k = 0; k < 2; k++) {
                const struct choose_args a = {.q = w->q,
                                              .q_stride = w->H * w->K,
                                              .pool = k ? w->wide : w->codes,
                                              .page = k ? w->page : w->half,
                                              .n_row = S,
                                              .n_prompt = S,
                                              .n_head = w->H,
                                              .n_kv = G,
                                              .head = w->K,
                                              .rule = rule,
                                              .threshold = 0.7f,
                                              .keep = keep[k],
                                              .head_stride = 1,
                                              .block_stride = w->H,
                                              .mean = mean,
                                              .work = work,
                                              .work_stride = stride};
                (ref ? choose_ref : choose_cpu)(&w->c, &a);
            }
            assert_memory_equal(keep[0], keep[1], sizeof keep[0]);
            for (int i = 0; i < BLOCKS * w->H; i++) chosen += __builtin_popcountll(keep[0][i]);
            assert_true(chosen > BLOCKS * w->H && chosen < BLOCKS * (BLOCKS + 1) / 2 * w->H);
        }
    free(work);
    free(mean);
    close_world(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fast_rows_are_the_reference),
        cmocka_unit_test(rows_as_bf16_are_what_codes_stand_for),
        cmocka_unit_test(attention_has_the_bits_of_bf16_pages_with_the_values),
        cmocka_unit_test(choices_are_those_of_bf16_pages_with_the_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
