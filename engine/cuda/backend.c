/* backend: device memory and weights, and the table of ops. */
#include "engine/cuda/backend.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "engine/cuda/codes.h"
#include "engine/cuda/codes4.h"
#include "engine/cuda/ops.h"
#include "kernels/quant.h"

enum { LOAD_THREADS = 16 }; /* that read weights: memory and bus are full with fewer */

static struct backend_cuda *of(const struct backend *b) { return (struct backend_cuda *)(uintptr_t)b; }

static enum dtype hold_type(const struct backend *b, enum dtype src)
{
    (void)src;
    return of(b)->hold;
}

static enum err weight_new(struct backend *b, struct weight *w, int n, int k, enum dtype hold,
                           enum weight_use use, struct err_note *note)
{
    (void)hold;
    (void)use;
    void *p = NULL;
    int64_t bytes = (int64_t)n * k * quant_type(of(b)->hold)->block_bytes;
    *w = (struct weight){.dt = of(b)->hold, .n = n, .k = k};
    if (cudaSetDevice(of(b)->index) != cudaSuccess || cudaMalloc(&p, (size_t)bytes) != cudaSuccess)
        return cuda_no_weights(bytes, note);
    w->data = p;
    return OK;
}

static void to_device_type(enum dtype hold, const float *v, int64_t n, void *out)
{
    uint16_t *h = out;
    if (hold == DT_F32)
        memcpy(out, v, (size_t)n * 4);
    else
        for (int64_t i = 0; i < n; i++) h[i] = f32_to_bf16(v[i]);
}

static void weight_part(struct backend *b, struct weight *w, int row0, int n_row, const void *src,
                        enum dtype src_type, const int32_t *rows)
{
    cudaSetDevice(of(b)->index);
    int64_t src_row = quant_bytes(src_type, w->k), row = w->k * (int64_t)quant_type(w->dt)->block_bytes;
    if (src_type == w->dt && !rows) {
        cudaMemcpy((char *)(uintptr_t)w->data + row0 * row, src, (size_t)(n_row * row),
                   cudaMemcpyHostToDevice);
        return;
    }
    char *host = malloc((size_t)(n_row * row));
    float *v = malloc((size_t)w->k * sizeof *v);
    CHECK(host && v);
    for (int i = 0; i < n_row; i++) {
        const char *from = (const char *)src + (rows ? rows[i] : i) * src_row;
        if (src_type == w->dt)
            memcpy(host + i * row, from, (size_t)row);
        else {
            CHECK(quant_to_f32(src_type, from, v, w->k));
            to_device_type(w->dt, v, w->k, host + i * row);
        }
    }
    cudaMemcpy((char *)(uintptr_t)w->data + row0 * row, host, (size_t)(n_row * row), cudaMemcpyHostToDevice);
    free(v);
    free(host);
}

/* What weights are read into: pinned, so that the copy goes at the bus's speed. */
static void *host_new(struct backend *b, int64_t bytes)
{
    void *p = NULL;
    if (cudaSetDevice(of(b)->index) == cudaSuccess && cudaMallocHost(&p, (size_t)bytes) == cudaSuccess)
        return p;
    cudaGetLastError();
    return NULL;
}

static void host_free(void *p)
{
    if (p) cudaFreeHost(p);
}

static enum err weight_done(struct backend *b, struct weight *w, struct err_note *note)
{
    if (w->dt == DT_U4) return codes4_done(b, w, note);
    return cuda_check(cudaGetLastError(), "copying weights", note);
}

static void weight_free(struct weight *w)
{
    if (w->data) cudaFree((void *)(uintptr_t)w->data);
    if (w->dt == DT_FP8) codes_free(w);
    if (w->dt == DT_U4) codes4_free(w);
    *w = (struct weight){0};
}

static int64_t weight_bytes(const struct weight *w)
{
    if (w->dt == DT_U4) return codes4_bytes(w);
    return w->dt == DT_FP8 ? codes_bytes(w) : (int64_t)w->n * w->k * quant_type(w->dt)->block_bytes;
}

static void *mem_new(struct backend *b, int64_t bytes)
{
    void *p = NULL;
    if (cudaMalloc(&p, (size_t)(bytes > 0 ? bytes : 1)) != cudaSuccess ||
        cudaMemsetAsync(p, 0, (size_t)bytes, of(b)->stream) != cudaSuccess) {
        cudaGetLastError();
        return NULL;
    }
    return p;
}

static void mem_free(struct backend *b, void *p, int64_t bytes)
{
    (void)b;
    (void)bytes;
    if (p) cudaFree(p);
}

static void *vector_new(struct backend *b, const float *v, int n)
{
    int64_t bytes = n * (int64_t)quant_type(of(b)->hold)->block_bytes;
    void *host = malloc((size_t)bytes), *p = host ? mem_new(b, bytes) : NULL;
    if (p) {
        to_device_type(of(b)->hold, v, n, host);
        cudaStreamSynchronize(of(b)->stream);
        cudaMemcpy(p, host, (size_t)bytes, cudaMemcpyHostToDevice);
    }
    free(host);
    return p;
}

static void move(struct backend *b, void *to, const void *from, int64_t bytes)
{
    cudaMemcpyAsync(to, from, (size_t)bytes, cudaMemcpyDeviceToDevice, of(b)->stream);
}

static enum err copy_in(struct backend *b, void *to, const void *host, int64_t bytes)
{
    cudaError_t e = cudaMemcpyAsync(to, host, (size_t)bytes, cudaMemcpyHostToDevice, of(b)->stream);
    return e == cudaSuccess && cudaStreamSynchronize(of(b)->stream) == cudaSuccess ? OK : ERR_DEVICE;
}

static enum err copy_out(struct backend *b, void *host, const void *from, int64_t bytes)
{
    cudaError_t e = cudaMemcpyAsync(host, from, (size_t)bytes, cudaMemcpyDeviceToHost, of(b)->stream);
    return e == cudaSuccess && cudaStreamSynchronize(of(b)->stream) == cudaSuccess ? OK : ERR_DEVICE;
}

static int64_t mem_left(struct backend *b)
{
    size_t left = 0, all = 0;
    cudaStreamSynchronize(of(b)->stream);
    return cudaMemGetInfo(&left, &all) == cudaSuccess
               ? (int64_t)left - (int64_t)((1 - of(b)->share) * (double)all)
               : 0;
}

static void cuda_backend_close(struct backend *b)
{
    if (of(b)->stream) cudaStreamDestroy(of(b)->stream);
    free(of(b));
}

enum err backend_cuda_open(struct backend **out, const struct backend_conf *conf, struct err_note *note)
{
    struct cudaDeviceProp p;
    int n = 0;
    if (cudaGetDeviceCount(&n) != cudaSuccess || n == 0)
        return err_set(note, ERR_CONFIG, "--device", "no CUDA device was found: %s",
                       cudaGetErrorString(cudaGetLastError()));
    if (conf->device_index >= n)
        return err_set(note, ERR_CONFIG, "--device-index", "must be less than %d: the CUDA devices here", n);
    TRY(cuda_check(cudaSetDevice(conf->device_index), "device", note));
    TRY(cuda_check(cudaGetDeviceProperties(&p, conf->device_index), "device properties", note));
    if (p.major < 8)
        return err_set(note, ERR_CONFIG, "--device",
                       "%s: compute capability %d.%d; 8.0 and newer are supported", p.name, p.major, p.minor);
    struct backend_cuda *c = calloc(1, sizeof *c);
    if (!c) return err_set(note, ERR_NOMEM, NULL, "out of memory");
    c->hold = conf->dtype == ENGINE_DTYPE_F32 ? DT_F32 : DT_BF16;
    c->hopper = p.major == 9 && p.minor == 0;
    c->share = conf->memory_share > 0 ? conf->memory_share : 1;
    c->index = conf->device_index;
    c->n_sm = p.multiProcessorCount;
    c->b = (struct backend){
        .kind = BACKEND_CUDA,
        .op = ops_cuda,
        .act = c->hold,
        .kv = c->hold,
        .kv_codes = c->hopper && c->hold == DT_BF16,
        .n_thread = conf->n_thread > 0                   ? conf->n_thread
                    : omp_get_num_procs() < LOAD_THREADS ? omp_get_num_procs()
                                                         : LOAD_THREADS,
        .hold_type = hold_type,
        .weight_new = weight_new,
        .weight_part = weight_part,
        .host_new = host_new,
        .host_free = host_free,
        .weight_done = weight_done,
        .holds_codes = codes_held,
        .codes_new = codes_new,
        .codes_part = codes_part,
        .weight_free = weight_free,
        .weight_bytes = weight_bytes,
        .vector_new = vector_new,
        .mem_new = mem_new,
        .mem_free = mem_free,
        .mem_left = mem_left,
        .move = move,
        .copy_in = copy_in,
        .copy_out = copy_out,
        .close = cuda_backend_close,
    };
    snprintf(c->b.device, sizeof c->b.device, "%.60s", p.name);
    const enum err err =
        cuda_check(cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking), "stream", note);
    if (err != OK) {
        free(c);
        return err;
    }
    *out = &c->b;
    return OK;
}
