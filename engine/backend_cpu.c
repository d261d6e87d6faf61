/* backend_cpu: the CPU's table of ops, and host memory. Big blocks come from anonymous maps, which take
 * memory only as they are touched: an idle KV pool costs nothing. */
#include "engine/backend.h"

#include <omp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/cpu/cpu.h"
#include "kernels/quant.h"

struct backend_cpu {
    struct backend b; /* first: a backend is its backend_cpu */
    struct op_ctx ctx;
    enum engine_dtype dtype;
};

/* The host's ops cannot fail. */
#define CPU_OP(name)                                                                                         \
    static enum err name##_op(struct op_ctx *c, const struct name##_args *a)                                 \
    {                                                                                                        \
        name##_cpu(c, a);                                                                                    \
        return OK;                                                                                           \
    }
KERNEL_OPS(CPU_OP)
#undef CPU_OP

static const struct backend_ops cpu_ops = {
#define CPU_ROW(name) .name = name##_op,
    KERNEL_OPS(CPU_ROW)
#undef CPU_ROW
};

static enum dtype hold_type(const struct backend *b, enum dtype src)
{
    switch (((const struct backend_cpu *)b)->dtype) {
    case ENGINE_DTYPE_F32:
        return DT_F32;
    case ENGINE_DTYPE_BF16:
        return DT_BF16;
    default:
        return cpu_hold_type(src);
    }
}

static enum err weight_new(struct backend *b, struct weight *w, int n, int k, enum dtype hold,
                           enum weight_use use, struct err_note *note)
{
    (void)b;
    return cpu_weight_new(w, n, k, hold, use == WEIGHT_TABLE, note);
}

static void weight_part(struct backend *b, struct weight *w, int row0, int n_row, const void *src,
                        enum dtype src_type, const int32_t *rows)
{
    (void)b;
    cpu_weight_part(w, row0, n_row, src, src_type, rows);
}

static enum err weight_done(struct backend *b, struct weight *w, struct err_note *note)
{
    enum err e;
#pragma omp critical(backend_cpu_pack)
    e = cpu_weight_done(b->ctx, w, note);
    return e;
}

static void weight_free(struct weight *w)
{
    if (w->impl) cpu_weight_free(w);
}

static void *mem_new(struct backend *b, int64_t bytes)
{
    (void)b;
    if (bytes <= 0) bytes = 1;
    void *p =
        mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void mem_free(struct backend *b, void *p, int64_t bytes)
{
    (void)b;
    if (p) munmap(p, (size_t)(bytes > 0 ? bytes : 1));
}

static int64_t mem_left(struct backend *b)
{
    (void)b;
    return INT64_MAX;
}

static void *vector_new(struct backend *b, const float *v, int n)
{
    void *p = mem_new(b, (int64_t)n * 4);
    if (p) memcpy(p, v, (size_t)n * 4);
    return p;
}

static enum err copy(struct backend *b, void *to, const void *from, int64_t bytes)
{
    (void)b;
    memcpy(to, from, (size_t)bytes);
    return OK;
}

static void move(struct backend *b, void *to, const void *from, int64_t bytes)
{
    (void)b;
    memcpy(to, from, (size_t)bytes);
}

static void take_exp(struct backend *b, int8_t *exp) { ((struct backend_cpu *)b)->ctx.kv_exp = exp; }

static void cpu_backend_close(struct backend *b)
{
    if (b->ctx) cpu_close(b->ctx);
    free(b);
}

/* Cores this process may run on: not more than its cpuset gives. */
static int n_core(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0 ? CPU_COUNT(&set) : 1;
}

enum err backend_cpu_open(struct backend **out, const struct backend_conf *conf, struct err_note *note)
{
    struct backend_cpu *c = calloc(1, sizeof *c);
    if (!c) return err_set(note, ERR_NOMEM, NULL, "out of memory");
    c->dtype = conf->dtype;
    c->b = (struct backend){
        .kind = BACKEND_HOST,
        .op = cpu_ops,
        .act = DT_F32,
        .kv = conf->dtype == ENGINE_DTYPE_F32 ? DT_F32 : DT_BF16,
        .kv_codes = conf->dtype != ENGINE_DTYPE_F32,
        .n_thread = conf->n_thread > 0 ? conf->n_thread : n_core(),
        .tries_shapes = true,
        .hold_type = hold_type,
        .weight_new = weight_new,
        .weight_part = weight_part,
        .weight_done = weight_done,
        .weight_free = weight_free,
        .weight_bytes = cpu_weight_bytes,
        .vector_new = vector_new,
        .mem_new = mem_new,
        .mem_free = mem_free,
        .mem_left = mem_left,
        .move = move,
        .copy_in = copy,
        .copy_out = copy,
        .kv_exp = take_exp,
        .close = cpu_backend_close,
    };
    omp_set_num_threads(c->b.n_thread); /* of parallel regions that this thread opens, oneDNN's too */
    enum err e = cpu_open(&c->ctx, c->b.n_thread, c->b.kv, conf->max_tok, conf->max_k, conf->max_n, note);
    if (e != OK) {
        free(c);
        return e;
    }
    c->b.ctx = &c->ctx;
    snprintf(c->b.device, sizeof c->b.device, "cpu, %d threads", c->b.n_thread);
    *out = &c->b;
    return OK;
}
