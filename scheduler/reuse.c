/* reuse: see reuse.h. */
#include "scheduler/reuse.h"

#include <string.h>

#include "base/check.h"

enum { STRAYS_MOST = 3 /* then the prompt takes only pages that every route has in common */ };

static int max_of(int a, int b) { return a > b ? a : b; }
static int min_of(int a, int b) { return a < b ? a : b; }

/* Bits that a plan gives need no router, so they are known before the engine says so. */
static bool settle_bits(const struct sched_core *k, struct seq *s)
{
    const uint8_t *fixed = k->info->fixed_route;
    bool open = false;
    for (int l = 0; l < k->lim.n_layer; l++) {
        uint8_t *bit = &s->view.route[l];
        if (fixed && *bit == ROUTE_OPEN) *bit = fixed[l];
        open = open || *bit == ROUTE_OPEN;
    }
    return open;
}

int reuse_promise(const struct sched_core *k, const struct seq *s, int n_tok)
{
    int n = plan_promise(&k->lim, s->view.route, n_tok) + s->map.odd, all = blocks_of(n_tok);
    if (s->view.n_cached == 0 || k->lim.sparse_streams) return n;
    for (int l = s->layer; l < k->lim.n_layer; l++) /* a page each of what may be sparse */
        if (s->view.route[l] != ROUTE_FULL) n += all - plan_layer_pages(&k->lim, s->view.route[l], n_tok);
    return n;
}

/* A prompt that must have a number of full layers takes no route that has fewer: its own is decided behind
 * the pages. So is that of one behind pages of no route in particular. */
static bool may_pin(const struct sched_core *k, const struct seq *s, const uint8_t *route)
{
    int full = 0;
    if (route[0] == ROUTE_OPEN) return false;
    for (int l = 0; l < k->lim.n_layer; l++) full += route[l] == ROUTE_FULL;
    return k->pin && full >= s->view.min_full;
}

/* A prompt's last tokens that are computed whatever the cache has: one row at least, those that the router
 * pools at the end, and what the end decides about is not shared. */
static int rest_of(const struct sched_core *k, bool open)
{
    return max_of(max_of(1, k->info->tail_tok), open ? k->info->router_pool_size : 0);
}

/* Scores of a prompt want its rows, but for those that are there, or that its donor has. Row t says what came
 * at t + 1, so of what both have in common the last row is the prompt's own; so are those that the donor's
 * end decided about. */
static int rows_spared(const struct sched_core *k, const struct request *r, bool donor_has)
{
    if (!r->ask.prompt_out || r->queue.scored) return r->ask.n_prompt;
    if (!r->ask.donor || !donor_has) return 0;
    return max_of(min_of(r->ask.n_donor - 1, r->ask.donor->ask.n_prompt - k->info->tail_tok), 0);
}

bool reuse_would(const struct sched_core *k, const struct request *r)
{
    return k->prefix &&
           min_of(r->ask.n_prompt - rest_of(k, k->info->has_router), rows_spared(k, r, true)) >= PAGE_TOK;
}

/* What the donor's rows said is true of pages that were written under its route, or under any. */
static bool donor_fits(const struct sched_core *k, const struct request *r, const struct prefix_hit *h)
{
    const uint8_t *route = prefix_route(h);
    return route[0] == ROUTE_OPEN ||
           memcmp(route, r->ask.donor->shared.use.route, (size_t)k->lim.n_layer) == 0;
}

/* Takes the hit where there is room for it. */
static bool take(struct sched_core *k, struct seq *s, const struct prefix_hit *h, int room)
{
    s->view.n_cached = h->n_block * PAGE_TOK;
    prefix_share(k->prefix, h, s->view.route, &s->map);
    int promise = reuse_promise(k, s, s->req->ask.n_prompt + s->promised_new);
    if (promise - s->promised > room) {
        kvmap_give_all(&s->map, k->pool);
        s->view.n_cached = 0;
        return false;
    }
    if (promise > s->promised) {
        k->promised += promise - s->promised;
        s->promised = promise;
    }
    if (may_pin(k, s, prefix_route(h))) memcpy(s->view.route, prefix_route(h), (size_t)k->lim.n_layer);
    return true;
}

static void begin(struct sched_core *k, struct seq *s, int room, int sum_layers)
{
    struct request *r = s->req;
    struct prefix_hit h = {0};
    bool open = settle_bits(k, s);
    struct prefix_ask ask = {.key_id = r->ask.key_id,
                             .salt = r->ask.cache_salt,
                             .tok = r->ask.prompt,
                             .n_tok = r->ask.n_prompt - rest_of(k, open),
                             .route = s->view.route};
    if (s->n_stray >= STRAYS_MOST) ask.n_tok = min_of(ask.n_tok, k->info->common_blocks * PAGE_TOK);
    const bool scores = r->ask.prompt_out && !r->queue.scored;
    ask.n_tok = min_of(ask.n_tok, rows_spared(k, r, scores && r->ask.donor && r->ask.donor->queue.scored));
    if (ask.n_tok > 0) h = prefix_find(k->prefix, &ask);
    if (h.n_block > 0 && scores && !donor_fits(k, r, &h)) h = (struct prefix_hit){0};
    if (h.n_block > 0 && !take(k, s, &h, room)) h = (struct prefix_hit){0};
    if (scores && h.n_block > 0)
        memcpy(r->ask.prompt_out, r->ask.donor->ask.prompt_out,
               ((size_t)h.n_block * PAGE_TOK + 1) * sizeof *r->ask.prompt_out);
    ask.n_tok = max_of(r->ask.n_prompt - k->info->tail_tok, 0);
    prefix_begin(k->prefix, s->view.slot, &ask, &h, sum_layers);
    s->view.head_sum = prefix_sums(k->prefix, s->view.slot);
    s->view.due = prefix_due(k->prefix, s->view.slot);
    s->tok = s->view.n_cached;
}

void reuse_begin(struct sched_core *k, struct seq *s, int room)
{
    s->view.n_cached = s->layer = s->tok = s->n_stray = 0;
    s->view.strayed = false;
    s->view.due = NULL;
    s->view.head_sum = NULL;
    if (!k->prefix) return;
    begin(k, s, room, 0);
    atomic_fetch_add_explicit(&k->stats->prefix_query_tok, (uint64_t)s->req->ask.n_prompt,
                              memory_order_relaxed);
}

/* Sums over the first rows still hold up to the layer whose bit is another: they were made under the bits
 * below it. */
void reuse_begin_again(struct sched_core *k, struct seq *s, int room)
{
    int l = 0;
    while (s->view.route[l] == s->view.due[l]) l++;
    CHECK(l < k->lim.n_layer && s->view.route[l] != ROUTE_OPEN);
    kvmap_give_all(&s->map, k->pool);
    engine_drop(k->engine, s->view.slot);
    s->n_stray++;
    s->view.strayed = false;
    s->view.n_cached = s->layer = s->tok = 0;
    s->moved_ns = k->now_ns;
    int promise = plan_promise(&k->lim, s->view.route, s->req->ask.n_prompt + s->promised_new);
    if (promise < s->promised) {
        k->promised += promise - s->promised;
        room -= promise - s->promised;
        s->promised = promise;
    }
    begin(k, s, room, l + 1);
    atomic_fetch_add_explicit(&k->stats->prefix_strays, 1, memory_order_relaxed);
}

void reuse_note(struct sched_core *k, struct seq *s, const struct plan_piece *q)
{
    for (int l = q->layer0; k->prefix && l < q->layer1; l++)
        prefix_note(k->prefix, s->view.slot, l, q->tok0 / PAGE_TOK, q->tok1 / PAGE_TOK, &s->map);
}

void reuse_commit(struct sched_core *k, struct seq *s)
{
    if (!k->prefix) return;
    prefix_commit(k->prefix, s->view.slot, s->view.route);
    if (s->req->shared.use.n_answer > 0) return; /* replayed: told before */
    s->req->shared.use.n_cached = s->view.n_cached;
    atomic_fetch_add_explicit(s->view.n_cached > 0 ? &k->stats->prefix_hits : &k->stats->prefix_misses, 1,
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&k->stats->cached_tok, (uint64_t)s->view.n_cached, memory_order_relaxed);
}

void reuse_leave(struct sched_core *k, struct seq *s)
{
    if (k->prefix) prefix_drop(k->prefix, s->view.slot);
}
