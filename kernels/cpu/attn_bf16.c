/* attn_bf16: attention over bf16 pages with AVX-512 bf16 pair products, head sizes of 64, 128, ... Same walk
 * and same online softmax as attn_cpu.c; queries and weights are rounded to bf16, sums are fp32.
 *
 * A tile is up to TILE_TOK query tokens with all query heads of one kv head; its rows go through a page six
 * at a time - scores, weights, values - so that keys and values are read from the cache once for six rows,
 * and what is between them stays in the first one. The first six fetch the page that follows. A row's bits do
 * not depend on its tile. Where every head has its own list of blocks, a tile is LIST_TOK tokens of one head.
 * A decode row is cut into at most ATTN_PARTS parts of whole pages, by its own length alone, which threads
 * take in any order; they are merged in page order. */
#include "kernels/attn_blocks.h"
#include "kernels/cpu/internal.h"
#include "kernels/cpu/cpu_math.h"
#include "kernels/cpu/kv_codes.h"
#include "kernels/quant.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#define ISA    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")))
#define INLINE ISA static inline __attribute__((always_inline))

enum { TILE_TOK = 32, ROWS = 6, ROW_MAX = 96, HEAD_MAX = 256, HALF = 64, PART_PAGES = 8 };

struct rows {
    _Alignas(64) uint16_t q[ROW_MAX * HEAD_MAX]; /* [n][head], scaled by scale * log2(e) */
    _Alignas(64) float s[ROWS][PAGE_TOK];        /* scores and weights of the rows at work */
    _Alignas(64) uint16_t p[ROWS][PAGE_TOK];
    _Alignas(64) float o[ROW_MAX * HEAD_MAX];            /* [n][head] */
    _Alignas(64) float l[ROW_MAX][16];                   /* sums of weights, by key modulo 16 */
    _Alignas(64) uint16_t wide[2 * PAGE_TOK * HEAD_MAX]; /* a page of codes as bf16: keys, then values */
    float m[ROW_MAX];
    int pos[ROW_MAX];
    int n, head;
};

static inline float *o_at(struct rows *t, int r) { return t->o + r * t->head; }
static inline uint16_t *q_at(struct rows *t, int r) { return t->q + r * t->head; }

INLINE __m512bh pair(const uint16_t *p)
{
    int32_t v;
    memcpy(&v, p, 4);
    return (__m512bh)_mm512_set1_epi32(v);
}

/* 2^x for x <= 0, also -inf. x = n + f with f in [0, 1); a polynomial of degree 4 that is 1 at 0, relative
 * error under 3e-6, far below bf16's rounding of the weights that it makes; n goes into the exponent. NaN
 * stays NaN. */
INLINE __m512 exp2_16(__m512 x)
{
    __m512 f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    __m512 p = _mm512_set1_ps(1.34266829e-2f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.22424765e-2f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.41280198e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.93044841e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, x);
}

/* 256 bytes to come. */
INLINE void fetch(const uint16_t *p)
{
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) _mm_prefetch((const char *)p + 64 * j, _MM_HINT_T0);
}

/* Scores of R rows (a constant) against a page of keys: [8 x 16 tokens][K/2 pairs]; n_key of them count, the
 * others' may stay as they were. ahead: the next page's keys, or NULL. */
INLINE void score_rows(struct rows *t, int r0, const int R, const uint16_t *k, const uint16_t *ahead,
                       int n_key)
{
    for (int half = 0; half * 64 < n_key; half++, k += 4 * 16 * t->head) {
        __m512 a[ROWS][4];
#pragma GCC unroll 6
        for (int r = 0; r < R; r++)
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) a[r][j] = _mm512_setzero_ps();
        for (int i = 0; i < t->head; i += 2) {
            __m512bh w[4];
            if (ahead) fetch(ahead + (half * t->head + i) * 64);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) w[j] = (__m512bh)_mm512_loadu_si512(k + j * 16 * t->head + i * 16);
#pragma GCC unroll 6
            for (int r = 0; r < R; r++) {
                __m512bh q = pair(q_at(t, r0 + r) + i);
#pragma GCC unroll 4
                for (int j = 0; j < 4; j++) a[r][j] = _mm512_dpbf16_ps(a[r][j], w[j], q);
            }
        }
#pragma GCC unroll 6
        for (int r = 0; r < R; r++)
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) _mm512_store_ps(&t->s[r][half * 64 + j * 16], a[r][j]);
    }
}

/* Online softmax of row r, the i-th at work, over the page: n_key of its keys count; all: every one, a
 * constant. */
INLINE void soften(struct rows *t, int r, int i, const bool all, int n_key)
{
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512 v[8], sum = _mm512_setzero_ps();
    __mmask16 in[8];
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        in[j] = all ? 0xffff : _mm512_cmplt_epi32_mask(lane, _mm512_set1_epi32(n_key - 16 * j));
        v[j] = _mm512_mask_blend_ps(in[j], _mm512_set1_ps(-INFINITY), _mm512_load_ps(&t->s[i][16 * j]));
    }
    __m512 x0 = _mm512_max_ps(_mm512_max_ps(v[0], v[1]), _mm512_max_ps(v[2], v[3]));
    __m512 x1 = _mm512_max_ps(_mm512_max_ps(v[4], v[5]), _mm512_max_ps(v[6], v[7]));
    float page = _mm512_reduce_max_ps(_mm512_max_ps(x0, x1));
    float max = page > t->m[r] ? page : t->m[r]; /* finite: a visited page has a visible key */
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        v[j] = exp2_16(_mm512_sub_ps(v[j], _mm512_set1_ps(max)));
        v[j] = all ? v[j] : _mm512_maskz_mov_ps(in[j], v[j]);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 8; j += 2) {
        sum = _mm512_add_ps(sum, _mm512_add_ps(v[j], v[j + 1]));
        _mm512_store_si512(&t->p[i][16 * j], (__m512i)_mm512_cvtne2ps_pbh(v[j + 1], v[j]));
    }
    if (max > t->m[r]) {
        __m512 keep = exp2_16(_mm512_set1_ps(t->m[r] - max));
        _mm512_store_ps(t->l[r], _mm512_fmadd_ps(_mm512_load_ps(t->l[r]), keep, sum));
        t->m[r] = max;
        for (int c = 0; c < t->head; c += 16)
            _mm512_store_ps(o_at(t, r) + c, _mm512_mul_ps(_mm512_load_ps(o_at(t, r) + c), keep));
    } else {
        _mm512_store_ps(t->l[r], _mm512_add_ps(_mm512_load_ps(t->l[r]), sum));
    }
}

ISA static __attribute__((noinline)) void soften_all(struct rows *t, int r, int i)
{
    soften(t, r, i, true, PAGE_TOK);
}
ISA static __attribute__((noinline)) void soften_some(struct rows *t, int r, int i, int n_key)
{
    soften(t, r, i, false, n_key);
}

/* o += p v for R rows and 64 columns from c on; n_key keys of the page are written (the last pair may be
 * half). */
INLINE void value_pair(const struct rows *t, const int R, const uint16_t *v, int i, __mmask32 m,
                       __m512 (*a)[4])
{
    __m512bh w[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) w[j] = (__m512bh)_mm512_maskz_loadu_epi16(m, v + 32 * j);
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) {
        __m512bh p = pair(&t->p[r][2 * i]);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) a[r][j] = _mm512_dpbf16_ps(a[r][j], w[j], p);
    }
}

INLINE void value_rows(struct rows *t, int r0, const int R, const uint16_t *v, const uint16_t *ahead, int c,
                       int n_key)
{
    __m512 a[ROWS][4];
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) a[r][j] = _mm512_load_ps(o_at(t, r0 + r) + c + 16 * j);
    v += 2 * c;
    for (int i = 0; i < n_key / 2; i++, v += 2 * t->head) {
        if (ahead) fetch(ahead + 2 * c + 2 * i * t->head);
        value_pair(t, R, v, i, 0xffffffffu, a);
    }
    if (n_key % 2)
        value_pair(t, R, v, n_key / 2, 0x55555555u, a); /* an unwritten value may be anything, even NaN */
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) _mm512_store_ps(o_at(t, r0 + r) + c + 16 * j, a[r][j]);
}

#define EACH(R)                                                                                              \
    ISA static __attribute__((noinline)) void score_##R(struct rows *t, int r, const uint16_t *k,            \
                                                        const uint16_t *ahead, int n)                        \
    {                                                                                                        \
        score_rows(t, r, R, k, ahead, n);                                                                    \
    }                                                                                                        \
    ISA static __attribute__((noinline)) void value_##R(struct rows *t, int r, const uint16_t *v,            \
                                                        const uint16_t *ahead, int c, int n)                 \
    {                                                                                                        \
        value_rows(t, r, R, v, ahead, c, n);                                                                 \
    }
EACH(6)
EACH(3)
EACH(1)

/* All rows against one block. k: its keys, the values follow them; ahead: those of the next block, or NULL.
 * n_key: keys of the page that the last row sees. */
ISA static void visit(struct rows *t, const uint16_t *k, const uint16_t *ahead, int block, int n_key)
{
    const int half = PAGE_TOK * t->head;
    for (int r = 0, n; r < t->n; r += n) {
        const uint16_t *k2 = r == 0 ? ahead : NULL, *v2 = k2 ? k2 + half : NULL;
        n = t->n - r >= 6 ? 6 : t->n - r >= 3 ? 3 : 1;
        (n == 6 ? score_6 : n == 3 ? score_3 : score_1)(t, r, k, k2, n_key);
        for (int i = 0; i < n; i++) {
            int seen = t->pos[r + i] - block * PAGE_TOK + 1;
            if (seen >= PAGE_TOK)
                soften_all(t, r + i, i);
            else
                soften_some(t, r + i, i, seen);
        }
        for (int c = 0; c < t->head; c += HALF)
            (n == 6 ? value_6 : n == 3 ? value_3 : value_1)(t, r, k + half, v2, c, n_key);
    }
}

/* Query rows r0 .. r0+n of the run, heads h0 .. h0+n_h. */
ISA static void begin(struct rows *t, const struct attn_args *a, const struct attn_seg *s, int r0, int n,
                      int h0, int n_h)
{
    const float scale = a->scale * 1.44269504f; /* softmax in powers of two */
    t->n = n * n_h;
    t->head = a->head;
    for (int r = 0; r < n; r++)
        for (int h = 0; h < n_h; h++) {
            int i = r * n_h + h;
            const float *q = (const float *)a->q + (s->row0 + r0 + r) * a->q_stride + (h0 + h) * a->head;
            for (int k = 0; k < a->head; k++) q_at(t, i)[k] = f32_to_bf16(q[k] * scale);
            memset(o_at(t, i), 0, (size_t)a->head * sizeof(float));
            t->m[i] = -INFINITY;
            memset(t->l[i], 0, sizeof t->l[i]);
            t->pos[i] = s->pos0 + r0 + r;
        }
}

/* Keys of a page, values behind them; the first n of them. */
static const uint16_t *read_page(struct rows *t, const struct op_ctx *c, const struct attn_args *a,
                                 int32_t page, int g, int n)
{
    const int K = a->head;
    if (!page_has_codes(page)) return (const uint16_t *)a->pool + kv_half(page, a->n_kv, g, 0, K);
    kv_codes_keys(t->wide, kv_codes_at(a->pool, page, a->n_kv, g, 0, K), kv_exp_at(c, page, a->n_kv, g, 0), K,
                  n);
    kv_codes_values(t->wide + PAGE_TOK * K, kv_codes_at(a->pool, page, a->n_kv, g, 1, K),
                    kv_exp_at(c, page, a->n_kv, g, 1), K, n);
    return t->wide;
}

static void walk(struct rows *t, const struct op_ctx *c, const struct attn_args *a, const struct attn_seg *s,
                 struct attn_walk *w, int most, int g)
{
    for (int b = attn_walk_next(w), next; most > 0 && b >= 0; most--, b = next) {
        const uint16_t *pool = a->pool, *ahead = NULL;
        int n = t->pos[t->n - 1] - b * PAGE_TOK + 1;
        n = n < PAGE_TOK ? n : PAGE_TOK;
        next = most > 1 ? attn_walk_next(w) : -1;
        if (next >= 0 && !page_has_codes(s->page[next]))
            ahead = pool + kv_half(s->page[next], a->n_kv, g, 0, a->head);
        visit(t, read_page(t, c, a, s->page[b], g, n), ahead, b, n);
    }
}

ISA static void prefill_tile(const struct op_ctx *c, const struct attn_args *a, const struct attn_seg *s,
                             int r0, int n, int h0, int n_h)
{
    struct rows t;
    begin(&t, a, s, r0, n, h0, n_h);
    struct attn_walk w = attn_walk_begin(s, s->pos0 + r0, h0);
    walk(&t, c, a, s, &w, INT32_MAX, h0 / (a->n_head / a->n_kv));
    for (int r = 0; r < n; r++)
        for (int h = 0; h < n_h; h++) {
            int i = r * n_h + h;
            float *o = (float *)a->out + (s->row0 + r0 + r) * a->out_stride + (h0 + h) * a->head;
            float l = fold16(t.l[i]), inv = l > 0 ? 1.0f / l : 0.0f;
            for (int k = 0; k < a->head; k++) o[k] = o_at(&t, i)[k] * inv;
        }
}

/* Query tokens of a tile: a power of two, so that a tile lies in one block. */
static int tile_tok(int heads)
{
    int n = TILE_TOK;
    while (n * heads > ROW_MAX) n /= 2;
    return n;
}

static int tile_end(const struct attn_seg *s, int tile, int r0)
{
    int pos = s->pos0 + r0, end = (pos / tile + 1) * tile;
    if (s->kind == ATTN_TRIANGLE && pos < s->dense_from && s->dense_from < end) end = s->dense_from;
    return end - s->pos0 < s->n_row ? end - s->pos0 : s->n_row;
}

static void prefill(struct op_ctx *c, const struct attn_args *a, const struct attn_seg *s)
{
    const int rep = a->n_head / a->n_kv, heads = s->kind == ATTN_LIST ? 1 : rep, n_group = a->n_head / heads;
    const int tile = tile_tok(heads), first = s->pos0 / tile,
              n_tile = (s->pos0 + s->n_row - 1) / tile - first + 1;
#pragma omp parallel for num_threads(c->n_thread) collapse(2) schedule(dynamic)
    for (int i = n_tile - 1; i >= 0; i--) /* longest first */
        for (int g = 0; g < n_group; g++) {
            int r0 = i == 0 ? 0 : (first + i) * tile - s->pos0;
            int end = (first + i + 1) * tile - s->pos0;
            for (int r1; r0 < end && r0 < s->n_row; r0 = r1) {
                r1 = tile_end(s, tile, r0);
                prefill_tile(c, a, s, r0, r1 - r0, g * heads, heads);
            }
        }
}

/* --- decode */

static int visited(const struct attn_seg *s, int h)
{
    struct attn_walk w = attn_walk_begin(s, s->pos0, h);
    int n = w.last + 1 - (w.gap_to - w.gap_from);
    return n > 0 ? n : 0;
}

static int part_pages(int pages)
{
    int per = (pages + ATTN_PARTS - 1) / ATTN_PARTS;
    return per > PART_PAGES ? per : PART_PAGES;
}

/* Partial of (row, part, head): K sums, then maximum and weight sum. */
static float *part_at(const struct op_ctx *c, const struct attn_args *a, int seg, int part, int h)
{
    return c->scratch->part + (((int64_t)seg * ATTN_PARTS + part) * a->n_head + h) * (a->head + 2);
}

static void decode_part(const struct op_ctx *c, const struct attn_args *a, int seg, int g, int part, int per)
{
    const struct attn_seg *s = &a->seg[seg];
    const int rep = a->n_head / a->n_kv;
    struct rows t;
    begin(&t, a, s, 0, 1, g * rep, rep);
    struct attn_walk w = attn_walk_begin(s, s->pos0, g * rep);
    for (int i = 0; i < part * per; i++) attn_walk_next(&w);
    walk(&t, c, a, s, &w, per, g);
    for (int h = 0; h < rep; h++) {
        float *p = part_at(c, a, seg, part, g * rep + h);
        memcpy(p, o_at(&t, h), (size_t)a->head * sizeof *p);
        p[a->head] = t.m[h];
        p[a->head + 1] = fold16(t.l[h]);
    }
}

static void merge(const struct op_ctx *c, const struct attn_args *a, int seg, int h, int n_part)
{
    const int K = a->head;
    float *o = (float *)a->out + a->seg[seg].row0 * a->out_stride + h * K;
    float max = -INFINITY, sum = 0;
    for (int i = 0; i < n_part; i++) {
        float m = part_at(c, a, seg, i, h)[K];
        max = m > max ? m : max;
    }
    memset(o, 0, (size_t)K * sizeof *o);
    for (int i = 0; i < n_part; i++) {
        const float *p = part_at(c, a, seg, i, h);
        float keep = exp2f(p[K] - max);
        sum += p[K + 1] * keep;
        for (int k = 0; k < K; k++) o[k] += p[k] * keep;
    }
    for (int k = 0; k < K && sum > 0; k++) o[k] /= sum;
}

static int parts_of(const struct attn_args *a, int seg, int h)
{
    int pages = visited(&a->seg[seg], h), per = part_pages(pages);
    return (pages + per - 1) / per;
}

static void decode(struct op_ctx *c, const struct attn_args *a)
{
    int most = 0;
    for (int s = 0; s < a->n_seg; s++)
        for (int h = 0; h < a->n_head; h += a->n_head / a->n_kv)
            most = parts_of(a, s, h) > most ? parts_of(a, s, h) : most;
#pragma omp parallel num_threads(c->n_thread)
    {
#pragma omp for collapse(3) schedule(dynamic)
        for (int s = 0; s < a->n_seg; s++)
            for (int part = 0; part < most; part++)
                for (int g = 0; g < a->n_kv; g++) {
                    int pages = visited(&a->seg[s], g * (a->n_head / a->n_kv)), per = part_pages(pages);
                    if (part * per < pages) decode_part(c, a, s, g, part, per);
                }
#pragma omp for collapse(2) schedule(static)
        for (int s = 0; s < a->n_seg; s++)
            for (int h = 0; h < a->n_head; h++) merge(c, a, s, h, parts_of(a, s, h));
    }
}

static bool suits(const struct op_ctx *c, const struct attn_args *a)
{
    if (!__builtin_cpu_supports("avx512bf16") || a->head % HALF || a->head > HEAD_MAX) return false;
    if (a->n_head / a->n_kv > ROW_MAX) return false;
    return !a->decode || a->n_seg <= c->scratch->max_tok;
}

bool attn_bf16(struct op_ctx *c, const struct attn_args *a)
{
    if (!suits(c, a)) return false;
    bool rows = a->decode;
    for (int i = 0; i < a->n_seg; i++) rows = rows && a->seg[i].kind != ATTN_LIST;
    if (rows)
        decode(c, a);
    else
        for (int i = 0; i < a->n_seg; i++) prefill(c, a, &a->seg[i]);
    return true;
}

#else
bool attn_bf16(struct op_ctx *c, const struct attn_args *a)
{
    (void)c;
    (void)a;
    return false;
}
#endif
