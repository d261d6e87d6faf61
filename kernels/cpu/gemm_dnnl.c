/* gemm_dnnl: products with fp32 and bf16 weights by oneDNN; the only file that speaks to it, for its 2.x and
 * 3.x C interfaces.
 *
 * oneDNN's bits for a row may depend on the number of rows of the call, and on some processors on the row's
 * place among them (the AVX2 kernels sum the last two of eight rows in another order). So a weight has two
 * tiles only: a large one, and a small (padded) one for the rows that are left. When a weight is packed, the
 * small tile is the first size whose rows have the same bits at every place, and the large tile the first
 * size that gives the small one's bits. Bits depend on the number of threads too, and oneDNN uses one inside
 * a parallel region: so a shape that is first packed there cannot be tried and gets tiles of a single row.
 * Primitives are made once per shape and kept. */
#include <oneapi/dnnl/dnnl.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "kernels/cpu/internal.h"
#include "kernels/quant.h"

enum { MAX_SHAPES = 256 };

/* Rows of the tiles, in order of preference. A single row has no neighbours, so the last small one always
 * serves; 0: no large tile. 48 rows can be cut among 1 to 4 threads without a remainder that AVX2 sums apart.
 */
static const int small_rows[] = {8, 4, 1}, large_rows[] = {DNNL_TILE, 48, 0};

/* The tiles of all weights of one size and type. */
struct tiles {
    int n, k;
    enum dtype dt;
    int large, small; /* rows; large 0: the small tile alone */
};

struct shape {
    int m, n, k;
    enum dtype dt;
    bool add;
    dnnl_primitive_t prim;
    dnnl_primitive_desc_t pd;
    dnnl_memory_t src, wei, dst;
    size_t wei_bytes;
};

struct dnnl_box {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    struct shape shape[MAX_SHAPES];
    int n_shape;
    struct tiles tiles[MAX_SHAPES];
    int n_tiles;
};

static dnnl_data_type_t type_of(enum dtype dt) { return dt == DT_BF16 ? dnnl_bf16 : dnnl_f32; }

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t md_t; /* an opaque pointer */
static dnnl_status_t md_make(md_t *md, const dnnl_dims_t d, dnnl_data_type_t t, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_create_with_tag(md, 2, d, t, tag);
}
static void md_drop(md_t md) { dnnl_memory_desc_destroy(md); }
static dnnl_status_t md_copy(md_t *md, const_dnnl_memory_desc_t from)
{
    return dnnl_memory_desc_clone(md, from);
}
static size_t md_bytes(const_dnnl_memory_desc_t md) { return dnnl_memory_desc_get_size(md); }
static dnnl_status_t pd_make(dnnl_primitive_desc_t *pd, struct dnnl_box *b, md_t s, md_t w, md_t d,
                             dnnl_primitive_attr_t attr)
{
    return dnnl_matmul_primitive_desc_create(pd, b->engine, s, w, NULL, d, attr);
}
static dnnl_status_t mem_make(dnnl_memory_t *m, struct dnnl_box *b, const_dnnl_memory_desc_t md)
{
    return dnnl_memory_create(m, md, b->engine, DNNL_MEMORY_NONE);
}
static dnnl_status_t reorder_make(dnnl_primitive_desc_t *pd, struct dnnl_box *b, md_t from,
                                  const_dnnl_memory_desc_t to)
{
    return dnnl_reorder_primitive_desc_create(pd, from, b->engine, to, b->engine, NULL);
}
static dnnl_status_t append_sum(dnnl_post_ops_t ops)
{
    return dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_f32);
}
#else
typedef dnnl_memory_desc_t md_t; /* a struct by value */
typedef const dnnl_memory_desc_t *const_md;
static dnnl_status_t md_make(md_t *md, const dnnl_dims_t d, dnnl_data_type_t t, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_init_by_tag(md, 2, d, t, tag);
}
static void md_drop(md_t md) { (void)md; }
static dnnl_status_t md_copy(md_t *md, const_md from)
{
    *md = *from;
    return dnnl_success;
}
static size_t md_bytes(const_md md) { return dnnl_memory_desc_get_size(md); }
static dnnl_status_t pd_make(dnnl_primitive_desc_t *pd, struct dnnl_box *b, md_t s, md_t w, md_t d,
                             dnnl_primitive_attr_t attr)
{
    dnnl_matmul_desc_t op;
    dnnl_status_t st = dnnl_matmul_desc_init(&op, &s, &w, NULL, &d);
    return st ? st : dnnl_primitive_desc_create(pd, &op, attr, b->engine, NULL);
}
static dnnl_status_t mem_make(dnnl_memory_t *m, struct dnnl_box *b, const_md md)
{
    return dnnl_memory_create(m, md, b->engine, DNNL_MEMORY_NONE);
}
static dnnl_status_t reorder_make(dnnl_primitive_desc_t *pd, struct dnnl_box *b, md_t from, const_md to)
{
    return dnnl_reorder_primitive_desc_create(pd, &from, b->engine, to, b->engine, NULL);
}
static dnnl_status_t append_sum(dnnl_post_ops_t ops) { return dnnl_post_ops_append_sum(ops, 1.0f); }
#endif

static void shapes_drop(struct dnnl_box *b, int n)
{
    while (b->n_shape > n) {
        struct shape *s = &b->shape[--b->n_shape];
        dnnl_memory_destroy(s->src);
        dnnl_memory_destroy(s->wei);
        dnnl_memory_destroy(s->dst);
        dnnl_primitive_destroy(s->prim);
        dnnl_primitive_desc_destroy(s->pd);
    }
}

enum err dnnl_box_new(struct dnnl_box **out, struct err_note *note)
{
    struct dnnl_box *b = calloc(1, sizeof *b);
    if (!b) return err_set(note, ERR_NOMEM, NULL, "no memory for oneDNN");
    if (dnnl_engine_create(&b->engine, dnnl_cpu, 0) ||
        dnnl_stream_create(&b->stream, b->engine, dnnl_stream_default_flags)) {
        dnnl_box_free(b);
        return err_set(note, ERR_DEVICE, NULL, "oneDNN has no CPU engine");
    }
    *out = b;
    return OK;
}

void dnnl_box_free(struct dnnl_box *b)
{
    if (!b) return;
    shapes_drop(b, 0);
    if (b->stream) dnnl_stream_destroy(b->stream);
    if (b->engine) dnnl_engine_destroy(b->engine);
    free(b);
}

bool dnnl_has_bf16(void)
{
    /* avx512_core_bf16 and its supersets; the masks grow by bits */
    return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
}

/* base: whose layout of the weight to take; NULL: oneDNN chooses. */
static dnnl_status_t shape_make(struct dnnl_box *b, struct shape *s, const struct shape *base)
{
    dnnl_data_type_t t = type_of(s->dt);
    md_t src, wei, dst;
    dnnl_dims_t ds = {s->m, s->k}, dw = {s->k, s->n}, dd = {s->m, s->n};
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    dnnl_status_t st = md_make(&src, ds, t, dnnl_ab);
    if (st) return st;
    st = base ? md_copy(&wei, dnnl_primitive_desc_query_md(base->pd, dnnl_query_weights_md, 0))
              : md_make(&wei, dw, t, dnnl_format_tag_any);
    if (!st) st = md_make(&dst, dd, dnnl_f32, dnnl_ab);
    if (!st) st = dnnl_primitive_attr_create(&attr);
    if (!st && s->add) {
        st = dnnl_post_ops_create(&ops);
        if (!st) st = append_sum(ops);
        if (!st) st = dnnl_primitive_attr_set_post_ops(attr, ops);
    }
    if (!st) st = pd_make(&s->pd, b, src, wei, dst, attr);
    if (!st) st = dnnl_primitive_create(&s->prim, s->pd);
    if (!st) {
        st = mem_make(&s->src, b, dnnl_primitive_desc_query_md(s->pd, dnnl_query_src_md, 0));
        s->wei_bytes = md_bytes(dnnl_primitive_desc_query_md(s->pd, dnnl_query_weights_md, 0));
    }
    if (!st) st = mem_make(&s->wei, b, dnnl_primitive_desc_query_md(s->pd, dnnl_query_weights_md, 0));
    if (!st) st = mem_make(&s->dst, b, dnnl_primitive_desc_query_md(s->pd, dnnl_query_dst_md, 0));
    if (ops) dnnl_post_ops_destroy(ops);
    if (attr) dnnl_primitive_attr_destroy(attr);
    md_drop(src);
    md_drop(wei);
    md_drop(dst);
    return st;
}

static struct shape *shape_find(struct dnnl_box *b, int m, const struct weight *w, bool add)
{
    for (int i = 0; i < b->n_shape; i++) {
        struct shape *s = &b->shape[i];
        if (s->m == m && s->n == w->n && s->k == w->k && s->dt == w->dt && s->add == add) return s;
    }
    return NULL;
}

/* A new primitive, or NULL when oneDNN refuses. */
static struct shape *shape_new(struct dnnl_box *b, int m, const struct weight *w, bool add,
                               const struct shape *base)
{
    if (b->n_shape == MAX_SHAPES) return NULL;
    struct shape *s = &b->shape[b->n_shape++];
    *s = (struct shape){.m = m, .n = w->n, .k = w->k, .dt = w->dt, .add = add};
    return shape_make(b, s, base) ? NULL : s;
}

/* oneDNN's own loops for layouts that it has no kernel for: thousands of times slower. */
static bool is_slow(const struct shape *s)
{
    const char *impl = NULL;
    return dnnl_primitive_desc_query(s->pd, dnnl_query_impl_info_str, 0, (void *)&impl) || !impl ||
           strstr(impl, "ref");
}

/* The four primitives of a weight's shape, which share its bytes: `first` tile in the layout that oneDNN
 * likes for it, the other in the same. What it likes for 64 rows and for 8 can differ with the number of
 * threads. */
static bool shapes_make(struct dnnl_box *b, const struct weight *w, int first, int other)
{
    struct shape *lead = shape_new(b, first, w, false, NULL);
    bool ok = lead && !is_slow(lead);
    for (int i = 1; i < 4 && ok; i++) {
        struct shape *s = shape_new(b, i & 1 ? other : first, w, i & 2, lead);
        ok = s && !is_slow(s);
    }
    return ok;
}

/* The small tile alone, in its own layout. */
static bool shapes_small(struct dnnl_box *b, const struct weight *w, int small)
{
    struct shape *lead = shape_new(b, small, w, false, NULL);
    return lead && shape_new(b, small, w, true, lead);
}

static bool shapes_of(struct dnnl_box *b, const struct weight *w, int large, int small)
{
    int n = b->n_shape;
    if (large == 0 ? shapes_small(b, w, small) : shapes_make(b, w, large, small)) return true;
    shapes_drop(b, n);
    if (large > 0 && shapes_make(b, w, small, large)) return true;
    shapes_drop(b, n);
    return false;
}

static const struct tiles *tiles_find(const struct dnnl_box *b, const struct weight *w)
{
    for (int i = 0; i < b->n_tiles; i++)
        if (b->tiles[i].n == w->n && b->tiles[i].k == w->k && b->tiles[i].dt == w->dt) return &b->tiles[i];
    return NULL;
}

static dnnl_status_t reorder(struct dnnl_box *b, struct shape *s, const void *rows, void *packed)
{
    md_t from;
    dnnl_dims_t d = {s->k, s->n};
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t p = NULL;
    dnnl_memory_t mem = NULL;
    dnnl_status_t st = md_make(&from, d, type_of(s->dt), dnnl_ba); /* [n, k] row-major */
    if (st) return st;
    st = reorder_make(&pd, b, from, dnnl_primitive_desc_query_md(s->pd, dnnl_query_weights_md, 0));
    if (!st) st = dnnl_primitive_create(&p, pd);
#if DNNL_VERSION_MAJOR >= 3
    if (!st) st = mem_make(&mem, b, from);
#else
    if (!st) st = mem_make(&mem, b, &from);
#endif
    if (!st) {
        union {
            const void *c;
            void *v;
        } src = {rows}; /* oneDNN takes no const; it only reads */
        dnnl_memory_set_data_handle(mem, src.v);
        dnnl_memory_set_data_handle(s->wei, packed);
        dnnl_exec_arg_t arg[] = {{DNNL_ARG_FROM, mem}, {DNNL_ARG_TO, s->wei}};
        st = dnnl_primitive_execute(p, b->stream, 2, arg);
        dnnl_stream_wait(b->stream);
    }
    if (mem) dnnl_memory_destroy(mem);
    if (p) dnnl_primitive_destroy(p);
    if (pd) dnnl_primitive_desc_destroy(pd);
    md_drop(from);
    return st;
}

struct call {
    struct dnnl_box *b;
    const struct weight *w;
    const char *x; /* rows of k, of the weight's type */
    float *y;
    int64_t x_stride_bytes, y_stride;
    bool add;
};

static void run(const struct call *c, struct shape *s, const void *x, float *y)
{
    const struct cpu_weight *h = c->w->impl;
    union {
        const void *c;
        void *v;
    } src = {x}; /* oneDNN takes no const; it only reads */
    dnnl_memory_set_data_handle(s->src, src.v);
    dnnl_memory_set_data_handle(s->wei, h->packed);
    dnnl_memory_set_data_handle(s->dst, y);
    dnnl_exec_arg_t arg[] = {{DNNL_ARG_SRC, s->src}, {DNNL_ARG_WEIGHTS, s->wei}, {DNNL_ARG_DST, s->dst}};
    CHECK(!dnnl_primitive_execute(s->prim, c->b->stream, 3, arg));
    dnnl_stream_wait(c->b->stream);
}

struct trial {
    char *x; /* [DNNL_TILE] rows, of the weight's type */
    float *y, *z;
    size_t xb, yb; /* bytes of a row */
};

static void trial_fini(struct trial *t)
{
    free(t->x);
    free(t->y);
    free(t->z);
}

/* Random rows: another order of sums would show. */
static enum err trial_init(struct trial *t, const struct weight *w, struct err_note *note)
{
    size_t xb = (size_t)w->k * (w->dt == DT_BF16 ? 2 : 4), yb = (size_t)w->n * 4;
    *t = (struct trial){aligned_alloc(64, DNNL_TILE * xb), aligned_alloc(64, DNNL_TILE * yb),
                        aligned_alloc(64, DNNL_TILE * yb), xb, yb};
    if (!t->x || !t->y || !t->z) {
        trial_fini(t);
        return err_set(note, ERR_NOMEM, NULL, "no memory to pack a weight");
    }
    uint32_t r = 12345;
    for (size_t i = 0; i < DNNL_TILE * (size_t)w->k; i++) {
        r = r * 1664525u + 1013904223u;
        float v = (float)(int32_t)r * 0x1p-31f;
        if (w->dt == DT_BF16)
            ((uint16_t *)(void *)t->x)[i] = f32_to_bf16(v);
        else
            ((float *)(void *)t->x)[i] = v;
    }
    return OK;
}

/* Rows [from, from + m) of t->x through s into out, which holds 0.5 before: what s adds to where it adds. */
static void try_rows(const struct call *c, const struct trial *t, struct shape *s, int from, float *out)
{
    for (size_t i = 0; i < (size_t)s->m * (size_t)s->n; i++) out[i] = 0.5f;
    run(c, s, t->x + (size_t)from * t->xb, out);
}

/* Do the small tile's rows have the same bits at every place? Row i goes to place (i + by) % small->m. */
static bool places_alike(const struct call *c, const struct trial *t, struct shape *small)
{
    int m = small->m;
    try_rows(c, t, small, 0, t->y);
    for (int by = 1; by < m; by++) {
        for (int i = 0; i < m; i++)
            memcpy(t->x + (size_t)(m + (i + by) % m) * t->xb, t->x + (size_t)i * t->xb, t->xb);
        try_rows(c, t, small, m, t->z);
        for (int i = 0; i < m; i++)
            if (memcmp((char *)t->z + (size_t)((i + by) % m) * t->yb, (char *)t->y + (size_t)i * t->yb,
                       t->yb))
                return false;
    }
    return true;
}

/* Do both tiles give a row the same bits, wherever it stands in the large one? */
static bool tiles_alike(const struct call *c, const struct trial *t, struct shape *large, struct shape *small)
{
    try_rows(c, t, large, 0, t->y);
    for (int at = 0; at + small->m <= large->m; at += small->m > 1 ? small->m - 1 : 1) {
        try_rows(c, t, small, at, t->z);
        if (memcmp(t->z, (char *)t->y + (size_t)at * t->yb, (size_t)small->m * t->yb)) return false;
    }
    return true;
}

static enum err pack(struct dnnl_box *b, struct weight *w, int small, struct err_note *note)
{
    struct cpu_weight *h = w->impl;
    struct shape *s = shape_find(b, small, w, false);
    size_t bytes = (s->wei_bytes + 63) / 64 * 64;
    free(h->packed);
    h->packed = aligned_alloc(64, bytes);
    if (!h->packed) return err_set(note, ERR_NOMEM, NULL, "no memory for a weight of %zu bytes", bytes);
    if (reorder(b, s, h->rows, h->packed))
        return err_set(note, ERR_DEVICE, NULL, "oneDNN cannot pack a weight of %d x %d", w->n, w->k);
    h->bytes = (int64_t)bytes;
    return OK;
}

enum fit { NO_SHAPE, PLACES_DIFFER, TILES_DIFFER, FITS };

/* Packs w for these tiles and tries them, with and without adding. The shapes stay where they fit. */
static enum err try_tiles(const struct call *c, struct weight *w, const struct trial *t, struct tiles *tiles,
                          enum fit *fit, struct err_note *note)
{
    struct dnnl_box *b = c->b;
    int n = b->n_shape;
    *fit = shapes_of(b, w, tiles->large, tiles->small) ? FITS : NO_SHAPE;
    if (*fit == NO_SHAPE) return OK;
    enum err e = pack(b, w, tiles->small, note);
    for (int add = 0; e == OK && add < 2 && *fit == FITS; add++) {
        struct shape *small = shape_find(b, tiles->small, w, add);
        if (!places_alike(c, t, small))
            *fit = PLACES_DIFFER;
        else if (tiles->large > 0 && !tiles_alike(c, t, shape_find(b, tiles->large, w, add), small))
            *fit = TILES_DIFFER;
    }
    if (e != OK || *fit != FITS) shapes_drop(b, n);
    return e;
}

/* Chooses the tiles of w's shape with w as the example, and packs it. */
static enum err choose_tiles(struct dnnl_box *b, struct weight *w, const struct trial *t,
                             struct err_note *note)
{
    const struct call c = {.b = b, .w = w};
    enum {
        N_SMALL = sizeof small_rows / sizeof *small_rows,
        N_LARGE = sizeof large_rows / sizeof *large_rows
    };
    const bool alone = omp_in_parallel();
    for (int i = alone ? N_SMALL - 1 : 0; i < N_SMALL; i++)
        for (int j = alone ? N_LARGE - 1 : 0; j < N_LARGE; j++) {
            struct tiles tiles = {w->n, w->k, w->dt, large_rows[j], small_rows[i]};
            enum fit fit;
            enum err e = try_tiles(&c, w, t, &tiles, &fit, note);
            if (e) return e;
            if (fit == FITS && b->n_tiles < MAX_SHAPES) {
                b->tiles[b->n_tiles++] = tiles;
                return OK;
            }
            if (fit == PLACES_DIFFER) break;
        }
    return err_set(note, ERR_DEVICE, NULL, "oneDNN makes no product of %d x %d", w->n, w->k);
}

enum err dnnl_pack(struct dnnl_box *b, struct weight *w, struct err_note *note)
{
    const struct tiles *tiles = tiles_find(b, w);
    if (tiles) return pack(b, w, tiles->small, note);
    struct trial t;
    enum err e = trial_init(&t, w, note);
    if (e) return e;
    e = choose_tiles(b, w, &t, note);
    trial_fini(&t);
    return e;
}

/* Rows [0, n) with tiles of s->m; the tail, and rows that do not lie dense, go through the padded scratch. */
static void run_tiles(const struct call *c, struct cpu_scratch *sc, struct shape *s, int row, int n)
{
    size_t xb = (size_t)s->k * (s->dt == DT_BF16 ? 2 : 4), yb = (size_t)s->n * 4;
    bool dense = c->x_stride_bytes == (int64_t)xb && c->y_stride == s->n;
    for (int r = row; r < row + n; r += s->m) {
        const char *x = c->x + r * c->x_stride_bytes;
        float *y = c->y + r * c->y_stride;
        int m = row + n - r < s->m ? row + n - r : s->m;
        if (dense && m == s->m) {
            run(c, s, x, y);
            continue;
        }
        memset((char *)sc->x + (size_t)m * xb, 0, (size_t)(s->m - m) * xb);
        for (int i = 0; i < m; i++) memcpy((char *)sc->x + (size_t)i * xb, x + i * c->x_stride_bytes, xb);
        for (int i = 0; i < m && c->add; i++) memcpy((char *)sc->y + (size_t)i * yb, y + i * c->y_stride, yb);
        run(c, s, sc->x, sc->y);
        for (int i = 0; i < m; i++) memcpy(y + i * c->y_stride, (char *)sc->y + (size_t)i * yb, yb);
    }
}

void gemm_dnnl(struct op_ctx *ctx, const struct gemm_args *a)
{
    struct cpu_scratch *sc = ctx->scratch;
    const struct weight *w = a->w;
    struct call c = {.b = sc->dnnl,
                     .w = w,
                     .x = a->x,
                     .y = a->y,
                     .x_stride_bytes = a->x_stride * 4,
                     .y_stride = a->y_stride,
                     .add = a->add};
    if (w->dt == DT_BF16) {
        CHECK(a->n_tok <= sc->max_tok && w->k <= sc->max_k);
#pragma omp parallel for num_threads(ctx->n_thread) if (a->n_tok > 16) schedule(static)
        for (int t = 0; t < a->n_tok; t++)
            for (int i = 0; i < w->k; i++)
                sc->xh[(int64_t)t * w->k + i] = f32_to_bf16(((const float *)a->x)[t * a->x_stride + i]);
        c.x = (const char *)sc->xh;
        c.x_stride_bytes = (int64_t)w->k * 2;
    }
    const struct tiles *tiles = tiles_find(sc->dnnl, w);
    const int large = tiles->large > 0 ? a->n_tok / tiles->large * tiles->large : 0;
    if (large > 0) run_tiles(&c, sc, shape_find(sc->dnnl, tiles->large, w, a->add), 0, large);
    if (large < a->n_tok)
        run_tiles(&c, sc, shape_find(sc->dnnl, tiles->small, w, a->add), large, a->n_tok - large);
}
