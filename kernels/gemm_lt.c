/* gemm_lt: see gemm_lt.h. Column-major as cuBLASLt sees it: y^T[n, t] = w[k, n]^T x^T[k, t]. */
#include "kernels/gemm_lt.h"

#include <cublasLt.h>
#include <dlfcn.h>
#include <stdlib.h>

enum { SHAPES_MOST = 32, CANDIDATES = 32, TUNE_ROWS = 4096, WORK_BYTES = 32 << 20 };

#define LT_CALLS(X)                                                                                \
    X(cublasLtCreate) X(cublasLtDestroy) X(cublasLtMatmul) X(cublasLtMatmulDescCreate) X(cublasLtMatmulDescDestroy) \
    X(cublasLtMatmulDescSetAttribute) X(cublasLtMatrixLayoutCreate) X(cublasLtMatrixLayoutDestroy)                \
    X(cublasLtMatmulPreferenceCreate) X(cublasLtMatmulPreferenceDestroy) X(cublasLtMatmulPreferenceSetAttribute)  \
    X(cublasLtMatmulAlgoGetHeuristic) X(cublasLtMatmulAlgoConfigGetAttribute)

struct shape {
    int                   n, k;
    bool                  add, bias;
    enum dtype            dt;
    cublasLtMatmulAlgo_t  algo;
};

struct gemm_lt {
    void            *lib, *work;
    cublasLtHandle_t handle;
    cudaStream_t     stream;
    struct shape     shape[SHAPES_MOST];
    int              n_shape;
#define LT_FIELD(name) __typeof__(&name) name;
    LT_CALLS(LT_FIELD)
#undef LT_FIELD
};

static const char *const lib_names[] = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"};

enum err gemm_lt_open(struct gemm_lt **out, cudaStream_t stream, struct err_note *note)
{
    struct gemm_lt *g = calloc(1, sizeof *g);
    if (!g) return err_set(note, ERR_NOMEM, NULL, "out of memory");
    for (size_t i = 0; !g->lib && i < sizeof lib_names / sizeof *lib_names; i++) g->lib = dlopen(lib_names[i], RTLD_NOW);
    bool ok = g->lib;
#define LT_FIND(name) ok = ok && (g->name = (__typeof__(&name))dlsym(g->lib, #name));
    LT_CALLS(LT_FIND)
#undef LT_FIND
    g->stream = stream;
    ok = ok && g->cublasLtCreate(&g->handle) == CUBLAS_STATUS_SUCCESS && cudaMalloc(&g->work, WORK_BYTES) == cudaSuccess;
    if (!ok) {
        gemm_lt_close(g);
        return err_set(note, ERR_CONFIG, "--device", "cuda needs cuBLASLt (libcublasLt.so of CUDA 12 or 13), which could not be loaded");
    }
    *out = g;
    return OK;
}

void gemm_lt_close(struct gemm_lt *g)
{
    if (!g) return;
    if (g->handle) g->cublasLtDestroy(g->handle);
    if (g->work) cudaFree(g->work);
    if (g->lib) dlclose(g->lib);
    free(g);
}

/* The descriptions of one product. */
struct product {
    cublasLtMatmulDesc_t   op;
    cublasLtMatrixLayout_t w, x, y;
};

static void product_free(struct gemm_lt *g, struct product *p)
{
    if (p->op) g->cublasLtMatmulDescDestroy(p->op);
    if (p->w) g->cublasLtMatrixLayoutDestroy(p->w);
    if (p->x) g->cublasLtMatrixLayoutDestroy(p->x);
    if (p->y) g->cublasLtMatrixLayoutDestroy(p->y);
}

static bool product_new(struct gemm_lt *g, const struct gemm_args *a, int n_tok, struct product *p)
{
    cublasOperation_t turn = CUBLAS_OP_T;
    cudaDataType_t    type = a->w->dt == DT_F32 ? CUDA_R_32F : CUDA_R_16BF;
    cublasLtEpilogue_t end = a->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT; /* bias in the type of y */
    *p = (struct product){0};
    return g->cublasLtMatmulDescCreate(&p->op, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
           g->cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_TRANSA, &turn, sizeof turn) == CUBLAS_STATUS_SUCCESS &&
           g->cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_EPILOGUE, &end, sizeof end) == CUBLAS_STATUS_SUCCESS &&
           g->cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &a->bias, sizeof a->bias) == CUBLAS_STATUS_SUCCESS &&
           g->cublasLtMatrixLayoutCreate(&p->w, type, (uint64_t)a->w->k, (uint64_t)a->w->n, a->w->k) == CUBLAS_STATUS_SUCCESS &&
           g->cublasLtMatrixLayoutCreate(&p->x, type, (uint64_t)a->w->k, (uint64_t)n_tok, a->x_stride) == CUBLAS_STATUS_SUCCESS &&
           g->cublasLtMatrixLayoutCreate(&p->y, type, (uint64_t)a->w->n, (uint64_t)n_tok, a->y_stride) == CUBLAS_STATUS_SUCCESS;
}

static bool splits(struct gemm_lt *g, const cublasLtMatmulAlgo_t *algo)
{
    int32_t  split = 1;
    uint32_t scheme = 0;
    size_t   n;
    g->cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &split, sizeof split, &n);
    g->cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme, sizeof scheme, &n);
    return split > 1 || scheme != CUBLASLT_REDUCTION_SCHEME_NONE;
}

/* The library's best algorithm for many rows that does not split sums; it then serves any number of rows. */
static bool choose(struct gemm_lt *g, const struct gemm_args *a, cublasLtMatmulAlgo_t *algo)
{
    struct product                  p;
    cublasLtMatmulPreference_t      pref = NULL;
    cublasLtMatmulHeuristicResult_t found[CANDIDATES];
    size_t                          bytes = WORK_BYTES;
    int                             n = 0;
    bool ok = product_new(g, a, TUNE_ROWS, &p) && g->cublasLtMatmulPreferenceCreate(&pref) == CUBLAS_STATUS_SUCCESS &&
              g->cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes) == CUBLAS_STATUS_SUCCESS &&
              g->cublasLtMatmulAlgoGetHeuristic(g->handle, p.op, p.w, p.x, p.y, p.y, pref, CANDIDATES, found, &n) == CUBLAS_STATUS_SUCCESS;
    int i = 0;
    while (ok && i < n && splits(g, &found[i].algo)) i++;
    if (ok && i < n) *algo = found[i].algo;
    if (pref) g->cublasLtMatmulPreferenceDestroy(pref);
    product_free(g, &p);
    return ok && i < n;
}

static const struct shape *shape_of(struct gemm_lt *g, const struct gemm_args *a)
{
    for (int i = 0; i < g->n_shape; i++) {
        const struct shape *s = &g->shape[i];
        if (s->n == a->w->n && s->k == a->w->k && s->add == a->add && s->bias == !!a->bias && s->dt == a->w->dt) return s;
    }
    if (g->n_shape == SHAPES_MOST) return NULL;
    struct shape *s = &g->shape[g->n_shape];
    *s = (struct shape){.n = a->w->n, .k = a->w->k, .add = a->add, .bias = a->bias, .dt = a->w->dt};
    if (!choose(g, a, &s->algo)) return NULL;
    g->n_shape++;
    return s;
}

enum err gemm_lt(struct gemm_lt *g, const struct gemm_args *a)
{
    const struct shape *s = shape_of(g, a);
    struct product      p;
    float               one = 1, beta = a->add ? 1 : 0;
    if (!s) return ERR_INVALID_VALUE;
    bool ok = product_new(g, a, a->n_tok, &p) &&
              g->cublasLtMatmul(g->handle, p.op, &one, a->w->data, p.w, a->x, p.x, &beta, a->y, p.y, a->y, p.y, &s->algo, g->work, WORK_BYTES, g->stream) == CUBLAS_STATUS_SUCCESS;
    product_free(g, &p);
    return ok ? OK : ERR_DEVICE;
}
