/* codes4: see codes4.h. */
#include "engine/cuda/codes4.h"

#include <stdlib.h>

#include "base/check.h"
#include "engine/cuda/backend.h"
#include "engine/cuda/refuse.h"
#include "kernels/cuda/int4_gpu.h"

/* struct weight's impl. */
struct held {
    struct int4_form form; /* first: what the kernels read */
    int32_t *order;        /* device; NULL: x as it stands */
    void *records;         /* host, until they are sent */
};

static struct held *held_of(const struct weight *w) { return w->impl; }

bool codes4_held(const struct backend *b, const struct weight *w)
{
    const struct backend_cuda *c = (const struct backend_cuda *)b;
    return c->hold == DT_BF16 && w->dt == DT_U4 && w->s.rows == 1 && w->k % 8 == 0 && w->n % 8 == 0 &&
           int4_group(w->k, w->s.cols) != 0;
}

static enum err no_memory(struct err_note *note)
{
    return err_set(note, ERR_NOMEM, NULL, "no memory to load weights");
}

static enum err send_order(struct held *h, const int32_t *group, struct err_note *note)
{
    const int k = h->form.k;
    const int64_t bytes = k * (int64_t)sizeof *h->order;
    int n_group = 0;
    for (int i = 0; i < k; i++) n_group = group[i] >= n_group ? group[i] + 1 : n_group;
    int32_t *order = malloc((size_t)bytes);
    if (!order) return no_memory(note);
    int4_order(group, k, n_group, order);
    enum err e =
        cudaMalloc((void **)&h->order, (size_t)bytes) == cudaSuccess ? OK : cuda_no_weights(bytes, note);
    if (e == OK)
        e = cuda_check(cudaMemcpy(h->order, order, (size_t)bytes, cudaMemcpyHostToDevice), "order", note);
    free(order);
    return e;
}

enum err codes4_new(struct backend *b, struct weight *w, const struct weight *like, struct err_note *note)
{
    void *data = NULL;
    struct held *h = calloc(1, sizeof *h);
    if (!h) return no_memory(note);
    h->form = (struct int4_form){
        .n = like->n, .k = like->k, .group = int4_group(like->k, like->s.cols), .zeros = like->s.zero};
    const int64_t bytes = int4_bytes(&h->form);
    *w = (struct weight){
        .dt = DT_U4, .n = like->n, .k = like->k, .impl = h, .s = {.rows = 1, .cols = h->form.group}};
    h->records = malloc((size_t)bytes);
    enum err e = h->records ? OK : no_memory(note);
    if (e == OK) e = cuda_check(cudaSetDevice(((struct backend_cuda *)b)->index), "device", note);
    if (e == OK && cudaMalloc(&data, (size_t)bytes) != cudaSuccess) e = cuda_no_weights(bytes, note);
    w->data = data;
    if (e == OK && like->s.group) e = send_order(h, like->s.group, note);
    w->s.group = h->order;
    if (e == OK) {
        int4_clear(&h->form, h->records);
        return OK;
    }
    if (data) cudaFree(data);
    codes4_free(w);
    *w = (struct weight){0};
    return e;
}

void codes4_part(struct weight *w, int row0, const struct weight *rows)
{
    struct held *h = held_of(w);
    CHECK(h->records && row0 + rows->n <= w->n && rows->k == w->k);
    int4_pack(&h->form, row0, rows, NULL, h->records);
}

enum err codes4_done(struct backend *b, struct weight *w, struct err_note *note)
{
    struct held *h = held_of(w);
    cudaSetDevice(((struct backend_cuda *)b)->index);
    const cudaError_t e = cudaMemcpy((void *)(uintptr_t)w->data, h->records, (size_t)int4_bytes(&h->form),
                                     cudaMemcpyHostToDevice);
    free(h->records);
    h->records = NULL;
    return cuda_check(e, "copying weights", note);
}

void codes4_free(struct weight *w)
{
    struct held *h = held_of(w);
    if (h->order) cudaFree(h->order);
    free(h->records);
    free(h);
}

int64_t codes4_bytes(const struct weight *w)
{
    const struct held *h = held_of(w);
    return int4_bytes(&h->form) + (h->order ? w->k * (int64_t)sizeof *h->order : 0);
}

/* --- products */

enum err codes4_sort(const struct op_ctx *c, const struct gemm_args *a, struct gemm_args *out)
{
    const int32_t *order = held_of(a->w)->order;
    *out = *a;
    if (!order) return OK;
    out->x = c->sorted;
    out->x_stride = a->w->k;
    return int4_sort_gpu(c->sorted, a->x, a->x_stride, order, a->n_tok, a->w->k, &c->small);
}

enum err codes4_few(const struct op_ctx *c, const struct gemm_args *a)
{
    for (int at = 0; at < a->n_tok; at += GEMM_SMALL_MAX_TOK) {
        const struct gemm_args part = ops_rows(a, at, GEMM_SMALL_MAX_TOK);
        TRY(gemm_int4_gpu(&part, &c->small));
    }
    return OK;
}

static struct weight as_numbers(const struct op_ctx *c, const struct weight *w)
{
    return (struct weight){.dt = DT_BF16, .n = w->n, .k = w->k, .data = c->numbers};
}

enum err codes4_many(const struct op_ctx *c, const struct gemm_args *a)
{
    const struct weight w = as_numbers(c, a->w);
    struct gemm_args b = *a;
    TRY(int4_rows_gpu(a->w, 0, w.n, c->numbers, &c->small));
    b.w = &w;
    return gemm_lt(c->lt, &b);
}

enum err codes4_plan(const struct op_ctx *c, const struct gemm_args *a)
{
    const struct weight w = as_numbers(c, a->w);
    struct gemm_args b = *a;
    b.w = &w;
    return gemm_lt_plan(c->lt, &b);
}
