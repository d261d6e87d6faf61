/* apply: see apply.h. */
#include "scheduler/apply.h"

#include "base/check.h"
#include "base/mailbox.h"
#include "scheduler/reuse.h"

static void announce(struct sched_core *k, struct request *r)
{
    if (atomic_exchange(&r->shared.announced, true)) return;
    r->shared.n_put++;
    CHECK(mailbox_put(k->outbox, r)); /* room for two of every request in flight */
}

/* With DONE the request may be freed, so it is not touched any more once DONE can be seen, and it is put into
 * the outbox whether it stands there or not: request_next_event holds DONE back until the loop has taken all
 * that was put. */
static void announce_done(struct sched_core *k, struct request *r, enum finish finish)
{
    r->shared.n_put++;
    r->queue.over = true;
    request_push(r, &(struct event){.kind = EVENT_DONE, .finish = finish});
    CHECK(mailbox_put(k->outbox, r));
}

static void count_held(struct sched_core *k, struct seq *s)
{
    if (s->map.n_held > s->req->shared.use.kv_pages_peak) s->req->shared.use.kv_pages_peak = s->map.n_held;
    atomic_store_explicit(&k->stats->pages_used, kvpool_n_used(k->pool), memory_order_relaxed);
}

/* Promise follows what is known: bits that came in sparse make it smaller. */
static void renew_promise(struct sched_core *k, struct seq *s, int n_tok)
{
    int promise = reuse_promise(k, s, n_tok);
    k->promised += promise - s->promised;
    s->promised = promise;
}

static void leave(struct sched_core *k, struct seq *s)
{
    reuse_leave(k, s);
    kvmap_give_all(&s->map, k->pool);
    k->promised -= s->promised;
    s->promised = 0;
    engine_drop(k->engine, s->view.slot);
    s->req->queue.seq = NULL;
    s->req = NULL;
    s->phase = SEQ_FREE;
}

void apply_evict(struct sched_core *k, struct seq *s)
{
    s->req->queue.moved_ns = s->moved_ns;
    leave(k, s);
    atomic_fetch_add_explicit(&k->stats->preemptions, 1, memory_order_relaxed);
}

static void count_lengths(struct scheduler_stats *t, const struct request *r)
{
    sched_hist_time(&t->decode, r->shared.use.decode_ns);
    sched_hist_time(&t->inference, r->shared.use.prefill_ns + r->shared.use.decode_ns);
    sched_hist_count(&t->prompt_len, r->ask.n_prompt);
    sched_hist_count(&t->answer_len, r->shared.use.n_answer);
    sched_hist_count(&t->max_len, r->ask.max_new);
    if (r->shared.use.n_answer > 1)
        sched_hist_time(&t->per_tok, r->shared.use.decode_ns / (r->shared.use.n_answer - 1));
}

void apply_end(struct sched_core *k, struct seq *s, struct request *r, enum finish finish, enum err why)
{
    int n_tok = r->shared.use.n_prompt + r->shared.use.n_answer;
    r->shared.use.kv_pages_full = (int64_t)k->lim.n_layer * plan_layer_pages(&k->lim, ROUTE_FULL, n_tok);
    if (s) {
        count_held(k, s);
        if (s->phase == SEQ_DECODE) r->shared.use.decode_ns += k->now_ns - s->decode_from_ns;
        leave(k, s);
        atomic_store_explicit(&k->stats->pages_used, kvpool_n_used(k->pool), memory_order_relaxed);
    }
    if (r->ask.guide) r->ask.guide->op->end(r->ask.guide);
    if (finish == FINISH_ERROR && r->shared.note.code != why) /* else the note says more */
        err_set(&r->shared.note, why, NULL, "%s", err_text(why));
    sched_hist_time(&k->stats->e2e, k->now_ns - r->queue.submit_ns);
    if (finish != FINISH_ROUTED) count_lengths(k->stats, r);
    announce_done(k, r, finish);
}

static bool is_stop(const struct request *r, int32_t id)
{
    for (int i = 0; i < r->ask.n_stop_id; i++)
        if (r->ask.stop_id[i] == id) return true;
    return false;
}

/* The guide hears of the token. False: the request has ended. */
static bool guide_takes(struct sched_core *k, struct seq *s, const struct sample_out *out)
{
    struct request *r = s->req;
    struct guide *g = r->ask.guide;
    enum err e = s->mask_err;
    if (!e && out->none) {
        apply_end(k, s, r, g->op->whole(g) ? FINISH_STOP : FINISH_LENGTH, OK);
        return false;
    }
    if (!e && out->bad) return true;
    if (!e) e = g->op->take(g, out->id, &r->shared.note);
    if (e) apply_end(k, s, r, FINISH_ERROR, e);
    return !e;
}

/* A new token of the answer. May end the request. */
static void take_token(struct sched_core *k, struct seq *s, const struct sample_out *out)
{
    struct request *r = s->req;
    if (r->ask.guide && !guide_takes(k, s, out)) return;
    if (out->bad) {
        apply_end(k, s, r, FINISH_ERROR, ERR_NAN);
        return;
    }
    bool stop = is_stop(r, out->id);
    r->ask.prompt[r->ask.n_prompt + r->shared.use.n_answer++] = out->id;
    atomic_fetch_add_explicit(&k->stats->answer_tok, 1, memory_order_relaxed);
    sched_hist_time(r->shared.use.n_answer == 1 ? &k->stats->ttft : &k->stats->itl,
                    k->now_ns - (r->shared.use.n_answer == 1 ? r->queue.submit_ns : s->last_tok_ns));
    s->last_tok_ns = k->now_ns;
    if (r->shared.use.n_answer == 1) r->queue.first_tok_ns = k->now_ns;
    request_push(r, &(struct event){.kind = EVENT_TOKEN, .token = *out, .last = stop});
    announce(k, r);
    if (stop)
        apply_end(k, s, r, FINISH_STOP, OK);
    else if (r->shared.use.n_answer >= r->ask.max_new)
        apply_end(k, s, r, FINISH_LENGTH, OK);
}

void apply_row(struct sched_core *k, struct seq *s, const struct sample_out *out)
{
    struct request *r = s->req;
    s->moved_ns = k->now_ns;
    s->pos++;
    for (int l = 0; seq_on_new_page(s) && l < k->lim.n_layer;
         l++) /* before the next token: its block decides what falls out of the window */
        if (s->view.route[l] == ROUTE_SPARSE) {
            int given = kvmap_give_dead(&s->map, k->pool, l, k->lim.sink_blocks, k->lim.local_blocks,
                                        s->pos / PAGE_TOK);
            atomic_fetch_add_explicit(&k->stats->pages_given_back, (uint64_t)given, memory_order_relaxed);
        }
    count_held(k, s);
    if (s->pos < r->ask.n_prompt + r->shared.use.n_answer)
        return; /* replay after a preemption: this token is known */
    take_token(k, s, out);
}

void apply_count_route(struct sched_core *k, struct request *r)
{
    int full = 0;
    for (int l = 0; l < k->lim.n_layer; l++) {
        if (r->shared.use.route[l] != ROUTE_FULL) continue;
        full++;
        atomic_fetch_add_explicit(&k->stats->full_layer_requests[l < 256 ? l : 255], 1, memory_order_relaxed);
    }
    r->shared.use.full_layers = full;
    atomic_fetch_add_explicit(&k->stats->full_layers_hist[full < 256 ? full : 256], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&k->stats->routed, 1, memory_order_relaxed);
}

static void prompt_done(struct sched_core *k, struct seq *s, const struct sample_out *first)
{
    struct request *r = s->req;
    s->phase = SEQ_DECODE;
    s->pos = r->ask.n_prompt;
    s->decode_from_ns = k->now_ns;
    bool replay = r->shared.use.n_answer > 0;
    if (!first->bad) reuse_commit(k, s);
    r->queue.scored = !first->bad;
    if (!replay) {
        r->shared.use.prefill_ns = k->now_ns - s->start_ns;
        sched_hist_time(&k->stats->prefill, r->shared.use.prefill_ns);
        atomic_fetch_add_explicit(&k->stats->prompt_tok, (uint64_t)r->ask.n_prompt, memory_order_relaxed);
        apply_count_route(k, r);
        if (r->ask.max_new == 0)
            apply_end(k, s, r, first->bad ? FINISH_ERROR : FINISH_LENGTH, first->bad ? ERR_NAN : OK);
        else
            take_token(k, s, first);
    }
}

void apply_piece(struct sched_core *k, struct seq *s, const struct plan_piece *q,
                 const struct sample_out *first)
{
    struct request *r = s->req;
    s->moved_ns = k->now_ns;
    count_held(k, s);
    bool layer_done = q->tok1 == r->ask.n_prompt;
    for (int l = q->layer0; l < q->layer1; l++) /* those that were open when it was planned */
        if (plan_codes(&k->lim, s->view.route[l]))
            kvmap_settle(&s->map, k->pool, l, q->tok0 / PAGE_TOK, blocks_of(q->tok1));
    reuse_note(k, s, q); /* before dead pages go */
    for (int l = q->layer0; l < q->layer1; l++) {
        if (s->view.route[l] != ROUTE_SPARSE || (!layer_done && !k->lim.sparse_streams)) continue;
        int given =
            kvmap_give_dead(&s->map, k->pool, l, k->lim.sink_blocks, k->lim.local_blocks, q->tok1 / PAGE_TOK);
        atomic_fetch_add_explicit(&k->stats->pages_given_back, (uint64_t)given, memory_order_relaxed);
    }
    s->layer = layer_done ? q->layer1 : q->layer0;
    s->tok = layer_done ? s->view.n_cached : q->tok1;
    renew_promise(k, s,
                  r->ask.n_prompt + (r->ask.max_new < s->promised_new ? r->ask.max_new : s->promised_new));
    if (s->layer == k->lim.n_layer) prompt_done(k, s, first);
}
