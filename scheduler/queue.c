/* queue: the waiting list in its order, admission, and the promises that make every admitted request able to
 * finish. */
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "scheduler/bias.h"
#include "scheduler/internal.h"
#include "scheduler/reuse.h"

static const double RETRY_SHARE = 0.25; /* of the queue is served when a refused client comes again */
enum { RETRY_MOST_S = 600 };

static unsigned key_of(const struct request *r) { return (unsigned)(r->ask.key_id % ADMIT_KEYS); }

int queue_promised_new(const struct scheduler *s, const struct request *r)
{
    if (r->ask.route_only) return 0;
    int n = r->ask.max_new_given || r->ask.max_new < s->conf.default_max_tok ? r->ask.max_new
                                                                             : s->conf.default_max_tok;
    int room = r->shared.use.n_answer + PAGE_TOK; /* a preempted request has used a part already */
    return n > room ? n : room < r->ask.max_new ? room : r->ask.max_new;
}

/* A bound in time for a refused client: how long a part of what waits will take. */
static void tell_retry(struct scheduler *s)
{
    double seconds = s->waiting_ms * RETRY_SHARE * 1e-3 + 1;
    atomic_store_explicit(&s->retry_s, seconds < RETRY_MOST_S ? (int)seconds : RETRY_MOST_S,
                          memory_order_relaxed);
}

static void insert(struct scheduler *s, struct request *r)
{
    struct list *at = s->waiting.prev; /* newcomers mostly go to the end */
    while (at != &s->waiting) {
        const struct request *o = LIST_ITEM(at, struct request, queue.node);
        if (o->ask.priority < r->ask.priority ||
            (o->ask.priority == r->ask.priority && o->queue.order_ns <= r->queue.order_ns))
            break;
        at = at->prev;
    }
    list_push_back(at->next, &r->queue.node);
    r->queue.wait_ns = s->core.now_ns;
    r->queue.n_before = s->n_by_age++;
    list_push_back(&s->by_age, &r->queue.wait_node);
    unsigned k = key_of(r);
    if (s->key_waiting[k]++ == 0 && s->served_ms[k] < s->served_now)
        s->served_ms[k] = s->served_now; /* time in which it asked for nothing gives no claim */
    s->waiting_ms += r->queue.work_ms;
    tell_retry(s);
}

static bool never_fits(const struct scheduler *s, const struct request *r)
{
    return plan_promise(&s->core.lim, r->shared.use.route, r->ask.n_prompt + r->ask.max_new) +
               plan_transient(&s->core.lim, r->ask.n_prompt) >
           s->core.lim.n_page;
}

static void end_unfit(struct scheduler *s, struct request *r)
{
    queue_drop(s, r); /* the pool has become smaller since it was accepted */
    apply_end(&s->core, NULL, r, FINISH_ERROR, ERR_KV_CAPACITY);
}

void queue_put(struct scheduler *s, struct request *r)
{
    int n_new = queue_promised_new(s, r), most = s->info->max_seqs;
    double prompt_ms = plan_prompt_ms(&s->core.lim, &s->cost, r->shared.use.route, r->ask.n_prompt);
    double pages = (double)plan_promise(&s->core.lim, r->shared.use.route, r->ask.n_prompt + n_new) * most;
    double row_ms =
        cost_ms(&s->cost.decode, cost_rows(most, pages)) / most; /* its share of a full house's pass */
    r->queue.work_ms = prompt_ms + row_ms * n_new;
    r->queue.order_ns = (int64_t)(prompt_ms * 1e6 + s->core.lim.age * (double)r->queue.submit_ns);
    insert(s, r);
    if (never_fits(s, r)) end_unfit(s, r);
}

/* What it costs to compute its pages again: the prompt, and a row per token of the answer. */
static double replay_ms(const struct scheduler *s, const struct seq *q)
{
    const struct request *r = q->req;
    double row_ms =
        cost_ms(&s->cost.decode, cost_rows(1, q->map.n_held)) / 2; /* it shares the pass with others */
    return plan_prompt_ms(&s->core.lim, &s->cost, r->shared.use.route, r->ask.n_prompt) +
           row_ms * r->shared.use.n_answer;
}

static void take_out(struct scheduler *s, struct seq *q)
{
    if (q->phase == SEQ_DECODE && swap_ms(s->swap, q->map.n_held) < replay_ms(s, q) &&
        swap_out(s->swap, s->core.engine, q))
        atomic_fetch_add_explicit(&s->stats.swaps, 1, memory_order_relaxed);
    apply_evict(&s->core, q);
}

static void put_again(struct scheduler *s, struct request *r)
{
    r->queue.order_ns = r->queue.submit_ns - INT64_MAX / 2; /* among the preempted, by arrival */
    atomic_fetch_add(&s->stats.waiting, 1);
    insert(s, r);
    if (never_fits(s, r)) end_unfit(s, r);
}

void queue_put_back(struct scheduler *s, struct seq *q)
{
    struct request *r = q->req;
    take_out(s, q);
    put_again(s, r);
}

static void leave_list(struct scheduler *s, struct request *r)
{
    list_remove(&r->queue.node);
    list_remove(&r->queue.wait_node);
    s->n_by_age--;
    atomic_fetch_sub(&s->stats.waiting, 1);
    s->key_waiting[key_of(r)]--;
    s->waiting_ms = list_empty(&s->waiting) ? 0 : s->waiting_ms - r->queue.work_ms;
    tell_retry(s);
}

void queue_drop(struct scheduler *s, struct request *r)
{
    if (r->queue.parked)
        park_leave(s, r);
    else
        leave_list(s, r);
    swap_drop(s->swap, r);
}

/* Pages that prompts in prefill may hold for a while beyond their promise. */
static int transient_pages(const struct scheduler *s)
{
    int n = 0;
    for (int i = 0; i < s->info->max_seqs; i++)
        if (s->seq[i].req && s->seq[i].phase == SEQ_PREFILL)
            n += plan_transient(&s->core.lim, s->seq[i].req->ask.n_prompt);
    return n;
}

int queue_room(const struct scheduler *s)
{
    return s->core.lim.n_page - s->core.promised - transient_pages(s);
}

static struct seq *free_slot(struct scheduler *s)
{
    for (int i = 0; i < s->info->max_seqs; i++)
        if (!s->seq[i].req) return &s->seq[i];
    return NULL;
}

/* How far the routers' margins are moved for this request: settled once, whatever becomes of it later. */
static float settle_bias(struct scheduler *s, struct request *r)
{
    struct request_bias *b = r->ask.bias;
    if (!b || (!b->on && (s->conf.route_bias_max <= 0 ||
                          !memchr(r->shared.use.route, ROUTE_OPEN, (size_t)s->info->n_layer))))
        return 0;
    if (b->on) return b->value;
    b->on = true;
    b->value =
        bias_of(s->conf.route_bias_max, &(struct bias_state){.waiting = (int)atomic_load(&s->stats.waiting),
                                                             .queue_len = s->conf.queue_len,
                                                             .promised = s->core.promised,
                                                             .n_page = s->core.lim.n_page});
    atomic_store_explicit(&s->stats.bias_micro, llround((double)b->value * 1e6), memory_order_relaxed);
    atomic_fetch_add_explicit(&s->stats.biased, b->value != 0, memory_order_relaxed);
    return b->value;
}

/* The one that waits longest, if it is overdue. */
static struct request *overdue(const struct scheduler *s)
{
    struct request *r =
        list_empty(&s->by_age) ? NULL : LIST_ITEM(s->by_age.next, struct request, queue.wait_node);
    return r && plan_overdue(&s->core.lim, r, s->core.now_ns) ? r : NULL;
}

static void admit_one(struct scheduler *s, struct seq *q, struct request *r)
{
    s->n_since_aged = r == overdue(s)                    ? 0
                      : s->n_since_aged < AGED_EVERY - 1 ? s->n_since_aged + 1
                                                         : s->n_since_aged;
    r->queue.aged |= plan_overdue(&s->core.lim, r, s->core.now_ns);
    leave_list(s, r);
    unsigned k = key_of(r);
    s->served_now = s->served_ms[k];
    s->served_ms[k] += r->queue.work_ms;
    q->req = r;
    r->queue.seq = q;
    q->phase = SEQ_PREFILL;
    q->layer = q->tok = q->pos = 0;
    q->promised_new = queue_promised_new(s, r);
    q->promised = plan_promise(&s->core.lim, r->shared.use.route, r->ask.n_prompt + q->promised_new);
    q->turn = ++s->turn;
    q->start_ns = q->moved_ns = s->core.now_ns;
    q->view.tok = r->ask.prompt;
    q->view.n_prompt = r->ask.n_prompt;
    q->view.route = r->shared.use.route;
    q->view.margin = r->shared.use.margin;
    q->view.route_bias = settle_bias(s, r);
    q->view.min_full = r->ask.route_ask == ROUTE_ASK_MIN_FULL ? r->ask.route_min_full : 0;
    s->core.promised += q->promised;
    q->view.n_cached = 0;
    prefix_make_room(s->core.prefix, swap_pages(r));
    if (r->queue.swapped && swap_in(s->swap, s->core.engine, s->core.pool, q, r)) {
        q->phase = SEQ_DECODE;
        q->decode_from_ns = s->core.now_ns;
        return;
    }
    q->pos = 0;
    reuse_begin(&s->core, q, queue_room(s));
    s->prefill_tok += r->ask.n_prompt;
    if (r->shared.use.n_answer == 0) {
        r->shared.use.queued_ns = s->core.now_ns - r->queue.submit_ns;
        sched_hist_time(&s->stats.queue, r->shared.use.queued_ns);
    }
}

static void count_layer_pages(struct scheduler *s)
{
    for (int l = 0; l < s->info->n_layer; l++) {
        s->layer_pages[l] = 0;
        for (int i = 0; i < s->info->max_seqs; i++) {
            const struct seq *q = &s->seq[i];
            if (!q->req) continue;
            s->layer_pages[l] +=
                plan_layer_pages(&s->core.lim, q->view.route[l], q->req->ask.n_prompt + q->promised_new);
        }
    }
}

/* Of several choices of one prompt the first to run computes it, and the others go on behind its pages: so
 * they wait for those. So does a prompt that takes its scores from another. */
static bool awaits_siblings(const struct scheduler *s, const struct request *r)
{
    const struct request *d = r->ask.donor;
    if ((!r->ask.siblings && !d) || r->queue.swapped || r->shared.use.n_answer > 0 ||
        !reuse_would(&s->core, r))
        return false;
    bool awaits = d && !d->queue.scored && !d->queue.over;
    for (int i = 0; i < s->info->max_seqs && r->ask.siblings; i++)
        awaits |=
            s->seq[i].req && s->seq[i].req->ask.siblings == r->ask.siblings && s->seq[i].phase == SEQ_PREFILL;
    return awaits;
}

static struct admit_ask ask_of(const struct scheduler *s, const struct request *r)
{
    int n_tok = r->ask.n_prompt + queue_promised_new(s, r);
    return (struct admit_ask){.priority = r->ask.priority,
                              .n_prompt = r->queue.swapped ? 0 : r->ask.n_prompt,
                              .n_tok = n_tok,
                              .pages = plan_promise(&s->core.lim, r->shared.use.route, n_tok) +
                                       plan_transient(&s->core.lim, r->ask.n_prompt),
                              .passed = r->queue.passed,
                              .key = key_of(r),
                              .route = r->shared.use.route};
}

static struct request *pick(struct scheduler *s)
{
    struct admit_ask ask[ADMIT_WINDOW];
    struct request *r[ADMIT_WINDOW], *late = overdue(s);
    int n = 0;
    struct admit_room room = {.pages = s->core.lim.n_page - s->core.promised - transient_pages(s),
                              .prefill_tok = s->info->max_prefill_tok - s->prefill_tok,
                              .prefill_idle = s->prefill_tok == 0,
                              .served_ms = s->served_ms,
                              .layer_pages = s->layer_pages};
    if (late && s->n_since_aged >= AGED_EVERY - 1) {
        ask[0] = ask_of(s, late);
        return admit_fits(&room, &ask[0]) ? late : NULL;
    }
    LIST_EACH (it, &s->waiting) {
        if (n == ADMIT_WINDOW) break;
        r[n] = LIST_ITEM(it, struct request, queue.node);
        if (awaits_siblings(s, r[n])) continue;
        ask[n] = ask_of(s, r[n]);
        n++;
    }
    if (s->core.lim.route_policy == ROUTE_POLICY_BALANCE) count_layer_pages(s);
    int best = admit_pick(&s->core.lim, &room, ask, n);
    for (int i = 0; i < best; i++) r[i]->queue.passed += r[i]->ask.priority == r[best]->ask.priority;
    return best < 0 ? NULL : r[best];
}

/* Pages that the next to be admitted lacks; 0 or less: it waits for something else. */
static int lack_of_next(struct scheduler *s)
{
    const struct request *late = s->n_since_aged >= AGED_EVERY - 1 ? overdue(s) : NULL;
    const struct request *next = late ? late : LIST_ITEM(s->waiting.next, struct request, queue.node);
    return ask_of(s, next).pages - queue_room(s);
}

/* Somebody gives way. False: nobody may. */
static bool park(struct scheduler *s, int lack)
{
    struct seq *q = park_choose(s, lack);
    if (!q) return false;
    struct request *r = q->req;
    take_out(s, q);
    park_add(s, r);
    return true;
}

void queue_admit(struct scheduler *s)
{
    park_look(s);
    for (struct request *r; (r = park_back(s));) put_again(s, r);
    while (!list_empty(&s->waiting)) {
        struct seq *q = free_slot(s);
        struct request *r = q ? pick(s) : NULL;
        const int lack = q && !r ? lack_of_next(s) : 0;
        if (r)
            admit_one(s, q, r);
        else if ((q && lack <= 0) || !park(s, lack))
            return;
    }
}

/* Of those that were not overdue when they came in; of all, where there are none. */
static struct seq *youngest(struct scheduler *s)
{
    struct seq *young = NULL;
    for (int i = 0; i < s->info->max_seqs; i++) {
        struct seq *q = &s->seq[i];
        if (q->req && (!young || (q->req->queue.aged == young->req->queue.aged ? q->turn > young->turn
                                                                               : young->req->queue.aged)))
            young = q;
    }
    return young;
}

/* A request that named no max_tokens outgrew its promise: it gets a page more, or the youngest makes room. */
void queue_extend_promises(struct scheduler *s)
{
    for (int i = 0; i < s->info->max_seqs; i++) {
        struct seq *q = &s->seq[i];
        while (q->req && q->phase == SEQ_DECODE && q->pos >= q->req->ask.n_prompt + q->promised_new &&
               q->promised_new < q->req->ask.max_new) {
            int next = q->promised_new + PAGE_TOK < q->req->ask.max_new ? q->promised_new + PAGE_TOK
                                                                        : q->req->ask.max_new;
            int promise = reuse_promise(&s->core, q, q->req->ask.n_prompt + next);
            if (s->core.promised + promise - q->promised + transient_pages(s) <= s->core.lim.n_page) {
                s->core.promised += promise - q->promised;
                q->promised = promise;
                q->promised_new = next;
                continue;
            }
            queue_put_back(s, youngest(s));
        }
    }
}

void queue_resize_pool(struct scheduler *s, int n_page)
{
    CHECK(n_page > 0 && n_page <= s->info->n_page);
    s->core.lim.n_page = n_page;
    for (int i = 0; i < s->info->max_seqs; i++)
        if (s->seq[i].req && never_fits(s, s->seq[i].req))
            apply_end(&s->core, &s->seq[i], s->seq[i].req, FINISH_ERROR, ERR_KV_CAPACITY);
    LIST_EACH_SAFE (it, &s->waiting) {
        struct request *r = LIST_ITEM(it, struct request, queue.node);
        if (never_fits(s, r)) end_unfit(s, r);
    }
    while (s->core.promised + transient_pages(s) > n_page) queue_put_back(s, youngest(s));
}
