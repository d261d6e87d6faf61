/* route_only: the end of requests that ask for their route alone (POST /v1/route). They wait, are admitted
 * and are prefilled like any other, and end when no bit is open any more: with given bits at once, with
 * routers when the last layer begins. */
#include <math.h>

#include "scheduler/internal.h"

bool route_only_known(const struct scheduler *s, const struct request *r)
{
    for (int l = 0; r->ask.route_only && l < s->info->n_layer; l++)
        if (r->shared.use.route[l] == ROUTE_OPEN) return false;
    return r->ask.route_only;
}

/* A price before the first measured step would be a guess. */
static double told_ms(const struct cost_fit *f, double ms) { return f->n > 0 ? ms : NAN; }

static int64_t full_pages(const struct plan_limits *lim, int n_tok)
{
    return (int64_t)lim->n_layer * plan_layer_pages(lim, ROUTE_FULL, n_tok);
}

static void fill_price(struct scheduler *s, struct request *r)
{
    const struct plan_limits *lim = &s->core.lim;
    const struct cost *c = &s->cost;
    const int n = r->ask.n_prompt;
    r->shared.use.price = (struct request_price){
        .prefill_ms = told_ms(&c->prefill, plan_prompt_ms(lim, c, r->shared.use.route, n)),
        .prefill_full_ms = told_ms(&c->prefill, plan_full_prompt_ms(lim, c, n)),
        .token_ms =
            told_ms(&c->decode, cost_ms(&c->decode, cost_rows(1, plan_promise(lim, r->shared.use.route, n)))),
        .token_full_ms = told_ms(&c->decode, cost_ms(&c->decode, cost_rows(1, (double)full_pages(lim, n)))),
        .kv_pages = plan_promise(lim, r->shared.use.route, n + r->ask.max_new),
        .kv_pages_full = full_pages(lim, n + r->ask.max_new),
    };
}

void route_only_end(struct scheduler *s, struct seq *q, struct request *r)
{
    bool finite = true;
    for (int l = 0; r->shared.use.margin && l < s->info->n_layer; l++)
        finite = finite && isfinite(r->shared.use.margin[l]);
    if (!finite) {
        apply_end(&s->core, q, r, FINISH_ERROR, ERR_NAN);
        return;
    }
    if (q) r->shared.use.prefill_ns = s->core.now_ns - q->start_ns;
    apply_count_route(&s->core, r);
    fill_price(s, r);
    apply_end(&s->core, q, r, FINISH_ROUTED, OK);
}
