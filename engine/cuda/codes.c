/* codes: see codes.h. */
#include "engine/cuda/codes.h"

#include <stdlib.h>

#include "base/check.h"
#include "engine/cuda/call.h"
#include "engine/cuda/codes4.h"
#include "kernels/cuda/fp8_gpu.h"

enum { ROWS_STEP = 4, MANY_ROWS = 2048, L2_BYTES = 50 << 20 };

/* struct weight's impl. */
struct held {
    float input; /* the largest of its parts': they are multiplied with the same rows; 0: none */
};

static bool by_block(const struct weight *w) { return w->s.rows == FP8_BLOCK; }

/* cuBLASLt wants rows of blocks to begin at 16 bytes. */
static int64_t scale_stride(const struct weight *w) { return (fp8_groups(w->k) + 3) / 4 * 4; }

static int64_t n_scale(const struct weight *w)
{
    return by_block(w) ? fp8_groups(w->n) * scale_stride(w) : w->n;
}

bool codes_held(const struct backend *b, const struct weight *w)
{
    const struct backend_cuda *c = (const struct backend_cuda *)b;
    if (w->dt == DT_U4) return codes4_held(b, w);
    return c->hopper && c->hold == DT_BF16 && w->dt == DT_FP8 && w->k % 16 == 0 && w->n % 8 == 0 &&
           w->k <= FP8_WIDEST && (w->s.rows == 1 ? w->s.cols == w->k : by_block(w) && w->s.cols == FP8_BLOCK);
}

enum err codes_new(struct backend *b, struct weight *w, const struct weight *like, struct err_note *note)
{
    void *code = NULL, *scale = NULL;
    if (like->dt == DT_U4) return codes4_new(b, w, like, note);
    *w = *like;
    w->impl = calloc(1, sizeof(struct held));
    if (!w->impl) return err_set(note, ERR_NOMEM, NULL, "no memory to load weights");
    if (cudaSetDevice(((struct backend_cuda *)b)->index) != cudaSuccess ||
        cudaMalloc(&code, (size_t)w->n * (size_t)w->k) != cudaSuccess ||
        cudaMalloc(&scale, (size_t)n_scale(w) * sizeof(float)) != cudaSuccess ||
        cudaMemset(scale, 0, (size_t)n_scale(w) * sizeof(float)) != cudaSuccess) {
        if (code) cudaFree(code);
        if (scale) cudaFree(scale);
        codes_free(w);
        *w = (struct weight){0};
        return cuda_no_weights((int64_t)like->n * like->k, note);
    }
    w->data = code;
    w->s.scale = scale;
    return OK;
}

void codes_part(struct backend *b, struct weight *w, int row0, const struct weight *rows, float input)
{
    if (w->dt == DT_U4) {
        codes4_part(w, row0, rows);
        return;
    }
    struct held *h = w->impl;
    char *code = (char *)(uintptr_t)w->data + (int64_t)row0 * w->k;
    float *scale = (float *)(uintptr_t)w->s.scale;
    cudaSetDevice(((struct backend_cuda *)b)->index);
    cudaMemcpy(code, rows->data, (size_t)rows->n * (size_t)w->k, cudaMemcpyHostToDevice);
    if (by_block(w)) {
        const size_t row = (size_t)fp8_groups(w->k) * sizeof *scale;
        cudaMemcpy2D(scale + row0 / FP8_BLOCK * scale_stride(w), (size_t)scale_stride(w) * sizeof *scale,
                     rows->s.scale, row, row, (size_t)fp8_groups(rows->n), cudaMemcpyHostToDevice);
    } else {
        float *each = malloc((size_t)rows->n * sizeof *each);
        CHECK(each);
        for (int i = 0; i < rows->n; i++) each[i] = rows->s.scale[i / rows->s.rows];
        cudaMemcpy(scale + row0, each, (size_t)rows->n * sizeof *scale, cudaMemcpyHostToDevice);
        free(each);
    }
    if (input > h->input) h->input = input;
}

void codes_free(struct weight *w)
{
    if (w->s.scale) cudaFree((void *)(uintptr_t)w->s.scale);
    free(w->impl);
}

int64_t codes_bytes(const struct weight *w) { return (int64_t)w->n * w->k + n_scale(w) * 4; }

/* --- products */

/* The library's products with scales by block take rows in fours. What is behind a prompt's last row is
 * computed with it, and read by nobody: buffers have max_tok rows, a multiple of that. */
static int whole_rows(int n) { return (n + ROWS_STEP - 1) / ROWS_STEP * ROWS_STEP; }

/* The rows' codes, in memory.code, of what the product reads: x, its norm, or silu(gate) * up of it. */
static enum err make_codes(const struct call *c, const struct gemm_args *a, const struct around *around,
                           struct gemm_fp8_args *to)
{
    struct forward_cuda *f = cuda_of(c);
    const struct memory *m = &c->e->mem;
    const struct weight *w = a->w;
    const int n_tok = a->decode ? a->n_tok : whole_rows(a->n_tok);
    const struct quant_fp8_args q = {.code = m->code,
                                     .scale = m->code_scale,
                                     .x = a->x,
                                     .norm = around->norm,
                                     .code_stride = w->k,
                                     .x_stride = a->x_stride,
                                     .scale_stride = n_tok,
                                     .n_tok = a->n_tok,
                                     .d = w->k,
                                     .eps = c->e->spec.eps,
                                     .block = by_block(w),
                                     .gated = around->gates,
                                     .fixed = by_block(w) ? 0 : ((const struct held *)w->impl)->input};
    *to = (struct gemm_fp8_args){.y = a->y,
                                 .x = m->code,
                                 .x_scale = m->code_scale,
                                 .w = w->data,
                                 .w_scale = w->s.scale,
                                 .bias = a->bias,
                                 .x_stride = w->k,
                                 .y_stride = a->y_stride,
                                 .x_scale_stride = n_tok,
                                 .w_scale_stride = scale_stride(w),
                                 .n_tok = n_tok,
                                 .n = w->n,
                                 .k = w->k,
                                 .block = by_block(w),
                                 .add = a->add,
                                 .gated = around->opens,
                                 .y_f32 = a->y_f32};
    return quant_fp8_sm90(&q, &f->ops.small);
}

/* ops_rows of rows of codes. */
static struct gemm_fp8_args rows_of(const struct gemm_fp8_args *a, int at, int most)
{
    struct gemm_fp8_args part = *a;
    part.n_tok = a->n_tok - at < most ? a->n_tok - at : most;
    part.x += at * a->x_stride;
    part.x_scale += at;
    part.y = (char *)a->y + at * a->y_stride * (a->y_f32 ? 4 : 2);
    return part;
}

/* More rows than the small product takes go in pieces. */
static enum err multiply_few(const struct gemm_fp8_args *a, struct gemm_gpu *g)
{
    const bool many = a->n_tok > 16; /* what is of the second kind then: gemm_gpu.h */
    for (int at = 0; at < a->n_tok; at += GEMM_SMALL_MAX_TOK) {
        struct gemm_fp8_args part = rows_of(a, at, GEMM_SMALL_MAX_TOK);
        part.second = (many != a->add) ^ (at / GEMM_SMALL_MAX_TOK % 2);
        TRY(gemm_fp8_small_sm90(&part, g));
    }
    return OK;
}

/* The library's, which is faster; before CUDA 12.9 it has none with scales. Weights that L2 does not hold go
 * through it once for so many rows that these stay in it: 24576 x 4096 by 8192 rows takes an H200 1.23 ms so,
 * 1.42 ms at once. */
static enum err multiply_many(struct forward_cuda *f, const struct gemm_fp8_args *a)
{
    const int step = (int64_t)a->n * a->k > L2_BYTES && !a->block ? MANY_ROWS : a->n_tok;
    for (int at = 0; at < a->n_tok; at += step) {
        const struct gemm_fp8_args part = rows_of(a, at, step);
        const enum err e = gemm_lt_fp8(f->ops.lt, &part);
        if (e == ERR_INVALID_VALUE) return gemm_fp8_sm90(a, &f->ops.small);
        if (e != OK) return e;
    }
    return OK;
}

enum err codes_multiply(const struct call *c, const struct gemm_args *a, const struct around *around)
{
    struct forward_cuda *f = cuda_of(c);
    struct gemm_fp8_args p;
    TRY(make_codes(c, a, around, &p));
    return a->decode ? multiply_few(&p, &f->ops.small) : multiply_many(f, &p);
}

enum err codes_plan(struct engine *e, const struct gemm_args *a)
{
    const struct call c = {.e = e};
    return a->decode ? OK : codes_multiply(&c, a, &(struct around){0});
}
