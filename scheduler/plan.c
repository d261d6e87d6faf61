/* plan: see plan.h. */
#include "scheduler/plan.h"

#include <limits.h>
#include <math.h>

enum {
    PIECE_TOK = PAGE_TOK
}; /* smallest piece; pieces end on page edges so that a page is written by one piece */

int plan_layer_pages(const struct plan_limits *lim, uint8_t bit, int n_tok)
{
    const int all = blocks_of(n_tok), window = lim->sink_blocks + lim->local_blocks;
    const int sparse = all < window ? all : window, full = lim->codes ? (all + 1) / 2 : all;
    return bit == ROUTE_SPARSE || (bit == ROUTE_OPEN && sparse > full) ? sparse : full;
}

int plan_promise(const struct plan_limits *lim, const uint8_t *route, int n_tok)
{
    int n = 0, pages[3];
    for (uint8_t bit = 0; bit < 3; bit++) pages[bit] = plan_layer_pages(lim, bit, n_tok);
    for (int l = 0; l < lim->n_layer; l++) n += pages[route[l]];
    return n;
}

int plan_transient(const struct plan_limits *lim, int n_prompt)
{
    return lim->sparse_streams ? PIECE_TOK / PAGE_TOK : blocks_of(n_prompt);
}

/* Mean number of keys a row of [tok0, tok1) sees in a layer with this bit. */
static double keys_seen(const struct plan_limits *lim, int bit, int tok0, int tok1)
{
    double full = 0.5 * (tok0 + tok1);
    double window = (double)(lim->sink_blocks + lim->local_blocks) * PAGE_TOK;
    return bit == ROUTE_SPARSE && full > window ? window : full;
}

static double part_ms(const struct plan_limits *lim, const struct cost *c, int bit, int tok0, int tok1)
{
    return cost_ms(&c->prefill, cost_piece(tok1 - tok0, 1, keys_seen(lim, bit, tok0, tok1)));
}

double plan_prompt_ms(const struct plan_limits *lim, const struct cost *c, const uint8_t *route, int n_prompt)
{
    int sparse = 0;
    for (int l = 0; l < lim->n_layer; l++) sparse += route[l] == ROUTE_SPARSE;
    return sparse * part_ms(lim, c, ROUTE_SPARSE, 0, n_prompt) +
           (lim->n_layer - sparse) * part_ms(lim, c, ROUTE_FULL, 0, n_prompt);
}

double plan_full_prompt_ms(const struct plan_limits *lim, const struct cost *c, int n_prompt)
{
    return lim->n_layer * part_ms(lim, c, ROUTE_FULL, 0, n_prompt);
}

static double remaining_ms(const struct plan_limits *lim, const struct cost *c, const struct seq *s)
{
    int n = s->req->ask.n_prompt;
    double ms = part_ms(lim, c, s->view.route[s->layer], s->tok, n);
    int sparse = 0, layers = lim->n_layer - s->layer - 1;
    for (int l = s->layer + 1; l < lim->n_layer; l++) sparse += s->view.route[l] == ROUTE_SPARSE;
    if (sparse) ms += sparse * part_ms(lim, c, ROUTE_SPARSE, s->view.n_cached, n);
    return layers > sparse ? ms + (layers - sparse) * part_ms(lim, c, ROUTE_FULL, s->view.n_cached, n) : ms;
}

static int ceil_div(int a, int b) { return (a + b - 1) / b; }

/* Tokens from tok0 on that fit the budget in this layer: whole pages, at least one piece. A target is kept; a
 * stretch is met on average, as near as whole pages come to it (a page takes a good part of a small model's
 * step). */
static int fit_tokens(const struct plan_limits *lim, const struct cost *c, const struct seq *s, int tok0,
                      double budget)
{
    int n = s->req->ask.n_prompt, best = tok0 + PIECE_TOK - tok0 % PIECE_TOK, bit = s->view.route[s->layer];
    double ms = part_ms(lim, c, bit, tok0, best), over = lim->itl_target_ms > 0 ? 0 : 0.5;
    while (best < n && best - tok0 < lim->chunk_tok) {
        int next = best + PIECE_TOK;
        double more = part_ms(lim, c, bit, tok0, next);
        if (more - over * (more - ms) > budget || next - tok0 > lim->chunk_tok) break;
        best = next;
        ms = more;
    }
    return best < n ? best : n;
}

/* Of what fits, no more than makes the pieces of the layer's rest take equal time: as many pieces, none the
 * small end of big ones. */
static int even_tokens(const struct plan_limits *lim, const struct cost *c, const struct seq *s, int tok0,
                       double budget)
{
    int n = s->req->ask.n_prompt, bit = s->view.route[s->layer], tok1 = fit_tokens(lim, c, s, tok0, budget);
    double ms = part_ms(lim, c, bit, tok0, tok1), rest = part_ms(lim, c, bit, tok0, n);
    double each = tok1 - tok0 == lim->chunk_tok ? fmax(ms, budget) : ms; /* of as few as can be */
    double share = rest / fmax(ceil(rest / each - 1e-6), ceil_div(n - tok0, lim->chunk_tok));
    for (int less; tok1 < n && (less = tok1 - PIECE_TOK) > tok0; tok1 = less) {
        double less_ms = part_ms(lim, c, bit, tok0, less);
        if ((less_ms + ms) / 2 <= share) break;
        ms = less_ms;
    }
    return tok1;
}

static int piece_pages(const struct plan_limits *lim, const struct seq *s, const struct plan_piece *q)
{
    int n = 0;
    for (int l = q->layer0; l < q->layer1; l++)
        n +=
            kvmap_lack(&s->map, l, q->tok0 / PAGE_TOK, blocks_of(q->tok1), plan_codes(lim, s->view.route[l]));
    return n;
}

int plan_piece_pages(const struct plan_limits *lim, struct seq *const *seq, const struct plan_piece *q)
{
    return piece_pages(lim, seq[q->seq], q);
}

struct ask {
    const struct plan_limits *lim;
    const struct cost *cost;
    const struct seq *seq;
    double budget;
    bool first; /* it moves even where there is no time left, and in even pieces, as each step's time is its
                   own */
};

static bool add_piece(struct plan *p, const struct ask *a, struct plan_piece q, int *n_free)
{
    int pages = piece_pages(a->lim, a->seq, &q);
    if (pages > *n_free || p->n_piece == p->max_piece) return false;
    *n_free -= pages;
    p->piece[p->n_piece++] = q;
    for (int l = q.layer0; l < q.layer1; l++) {
        struct cost_work w =
            cost_piece(q.tok1 - q.tok0, 1, keys_seen(a->lim, a->seq->view.route[l], q.tok0, q.tok1));
        p->prefill_ms += cost_ms(&a->cost->prefill, w);
        cost_add(&p->prefill_work, w);
    }
    return true;
}

/* One piece of one prompt: several layers of all its tokens where that fits the time left, else a part of one
 * layer. */
static bool plan_prompt(struct plan *p, const struct ask *a, int i, int *n_free)
{
    const struct seq *s = a->seq;
    int n = s->req->ask.n_prompt;
    double left = a->budget - p->prefill_ms;
    int from = s->view.n_cached;
    if (s->tok == from && n - from <= a->lim->chunk_tok) { /* as many whole layers as fit */
        double one = part_ms(a->lim, a->cost, ROUTE_FULL, from, n);
        int k = one * a->lim->n_layer <= left ? a->lim->n_layer : (int)(fmax(left, 0) / one);
        if (k > a->lim->n_layer - s->layer) k = a->lim->n_layer - s->layer;
        if (k > 0 && a->first)
            k = ceil_div(a->lim->n_layer - s->layer, ceil_div(a->lim->n_layer - s->layer, k));
        if (k > 0 && add_piece(p, a, (struct plan_piece){i, s->layer, s->layer + k, from, n}, n_free))
            return true;
    }
    int small = s->tok + PIECE_TOK - s->tok % PIECE_TOK;
    double least = part_ms(a->lim, a->cost, s->view.route[s->layer], s->tok, small < n ? small : n);
    if (!a->first && least > left) return false;
    int tok1 = (a->first ? even_tokens : fit_tokens)(a->lim, a->cost, s, s->tok, left);
    struct plan_piece q = {i, s->layer, s->layer + 1, s->tok, tok1};
    if (add_piece(p, a, q, n_free)) return true;
    q.tok1 = small < n ? small : n; /* the pool is short: the smallest piece is promised */
    return add_piece(p, a, q, n_free);
}

/* Of a step's rows. */
struct elder {
    int64_t told_ns; /* when the first of them was told its first token */
    int priority;    /* of the first */
};

static bool is_senior(const struct plan_limits *lim, const struct elder *e, const struct request *prompt)
{
    return prompt->queue.submit_ns - (int64_t)(lim->burst_ms * 1e6) >= e->told_ns ||
           e->priority < prompt->ask.priority;
}

static double prefill_budget(const struct plan_limits *lim, double decode_ms, int n_row, bool burst)
{
    if (n_row == 0) return lim->alone_ms;
    double step_ms = lim->itl_target_ms > 0 ? lim->itl_target_ms
                                            : fmax(lim->stretch * decode_ms, burst ? lim->burst_ms : 0);
    return fmax(step_ms - decode_ms, 0);
}

/* --- order */

uint64_t plan_route_rank(const uint8_t *route, int n_layer)
{
    uint64_t g = 0;
    for (int l = 0; l < 64; l++) g = g << 1 | (l < n_layer && route[l] == ROUTE_FULL);
    for (int s = 1; s < 64; s *= 2) /* from Gray code to its rank */
        g ^= g >> s;
    return g;
}

static bool before(struct plan_pick a, struct plan_pick b)
{
    return a.key != b.key ? a.key < b.key : a.seq < b.seq;
}

/* Heap sort: no memory, no bad case, and the order of equals is given by seq. */
static void sort_picks(struct plan_pick *a, int n)
{
    for (int built = n / 2, len = n; len > 1;) {
        struct plan_pick x;
        int i;
        if (built > 0) {
            x = a[i = --built];
        } else {
            x = a[--len];
            a[len] = a[i = 0];
        }
        for (int kid; (kid = 2 * i + 1) < len; i = kid) {
            if (kid + 1 < len && before(a[kid], a[kid + 1])) kid++;
            if (!before(x, a[kid])) break;
            a[i] = a[kid];
        }
        a[i] = x;
    }
}

bool plan_overdue(const struct plan_limits *lim, const struct request *r, int64_t now_ns)
{
    return lim->aging_ns > 0 && now_ns - r->queue.wait_ns >= lim->aging_ns;
}

/* Overdue ones by when they came, if it is their turn; then priority, then remaining time less age. */
static uint64_t prompt_key(const struct plan_limits *lim, const struct cost *c, const struct seq *s,
                           int64_t now_ns, bool aged_turn)
{
    const double MOST_US = 7e13; /* two years; below 2^46 */
    if (aged_turn && plan_overdue(lim, s->req, now_ns))
        return (uint64_t)fmin(fmax((double)s->req->queue.wait_ns * 1e-3, 0), MOST_US);
    double us = remaining_ms(lim, c, s) * 1e3 - lim->age * (double)(now_ns - s->req->queue.submit_ns) * 1e-3;
    int64_t prio = s->req->ask.priority < -32768  ? -32768
                   : s->req->ask.priority > 32767 ? 32767
                                                  : s->req->ask.priority;
    return (uint64_t)(prio + 32769) << 47 |
           (uint64_t)(fmin(fmax(us, -MOST_US), MOST_US) + (double)(INT64_C(1) << 46));
}

/* A half counts as one: that is the part of a page's bytes that it has. */
static double pages_read(const struct plan_limits *lim, const struct seq *s)
{
    int all = s->pos / PAGE_TOK + 1, window = lim->sink_blocks + lim->local_blocks;
    int full = 0;
    for (int l = 0; l < lim->n_layer; l++) full += s->view.route[l] == ROUTE_FULL;
    return full * (lim->codes ? 0.5 : 1) * all +
           (double)(lim->n_layer - full) * (all < window ? all : window);
}

static struct elder plan_rows(struct plan *p, const struct plan_limits *lim, struct seq *const *seq, int n,
                              int *n_free)
{
    struct elder e = {INT64_MAX, INT_MAX};
    double pages = 0;
    for (int i = 0; i < n; i++) {
        const struct seq *s = seq[i];
        if (!s->req || s->phase != SEQ_DECODE || request_room(s->req) == 0) continue;
        int need = 0, b = s->pos / PAGE_TOK;
        for (int l = 0; seq_on_new_page(s) && l < lim->n_layer; l++)
            need += kvmap_lack(&s->map, l, b, b + 1, plan_codes(lim, s->view.route[l]));
        if (need > *n_free)
            continue; /* rests until pages come back; admission and preemption see to it that they do */
        *n_free -= need;
        pages += pages_read(lim, s);
        if (s->req->queue.first_tok_ns < e.told_ns) e.told_ns = s->req->queue.first_tok_ns;
        if (s->req->ask.priority < e.priority) e.priority = s->req->ask.priority;
        uint64_t key =
            lim->route_policy == ROUTE_POLICY_NONE ? 0 : plan_route_rank(s->view.route, lim->n_layer);
        p->pick[p->n_row++] = (struct plan_pick){key, i};
    }
    sort_picks(p->pick, p->n_row);
    for (int i = 0; i < p->n_row; i++) p->row[i].seq = p->pick[i].seq;
    p->decode_work = cost_rows(p->n_row, pages);
    return e;
}

void plan_step(struct plan *p, const struct plan_limits *lim, const struct cost *cost, struct seq *const *seq,
               int n, int n_free, int64_t now_ns)
{
    p->n_row = p->n_piece = 0;
    p->prefill_ms = 0;
    p->prefill_work = (struct cost_work){0};
    struct elder elder = plan_rows(p, lim, seq, n, &n_free);
    int n_pick = 0, n_burst = 0;
    for (int i = 0; i < n; i++)
        if (seq[i]->req && seq[i]->phase == SEQ_PREFILL)
            p->pick[n_pick++] = (struct plan_pick){prompt_key(lim, cost, seq[i], now_ns, p->aged_turn), i};
    sort_picks(p->pick, n_pick);
    for (int k = 0; k < n_pick;
         k++) /* those before one of a burst share its time: it would fill the step anyway */
        if (!is_senior(lim, &elder, seq[p->pick[k].seq]->req)) n_burst = k + 1;
    double decode_ms = cost_ms(&cost->decode, p->decode_work);
    for (int k = 0; k < n_pick; k++) {
        int i = p->pick[k].seq;
        struct ask a = {lim, cost, seq[i], prefill_budget(lim, decode_ms, p->n_row, k < n_burst), k == 0};
        if (!plan_prompt(p, &a, i, &n_free)) break;
    }
}
