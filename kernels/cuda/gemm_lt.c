/* gemm_lt: see gemm_lt.h. Column-major as cuBLASLt sees it: y^T[n, t] = w[k, n]^T x^T[k, t]. */
#include "kernels/cuda/gemm_lt.h"

#include <cublasLt.h>
#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "kernels/quant_fp8.h"

enum { SHAPES_MOST = 32, CANDIDATES = 16, PROMPT_ROWS = 4096, WORK_BYTES = 32 << 20 };

/* A decode algorithm is the one with the least sum over these of weight x log(time). */
enum { DECODE_MOST = 256, TUNE_RUNS = 5, FLUSH_BYTES = 64 << 20, FOUND_MOST = 5 * CANDIDATES };
static const int tune_rows[] = {1, 16, 64, 128, 256}, tune_weight[] = {3, 2, 2, 1, 1};
enum { N_TUNE = sizeof tune_rows / sizeof *tune_rows };

#define LT_CALLS(X)                                                                                          \
    X(cublasLtCreate)                                                                                        \
    X(cublasLtDestroy)                                                                                       \
    X(cublasLtMatmul)                                                                                        \
    X(cublasLtMatmulDescCreate)                                                                              \
    X(cublasLtMatmulDescDestroy)                                                                             \
    X(cublasLtMatmulDescSetAttribute)                                                                        \
    X(cublasLtMatrixLayoutCreate)                                                                            \
    X(cublasLtMatrixLayoutDestroy)                                                                           \
    X(cublasLtMatrixLayoutSetAttribute)                                                                      \
    X(cublasLtMatmulPreferenceCreate)                                                                        \
    X(cublasLtMatmulPreferenceDestroy)                                                                       \
    X(cublasLtMatmulPreferenceSetAttribute)                                                                  \
    X(cublasLtMatmulAlgoGetHeuristic) X(cublasLtMatmulAlgoConfigGetAttribute)

/* How codes of 8 bits are scaled; what cublasLtMatmulMatrixScale_t calls it, from 12.9 on. */
enum scales { SCALES_NONE, SCALES_ROW, SCALES_BLOCK };
static const int32_t w_scale_mode[] = {0, 3, 5},
                     x_scale_mode[] = {0, 3, 4}; /* OUTER_VEC_32F; BLK128x128_32F, VEC128_32F */

/* A shape keeps its descriptions: each product writes its rows, strides and bias into them, and allocates
 * nothing. */
struct shape {
    int n, k;
    bool add, bias, decode, y_f32;
    enum dtype dt;
    enum scales scales; /* not SCALES_NONE: codes of 8 bits (kernels/quant_fp8.h), whatever dt says */
    bool none;          /* the library has nothing for it */
    bool alone;         /* rows go one by one: no algorithm gave a row the same bits alone and among others */
    cublasLtMatmulAlgo_t algo;
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t w_layout, x_layout, y_layout;
};

struct gemm_lt {
    void *lib, *work;
    cublasLtHandle_t handle;
    cudaStream_t stream;
    struct shape shape[SHAPES_MOST];
    int n_shape;
#define LT_FIELD(name) __typeof__(&name) name;
    LT_CALLS(LT_FIELD)
#undef LT_FIELD
};

static bool describe(struct gemm_lt *g, struct shape *s)
{
    cublasOperation_t turn = CUBLAS_OP_T;
    cudaDataType_t y_type = s->y_f32 || s->dt == DT_F32 ? CUDA_R_32F : CUDA_R_16BF,
                   type = s->scales         ? CUDA_R_8F_E4M3
                          : s->dt == DT_F32 ? CUDA_R_32F
                                            : CUDA_R_16BF;
    cublasLtEpilogue_t end =
        s->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT; /* bias in the type of y */
    return g->cublasLtMatmulDescCreate(&s->op, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
           g->cublasLtMatmulDescSetAttribute(s->op, CUBLASLT_MATMUL_DESC_TRANSA, &turn, sizeof turn) ==
               CUBLAS_STATUS_SUCCESS &&
           g->cublasLtMatmulDescSetAttribute(s->op, CUBLASLT_MATMUL_DESC_EPILOGUE, &end, sizeof end) ==
               CUBLAS_STATUS_SUCCESS &&
           (!s->scales || (g->cublasLtMatmulDescSetAttribute(s->op, CUBLASLT_MATMUL_DESC_A_SCALE_MODE,
                                                             &w_scale_mode[s->scales],
                                                             sizeof *w_scale_mode) == CUBLAS_STATUS_SUCCESS &&
                           g->cublasLtMatmulDescSetAttribute(
                               s->op, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &x_scale_mode[s->scales],
                               sizeof *x_scale_mode) == CUBLAS_STATUS_SUCCESS)) &&
           g->cublasLtMatrixLayoutCreate(&s->w_layout, type, (uint64_t)s->k, (uint64_t)s->n, s->k) ==
               CUBLAS_STATUS_SUCCESS &&
           g->cublasLtMatrixLayoutCreate(&s->x_layout, type, (uint64_t)s->k, 1, s->k) ==
               CUBLAS_STATUS_SUCCESS &&
           g->cublasLtMatrixLayoutCreate(&s->y_layout, y_type, (uint64_t)s->n, 1, s->n) ==
               CUBLAS_STATUS_SUCCESS;
}

static void forget(struct gemm_lt *g, struct shape *s)
{
    cublasLtMatrixLayout_t const layout[] = {s->w_layout, s->x_layout, s->y_layout};
    for (int i = 0; i < 3; i++)
        if (layout[i]) g->cublasLtMatrixLayoutDestroy(layout[i]);
    if (s->op) g->cublasLtMatmulDescDestroy(s->op);
}

static const char *const lib_names[] = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"};

enum err gemm_lt_open(struct gemm_lt **out, cudaStream_t stream, struct err_note *note)
{
    struct gemm_lt *g = calloc(1, sizeof *g);
    if (!g) return err_set(note, ERR_NOMEM, NULL, "out of memory");
    for (size_t i = 0; !g->lib && i < sizeof lib_names / sizeof *lib_names; i++)
        g->lib = dlopen(lib_names[i], RTLD_NOW);
    bool ok = g->lib;
#define LT_FIND(name) ok = ok && (g->name = (__typeof__(&name))dlsym(g->lib, #name));
    LT_CALLS(LT_FIND)
#undef LT_FIND
    g->stream = stream;
    ok = ok && g->cublasLtCreate(&g->handle) == CUBLAS_STATUS_SUCCESS &&
         cudaMalloc(&g->work, WORK_BYTES) == cudaSuccess;
    if (!ok) {
        gemm_lt_close(g);
        return err_set(note, ERR_CONFIG, "--device",
                       "cuda needs cuBLASLt (libcublasLt.so of CUDA 12 or 13), which could not be loaded");
    }
    *out = g;
    return OK;
}

void gemm_lt_close(struct gemm_lt *g)
{
    if (!g) return;
    for (int i = 0; i < g->n_shape; i++) forget(g, &g->shape[i]);
    if (g->handle) g->cublasLtDestroy(g->handle);
    if (g->work) cudaFree(g->work);
    if (g->lib) dlclose(g->lib);
    free(g);
}

static bool set_rows(struct gemm_lt *g, cublasLtMatrixLayout_t layout, int n_tok, int64_t stride)
{
    const uint64_t n = (uint64_t)n_tok;
    return g->cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_COLS, &n, sizeof n) ==
               CUBLAS_STATUS_SUCCESS &&
           g->cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_LD, &stride, sizeof stride) ==
               CUBLAS_STATUS_SUCCESS;
}

/* Makes the shape's descriptions those of n_tok rows of a product. */
static bool set_product(struct gemm_lt *g, const struct shape *s, const struct gemm_args *a, int n_tok)
{
    return g->cublasLtMatmulDescSetAttribute(s->op, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &a->bias,
                                             sizeof a->bias) == CUBLAS_STATUS_SUCCESS &&
           set_rows(g, s->x_layout, n_tok, a->x_stride) && set_rows(g, s->y_layout, n_tok, a->y_stride);
}

static bool splits(struct gemm_lt *g, const cublasLtMatmulAlgo_t *algo)
{
    int32_t split = 1;
    uint32_t scheme = 0;
    size_t n;
    g->cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &split, sizeof split, &n);
    g->cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme,
                                            sizeof scheme, &n);
    return split > 1 || scheme != CUBLASLT_REDUCTION_SCHEME_NONE;
}

/* What the library proposes for n_tok rows, without algorithms that split sums, after the *n it has already;
 * no algorithm twice. */
static bool propose(struct gemm_lt *g, const struct shape *s, const struct gemm_args *a, int n_tok,
                    cublasLtMatmulAlgo_t *algo, int *n)
{
    cublasLtMatmulPreference_t pref = NULL;
    cublasLtMatmulHeuristicResult_t found[CANDIDATES];
    size_t bytes = WORK_BYTES;
    int n_found = 0;
    bool ok = set_product(g, s, a, n_tok) &&
              g->cublasLtMatmulPreferenceCreate(&pref) == CUBLAS_STATUS_SUCCESS &&
              g->cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes,
                                                      sizeof bytes) == CUBLAS_STATUS_SUCCESS &&
              g->cublasLtMatmulAlgoGetHeuristic(g->handle, s->op, s->w_layout, s->x_layout, s->y_layout,
                                                s->y_layout, pref, CANDIDATES, found,
                                                &n_found) == CUBLAS_STATUS_SUCCESS;
    for (int i = 0; ok && i < n_found; i++) {
        bool known = splits(g, &found[i].algo);
        for (int k = 0; k < *n && !known; k++) known = memcmp(&algo[k], &found[i].algo, sizeof *algo) == 0;
        if (!known) algo[(*n)++] = found[i].algo;
    }
    if (pref) g->cublasLtMatmulPreferenceDestroy(pref);
    return ok;
}

static bool multiply(struct gemm_lt *g, const struct shape *s, const struct gemm_args *a,
                     const cublasLtMatmulAlgo_t *algo)
{
    const float one = 1, beta = a->add ? 1 : 0;
    return set_product(g, s, a, a->n_tok) &&
           g->cublasLtMatmul(g->handle, s->op, &one, a->w->data, s->w_layout, a->x, s->x_layout, &beta, a->y,
                             s->y_layout, a->y, s->y_layout, algo, g->work, WORK_BYTES,
                             g->stream) == CUBLAS_STATUS_SUCCESS;
}

/* --- tuning for decode: on the weight itself, with rows and results of its own */

struct tune {
    struct gemm_lt *g;
    const struct shape *s;
    struct gemm_args a;
    char *x, *y, *flush;
    cudaEvent_t start, end;
};

static void tune_close(struct tune *t)
{
    void *const mem[] = {t->x, t->y, t->flush};
    for (int i = 0; i < 3; i++)
        if (mem[i]) cudaFree(mem[i]);
    if (t->start) cudaEventDestroy(t->start);
    if (t->end) cudaEventDestroy(t->end);
}

static bool tune_open(struct tune *t, struct gemm_lt *g, const struct shape *s, const struct gemm_args *a)
{
    size_t elem = a->w->dt == DT_F32 ? 4 : 2, x_bytes = DECODE_MOST * (size_t)a->w->k * elem;
    *t = (struct tune){.g = g, .s = s, .a = *a};
    char *host = malloc(x_bytes);
    bool ok = host && cudaMalloc((void **)&t->x, x_bytes) == cudaSuccess &&
              cudaMalloc((void **)&t->y, DECODE_MOST * (size_t)a->w->n * 4) == cudaSuccess &&
              cudaMalloc((void **)&t->flush, FLUSH_BYTES) == cudaSuccess &&
              cudaEventCreate(&t->start) == cudaSuccess && cudaEventCreate(&t->end) == cudaSuccess;
    uint32_t seed = 1;
    for (size_t i = 0; ok && i < x_bytes / elem; i++) { /* numbers of 1 .. 2, either sign */
        seed = seed * 1664525u + 1013904223u;
        uint32_t v = 0x3f800000u | (seed & 0x80000000u) | (seed >> 9 & 0x7f0000u);
        memcpy(host + i * elem, elem == 4 ? (char *)&v : (char *)&v + 2, elem);
    }
    ok = ok && cudaMemcpy(t->x, host, x_bytes, cudaMemcpyHostToDevice) == cudaSuccess &&
         cudaMemset(t->y, 0, DECODE_MOST * (size_t)a->w->n * 4) == cudaSuccess;
    free(host);
    t->a.y = t->y;
    t->a.x_stride = a->w->k;
    t->a.y_stride = a->w->n;
    t->a.add = false;
    return ok;
}

/* Least ms of a few runs over cold weights; < 0: the algorithm does not take this many rows. */
static float time_of(struct tune *t, const cublasLtMatmulAlgo_t *algo, int n_tok)
{
    float best = -1, ms;
    t->a.x = t->x;
    t->a.n_tok = n_tok;
    for (int i = 0; i < TUNE_RUNS; i++) {
        cudaMemsetAsync(t->flush, i, FLUSH_BYTES, t->g->stream);
        cudaEventRecord(t->start, t->g->stream);
        if (!multiply(t->g, t->s, &t->a, algo)) return -1;
        cudaEventRecord(t->end, t->g->stream);
        if (cudaEventSynchronize(t->end) != cudaSuccess ||
            cudaEventElapsedTime(&ms, t->start, t->end) != cudaSuccess)
            return -1;
        if (best < 0 || ms < best) best = ms;
    }
    return best;
}

enum { COLUMNS_SEEN = 1024 };
static size_t seen_bytes(const struct tune *t)
{
    return (size_t)(t->a.w->n < COLUMNS_SEEN ? t->a.w->n : COLUMNS_SEEN) *
           (t->a.w->dt == DT_F32 || t->a.y_f32 ? 4 : 2);
}

/* Results of rows [first, first + n_tok), their first columns, to the host. */
static bool results(struct tune *t, const cublasLtMatmulAlgo_t *algo, int first, int n_tok, char *out)
{
    size_t elem = t->a.w->dt == DT_F32 ? 4 : 2, seen = seen_bytes(t);
    t->a.x = t->x + (size_t)first * (size_t)t->a.w->k * elem;
    t->a.n_tok = n_tok;
    return multiply(t->g, t->s, &t->a, algo) &&
           cudaMemcpy2DAsync(out, seen, t->y, (size_t)t->a.w->n * (t->a.y_f32 ? 4 : elem), seen,
                             (size_t)n_tok, cudaMemcpyDeviceToHost, t->g->stream) == cudaSuccess &&
           cudaStreamSynchronize(t->g->stream) == cudaSuccess;
}

/* Does every row get the bits of `want`, alone and among others? room: as large as want. */
static bool gives(struct tune *t, const cublasLtMatmulAlgo_t *algo, const char *want, char *room)
{
    for (int i = 0; i < N_TUNE; i++)
        for (int end = 0; end < 2; end++) {
            int n = tune_rows[i], first = end ? DECODE_MOST - n : 37 % (DECODE_MOST - n + 1);
            if (!results(t, algo, first, n, room) ||
                memcmp(room, want + (size_t)first * seen_bytes(t), (size_t)n * seen_bytes(t)) != 0)
                return false;
        }
    return true;
}

/* The first proposal whose rows stand alone says which bits are right. The choice is among those that give
 * the same, so it may follow the clock: no answer depends on it. Where there is none, the library's
 * first choice for one row takes row after row. */
static bool choose_decode(struct gemm_lt *g, const struct gemm_args *a, struct shape *s)
{
    cublasLtMatmulAlgo_t found[FOUND_MOST];
    struct tune t;
    int n = 0, first = -1;
    double best = INFINITY;
    bool ok = tune_open(&t, g, s, a);
    char *want = malloc(2 * DECODE_MOST * seen_bytes(&t)),
         *room = want ? want + DECODE_MOST * seen_bytes(&t) : NULL;
    for (int i = 0; ok && i < N_TUNE; i++) propose(g, s, &t.a, tune_rows[i], found, &n);
    for (int k = 0; ok && want && k < n; k++) {
        if (first < 0 && (!results(&t, &found[k], 0, DECODE_MOST, want) || !gives(&t, &found[k], want, room)))
            continue;
        if (first < 0)
            first = k;
        else if (!gives(&t, &found[k], want, room))
            continue;
        double score = 0;
        for (int i = 0; i < N_TUNE && score < INFINITY; i++) {
            float ms = time_of(&t, &found[k], tune_rows[i]);
            score = ms > 0 ? score + tune_weight[i] * log(ms) : INFINITY;
        }
        if (score >= best) continue;
        best = score;
        s->algo = found[k];
    }
    s->alone = best == INFINITY;
    for (int k = 0; ok && s->alone && k < n && best == INFINITY; k++)
        if (time_of(&t, &found[k], 1) > 0) {
            best = 0;
            s->algo = found[k];
        }
    free(want);
    tune_close(&t);
    return best < INFINITY;
}

/* The library's first choice for many rows; it then serves any number of rows of a prompt. */
static bool choose_prompt(struct gemm_lt *g, const struct gemm_args *a, struct shape *s)
{
    cublasLtMatmulAlgo_t found[FOUND_MOST];
    int n = 0;
    if (!propose(g, s, a, PROMPT_ROWS, found, &n) || n == 0) return false;
    s->algo = found[0];
    return true;
}

static struct shape *known_shape(struct gemm_lt *g, const struct gemm_args *a, enum scales scales)
{
    for (int i = 0; i < g->n_shape; i++) {
        const struct shape *s = &g->shape[i];
        if (s->n == a->w->n && s->k == a->w->k && s->add == a->add && s->bias == !!a->bias &&
            s->decode == a->decode && s->y_f32 == a->y_f32 && s->dt == a->w->dt && s->scales == scales)
            return &g->shape[i];
    }
    return NULL;
}

static struct shape new_shape(const struct gemm_args *a, enum scales scales)
{
    return (struct shape){.n = a->w->n,
                          .k = a->w->k,
                          .add = a->add,
                          .bias = a->bias,
                          .decode = a->decode,
                          .y_f32 = a->y_f32,
                          .dt = a->w->dt,
                          .scales = scales};
}

static const struct shape *shape_of(struct gemm_lt *g, const struct gemm_args *a)
{
    struct shape *s = known_shape(g, a, SCALES_NONE);
    if (s) return s;
    if (g->n_shape == SHAPES_MOST) return NULL;
    s = &g->shape[g->n_shape];
    *s = new_shape(a, SCALES_NONE);
    if (!describe(g, s) || !(a->decode ? choose_decode : choose_prompt)(g, a, s)) {
        forget(g, s);
        return NULL;
    }
    if (s->alone)
        log_line(LOG_WARN, "product takes rows one by one",
                 "type=%s n=%d k=%d add=%d bias=%d reason=no_algorithm_with_equal_bits",
                 s->dt == DT_F32 ? "f32" : "bf16", s->n, s->k, s->add, s->bias);
    g->n_shape++;
    return s;
}

enum err gemm_lt_plan(struct gemm_lt *g, const struct gemm_args *a)
{
    return shape_of(g, a) ? OK : ERR_DEVICE;
}

enum err gemm_lt(struct gemm_lt *g, const struct gemm_args *a)
{
    const struct shape *s = shape_of(g, a);
    if (!s) return ERR_INVALID_VALUE;
    for (int at = 0, n; at < a->n_tok; at += n) {
        struct gemm_args part = *a;
        const int64_t elem = a->w->dt == DT_F32 ? 4 : 2;
        n = s->alone ? 1 : a->n_tok;
        part.n_tok = n;
        part.x = (const char *)a->x + at * a->x_stride * elem;
        part.y = (char *)a->y + at * a->y_stride * (a->y_f32 ? 4 : elem);
        if (!multiply(g, s, &part, &s->algo)) return ERR_DEVICE;
    }
    return OK;
}

/* --- codes of 8 bits */

/* Both scales' addresses stand in the description. */
static bool set_scales(struct gemm_lt *g, const struct shape *s, const struct gemm_fp8_args *a)
{
    return g->cublasLtMatmulDescSetAttribute(s->op, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &a->w_scale,
                                             sizeof a->w_scale) == CUBLAS_STATUS_SUCCESS &&
           g->cublasLtMatmulDescSetAttribute(s->op, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &a->x_scale,
                                             sizeof a->x_scale) == CUBLAS_STATUS_SUCCESS;
}

/* A library that lacks these scales is asked once for each shape. */
static const struct shape *fp8_shape_of(struct gemm_lt *g, const struct gemm_fp8_args *f,
                                        const struct gemm_args *a)
{
    const enum scales scales = f->block ? SCALES_BLOCK : SCALES_ROW;
    struct shape *s = known_shape(g, a, scales);
    if (s) return s->none ? NULL : s;
    if (g->n_shape == SHAPES_MOST) return NULL;
    s = &g->shape[g->n_shape++];
    *s = new_shape(a, scales);
    s->none = !describe(g, s) || !set_scales(g, s, f) || !choose_prompt(g, a, s);
    return s->none ? NULL : s;
}

enum err gemm_lt_fp8(struct gemm_lt *g, const struct gemm_fp8_args *f)
{
    if (f->gated || (uintptr_t)f->x_scale % 16 || (uintptr_t)f->w_scale % 16) return ERR_INVALID_VALUE;
    if (f->block && (f->n_tok % 4 || f->x_scale_stride != f->n_tok ||
                     f->w_scale_stride != (fp8_groups(f->k) + 3) / 4 * 4))
        return ERR_INVALID_VALUE;
    const struct weight w = {.dt = DT_BF16, .n = f->n, .k = f->k, .data = f->w};
    const struct gemm_args a = {.y = f->y,
                                .x = f->x,
                                .w = &w,
                                .bias = f->bias,
                                .x_stride = f->x_stride,
                                .y_stride = f->y_stride,
                                .n_tok = f->n_tok,
                                .add = f->add,
                                .y_f32 = f->y_f32};
    if (f->n_tok == 0) return OK;
    const struct shape *s = fp8_shape_of(g, f, &a);
    if (!s) return ERR_INVALID_VALUE;
    return set_scales(g, s, f) && multiply(g, s, &a, &s->algo) ? OK : ERR_DEVICE;
}
