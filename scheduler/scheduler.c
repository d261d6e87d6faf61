/* scheduler: the engine thread's loop. Turn by turn: take what came in, drop who left, admit, plan, step,
 * apply. Everything it needs is allocated in scheduler_open. */
#include "scheduler/scheduler.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/heap.h"
#include "base/log.h"
#include "scheduler/internal.h"
#include "scheduler/reuse.h"
#include "scheduler/route_ask.h"

enum { IDLE_BEAT_MS = 1000, BUSY_BEAT_MS = 50, PASS_MOST = 32 };
/* Gaps beside a prompt, over those without: a host's cores have the prompt take at most 1.8 times as long as
 * alone (2.5 / 1.5, and what a step costs besides); on a device, where decode leaves the arithmetic idle,
 * gaps stay below twice their own. */
static const double STRETCH_HOST = 2.5, STRETCH_DEVICE = 1.6;
static const int64_t PREFIX_BYTES_HOST = 256 << 20, PREFIX_BYTES_DEVICE = INT64_MAX;
static const double ALONE_STEP_MS =
    60; /* longest prefill step while nobody decodes: how late a newcomer is noticed */

static bool alloc_buffers(struct scheduler *s, int n, int n_layer)
{
    int stride = blocks_of(s->info->max_len);
    s->seq = calloc((size_t)n, sizeof *s->seq);
    s->slot = calloc((size_t)n, sizeof *s->slot);
    s->plan = (struct plan){.max_piece = n};
    s->plan.row = calloc((size_t)n, sizeof *s->plan.row);
    s->plan.piece = calloc((size_t)n, sizeof *s->plan.piece);
    s->plan.pick = calloc((size_t)n, sizeof *s->plan.pick);
    s->batch.row = calloc((size_t)n, sizeof *s->batch.row);
    s->batch.piece = calloc((size_t)n, sizeof *s->batch.piece);
    s->out.row = calloc((size_t)n, sizeof *s->out.row);
    s->out.piece = calloc((size_t)n, sizeof *s->out.piece);
    s->out.drew = calloc((size_t)n, 1);
    if (!s->seq || !s->slot || !s->plan.row || !s->plan.piece || !s->plan.pick || !s->batch.row ||
        !s->batch.piece || !s->out.row || !s->out.piece || !s->out.drew)
        return false;
    size_t words = ((size_t)s->info->n_vocab + 31) / 32;
    s->mask = calloc((size_t)n * words, sizeof *s->mask);
    s->masks = masks_open(n, &s->stats);
    if (!s->mask || !s->masks) return false;
    for (int i = 0; i < n; i++) {
        s->slot[i] = &s->seq[i];
        s->seq[i].mask = s->mask + (size_t)i * words;
        s->seq[i].view.slot = i;
        if (!kvmap_init(&s->seq[i].map, n_layer, stride)) return false;
        s->seq[i].view.page = s->seq[i].map.page;
        s->seq[i].view.page_stride = stride;
    }
    return true;
}

static size_t most_in_flight(const struct scheduler *s)
{
    return 4 *
           (size_t)(s->conf.queue_len + s->info->max_seqs); /* waiting, running, and ended but not yet read */
}

/* Pages of --prefix-cache-bytes; none where the engine cannot go on behind them. A host's pool is touched as
 * it is used, so what stays there is memory taken from others; a device's is taken at open. */
static enum err open_prefix(struct scheduler *s, struct err_note *note)
{
    const struct engine_info *m = s->info;
    int64_t most = (s->conf.prefix_bytes >= 0 ? s->conf.prefix_bytes
                    : m->on_host              ? PREFIX_BYTES_HOST
                                              : PREFIX_BYTES_DEVICE) /
                   m->page_bytes;
    if (most > m->n_page) most = m->n_page;
    if (most < m->n_layer || !m->resumes) return OK;
    struct prefix_conf c = {.n_layer = m->n_layer,
                            .max_seqs = m->max_seqs,
                            .max_blocks = blocks_of(m->max_len),
                            .sink_blocks = m->sink_blocks,
                            .local_blocks = m->local_blocks,
                            .common_blocks = m->common_blocks,
                            .streams = m->sparse_streams,
                            .n_sum = m->has_router ? m->head : 0,
                            .sum_tok = m->router_pool_size,
                            .max_pages = (int)most,
                            .codes = m->kv_codes,
                            .pool = s->core.pool};
    return prefix_open(&s->core.prefix, &c) ? err_set(note, ERR_NOMEM, NULL, "no memory for the prefix cache")
                                            : OK;
}

enum err scheduler_open(struct scheduler **out, const struct scheduler_conf *conf, struct engine *e,
                        struct err_note *note)
{
    *out = NULL;
    struct scheduler *s = calloc(1, sizeof *s);
    if (!s) return err_set(note, ERR_NOMEM, NULL, "no memory for the scheduler");
    s->conf = *conf;
    s->info = engine_info(e);
    const struct engine_info *m = s->info;
    list_init(&s->waiting);
    list_init(&s->parked);
    list_init(&s->by_age);
    s->core = (struct sched_core){.engine = e, .stats = &s->stats, .info = m, .pin = conf->route_pin};
    s->core.lim = (struct plan_limits){.n_layer = m->n_layer,
                                       .n_page = m->n_page,
                                       .codes = m->kv_codes,
                                       .sink_blocks = m->sink_blocks,
                                       .local_blocks = m->local_blocks,
                                       .sparse_streams = m->sparse_streams,
                                       .itl_target_ms = conf->itl_target_ms,
                                       .stretch = conf->itl_stretch > 0 ? conf->itl_stretch
                                                  : m->on_host          ? STRETCH_HOST
                                                                        : STRETCH_DEVICE,
                                       .burst_ms = conf->itl_burst_ms,
                                       .aging_ns = conf->priority_aging_ms * 1000000,
                                       .alone_ms = ALONE_STEP_MS,
                                       .age = 1,
                                       .pass_most = PASS_MOST,
                                       .route_policy = conf->route_policy};
    int chunk = conf->chunk_tok > 0 && conf->chunk_tok < m->chunk_tok ? conf->chunk_tok : m->chunk_tok;
    s->core.lim.chunk_tok = chunk < PAGE_TOK ? PAGE_TOK : chunk / PAGE_TOK * PAGE_TOK;
    s->route = calloc((size_t)m->n_layer, 1);
    s->layer_pages = calloc((size_t)m->n_layer, sizeof *s->layer_pages);
    s->core.pool = kvpool_new(m->n_page);
    s->inbox = mailbox_new(most_in_flight(s), NULL, NULL);
    s->outbox = s->core.outbox = mailbox_new(2 * most_in_flight(s), conf->wake, conf->wake_arg);
    enum err err = err_set(note, ERR_NOMEM, NULL, "no memory for the scheduler");
    if (!s->route || !s->layer_pages || !s->core.pool || !s->inbox || !s->outbox ||
        !alloc_buffers(s, m->max_seqs, m->n_layer))
        goto fail;
    err = route_ask_parse(conf->route, m, s->route, note);
    if (err) goto fail;
    err = swap_open(&s->swap, m, conf->swap_bytes, note);
    if (!err) err = open_prefix(s, note);
    if (err) goto fail;
    cost_init(&s->cost, m);
    atomic_store(&s->stats.pages_total, m->n_page);
    atomic_store(&s->stats.heartbeat_ns, clock_ns());
    *out = s;
    return OK;
fail:
    scheduler_close(s);
    return err;
}

void scheduler_close(struct scheduler *s)
{
    if (!s) return;
    for (int i = 0; s->seq && i < s->info->max_seqs; i++) kvmap_fini(&s->seq[i].map);
    void *steps[] = {s->seq,        s->slot,      s->layer_pages, s->route,       s->plan.row,
                     s->plan.piece, s->plan.pick, s->batch.row,   s->batch.piece, s->out.row,
                     s->out.piece,  s->out.drew,  s->mask};
    masks_close(s->masks);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) free(steps[i]);
    prefix_close(s->core.prefix);
    kvpool_free(s->core.pool);
    swap_close(s->swap);
    if (s->inbox) mailbox_free(s->inbox);
    if (s->outbox) mailbox_free(s->outbox);
    free(s);
}

/* --- the loop thread's side */

static enum err check_fits(const struct scheduler *s, const struct request *r, struct err_note *note)
{
    const struct engine_info *m = s->info;
    if (r->ask.n_prompt + r->ask.max_new > m->max_len)
        return err_set(note, ERR_CONTEXT_LENGTH, "max_tokens",
                       "the model takes %d tokens; the prompt has %d and %d more were asked for", m->max_len,
                       r->ask.n_prompt, r->ask.max_new);
    int need = plan_promise(&s->core.lim, r->shared.use.route, r->ask.n_prompt + r->ask.max_new) +
               plan_transient(&s->core.lim, r->ask.n_prompt);
    if (need > m->n_page)
        return err_set(
            note, ERR_KV_CAPACITY, NULL,
            "the request needs up to %d KV pages (%d tokens) and the pool has %d: ask for fewer tokens, route more "
            "layers sparse, or raise --kv-pool-bytes",
            need, r->ask.n_prompt + r->ask.max_new, m->n_page);
    return OK;
}

enum err scheduler_submit(struct scheduler *s, struct request *r, struct err_note *note)
{
    if (atomic_load(&s->draining) || atomic_load(&s->stop))
        return err_set(note, ERR_DRAINING, NULL, "%s", err_text(ERR_DRAINING));
    CHECK(r->ask.n_prompt > 0 && r->ask.max_new >= 0 && r->shared.use.route);
    enum err err = route_ask_resolve(r, s->info, s->route, note);
    if (!err) err = check_fits(s, r, note);
    if (err) {
        atomic_fetch_add(&s->stats.rejected_size, 1);
        return err;
    }
    if (atomic_load(&s->stats.waiting) >= s->conf.queue_len ||
        atomic_load(&s->in_flight) >= (int64_t)most_in_flight(s)) {
        atomic_fetch_add(&s->stats.rejected_full, 1);
        return err_set(note, ERR_QUEUE_FULL, NULL, "%d requests wait already: try again later",
                       s->conf.queue_len);
    }
    r->shared.use.n_prompt = r->ask.n_prompt;
    r->queue.submit_ns = clock_ns();
    r->shared.in_flight = &s->in_flight;
    list_init(&r->queue.node);
    list_init(&r->queue.wait_node);
    r->queue.wait_ns = r->queue.submit_ns;
    atomic_fetch_add(&s->stats.waiting, 1);
    atomic_fetch_add(&s->in_flight, 1);
    atomic_fetch_add(&s->stats.accepted, 1);
    CHECK(mailbox_put(s->inbox, r));
    return OK;
}

void scheduler_cancel(struct scheduler *s, struct request *r)
{
    atomic_store(&r->shared.cancel, 1);
    mailbox_poke(s->inbox);
}

/* A request that ended is in the outbox twice if it was announced just before; its reader gets it once. */
size_t scheduler_poll(struct scheduler *s, struct request **out, size_t n)
{
    size_t got = mailbox_take_all(s->outbox, (void **)out, n), kept = 0;
    for (size_t i = 0; i < got; i++) {
        size_t same = 0;
        out[i]->shared.n_taken++;
        atomic_store(&out[i]->shared.announced, false); /* before its events are read: none can be missed */
        while (same < kept && out[same] != out[i]) same++;
        if (same == kept) out[kept++] = out[i];
    }
    return kept;
}

void scheduler_count_end(struct scheduler *s, enum finish finish)
{
    CHECK(finish > FINISH_NONE && finish < FINISH_KINDS);
    atomic_fetch_add_explicit(&s->stats.finished[finish], 1, memory_order_relaxed);
}

void scheduler_resume(struct scheduler *s) { mailbox_poke(s->inbox); }

void scheduler_drain(struct scheduler *s) { atomic_store(&s->draining, true); }

void scheduler_stop(struct scheduler *s, enum err why)
{
    atomic_store(&s->stop, (int)why + 1);
    mailbox_poke(s->inbox);
}

int scheduler_retry_after_s(const struct scheduler *s)
{
    int n = atomic_load_explicit(&s->retry_s, memory_order_relaxed);
    return n > 1 ? n : 1;
}

const struct scheduler_stats *scheduler_stats(const struct scheduler *s) { return &s->stats; }
const struct engine_info *scheduler_model(const struct scheduler *s) { return s->info; }

/* --- the engine thread's side */

static void take_inbox(struct scheduler *s, struct request *first)
{
    for (struct request *r = first ? first : mailbox_take(s->inbox); r; r = mailbox_take(s->inbox)) {
        if (!route_only_known(s, r)) {
            queue_put(s, r);
            continue;
        }
        atomic_fetch_sub(&s->stats.waiting, 1); /* nothing has to be computed: it waits for nobody */
        route_only_end(s, NULL, r);
    }
}

static void end_cancelled(struct scheduler *s)
{
    struct list *const apart[] = {&s->waiting, &s->parked};
    for (size_t i = 0; i < sizeof apart / sizeof *apart; i++)
        LIST_EACH_SAFE (it, apart[i]) {
            struct request *r = LIST_ITEM(it, struct request, queue.node);
            if (!atomic_load(&r->shared.cancel)) continue;
            queue_drop(s, r);
            apply_end(&s->core, NULL, r, FINISH_CANCELLED, ERR_CANCELLED);
        }
    for (int i = 0; i < s->info->max_seqs; i++)
        if (s->seq[i].req && atomic_load(&s->seq[i].req->shared.cancel))
            apply_end(&s->core, &s->seq[i], s->seq[i].req, FINISH_CANCELLED, ERR_CANCELLED);
}

/* new_token: what is sampled will be taken, so a guided request's mask is asked for. */
static struct sample_row sample_of(struct scheduler *s, struct seq *q, bool new_token)
{
    const struct request *r = q->req;
    struct sample_row a = r->ask.sample;
    a.hist = r->ask.prompt;
    a.n_prompt = r->ask.n_prompt;
    a.n_hist = r->ask.n_prompt + r->shared.use.n_answer;
    a.pos = a.n_hist;
    a.force_id = -1;
    if (r->shared.use.n_answer < r->ask.min_new) {
        a.ban_id = r->ask.stop_id;
        a.n_ban = r->ask.n_stop_id;
    }
    q->mask_err = OK;
    if (!new_token || !r->ask.guide || q->only == GUIDE_FREE) return a;
    if (q->only >= 0) {
        a.force_id = q->only;
        atomic_fetch_add_explicit(&s->stats.forced_tok, 1, memory_order_relaxed);
        return a;
    }
    masks_ask(s->masks, q);
    a.mask = q->mask;
    s->batch.masks = masks_wait;
    s->batch.masks_arg = s->masks;
    return a;
}

/* What the plan takes is free, or kept by the prefix cache alone. */
static void make_room(struct scheduler *s)
{
    const struct plan *p = &s->plan;
    int n = 0;
    if (!s->core.prefix) return;
    for (int i = 0; i < p->n_row; i++) {
        const struct seq *q = s->slot[p->row[i].seq];
        for (int l = 0; seq_on_new_page(q) && l < s->info->n_layer; l++)
            n += kvmap_lack(&q->map, l, q->pos / PAGE_TOK, q->pos / PAGE_TOK + 1,
                            plan_codes(&s->core.lim, q->view.route[l]));
    }
    for (int i = 0; i < p->n_piece; i++) n += plan_piece_pages(&s->core.lim, s->slot, &p->piece[i]);
    prefix_make_room(s->core.prefix, n);
}

/* What is sampled will be taken: else it is replayed, or no end of a prompt. */
static bool row_is_new(const struct seq *q)
{
    return q->pos + 1 == q->req->ask.n_prompt + q->req->shared.use.n_answer;
}

static bool piece_is_new(const struct scheduler *s, const struct plan_piece *w, const struct seq *q)
{
    return w->layer1 == s->info->n_layer && w->tok1 == q->req->ask.n_prompt &&
           q->req->shared.use.n_answer == 0 && q->req->ask.max_new > 0;
}

/* What the request's own fields forbid is left to the mask, which meets them all. */
static int32_t only_of(const struct request *r)
{
    if (!r->ask.guide) return GUIDE_MASK;
    const int32_t id = guide_only(r->ask.guide);
    if (id >= 0 && r->ask.sample.n_allow > 0) return GUIDE_MASK;
    for (int i = 0; id >= 0 && r->shared.use.n_answer < r->ask.min_new && i < r->ask.n_stop_id; i++)
        if (r->ask.stop_id[i] == id) return GUIDE_MASK;
    return id;
}

/* Before any mask is begun: no two guides are asked at one time. */
static void ask_guides(struct scheduler *s)
{
    const struct plan *p = &s->plan;
    for (int i = 0; i < p->n_row; i++) {
        struct seq *q = s->slot[p->row[i].seq];
        if (q->req->ask.guide && row_is_new(q)) q->only = only_of(q->req);
    }
    for (int i = 0; i < p->n_piece; i++) {
        struct seq *q = s->slot[p->piece[i].seq];
        if (q->req->ask.guide && piece_is_new(s, &p->piece[i], q)) q->only = only_of(q->req);
    }
}

static void fill_batch(struct scheduler *s)
{
    struct plan *p = &s->plan;
    make_room(s);
    s->batch.n_row = p->n_row;
    s->batch.n_piece = p->n_piece;
    s->batch.masks = NULL;
    ask_guides(s);
    for (int i = 0; i < p->n_row; i++) {
        struct seq *q = s->slot[p->row[i].seq];
        int b = q->pos / PAGE_TOK;
        for (int l = 0; seq_on_new_page(q) && l < s->info->n_layer; l++)
            CHECK(kvmap_take(&q->map, s->core.pool, l, b, b + 1, plan_codes(&s->core.lim, q->view.route[l])));
        q->view.page_stamp = q->map.stamp;
        s->batch.row[i] =
            (struct batch_row){.seq = &q->view, .pos = q->pos, .sample = sample_of(s, q, row_is_new(q))};
    }
    for (int i = 0; i < p->n_piece; i++) {
        const struct plan_piece *w = &p->piece[i];
        struct seq *q = s->slot[w->seq];
        for (int l = w->layer0; l < w->layer1; l++)
            CHECK(kvmap_take(&q->map, s->core.pool, l, w->tok0 / PAGE_TOK, blocks_of(w->tok1),
                             plan_codes(&s->core.lim, q->view.route[l])));
        q->view.page_stamp = q->map.stamp;
        s->batch.piece[i] = (struct batch_piece){.seq = &q->view,
                                                 .layer0 = w->layer0,
                                                 .layer1 = w->layer1,
                                                 .tok0 = w->tok0,
                                                 .tok1 = w->tok1,
                                                 .sample = sample_of(s, q, piece_is_new(s, w, q)),
                                                 .prompt_top = q->req->ask.prompt_top};
        if (q->req->shared.use.n_answer == 0) /* once: its maker may be reading it later */
            s->batch.piece[i].prompt_out = q->req->ask.prompt_out;
        s->batch.piece[i].sample.n_hist =
            q->req->ask.n_prompt; /* the first token of a replayed prompt is sampled from the prompt alone */
        s->batch.piece[i].sample.pos = q->req->ask.n_prompt;
    }
}

static int tokens_of(const struct plan *p)
{
    int n = p->n_row;
    for (int i = 0; i < p->n_piece; i++) n += p->piece[i].tok1 - p->piece[i].tok0;
    return n;
}

/* Of the time between two steps, and within this one, in which the engine waited for us although there was
 * work. */
static void count_idle(struct scheduler *s, int64_t begin_ns)
{
    const struct plan *p = &s->plan;
    int64_t idle = 0;
    if (s->step_end_ns > 0) {
        idle = s->out.idle_ns >= 0 ? s->out.idle_ns : begin_ns - s->step_end_ns;
        atomic_fetch_add_explicit(&s->stats.idle_ns, (uint64_t)idle, memory_order_relaxed);
        atomic_fetch_add_explicit(&s->stats.chain_ns, (uint64_t)(s->core.now_ns - s->step_end_ns),
                                  memory_order_relaxed);
    }
    s->step_end_ns = s->core.now_ns;
    log_line(LOG_DEBUG, "step",
             "begin_us=%lld us=%lld decode_us=%lld idle_us=%lld rows=%d pieces=%d planned_prefill_ms=%.2f",
             (long long)(begin_ns / 1000), (long long)((s->core.now_ns - begin_ns) / 1000),
             (long long)(s->out.decode_ns / 1000), (long long)(idle / 1000), p->n_row, p->n_piece,
             p->prefill_ms);
}

static enum err run_step(struct scheduler *s)
{
    struct plan *p = &s->plan;
    fill_batch(s);
    int64_t t0 = clock_ns();
    struct err_note note = {0};
    memset(s->out.drew, 0, (size_t)(p->n_piece));
    enum err err = engine_step(s->core.engine, &s->batch, &s->out, &note);
    masks_wait(s->masks); /* of a step that failed or found no end of a prompt */
    if (err) {
        log_line(LOG_ERROR, "engine lost", "code=%s text=\"%s\"", err_name(err), note.text);
        return err;
    }
    s->core.now_ns = clock_ns();
    sched_hist_time(&s->stats.step, s->core.now_ns - t0);
    sched_hist_count(&s->stats.step_tok, tokens_of(p));
    count_idle(s, t0);
    atomic_fetch_add_explicit(&s->stats.steps, 1, memory_order_relaxed);
    if (p->n_row) cost_learn(&s->cost.decode, p->decode_work, (double)s->out.decode_ns * 1e-6);
    if (p->n_piece) cost_learn(&s->cost.prefill, p->prefill_work, (double)s->out.prefill_ns * 1e-6);
    for (int i = 0; i < p->n_row; i++) apply_row(&s->core, s->slot[p->row[i].seq], &s->out.row[i]);
    for (int i = 0; i < p->n_piece; i++) {
        struct seq *q = s->slot[p->piece[i].seq];
        if (route_only_known(s, q->req))
            route_only_end(s, q, q->req);
        else if (q->view.strayed)
            reuse_begin_again(&s->core, q, queue_room(s));
        else
            apply_piece(&s->core, q, &p->piece[i], &s->out.piece[i]);
    }
    return OK;
}

static void end_all(struct scheduler *s, enum err why)
{
    take_inbox(s, NULL);
    s->core.now_ns = clock_ns();
    struct list *const apart[] = {&s->waiting, &s->parked};
    for (size_t i = 0; i < sizeof apart / sizeof *apart; i++)
        LIST_EACH_SAFE (it, apart[i]) {
            struct request *r = LIST_ITEM(it, struct request, queue.node);
            queue_drop(s, r);
            apply_end(&s->core, NULL, r, FINISH_ERROR, why);
        }
    for (int i = 0; i < s->info->max_seqs; i++)
        if (s->seq[i].req) apply_end(&s->core, &s->seq[i], s->seq[i].req, FINISH_ERROR, why);
    accounting_count(s);
}

static enum turn turn(struct scheduler *s, struct request *first, enum err *err)
{
    s->core.now_ns = clock_ns();
    atomic_store_explicit(&s->stats.heartbeat_ns, s->core.now_ns, memory_order_relaxed);
    take_inbox(s, first);
    int stop = atomic_load(&s->stop);
    if (stop) {
        end_all(s, (enum err)(stop - 1));
        return TURN_OVER;
    }
    end_cancelled(s);
    deadline_end_late(s);
    queue_extend_promises(s);
    accounting_count(s);
    queue_admit(s);
    accounting_count(s);
    int n_free =
        kvpool_n_free(s->core.pool) + kvpool_n_idle(s->core.pool) - (s->info->n_page - s->core.lim.n_page);
    s->plan.aged_turn = s->n_piece_step % AGED_EVERY == AGED_EVERY - 1;
    plan_step(&s->plan, &s->core.lim, &s->cost, s->slot, s->info->max_seqs, n_free > 0 ? n_free : 0,
              s->core.now_ns);
    s->n_piece_step += s->plan.n_piece > 0;
    if (s->plan.n_row + s->plan.n_piece == 0) {
        s->step_end_ns = 0;
        return TURN_IDLE;
    }
    *err = run_step(s);
    if (!*err) return TURN_WORKED;
    atomic_store(&s->stop, (int)*err + 1);
    end_all(s, ERR_DEVICE);
    *err = ERR_DEVICE;
    return TURN_OVER;
}

enum turn scheduler_turn(struct scheduler *s, struct request *first, enum err *err)
{
    uint64_t taken = heap_taken();
    enum turn t = turn(s, first, err);
    atomic_fetch_add_explicit(&s->stats.taken_bytes, heap_taken() - taken, memory_order_relaxed);
    return t;
}

static struct request *sleep_for(struct scheduler *s, int64_t ms)
{
    atomic_store(&s->stats.asleep, true);
    struct request *first = mailbox_wait(s->inbox, ms);
    atomic_store(&s->stats.heartbeat_ns, clock_ns());
    atomic_store(&s->stats.asleep, false);
    return first;
}

enum err scheduler_run(struct scheduler *s)
{
    struct request *first = NULL;
    enum err err = OK;
    for (enum turn t; (t = scheduler_turn(s, first, &err)) != TURN_OVER;) {
        bool busy =
            atomic_load(&s->stats.waiting) + atomic_load(&s->stats.resting) > 0; /* their deadlines go on */
        first = t == TURN_IDLE ? sleep_for(s, busy ? BUSY_BEAT_MS : IDLE_BEAT_MS) : NULL;
    }
    return err;
}
