/* call: see call.h. */
#include "engine/cuda/call.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

enum { PATCH_MOST = 1 << 16 };

static int64_t round_up(int64_t n) { return (n + 255) / 256 * 256; }

enum err call_open_blocks(struct forward_cuda *f, struct err_note *note)
{
    const struct engine *e = f->e;
    struct layout *l = &f->at;
    l->run = 0;
    l->route = round_up(f->max_run * (int64_t)sizeof(struct plan_run));
    l->prompt = l->route + round_up((int64_t)f->max_run * e->spec.n_layer);
    l->row = l->prompt + round_up(f->max_run * (int64_t)sizeof(struct router_gpu_prompt));
    l->n_patch =
        l->row + round_up(4LL * (e->logit_tok > 2 * e->info.router_pool_size ? e->logit_tok
                                                                             : 2 * e->info.router_pool_size));
    l->tok = l->n_patch + 256;
    l->patch = l->tok + round_up((int64_t)e->max_tok * 4);
    l->bytes = l->patch + (int64_t)PATCH_MOST * 8;
    for (int i = 0; i < CALL_BLOCKS; i++) {
        enum err err =
            cuda_check(cudaMallocHost((void **)&f->host[i], (size_t)l->bytes), "pinned memory", note);
        if (err == OK)
            err = cuda_check(cudaEventCreateWithFlags(&f->sent[i], cudaEventDisableTiming), "event", note);
        if (err != OK) return err;
        memset(f->host[i], 0, (size_t)l->bytes);
    }
    f->dev = f->be->b.mem_new(&f->be->b, l->bytes);
    return f->dev ? OK : cuda_no_room("work lists", note);
}

int64_t call_keep_block(const struct call *c, int i)
{
    const struct span *sp = &c->span[i];
    const struct forward_cuda *f = cuda_of(c);
    int64_t at = c->e->kinds.reuses ? (int64_t)sp->seq->slot * f->n_block + sp->pos0 / PAGE_TOK
                                    : sp->row0 / PAGE_TOK + i;
    CHECK(c->decode || !c->e->kinds.n_hold || at + (sp->n + PAGE_TOK - 1) / PAGE_TOK <= f->hold_block);
    return at;
}

struct plan_gpu_args call_plan_args(const struct call *c)
{
    struct forward_cuda *f = cuda_of(c);
    const struct engine *e = c->e;
    return (struct plan_gpu_args){.run = dev_at(f, f->at.run),
                                  .route = dev_at(f, f->at.route),
                                  .table = f->table,
                                  .patch = dev_at(f, f->at.patch),
                                  .n_patch = dev_at(f, f->at.n_patch),
                                  .seg = f->seg,
                                  .page = f->page,
                                  .pos = f->pos,
                                  .n_run = c->n_span,
                                  .n_tok = c->n_tok,
                                  .n_layer = e->spec.n_layer,
                                  .n_block = f->n_block,
                                  .max_run = f->max_run,
                                  .max_tok = e->max_tok,
                                  .layer0 = c->layer0,
                                  .layer1 = c->layer1,
                                  .local_blocks = e->info.local_blocks,
                                  .kind = f->kind,
                                  .decode = c->decode,
                                  .keep = e->kinds.n_hold ? e->mem.keep : NULL,
                                  .hold_stride = f->hold_block,
                                  .n_head = e->spec.n_head,
                                  .keep_words = forward_keep_words(e),
                                  .wide = f->wide,
                                  .from = f->from,
                                  .n_wide = f->now.n_wide};
}

void call_end_idle(struct forward_cuda *f)
{
    if (f->idle.waited && cudaEventRecord(f->idle.begin, f->be->stream) == cudaSuccess) f->idle.open = true;
    f->idle.waited = false;
}

enum err call_wait(struct forward_cuda *f)
{
    struct idle *t = &f->idle;
    float ms = 0;
    if (t->waited) return OK;
    if (cudaEventRecord(t->end[t->turn], f->be->stream) != cudaSuccess ||
        cudaStreamSynchronize(f->be->stream) != cudaSuccess)
        return ERR_DEVICE;
    if (t->open && cudaEventElapsedTime(&ms, t->end[!t->turn], t->begin) == cudaSuccess) t->ms += (double)ms;
    t->turn = !t->turn;
    t->waited = true;
    t->open = false;
    return OK;
}

enum err call_send(struct forward_cuda *f)
{
    call_end_idle(f);
    *(int32_t *)host_at(f, f->at.n_patch) = f->now.n_patch;
    int64_t bytes = f->at.patch + (int64_t)f->now.n_patch * 8;
    cudaError_t e =
        cudaMemcpyAsync(f->dev, f->host[f->now.block], (size_t)bytes, cudaMemcpyHostToDevice, f->be->stream);
    if (e == cudaSuccess) e = cudaEventRecord(f->sent[f->now.block], f->be->stream);
    return e == cudaSuccess ? OK : ERR_DEVICE;
}

static enum err take_block(struct forward_cuda *f, int *block)
{
    *block = f->turn++ % CALL_BLOCKS;
    return cudaEventSynchronize(f->sent[*block]) == cudaSuccess ? OK : ERR_DEVICE;
}

enum err call_next_block(struct forward_cuda *f)
{
    f->now = (struct making){0};
    return take_block(f, &f->now.block);
}

/* More patches than a block holds go ahead of the call, by themselves. */
static enum err flush_patches(const struct call *c)
{
    struct forward_cuda *f = cuda_of(c);
    struct call ahead = *c;
    char *full = f->host[f->now.block];
    ahead.n_span = ahead.n_tok = 0;
    TRY(call_send(f));
    struct plan_gpu_args a = call_plan_args(&ahead);
    a.layer1 = a.layer0 + 1;
    TRY(plan_gpu(&a, f->be->stream));
    TRY(take_block(f, &f->now.block));
    f->now.n_patch = 0;
    memcpy(f->host[f->now.block], full, (size_t)f->at.patch);
    return OK;
}

/* Pages of a run's visible blocks that the device does not know yet. A freed page
 * (-1) needs no patch: nothing reads it. */
static enum err patch_run(const struct call *c, const struct span *sp)
{
    struct forward_cuda *f = cuda_of(c);
    enum err err = OK;
    const int slot = sp->seq->slot, n = (sp->pos0 + sp->n - 1) / PAGE_TOK + 1;
    if (c->decode && sp->seq->page_stamp && sp->seq->page_stamp == f->stamp[slot] && n <= f->looked[slot])
        return OK;
    for (int l = c->layer0; l < c->layer1; l++) {
        const int32_t *now = sp->seq->page + (int64_t)l * sp->seq->page_stride;
        const bool codes = c->e->info.kv_codes && sp->seq->route[l] == ROUTE_FULL;
        int64_t base = ((int64_t)slot * c->e->spec.n_layer + l) * f->n_block;
        int32_t *was = f->shadow + base;
        const bool plain = codes && !page_has_codes(now[n - 1]); /* not what goes to the device */
        if (!plain && memcmp(was, now, (size_t)n * 4) == 0) continue;
        for (int i = 0; i < n && err == OK; i++) {
            const int32_t page = codes ? batch_code_page(now, sp->seq->n_cached / PAGE_TOK, i) : now[i];
            if (was[i] == page) continue;
            was[i] = page;
            if (page < 0) continue;
            CHECK(page_id(page) < c->e->mem.n_page);
            if (f->now.n_patch == PATCH_MOST) err = flush_patches(c);
            int32_t *p = (int32_t *)host_at(f, f->at.patch) + 2 * (int64_t)f->now.n_patch++;
            p[0] = (int32_t)(base + i);
            p[1] = page;
        }
    }
    if (c->decode) {
        f->stamp[slot] = sp->seq->page_stamp;
        f->looked[slot] = n;
    }
    return err;
}

static void write_run(const struct call *c, int i)
{
    struct forward_cuda *f = cuda_of(c);
    const struct engine *e = c->e;
    const struct span *sp = &c->span[i];
    struct plan_run *run = (struct plan_run *)host_at(f, f->at.run) + i;
    int32_t *tok = (int32_t *)host_at(f, f->at.tok) + sp->row0;
    CHECK(sp->pos0 >= 0 && sp->pos0 + sp->n <= e->info.max_len);
    *run = (struct plan_run){.slot = sp->seq->slot,
                             .row0 = sp->row0,
                             .n_row = sp->n,
                             .pos0 = sp->pos0,
                             .dense_from = forward_dense_from(e, sp->seq),
                             .keep = (int32_t)call_keep_block(c, i),
                             .own = sp->seq->n_cached / PAGE_TOK,
                             .wide = f->now.n_wide};
    if (e->mem.n_wide && !c->decode) f->now.n_wide += (sp->pos0 + sp->n + PAGE_TOK - 1) / PAGE_TOK;
    CHECK(f->now.n_wide <= e->mem.n_wide);
    for (int r = 0; r < sp->n; r++) {
        tok[r] = sp->seq->tok[sp->pos0 + r];
        CHECK(tok[r] >= 0 && tok[r] < e->spec.n_vocab);
    }
    memcpy((uint8_t *)host_at(f, f->at.route) + (int64_t)i * e->spec.n_layer, sp->seq->route,
           (size_t)e->spec.n_layer);
}

enum err call_write(const struct call *c, int n_real)
{
    const struct forward_cuda *f = cuda_of(c);
    enum err err = OK;
    for (int i = 0; i < n_real && err == OK; i++) {
        write_run(c, i);
        err = patch_run(c, &c->span[i]);
    }
    for (int i = n_real; i < c->n_span; i++) {
        ((struct plan_run *)host_at(f, f->at.run))[i] = (struct plan_run){.row0 = c->n_tok};
        ((int32_t *)host_at(f, f->at.tok))[i] = 0;
    }
    return err;
}

enum err call_send_rows(struct forward_cuda *f, const int32_t *first, int n_first, const int32_t *then,
                        int n_then)
{
    int block;
    TRY(take_block(f, &block));
    int32_t *to = (int32_t *)(void *)(f->host[block] + f->at.row);
    CHECK(4LL * (n_first + n_then) <= f->at.n_patch - f->at.row);
    memcpy(to, first, (size_t)n_first * 4);
    if (n_then) memcpy(to + n_first, then, (size_t)n_then * 4);
    call_end_idle(f);
    cudaError_t e = cudaMemcpyAsync(dev_at(f, f->at.row), to, (size_t)(n_first + n_then) * 4,
                                    cudaMemcpyHostToDevice, f->be->stream);
    if (e == cudaSuccess) e = cudaEventRecord(f->sent[block], f->be->stream);
    return e == cudaSuccess ? OK : ERR_DEVICE;
}
