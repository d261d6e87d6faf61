/* draw: see draw.h. One pinned block: rows, then ids, then values; a twin on the device; results behind. */
#include "engine/cuda/draw.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "engine/cuda/backend.h"

struct draw_cuda {
    struct gpu_ctx ops;
    int max_row, words; /* of a mask */
    int64_t list_most;
    char *host, *dev; /* [max_row] rows, [list_most] ids, [list_most] values */
    struct sample_out *out_host, *out_dev;
    int64_t id_at, value_at, bytes;
};

enum err draw_cuda_open(struct draw_cuda **out, const struct gpu_ctx *ops, int max_row, int vocab,
                        int64_t list_most, struct err_note *note)
{
    struct draw_cuda *d = calloc(1, sizeof *d);
    if (!d) return err_set(note, ERR_NOMEM, NULL, "out of memory");
    *d = (struct draw_cuda){
        .ops = *ops, .max_row = max_row, .words = (vocab + 31) / 32, .list_most = list_most};
    d->id_at = max_row * (int64_t)sizeof(struct sample_gpu_row);
    d->value_at = d->id_at + list_most * 4;
    d->bytes = d->value_at + list_most * 4;
    size_t outs = (size_t)max_row * sizeof(struct sample_out);
    bool ok = cudaMallocHost((void **)&d->host, (size_t)d->bytes) == cudaSuccess &&
              cudaMalloc((void **)&d->dev, (size_t)d->bytes) == cudaSuccess &&
              cudaMallocHost((void **)&d->out_host, outs) == cudaSuccess &&
              cudaMalloc((void **)&d->out_dev, outs) == cudaSuccess &&
              cudaMemsetAsync(d->out_dev, 0, outs, ops->stream) ==
                  cudaSuccess; /* rows come down whole, whatever was asked for of their lists */
    if (!ok) {
        draw_cuda_close(d);
        return cuda_no_room("lists for sampling", note);
    }
    *out = d;
    return OK;
}

void draw_cuda_close(struct draw_cuda *d)
{
    if (!d) return;
    if (d->host) cudaFreeHost(d->host);
    if (d->out_host) cudaFreeHost(d->out_host);
    if (d->dev) cudaFree(d->dev);
    if (d->out_dev) cudaFree(d->out_dev);
    free(d);
}

/* Only penalties read the history. */
static int history(const struct sample_row *r)
{
    return r->repetition != 1.0f || r->presence != 0.0f || r->frequency != 0.0f ? r->n_hist : 0;
}

static int64_t numbers(const struct sample_row *r, int words)
{
    return (int64_t)history(r) + r->n_bias + r->n_ban + r->n_allow + (r->mask ? words : 0);
}

int draw_cuda_fit(const struct draw_cuda *d, const struct sample_row *row, int n)
{
    int64_t sum = 0;
    int i = 0;
    while (i < n && i < d->max_row && (sum += numbers(&row[i], d->words)) <= d->list_most) i++;
    return i;
}

static int64_t put_ids(struct draw_cuda *d, int64_t *n, const int32_t *id, int count)
{
    int64_t at = *n;
    if (count) memcpy((int32_t *)(void *)(d->host + d->id_at) + at, id, (size_t)count * 4);
    *n += count;
    return at;
}

enum err draw_cuda_send(struct draw_cuda *d, const float *logits, float *work, int vocab, int n,
                        const struct sample_row *row)
{
    struct sample_gpu_row *to = (struct sample_gpu_row *)(void *)d->host;
    int64_t n_id = 0, n_value = 0;
    CHECK(n <= d->max_row && draw_cuda_fit(d, row, n) == n);
    for (int i = 0; i < n; i++) {
        const struct sample_row *r = &row[i];
        to[i] = (struct sample_gpu_row){.on = 1,
                                        .pos = r->pos,
                                        .top_k = r->top_k,
                                        .n_top = r->n_top,
                                        .force_id = r->force_id,
                                        .temperature = r->temperature,
                                        .top_p = r->top_p,
                                        .min_p = r->min_p,
                                        .presence = r->presence,
                                        .frequency = r->frequency,
                                        .repetition = r->repetition,
                                        .n_hist = history(r),
                                        .n_prompt = r->n_prompt,
                                        .n_bias = r->n_bias,
                                        .n_ban = r->n_ban,
                                        .n_allow = r->n_allow,
                                        .n_mask = r->mask ? d->words : 0,
                                        .seed = r->seed};
        to[i].hist = put_ids(d, &n_id, r->hist, to[i].n_hist);
        to[i].bias_id = put_ids(d, &n_id, r->bias_id, r->n_bias);
        to[i].ban_id = put_ids(d, &n_id, r->ban_id, r->n_ban);
        to[i].allow_id = put_ids(d, &n_id, r->allow_id, r->n_allow);
        to[i].mask = put_ids(d, &n_id, (const int32_t *)r->mask, to[i].n_mask);
        to[i].bias_value = n_value;
        if (r->n_bias)
            memcpy((float *)(void *)(d->host + d->value_at) + n_value, r->bias_value, (size_t)r->n_bias * 4);
        n_value += r->n_bias;
    }
    cudaStream_t s = d->ops.stream;
    cudaError_t e =
        cudaMemcpyAsync(d->dev, d->host, (size_t)(d->id_at + n_id * 4), cudaMemcpyHostToDevice, s);
    if (e == cudaSuccess && n_value)
        e = cudaMemcpyAsync(d->dev + d->value_at, d->host + d->value_at, (size_t)n_value * 4,
                            cudaMemcpyHostToDevice, s);
    struct sample_gpu_args a = {.logits = logits,
                                .logits_stride = vocab,
                                .row = (const struct sample_gpu_row *)(void *)d->dev,
                                .id = (const int32_t *)(void *)(d->dev + d->id_at),
                                .value = (const float *)(void *)(d->dev + d->value_at),
                                .out = d->out_dev,
                                .work = work,
                                .n_row = n,
                                .vocab = vocab};
    if (e != cudaSuccess || sample_gpu(&a, &d->ops) != OK) return ERR_DEVICE;
    e = cudaMemcpyAsync(d->out_host, d->out_dev, (size_t)n * sizeof *d->out_host, cudaMemcpyDeviceToHost, s);
    return e == cudaSuccess ? OK : ERR_DEVICE;
}

void draw_cuda_take(const struct draw_cuda *d, int n, struct sample_out *out)
{
    memcpy(out, d->out_host, (size_t)n * sizeof *out);
}
