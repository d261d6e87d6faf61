/* engine: opening and closing a model on a device, and the door to its steps and pages. */
#include "engine/engine.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/threads.h"
#include "base/heap.h"
#include "base/log.h"
#include "engine/account.h"
#include "engine/forward.h"
#ifdef FLUXD_CUDA
#include "engine/cuda/forward.h"
#endif
#include "engine/state.h"
#include "engine/step.h"

enum {
    SINK_DEFAULT = 128,
    WINDOW_DEFAULT = 1024,
    POOL_DEFAULT = 100,
    TRIANGLE_DEFAULT = 128,
    POOL_MOST = 8192
};
enum { DEVICE_CHUNK = 8192, DEVICE_ROWS = 256 };
enum {
    CHUNK_DEFAULT = 1024,
    SEQS_DEFAULT = 16,
    LOGIT_TOK = 32,
    SEQS_MOST = 4096,
    CHUNK_MOST = 1 << 16,
    TOK_MOST = 1 << 24
};

/* --- open */

static int blocks(int tok) { return (tok + PAGE_TOK - 1) / PAGE_TOK; }

/* flag, else router file, else checkpoint, else default */
static int settle(int flag, int router, int checkpoint, int absent)
{
    return flag >= 0 ? flag : router >= 0 ? router : checkpoint >= 0 ? checkpoint : absent;
}

static enum err settle_flux(struct engine *e, const struct engine_conf *c, struct err_note *note)
{
    const struct flux_spec *r = &e->routers.flux, *s = &e->spec.flux;
    struct flux_spec *f = &e->flux;
    f->sparse_kind = settle(c->sparse_kind, r->sparse_kind, s->sparse_kind, ATTN_STREAMING);
    f->sink_size = settle(c->sink_size, r->sink_size, s->sink_size, SINK_DEFAULT);
    f->local_window_size =
        settle(c->local_window_size, r->local_window_size, s->local_window_size, WINDOW_DEFAULT);
    f->pool_size = settle(c->router_pool_size, r->pool_size, s->pool_size, POOL_DEFAULT);
    f->triangle_n_last = settle(c->triangle_n_last, r->triangle_n_last, s->triangle_n_last, TRIANGLE_DEFAULT);
    f->retrieval_kind = settle(c->retrieval_kind, r->retrieval_kind, s->retrieval_kind, ATTN_FULL);
    if (f->triangle_n_last < 1)
        return err_set(note, ERR_CONFIG, "--triangle-n-last", "must be at least 1 token");
    if (f->local_window_size < 1)
        return err_set(note, ERR_CONFIG, "--local-window-size", "must be at least 1 token");
    if (f->pool_size < 1 || f->pool_size > POOL_MOST)
        return err_set(note, ERR_CONFIG, "--router-pool-size", "must be in 1..%d tokens", POOL_MOST);
    struct kinds_conf k = {.n_layer = e->spec.n_layer,
                           .n_head = e->spec.n_head,
                           .n_kv = e->spec.n_kv,
                           .sparse = f->sparse_kind,
                           .full = f->retrieval_kind,
                           .plan = c->layer_plan};
    return kinds_open(&e->kinds, &k, note);
}

static enum err check_range(int v, int least, int most, const char *flag, struct err_note *note)
{
    return v >= least && v <= most ? OK : err_set(note, ERR_CONFIG, flag, "must be in %d..%d", least, most);
}

/* Sizes that the settings and the model give together. */
static enum err settle_sizes(struct engine *e, const struct engine_conf *c, struct err_note *note)
{
    struct engine_info *i = &e->info;
    enum err err;
    i->max_len = c->max_model_len ? c->max_model_len : e->spec.max_len;
    i->max_seqs = c->max_seqs ? c->max_seqs : SEQS_DEFAULT;
    i->chunk_tok = c->chunk_tok ? c->chunk_tok : CHUNK_DEFAULT;
    i->max_prefill_tok = c->max_prefill_tok > i->max_len ? c->max_prefill_tok : i->max_len;
    if ((err = check_range(i->max_len, 1, e->spec.max_len, "--max-model-len", note)) != OK) return err;
    if ((err = check_range(i->max_seqs, 1, SEQS_MOST, "--max-num-seqs", note)) != OK) return err;
    if ((err = check_range(i->chunk_tok, 1, CHUNK_MOST, "--prefill-chunk-tokens", note)) != OK) return err;
    if ((err = check_range(i->max_prefill_tok, 1, TOK_MOST, "max_prefill_tok", note)) != OK) return err;
    i->sink_blocks = blocks(e->flux.sink_size);
    i->local_blocks = blocks(e->flux.local_window_size);
    i->router_pool_size = e->flux.pool_size;
    i->sparse_streams = e->kinds.streams;
    if (e->kinds.alike)
        i->common_blocks =
            i->sink_blocks +
            i->local_blocks; /* the first query block that is kept from a key comes behind them */
    i->fixed_route = c->layer_plan && *c->layer_plan ? e->kinds.fixed : NULL;
    i->has_router = e->routers.layer != NULL;
    for (int l = 0; l < e->spec.n_layer; l++)
        for (int bit = 0; bit < 2; bit++)
            if (e->kinds.side[l][bit].prefill == ATTN_TRIANGLE) i->tail_tok = e->flux.triangle_n_last;

    int pool = e->flux.pool_size < i->max_len ? e->flux.pool_size : i->max_len;
    e->max_tok = i->chunk_tok > i->max_seqs ? i->chunk_tok : i->max_seqs;
    if (i->has_router && pool > e->max_tok) e->max_tok = pool;
    e->logit_tok = i->max_seqs < LOGIT_TOK ? i->max_seqs : LOGIT_TOK;
    return OK;
}

/* RoPE (Su et al. 2104.09864). Angles in single precision, as rope_frequency says; their sines rounded once.
 */
static void fill_rope(struct engine *e)
{
    const struct spec *s = &e->spec;
    int half = s->head / 2;
    float *rope = e->mem.rope;
#pragma omp parallel for num_threads(e->be->n_thread)
    for (int i = 0; i < half; i++) {
        const float attention = (float)s->rope.attention;
        float f = rope_frequency(&s->rope, s->rope_base, s->head, i);
        if (e->w.rope_factor) f /= e->w.rope_factor[i];
        for (int pos = 0; pos < e->info.max_len; pos++) {
            const double angle = (double)((float)pos * f);
            rope[((int64_t)pos * half + i) * 2] = (float)cos(angle) * attention;
            rope[((int64_t)pos * half + i) * 2 + 1] = (float)sin(angle) * attention;
        }
    }
}

/* On a device the table is made on the host and copied. */
static enum err open_rope(struct engine *e, struct err_note *note)
{
    void *device = e->mem.rope;
    enum err err = OK;
    const bool apart = !backend_on_host(e->be);
    if (apart && !(e->mem.rope = malloc((size_t)e->mem.rope_bytes))) err = ERR_NOMEM;
    if (err == OK) fill_rope(e);
    if (apart && err == OK) err = e->be->copy_in(e->be, device, e->mem.rope, e->mem.rope_bytes);
    if (apart) free(e->mem.rope);
    e->mem.rope = device;
    return err == OK ? OK : err_set(note, err, NULL, "no memory for the table of angles");
}

/* --kv-cache-dtype. A checkpoint's own scales for keys and values are checked and not used: each row's
 * exponent is at most one above the least that any scale without overflow could stand for, and fits its row,
 * while a scale for all rows of a layer must fit the largest. */
static enum err settle_kv(struct engine *e, const struct engine_conf *c, struct err_note *note)
{
    struct engine_info *i = &e->info;
    const bool can = e->be->kv_codes;
    if (c->kv == ENGINE_KV_FP8 && !can)
        return err_set(note, ERR_CONFIG, "--kv-cache-dtype", "%s",
                       c->dtype == ENGINE_DTYPE_F32
                           ? "fp8_e4m3 does not go with --dtype f32, which keeps all numbers as they are"
                           : "fp8_e4m3 needs a GPU of compute capability 9.0 (H100, H200), or the CPU");
    if (c->kv == ENGINE_KV_BF16 && e->be->kv != DT_BF16)
        return err_set(note, ERR_CONFIG, "--kv-cache-dtype", "bf16 does not go with --dtype f32");
    i->kv_codes = can && (c->kv == ENGINE_KV_FP8 || (c->kv == ENGINE_KV_AUTO && e->spec.stored.kv_codes));
    snprintf(i->kv, sizeof i->kv, "%s", i->kv_codes ? "fp8_e4m3" : e->be->kv == DT_F32 ? "f32" : "bf16");
    if (i->kv_codes)
        i->common_blocks = 0; /* a full layer's pages are not a sparse one's, from the first on */
    return OK;
}

/* Of the pool, all that belongs to it counted. */
static int64_t page_bytes(const struct engine *e)
{
    return memory_page_bytes(e->be, &e->spec) + (e->info.kv_codes ? memory_exp_bytes(&e->spec) : 0);
}

static int64_t default_pool_bytes(void)
{
    const int64_t most = 8LL << 30, quarter = heap_host_bytes() / 4;
    return quarter < most ? quarter : most;
}

static int64_t pool_bytes(const struct engine *e, const struct engine_conf *c)
{
    return c->kv_pool_bytes > 0 ? c->kv_pool_bytes : backend_on_host(e->be) ? default_pool_bytes() : 0;
}

/* A pool that can serve nobody, or that the host does not have (what a device has is known once weights are
 * there). */
static enum err check_pool(struct engine *e, const struct engine_conf *c, struct err_note *note)
{
    const int64_t want = pool_bytes(e, c), page = page_bytes(e), n = want / page,
                  most = memory_pages_most(&e->spec, e->info.max_seqs, e->info.max_len),
                  used = (n < most ? n : most) * page;
    e->info.page_bytes = page;
    if (want > 0 && n < e->spec.n_layer)
        return err_set(note, ERR_CONFIG, "--kv-pool-bytes",
                       "must be at least %lld: a page of %lld bytes for each of %d layers",
                       (long long)(page * e->spec.n_layer), (long long)page, e->spec.n_layer);
    if (backend_on_host(e->be) && used > heap_host_bytes())
        return err_set(note, ERR_CONFIG, "--kv-pool-bytes",
                       "must be less than this machine's memory, %lld MiB",
                       (long long)(heap_host_bytes() >> 20));
    return OK;
}

/* Query blocks of a choice: every sequence's; on a device, where a layer's choice is over with its call,
 * those of one call. */
static int64_t hold_blocks(const struct engine *e)
{
    int64_t n = (e->info.max_len + PAGE_TOK - 1) / PAGE_TOK;
    return backend_on_host(e->be) || e->kinds.reuses ? n * e->info.max_seqs
                                                     : e->max_tok / PAGE_TOK + e->info.max_seqs + 1;
}

static int64_t work_of_choice(const struct engine *e)
{
    int64_t n = (e->info.max_len + PAGE_TOK - 1) / PAGE_TOK;
    return backend_on_host(e->be) ? e->be->n_thread * choose_work(n, e->spec.head)
                                  : choose_gpu_work(n, e->spec.n_head);
}

/* What products with codes need beside the model's own buffers. */
static void fit_codes(struct memory_conf *m, const struct weight *w)
{
    const int64_t elems = (int64_t)w->n * w->k;
    if (w->dt == DT_FP8 && w->k > m->code_k) m->code_k = w->k;
    if (w->dt != DT_U4) return;
    if (elems > m->number_elems) m->number_elems = elems;
    if (w->s.group && w->k > m->sort_k) m->sort_k = w->k;
}

/* Pages of codes that a device's prefill reads as bf16: those of the longest sequence, and of as many short
 * ones as a call has rows for. */
static int wide_pages(const struct engine *e)
{
    const int longest = (e->info.max_len + PAGE_TOK - 1) / PAGE_TOK,
              many = e->max_tok / PAGE_TOK + e->info.max_seqs;
    return e->info.on_host || !e->info.kv_codes ? 0 : longest > many ? longest : many;
}

static enum err open_memory(struct engine *e, const struct engine_conf *c, struct err_note *note)
{
    struct engine_info *i = &e->info;
    struct memory_conf m = {.max_tok = e->max_tok,
                            .router_tok = i->router_pool_size < i->max_len ? i->router_pool_size : i->max_len,
                            .logit_tok = e->logit_tok,
                            .max_len = i->max_len,
                            .max_seqs = i->max_seqs,
                            .n_hold = e->kinds.n_hold,
                            .hold_block = hold_blocks(e),
                            .choose_work = work_of_choice(e),
                            .stream_tok = i->max_prefill_tok,
                            .pool_bytes = pool_bytes(e, c),
                            .codes = i->kv_codes,
                            .n_wide = wide_pages(e)};
    fit_codes(&m, &e->w.head);
    for (int k = 0; k < e->w.n_layer * MAT_COUNT; k++)
        fit_codes(&m, &e->w.layer[k / MAT_COUNT].mat[k % MAT_COUNT]);
    enum err err = memory_open(&e->mem, e->be, &e->spec, &m, note);
    if (err != OK) return err;
    if (e->be->kv_exp) e->be->kv_exp(e->be, e->mem.exp);
    i->n_page = e->mem.n_page;
    i->workspace_bytes = e->mem.workspace_bytes;
    e->seg = calloc((size_t)e->max_tok, sizeof *e->seg);
    e->span = calloc((size_t)e->max_tok, sizeof *e->span);
    e->row = calloc((size_t)e->max_tok, sizeof *e->row);
    e->sample = calloc((size_t)e->max_tok, sizeof *e->sample);
    e->out = calloc((size_t)e->max_tok, sizeof *e->out);
    if (!e->seg || !e->span || !e->row || !e->sample || !e->out)
        return err_set(note, ERR_NOMEM, NULL, "out of memory");
    return open_rope(e, note);
}

static void fill_shape(struct engine *e)
{
    struct engine_info *i = &e->info;
    const struct spec *s = &e->spec;
    snprintf(i->name, sizeof i->name, "%s", s->name);
    snprintf(i->family, sizeof i->family, "%s", s->family->name);
    i->n_layer = s->n_layer;
    i->n_vocab = s->n_vocab;
    i->n_head = s->n_head;
    i->n_kv = s->n_kv;
    i->head = s->head;
    i->d_model = s->d;
    i->n_eos = s->n_eos;
    memcpy(i->eos, s->eos, sizeof s->eos);
}

static void fill_weights(struct engine *e)
{
    struct engine_info *i = &e->info;
    snprintf(i->device, sizeof i->device, "%s", e->be->device);
    snprintf(i->weights, sizeof i->weights, "%s", e->w.held);
    snprintf(i->head_type, sizeof i->head_type, "%s", e->w.held_head);
    i->weight_bytes = e->w.bytes + e->routers.bytes;
}

/* Codes were asked for, and what holds their values takes the memory of numbers. */
static void tell_held(const struct engine *e, const struct engine_conf *c)
{
    const bool layers = c->quantization == ENGINE_FP8 && !strstr(e->w.held, "fp8"),
               head = c->head_fp8 && e->w.head.dt != DT_FP8;
    if (layers || head)
        log_line(LOG_WARN, "codes are held as numbers", "device=\"%s\" weights=%s head=%s", e->be->device,
                 e->w.held, e->w.held_head);
}

static int max_of(int a, int b) { return a > b ? a : b; }

/* The device that a step runs on: CUDA where it was asked for, or where the choice is ours and there is one.
 */
static enum err open_backend(struct engine *e, const struct engine_conf *c, const struct backend_conf *b,
                             struct err_note *note)
{
#ifdef FLUXD_CUDA
    bool wanted = c->device == ENGINE_DEVICE_CUDA;
    enum err err = wanted || (c->device == ENGINE_DEVICE_AUTO && c->dtype != ENGINE_DTYPE_F32)
                       ? forward_cuda_takes(&e->spec, note)
                       : ERR_CONFIG;
    if (err == OK) err = backend_cuda_open(&e->be, b, note);
    if (err == OK || wanted) return err;
#else
    if (c->device == ENGINE_DEVICE_CUDA)
        return err_set(note, ERR_CONFIG, "--device", "this build has no CUDA backend");
#endif
    return backend_cpu_open(&e->be, b, note);
}

/* A device takes larger calls: chunks that fill it, all rows of a decode step with their logits, both ends of
 * a prompt for the router. */
static void settle_device(struct engine *e, const struct engine_conf *c)
{
    struct engine_info *i = &e->info;
    if (backend_on_host(e->be)) return;
    if (!c->chunk_tok) i->chunk_tok = DEVICE_CHUNK < i->max_len ? DEVICE_CHUNK : i->max_len;
    const int least[] = {i->chunk_tok, DEVICE_ROWS, 2 * e->flux.pool_size};
    for (int k = 0; k < 3; k++) e->max_tok = e->max_tok > least[k] ? e->max_tok : least[k];
    e->max_tok = blocks(e->max_tok) * PAGE_TOK;
    e->logit_tok = DEVICE_ROWS;
}

static enum err open_forward(struct engine *e, struct err_note *note)
{
#ifdef FLUXD_CUDA
    if (!backend_on_host(e->be)) {
        e->forward = &forward_on_device;
        return forward_cuda_open(e, note);
    }
#endif
    (void)note;
    e->forward = &forward_on_host;
    return OK;
}

/* The team stands from here on: its library ends the process where a thread is refused. It ends threads when
 * a team is smaller than the one before, and starts others for the next, while the old ones may still count.
 */
static enum err open_team(int n, struct err_note *note)
{
    const int n_more = n > 2 ? 2 * (n - 1) : n - 1;
    if (!threads_can_start(n_more))
        return err_set(
            note, ERR_NOMEM, NULL,
            "%d more threads cannot be started: lower --threads, or raise the limit of threads (ulimit -u, pids.max)",
            n_more);
    int n_stand = 0;
#pragma omp parallel num_threads(n) reduction(+ : n_stand)
    n_stand++;
    return n_stand > 0 ? OK : ERR_INTERNAL;
}

static enum err open_parts(struct engine *e, const struct engine_conf *c, struct source *src,
                           struct err_note *note)
{
    const struct spec *s = &e->spec;
    enum err err = spec_load(&e->spec, src, note);
    if (err != OK) return err;
    struct weights_load l = {.src = src,
                             .spec = s,
                             .progress = c->progress,
                             .progress_arg = c->progress_arg,
                             .stop = c->stop,
                             .made = c->quantization == ENGINE_FP8    ? DT_FP8
                                     : c->quantization == ENGINE_INT4 ? DT_U4
                                                                      : DT_COUNT,
                             .head_fp8 = c->head_fp8};
    if ((err = weights_check(&l, note)) != OK) return err;
    err = c->router ? routers_load(&e->routers, c->router, s, note) : routers_take(&e->routers, src, s, note);
    if (err != OK || (err = account_check(src, s, note)) != OK) return err;
    if ((err = settle_flux(e, c, note)) != OK || (err = settle_sizes(e, c, note)) != OK) return err;
    e->attn_scale = (float)(1.0 / sqrt((double)s->head));

    int q = s->n_head * s->head, qkv = q + 2 * s->n_kv * s->head;
    struct backend_conf b = {.dtype = c->dtype,
                             .device_index = c->device_index,
                             .n_thread = c->n_thread,
                             .max_tok = e->max_tok,
                             .memory_share = c->gpu_memory_utilization,
                             .max_k = max_of(max_of(s->d, q), s->f),
                             .max_n = max_of(max_of(qkv, 2 * s->f), s->n_vocab)};
    if ((err = open_backend(e, c, &b, note)) != OK) return err;
    e->info.on_host = backend_on_host(e->be);
    e->info.resumes = true;
    settle_device(e, c);
    fill_shape(e);
    if ((err = settle_kv(e, c, note)) != OK) return err;
    if (!backend_on_host(e->be) && e->info.max_seqs > DEVICE_ROWS)
        return err_set(note, ERR_CONFIG, "--max-num-seqs", "must be in 1..%d on a GPU", DEVICE_ROWS);
    if ((err = check_pool(e, c, note)) != OK) return err;
    if (c->check && (err = c->check(c->check_arg, &e->info, note)) != OK) return err;
    if ((err = open_team(e->be->n_thread, note)) != OK) return err;
    l.backend = e->be;
    if ((err = weights_load(&e->w, &l, note)) != OK) return err;
    if ((err = open_memory(e, c, note)) != OK) return err;
    fill_weights(e);
    tell_held(e, c);
    return open_forward(e, note);
}

enum err engine_open(struct engine **out, const struct engine_conf *conf, struct err_note *note)
{
    struct source *src = NULL;
    struct engine *e = calloc(1, sizeof *e);
    if (!e) return err_set(note, ERR_NOMEM, NULL, "out of memory");
    e->rank = (struct rank){.n_rank = 1};
    enum err err =
        conf->dummy ? source_open_dummy(&src, conf->model, note) : source_open(&src, conf->model, note);
    if (err == OK) err = open_parts(e, conf, src, note);
    source_close(src);
    if (err == OK)
        *out = e;
    else
        engine_close(e);
    return err;
}

void engine_close(struct engine *e)
{
    if (!e) return;
#ifdef FLUXD_CUDA
    forward_cuda_close(e);
#endif
    if (e->be) {
        memory_close(&e->mem, e->be);
        weights_free(&e->w, e->be);
        e->be->close(e->be);
    }
    routers_free(&e->routers);
    kinds_free(&e->kinds);
    free(e->seg);
    free(e->span);
    free(e->row);
    free(e->sample);
    free(e->out);
    free(e);
}

const struct engine_info *engine_info(const struct engine *e) { return &e->info; }

/* --- step */

enum err engine_step(struct engine *e, const struct batch *b, struct step_out *out, struct err_note *note)
{
    return step_run(e, b, out, note);
}

void engine_drop(struct engine *e, int slot) { memory_stream_drop(&e->mem, slot); }

/* What an entry names: of a page, or of the half of one that has codes. */
struct named {
    char *data, *exp;
    int64_t bytes, exp_bytes;
};

static struct named named_by(const struct engine *e, int32_t entry)
{
    const struct memory *m = &e->mem;
    const bool half = page_has_codes(entry);
    const int64_t at = half ? page_half(entry) : entry, data = m->page_bytes >> half,
                  exp = m->exp_bytes >> half;
    CHECK(page_id(entry) >= 0 && page_id(entry) < m->n_page && (m->exp || !half));
    return (struct named){.data = (char *)m->pool + at * data,
                          .exp = m->exp ? (char *)m->exp + at * exp : NULL,
                          .bytes = data,
                          .exp_bytes = exp};
}

enum err engine_page_read(struct engine *e, int32_t page, void *to)
{
    const struct named p = named_by(e, page);
    enum err err = e->be->copy_out(e->be, to, p.data, p.bytes);
    return err == OK && p.exp ? e->be->copy_out(e->be, (char *)to + p.bytes, p.exp, p.exp_bytes) : err;
}

enum err engine_page_write(struct engine *e, int32_t page, const void *from)
{
    const struct named p = named_by(e, page);
    enum err err = e->be->copy_in(e->be, p.data, from, p.bytes);
    return err == OK && p.exp ? e->be->copy_in(e->be, p.exp, (const char *)from + p.bytes, p.exp_bytes) : err;
}
