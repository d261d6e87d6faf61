/* plan: see plan.h. */
#include "scheduler/plan.h"

#include <math.h>

enum { PIECE_TOK = PAGE_TOK }; /* smallest piece; pieces end on page edges so that a page is written by one piece */

int plan_promise(const struct plan_limits *lim, const uint8_t *route, int n_tok)
{
    int all = blocks_of(n_tok), window = lim->sink_blocks + lim->local_blocks;
    int sparse = all < window ? all : window;
    int n = 0;
    for (int l = 0; l < lim->n_layer; l++)
        n += route[l] == ROUTE_SPARSE ? sparse : all;
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

static double remaining_ms(const struct plan_limits *lim, const struct cost *c, const struct seq *s)
{
    int    n = s->req->n_prompt, layers = lim->n_layer - s->layer - 1;
    double ms = cost_piece_ms(c, s->tok, n, 1, keys_seen(lim, s->view.route[s->layer], s->tok, n));
    return ms + cost_piece_ms(c, 0, n, layers, 0.5 * n);
}

/* The most tokens from tok0 on that fit the budget in this layer: whole pages, at least one piece. */
static int fit_tokens(const struct plan_limits *lim, const struct cost *c, const struct seq *s, int tok0, double budget)
{
    int n = s->req->n_prompt, best = tok0 + PIECE_TOK - tok0 % PIECE_TOK;
    while (best < n && best - tok0 < lim->chunk_tok) {
        int    next = best + PIECE_TOK;
        double ms = cost_piece_ms(c, tok0, next, 1, keys_seen(lim, s->view.route[s->layer], tok0, next));
        if (ms > budget || next - tok0 > lim->chunk_tok)
            break;
        best = next;
    }
    return best < n ? best : n;
}

static int piece_pages(const struct seq *s, const struct plan_piece *q)
{
    int n = 0;
    for (int l = q->layer0; l < q->layer1; l++)
        n += kvmap_lack(&s->map, l, q->tok0 / PAGE_TOK, blocks_of(q->tok1));
    return n;
}

static bool add_piece(struct plan *p, const struct seq *s, struct plan_piece q, double ms, int *n_free)
{
    int pages = piece_pages(s, &q);
    if (pages > *n_free || p->n_piece == p->max_piece)
        return false;
    *n_free -= pages;
    p->piece[p->n_piece++] = q;
    p->prefill_ms += ms;
    return true;
}

/* One piece of one prompt: several layers of all its tokens where that fits the time left, else a part of one layer. */
static bool plan_prompt(struct plan *p, const struct plan_limits *lim, const struct cost *c, const struct seq *s, int i,
                        double budget, bool must, int *n_free)
{
    int    n = s->req->n_prompt;
    double left = budget - p->prefill_ms;
    if (s->tok == 0 && n <= lim->chunk_tok) { /* as many whole layers as fit */
        double one = cost_piece_ms(c, 0, n, 1, 0.5 * n);
        int    k = one * lim->n_layer <= left ? lim->n_layer : (int)(fmax(left, 0) / one);
        if (k > lim->n_layer - s->layer)
            k = lim->n_layer - s->layer;
        struct plan_piece whole = {i, s->layer, s->layer + k, 0, n};
        if (k > 0 && add_piece(p, s, whole, one * k, n_free))
            return true;
    }
    double least = cost_piece_ms(c, 0, PIECE_TOK < n ? PIECE_TOK : n, 1, s->tok);
    if (!must && least > left)
        return false;
    int    tok1 = fit_tokens(lim, c, s, s->tok, left);
    double ms = cost_piece_ms(c, s->tok, tok1, 1, keys_seen(lim, s->view.route[s->layer], s->tok, tok1));
    struct plan_piece q = {i, s->layer, s->layer + 1, s->tok, tok1};
    if (add_piece(p, s, q, ms, n_free))
        return true;
    int small = s->tok + PIECE_TOK - s->tok % PIECE_TOK; /* the pool is short: the smallest piece is promised */
    q.tok1 = small < n ? small : n;
    return add_piece(p, s, q, cost_piece_ms(c, q.tok0, q.tok1, 1, s->tok), n_free);
}

static double prefill_budget(const struct plan_limits *lim, const struct cost *c, int n_row)
{
    if (n_row == 0)
        return lim->alone_ms;
    double decode = cost_decode_ms(c, n_row);
    return lim->itl_target_ms > 0 ? fmax(lim->itl_target_ms - decode, 0) : decode;
}

void plan_step(struct plan *p, const struct plan_limits *lim, const struct cost *cost, struct seq *const *seq, int n,
               int n_free, int64_t now_ns)
{
    p->n_row = p->n_piece = 0;
    p->prefill_ms = 0;
    for (int i = 0; i < n; i++) {
        const struct seq *s = seq[i];
        if (!s->req || s->phase != SEQ_DECODE || request_room(s->req) == 0)
            continue;
        int need = 0;
        for (int l = 0; l < lim->n_layer; l++)
            need += kvmap_lack(&s->map, l, s->pos / PAGE_TOK, s->pos / PAGE_TOK + 1);
        if (need > n_free)
            continue; /* rests until pages come back; admission and preemption see to it that they do */
        n_free -= need;
        p->row[p->n_row++] = (struct plan_row){i};
    }
    double budget = prefill_budget(lim, cost, p->n_row);
    /* Few prompts are in prefill at once: choose the best by score again and again. The score is unique per choice. */
    double last = -INFINITY;
    for (int k = 0; k < n; k++) {
        int    best = -1;
        double best_score = INFINITY;
        for (int i = 0; i < n; i++) {
            const struct seq *s = seq[i];
            if (!s->req || s->phase != SEQ_PREFILL)
                continue;
            double waited = (double)(now_ns - s->req->submit_ns) * 1e-6;
            double score = s->req->priority * 1e9 + remaining_ms(lim, cost, s) - waited + i * 1e-7;
            if (score > last && score < best_score) {
                best = i;
                best_score = score;
            }
        }
        if (best < 0)
            break;
        last = best_score;
        if (!plan_prompt(p, lim, cost, seq[best], best, budget, k == 0, &n_free))
            break;
    }
}
