/* attn: the tiled kernel equals the reference for every kind and edge, whatever the piece, with shuffled
 * pages and poisoned tails; and a row's bits do not depend on the piece it came in. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/kv_page.h"
#include "kernels/quant.h"
#include "tests/base/cm.h"
#include "tests/kernels/cpu/attn_ref.h"

enum { G = 2, PAGES = 16, SMAX = 1100 };

struct world {
    struct op_ctx c;
    int H, K;
    float *q, *out, *ref;
    void *pool;
    int32_t page[PAGES];
};

static float rnd(uint32_t *s)
{
    *s = *s * 1664525u + 1013904223u;
    return (float)(int32_t)(*s >> 8) / 8388608.0f - 1.0f;
}

static struct world *open_world(int rep, int K, enum dtype kv, int S)
{
    struct world *o = calloc(1, sizeof *o);
    uint32_t seed = (uint32_t)(S * 31 + K);
    assert_int_equal(cpu_open(&o->c, 2, kv, 64, 64, 64, NULL), OK);
    o->H = rep * G;
    o->K = K;
    size_t n = (size_t)SMAX * (size_t)o->H * (size_t)K;
    o->q = malloc(n * 4);
    o->out = malloc(n * 4);
    o->ref = malloc(n * 4);
    for (size_t i = 0; i < n; i++) o->q[i] = 2 * rnd(&seed);
    for (int b = 0; b < PAGES; b++) o->page[b] = (b * 7 + 3) % PAGES;
    size_t e = (size_t)PAGES * G * 2 * PAGE_TOK * (size_t)K;
    o->pool = malloc(e * 4);
    for (int b = 0; b < PAGES; b++)
        for (int g = 0; g < G; g++)
            for (int kvh = 0; kvh < 2; kvh++)
                for (int j = 0; j < PAGE_TOK; j++)
                    for (int i = 0; i < K; i++) {
                        int64_t at = kv_half(o->page[b], G, g, kvh, K) +
                                     (kvh ? kv_at_v(kv, K, j, i) : kv_at_k(kv, K, j, i));
                        float v = b * PAGE_TOK + j < S ? rnd(&seed) : NAN; /* not written yet */
                        if (kv == DT_F32)
                            ((float *)o->pool)[at] = v;
                        else
                            ((uint16_t *)o->pool)[at] = f32_to_bf16(v);
                    }
    return o;
}

static void close_world(struct world *o)
{
    cpu_close(&o->c);
    free(o->q);
    free(o->out);
    free(o->ref);
    free(o->pool);
    free(o);
}

static struct attn_args args(struct world *o, const struct attn_seg *s, float *out)
{
    return (struct attn_args){.out = out,
                              .q = o->q,
                              .out_stride = o->H * o->K,
                              .q_stride = o->H * o->K,
                              .pool = o->pool,
                              .seg = s,
                              .n_seg = 1,
                              .n_head = o->H,
                              .n_kv = G,
                              .head = o->K,
                              .scale = 1 / sqrtf((float)o->K)};
}

/* tolerance: 0 for fp32 pages (and small heads, which the portable kernel takes), else bf16's rounding of q
 * and weights */
static void compare_within(struct world *o, struct attn_seg s, int S, int piece, float tolerance)
{
    size_t row = (size_t)(o->H * o->K);
    for (size_t i = 0; i < (size_t)S * row; i++) o->out[i] = o->ref[i] = NAN;
    for (int r = 0; r < S; r += piece) {
        s.row0 = r;
        s.pos0 = r;
        s.n_row = S - r < piece ? S - r : piece;
        struct attn_args a = args(o, &s, o->out);
        attn_cpu(&o->c, &a);
    }
    s.row0 = s.pos0 = 0;
    s.n_row = S;
    struct attn_args a = args(o, &s, o->ref);
    attn_ref(&o->c, &a);
    for (size_t i = 0; i < (size_t)S * row; i++)
        assert_true(fabsf(o->out[i] - o->ref[i]) < 1e-5f + tolerance);
}

static void compare(struct world *o, struct attn_seg s, int S, int piece)
{
    compare_within(o, s, S, piece, 0);
}

static void kinds_and_edges_equal_the_reference(void **st)
{
    (void)st;
    const int S[] = {1, 15, 127, 128, 129, 255, 700};
    for (int i = 0; i < 7; i++)
        for (int kind = ATTN_FULL; kind <= ATTN_TRIANGLE; kind++) {
            struct world *o = open_world(3, 16, i % 2 ? DT_F32 : DT_BF16, S[i]);
            int n_last = S[i] - 1 < 50 ? S[i] - 1 : 50;
            compare(o,
                    (struct attn_seg){.kind = kind,
                                      .sink_blocks = 1,
                                      .local_blocks = 2,
                                      .dense_from = S[i] - n_last,
                                      .page = o->page},
                    S[i], S[i]);
            close_world(o);
        }
}

static void bf16_products_equal_the_reference(void **st)
{
    (void)st;
    const int S[] = {1, 2, 127, 128, 129, 515, 33}, rep[] = {1, 16, 3, 8, 32, 7, 17};
    for (int i = 0; i < 7; i++)
        for (int kind = ATTN_FULL; kind <= ATTN_TRIANGLE; kind++)
            for (int K = 64; K <= 128; K += 64) {
                struct world *o = open_world(rep[i], K, DT_BF16, S[i]);
                int n_last = S[i] - 1 < 50 ? S[i] - 1 : 50;
                compare_within(o,
                               (struct attn_seg){.kind = kind,
                                                 .sink_blocks = 1,
                                                 .local_blocks = 2,
                                                 .dense_from = S[i] - n_last,
                                                 .page = o->page},
                               S[i], 128, 0.02f);
                close_world(o);
            }
}

/* Decode rows: same keys as the prefill row of that place; alone and in a batch the same bits. */
static void decode_rows_equal_the_reference_in_any_batch(void **st)
{
    (void)st;
    for (int kv = 0; kv < 2; kv++) {
        struct world *o = open_world(3, 64, kv ? DT_BF16 : DT_F32, 1100);
        struct attn_seg s[6];
        const int pos[] = {0, 127, 128, 700, 1024, 1099};
        for (int i = 0; i < 6; i++)
            s[i] = (struct attn_seg){.row0 = i,
                                     .n_row = 1,
                                     .pos0 = pos[i],
                                     .kind = i % 2 ? ATTN_STREAMING : ATTN_FULL,
                                     .sink_blocks = 1,
                                     .local_blocks = 3,
                                     .page = o->page};
        struct attn_args a = args(o, s, o->out);
        a.n_seg = 6;
        a.decode = true;
        attn_cpu(&o->c, &a);
        a.out = o->ref;
        attn_ref(&o->c, &a);
        size_t row = (size_t)(o->H * o->K);
        for (size_t i = 0; i < 6 * row; i++) assert_true(fabsf(o->out[i] - o->ref[i]) < (kv ? 0.02f : 1e-5f));
        for (int i = 0; i < 6; i++) {
            a = args(o, &s[i], o->ref);
            a.decode = true;
            attn_cpu(&o->c, &a);
            assert_memory_equal(o->ref + (size_t)i * row, o->out + (size_t)i * row, row * 4);
        }
        close_world(o);
    }
}

static void freed_pages_are_not_touched(void **st)
{
    (void)st;
    struct world *o = open_world(1, 24, DT_F32, 1000);
    struct attn_seg s = {.row0 = 0,
                         .n_row = 1,
                         .pos0 = 999,
                         .kind = ATTN_STREAMING,
                         .sink_blocks = 1,
                         .local_blocks = 2,
                         .page = o->page};
    struct attn_args a = args(o, &s, o->ref);
    attn_cpu(&o->c, &a);
    for (int b = 1; b < 6; b++) o->page[b] = -1000000; /* would crash */
    a.out = o->out;
    attn_cpu(&o->c, &a);
    assert_memory_equal(o->out, o->ref, (size_t)(o->H * o->K) * 4);
    close_world(o);
}

static void bits_of_pieces(int rep)
{
    struct world *o = open_world(rep, 64, DT_BF16, 515);
    struct attn_seg s = {
        .n_row = 515, .kind = ATTN_STREAMING, .sink_blocks = 1, .local_blocks = 2, .page = o->page};
    struct attn_args a = args(o, &s, o->ref);
    attn_cpu(&o->c, &a);
    const int piece[] = {128, 1, 33};
    for (int p = 0; p < 3; p++)
        for (int r = 0; r < 515; r += piece[p]) {
            s.row0 = s.pos0 = r;
            s.n_row = 515 - r < piece[p] ? 515 - r : piece[p];
            a = args(o, &s, o->out);
            attn_cpu(&o->c, &a);
            size_t row = (size_t)(o->H * o->K);
            assert_memory_equal(o->out + (size_t)r * row, o->ref + (size_t)r * row,
                                (size_t)s.n_row * row * 4);
        }
    close_world(o);
}

static void bits_do_not_depend_on_the_piece(void **st)
{
    (void)st;
    for (int rep = 1; rep <= 9; rep += 2) bits_of_pieces(rep);
}

static void lists_equal_the_reference(void **st)
{
    (void)st;
    enum { S = 600, NQ = 5, REP = 2 };
    struct world *o = open_world(REP, 32, DT_F32, S);
    static int32_t off[REP * G * (NQ + 1)], list[256];
    int n = 0;
    for (int h = 0; h < REP * G; h++)
        for (int b = 0; b <= NQ; b++) {
            off[h * (NQ + 1) + b] = n;
            for (int k = 0; b < NQ && k <= b; k++)
                if (k == 0 || k == b || (k + h) % 2) list[n++] = k;
        }
    compare(o,
            (struct attn_seg){
                .kind = ATTN_LIST, .local_blocks = 1, .page = o->page, .list_off = off, .list = list},
            S, S);
    close_world(o);
}

/* The same sets as bits: the same bits out, whatever the piece; and close to the reference on bf16 pages. */
static void sets_as_bits_equal_lists(void **st)
{
    (void)st;
    enum { S = 1000, NQ = 8, REP = 3 };
    for (int kv = 0; kv < 2; kv++) {
        struct world *o = open_world(REP, 64, kv ? DT_BF16 : DT_F32, S);
        static int32_t off[REP * G * (NQ + 1)], list[512];
        static uint64_t keep[NQ][REP * G];
        int n = 0;
        memset(keep, 0, sizeof keep);
        for (int h = 0; h < REP * G; h++)
            for (int b = 0; b <= NQ; b++) {
                off[h * (NQ + 1) + b] = n;
                for (int k = 0; b < NQ && k <= b; k++)
                    if (k == 0 || k == b || (k * 3 + h + b) % 3 == 1) {
                        list[n++] = k;
                        keep[b][h] |= 1ull << k;
                    }
            }
        struct attn_seg s = {
            .n_row = S, .kind = ATTN_LIST, .local_blocks = 1, .page = o->page, .list_off = off, .list = list};
        compare_within(o, s, S, S, kv ? 0.02f : 0);
        struct attn_args a = args(o, &s, o->ref);
        attn_cpu(&o->c, &a);
        size_t row = (size_t)(o->H * o->K);
        for (int r = 0; r < S; r += 256) {
            struct attn_seg part = {.row0 = r,
                                    .pos0 = r,
                                    .n_row = S - r < 256 ? S - r : 256,
                                    .kind = ATTN_LIST,
                                    .local_blocks = 1,
                                    .page = o->page,
                                    .keep = keep[r / PAGE_TOK],
                                    .keep_head_stride = 1,
                                    .keep_block_stride = REP * G};
            a = args(o, &part, o->out);
            attn_cpu(&o->c, &a);
        }
        assert_memory_equal(o->out, o->ref, (size_t)S * row * 4);
        close_world(o);
    }
}

/* Heads that are full beside heads that stream: as prompts and as decode rows. */
static void split_heads_equal_the_reference(void **st)
{
    (void)st;
    static const uint8_t full_head[] = {0, 0, 0, 1, 1, 1};
    for (int kv = 0; kv < 2; kv++)
        for (int S = 129; S < 1100; S += 485) {
            struct world *o = open_world(3, 64, kv ? DT_BF16 : DT_F32, S);
            struct attn_seg s = {.kind = ATTN_SPLIT,
                                 .sink_blocks = 1,
                                 .local_blocks = 2,
                                 .page = o->page,
                                 .full_head = full_head};
            compare_within(o, s, S, 128, kv ? 0.02f : 0);
            size_t half = (size_t)(3 * o->K), last = (size_t)(S - 1) * 2 * half;
            struct attn_args a;
            for (int kind = ATTN_STREAMING; kind >= ATTN_FULL;
                 kind--) { /* each half is bit for bit what the pure kind gives */
                struct attn_seg row = {.row0 = S - 1,
                                       .n_row = 1,
                                       .pos0 = S - 1,
                                       .kind = ATTN_SPLIT,
                                       .sink_blocks = 1,
                                       .local_blocks = 2,
                                       .page = o->page,
                                       .full_head = full_head};
                a = args(o, &row, o->out);
                a.decode = true;
                attn_cpu(&o->c, &a);
                row.kind = kind;
                a = args(o, &row, o->ref);
                a.decode = true;
                attn_cpu(&o->c, &a);
                size_t at = last + (kind == ATTN_FULL ? half : 0);
                assert_memory_equal(o->out + at, o->ref + at, half * 4);
            }
            close_world(o);
        }
}

int main(void)
{
    const struct CMUnitTest t[] = {cmocka_unit_test(kinds_and_edges_equal_the_reference),
                                   cmocka_unit_test(bf16_products_equal_the_reference),
                                   cmocka_unit_test(decode_rows_equal_the_reference_in_any_batch),
                                   cmocka_unit_test(freed_pages_are_not_touched),
                                   cmocka_unit_test(bits_do_not_depend_on_the_piece),
                                   cmocka_unit_test(lists_equal_the_reference),
                                   cmocka_unit_test(sets_as_bits_equal_lists),
                                   cmocka_unit_test(split_heads_equal_the_reference)};
    return cmocka_run_group_tests(t, NULL, NULL);
}
