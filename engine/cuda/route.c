/* route: see route.h. A prompt whose rows are all in a call has its bits decided layer by layer without a
 * word from the host: so it is the host that notices afterwards when one came out otherwise than the pages
 * behind which the prompt went on were written under. What was computed after that is read by nobody; it was
 * computed from pages that were in the device's table at some time, and written to the prompt's own. */
#include "engine/cuda/route.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* The routers' fp32 weights, layer after layer as they lie on the host. */
static enum err open_weights(struct forward_cuda *f, struct err_note *note)
{
    const struct engine *e = f->e;
    int K = e->spec.head, n_layer = e->spec.n_layer;
    const int n_out = e->routers.layer[0].n_out;
    const int64_t in[5] = {K, 8 * K, 2 * K, 4 * K, K}, out[5] = {8 * K, 2 * K, 4 * K, K, n_out};
    int64_t one = 0;
    for (int i = 0; i < 5; i++) one += (in[i] + 1) * out[i];
    f->router_mem = f->be->b.mem_new(&f->be->b, one * n_layer * 4);
    f->router = calloc((size_t)n_layer, sizeof *f->router);
    if (!f->router_mem || !f->router) return cuda_no_room("the routers' weights", note);
    float *to = f->router_mem;
    enum err err = OK;
    for (int l = 0; l < n_layer; l++) {
        const struct router_weights *w = &e->routers.layer[l];
        f->router[l].n_out = w->n_out;
        for (int i = 0; i < 5 && err == OK; i++) {
            f->router[l].w[i] = to;
            err = f->be->b.copy_in(&f->be->b, to, w->w[i], in[i] * out[i] * 4);
            to += in[i] * out[i];
            f->router[l].b[i] = to;
            if (err == OK) err = f->be->b.copy_in(&f->be->b, to, w->b[i], out[i] * 4);
            to += out[i];
        }
    }
    return err == OK ? OK : err_set(note, err, NULL, "the routers could not be copied to the device");
}

enum err route_cuda_open(struct forward_cuda *f, struct err_note *note)
{
    const struct engine *e = f->e;
    const int64_t runs = (int64_t)e->spec.n_layer * f->max_run, sums = runs * e->spec.head * 4;
    if (!e->routers.layer) return OK;
    f->margin = f->be->b.mem_new(&f->be->b, runs * 4);
    f->head_sum = f->be->b.mem_new(&f->be->b, sums);
    if (!f->margin || !f->head_sum) return cuda_no_room("work lists", note);
    enum err err =
        cuda_check(cudaMallocHost((void **)&f->margin_host, (size_t)runs * 4), "pinned memory", note);
    if (err == OK)
        err = cuda_check(cudaMallocHost((void **)&f->head_sum_host, (size_t)sums), "pinned memory", note);
    return err == OK ? open_weights(f, note) : err;
}

void route_cuda_close(struct forward_cuda *f)
{
    void *const host[] = {f->margin_host, f->head_sum_host}, *const device[] = {f->margin, f->head_sum,
                                                                                f->router_mem};
    for (size_t i = 0; i < sizeof host / sizeof *host; i++)
        if (host[i]) cudaFreeHost(host[i]);
    for (size_t i = 0; i < sizeof device / sizeof *device; i++)
        if (device[i]) cudaFree(device[i]);
    free(f->router);
}

/* --- which prompts */

/* Does the router decide a layer of this call for the span? */
static bool settle_bits(const struct call *c, const struct span *sp)
{
    bool open = false;
    for (int l = c->layer0; l < c->layer1; l++)
        open |= batch_stays_open(sp->seq, l, c->e->kinds.fixed[l], c->e->routers.layer != NULL);
    CHECK(!open || sp->pos0 == sp->seq->n_cached); /* a bit is decided when its prompt begins the layer */
    return open;
}

static struct router_gpu_prompt prompt_of(const struct call *c, int i, bool whole)
{
    const struct span *sp = &c->span[i];
    const struct batch_seq *seq = sp->seq;
    const int p = forward_pooled_rows(c->e, seq), P = c->e->info.router_pool_size;
    const bool resumed = seq->n_cached > 0;
    int full = 0;
    CHECK(!resumed ||
          (seq->head_sum && seq->due && seq->n_cached >= p && seq->n_cached <= seq->n_prompt - p));
    for (int l = 0; l < c->layer0; l++) full += seq->route[l] == ROUTE_FULL;
    /* pooled apart: the last rows behind the first; a prompt shorter than P is its own first and last rows, a
     * resumed one has its last alone */
    const int apart = p == P && !resumed ? 2 * p : p;
    return (struct router_gpu_prompt){.row0 = whole ? sp->row0 : 0,
                                      .n_row = whole ? sp->n : apart,
                                      .run = i,
                                      .bias = seq->route_bias,
                                      .need = seq->min_full - full,
                                      .resumed = resumed};
}

void route_cuda_find(const struct call *c)
{
    struct forward_cuda *f = cuda_of(c);
    struct router_gpu_prompt *p = host_at(f, f->at.prompt);
    for (int whole = 1; whole >= 0; whole--)
        for (int i = 0; i < c->n_span; i++) {
            if (forward_is_whole(&c->span[i]) != whole || !settle_bits(c, &c->span[i])) continue;
            p[f->now.n_whole + f->now.n_apart] = prompt_of(c, i, whole);
            *(whole ? &f->now.n_whole : &f->now.n_apart) += 1;
        }
}

/* --- sums: [layer of the call][prompt of its list][K], on the host as on the device */

static int n_prompt_of(const struct call *c) { return cuda_of(c)->now.n_whole + cuda_of(c)->now.n_apart; }

static int64_t sum_at(const struct call *c, int layer, int prompt)
{
    return ((int64_t)(layer - c->layer0) * n_prompt_of(c) + prompt) * c->e->spec.head;
}

static const struct batch_seq *seq_of(const struct call *c, int prompt)
{
    const struct router_gpu_prompt *p = host_at(cuda_of(c), cuda_of(c)->at.prompt);
    return c->span[p[prompt].run].seq;
}

enum err route_cuda_send_sums(const struct call *c)
{
    struct forward_cuda *f = cuda_of(c);
    const int K = f->e->spec.head, n = n_prompt_of(c);
    bool any = false;
    for (int i = 0; i < n; i++) {
        const struct batch_seq *seq = seq_of(c, i);
        if (seq->n_cached == 0) continue;
        any = true;
        for (int l = c->layer0; l < c->layer1; l++)
            memcpy(f->head_sum_host + sum_at(c, l, i), seq->head_sum + (int64_t)l * K, (size_t)K * 4);
    }
    if (!any) return OK;
    cudaError_t e = cudaMemcpyAsync(f->head_sum, f->head_sum_host, (size_t)sum_at(c, c->layer1, 0) * 4,
                                    cudaMemcpyHostToDevice, f->be->stream);
    return e == cudaSuccess ? OK : ERR_DEVICE;
}

enum err route_cuda_decide(const struct call *c, int layer, int first, int n)
{
    struct forward_cuda *f = cuda_of(c);
    const struct engine *e = f->e;
    int n_left = 0;
    for (int l = layer; l < e->spec.n_layer; l++) n_left += e->kinds.fixed[l] != ROUTE_SPARSE;
    return router_gpu(
        &(struct router_gpu_args){.q_raw = e->mem.q_raw,
                                  .q_stride = (int64_t)e->spec.n_head * e->spec.head,
                                  .n_prompt = n,
                                  .prompt = (struct router_gpu_prompt *)dev_at(f, f->at.prompt) + first,
                                  .pool_size = e->info.router_pool_size,
                                  .w = f->router[layer],
                                  .n_head = e->spec.n_head,
                                  .head = e->spec.head,
                                  .seg = f->seg + (int64_t)layer * f->max_run,
                                  .margin = f->margin + (int64_t)layer * f->max_run,
                                  .full_kind = e->kinds.side[layer][1].prefill,
                                  .sparse_kind = e->kinds.side[layer][0].prefill,
                                  .codes = e->info.kv_codes,
                                  .n_below = layer - c->layer0,
                                  .n_left = n_left,
                                  .fixed = f->fixed + layer,
                                  .seg_stride = f->max_run,
                                  .head_sum = f->head_sum + sum_at(c, layer, first)},
        &f->ops.gpu);
}

/* --- what came of it */

static bool wants_sums(const struct call *c)
{
    for (int i = 0; i < n_prompt_of(c); i++) {
        const struct batch_seq *seq = seq_of(c, i);
        if (seq->n_cached == 0 && seq->head_sum) return true;
    }
    return false;
}

/* The bits of one prompt, up to one that is not the due one: what comes behind it means nothing. */
static void take_bits(const struct call *c, int prompt)
{
    const struct forward_cuda *f = cuda_of(c);
    const struct engine *e = f->e;
    const struct router_gpu_prompt *p = host_at(f, f->at.prompt);
    struct batch_seq *seq = c->span[p[prompt].run].seq;
    const int K = e->spec.head;
    for (int l = c->layer0; l < c->layer1 && !seq->strayed; l++) {
        if (seq->route[l] != ROUTE_OPEN) continue;
        batch_take_margin(seq, e->info.fixed_route, l, e->spec.n_layer,
                          f->margin_host[(int64_t)l * f->max_run + p[prompt].run]);
        if (seq->n_cached == 0 && seq->head_sum)
            memcpy(seq->head_sum + (int64_t)l * K, f->head_sum_host + sum_at(c, l, prompt), (size_t)K * 4);
    }
}

enum err route_cuda_take(const struct call *c)
{
    struct forward_cuda *f = cuda_of(c);
    const int n_layer = c->layer1 - c->layer0, n = n_prompt_of(c);
    const int64_t at = (int64_t)c->layer0 * f->max_run;
    if (n == 0) return OK;
    cudaError_t e =
        cudaMemcpyAsync(f->margin_host + at, f->margin + at, (size_t)n_layer * (size_t)f->max_run * 4,
                        cudaMemcpyDeviceToHost, f->be->stream);
    if (e == cudaSuccess && wants_sums(c))
        e = cudaMemcpyAsync(f->head_sum_host, f->head_sum, (size_t)sum_at(c, c->layer1, 0) * 4,
                            cudaMemcpyDeviceToHost, f->be->stream);
    if (e != cudaSuccess || call_wait(f) != OK) return ERR_DEVICE;
    for (int i = 0; i < n; i++) take_bits(c, i);
    return OK;
}
