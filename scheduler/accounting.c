/* accounting: the gauges of every turn, and the checks that simulation and fuzzing run. */
#include <stdlib.h>

#include "base/check.h"
#include "scheduler/internal.h"

/* A layer whose route is still open counts as full. */
static void count_pages(struct scheduler *s)
{
    int full = 0, sparse = 0;
    for (int i = 0; i < s->info->max_seqs; i++) {
        const struct seq *q = &s->seq[i];
        for (int l = 0; q->req && l < s->info->n_layer; l++)
            *(q->view.route[l] == ROUTE_SPARSE ? &sparse : &full) += q->map.held[l];
    }
    atomic_store_explicit(&s->stats.pages_full, full, memory_order_relaxed);
    atomic_store_explicit(&s->stats.pages_sparse, sparse, memory_order_relaxed);
}

static int64_t oldest_wait(const struct scheduler *s)
{
    return list_empty(&s->by_age) ? 0
                                  : LIST_ITEM(s->by_age.next, struct request, queue.wait_node)->queue.wait_ns;
}

void accounting_count(struct scheduler *s)
{
    int pre = 0, dec = 0, rest = s->n_parked, tok = 0;
    for (int i = 0; i < s->info->max_seqs; i++) {
        const struct seq *q = &s->seq[i];
        if (!q->req) continue;
        bool full = request_room(q->req) == 0; /* its client does not read */
        pre += q->phase == SEQ_PREFILL;
        dec += q->phase == SEQ_DECODE && !full;
        rest += q->phase == SEQ_DECODE && full;
        tok += q->phase == SEQ_PREFILL ? q->req->ask.n_prompt : 0;
    }
    s->prefill_tok = tok;
    struct prefix_count kept = prefix_count(s->core.prefix);
    atomic_store_explicit(&s->stats.pages_cached, kept.n_page, memory_order_relaxed);
    atomic_store_explicit(&s->stats.swapped, swap_held(s->swap), memory_order_relaxed);
    atomic_store_explicit(&s->stats.pages_idle, kvpool_n_idle(s->core.pool), memory_order_relaxed);
    atomic_store_explicit(&s->stats.prefix_evicted, kept.evicted, memory_order_relaxed);
    count_pages(s);
    atomic_store_explicit(&s->stats.prefilling, pre, memory_order_relaxed);
    atomic_store_explicit(&s->stats.decoding, dec, memory_order_relaxed);
    atomic_store_explicit(&s->stats.resting, rest, memory_order_relaxed);
    atomic_store_explicit(&s->stats.oldest_waiting_ns, oldest_wait(s), memory_order_relaxed);
}

void accounting_check_quick(const struct scheduler *s)
{
    int held = 0, promised = 0;
    for (int i = 0; i < s->info->max_seqs; i++) {
        const struct seq *q = &s->seq[i];
        CHECK((q->req != NULL) == (q->phase != SEQ_FREE));
        CHECK(q->req || (q->map.n_held == 0 && q->promised == 0));
        CHECK(q->phase != SEQ_DECODE || q->req->queue.first_tok_ns >= q->req->queue.submit_ns);
        held += q->map.n_held;
        promised += q->promised;
    }
    CHECK(promised == s->core.promised && promised <= s->core.lim.n_page);
    CHECK(held >= kvpool_n_used(s->core.pool)); /* more where pages are shared */
    CHECK(s->core.prefix || held + kvpool_n_free(s->core.pool) == kvpool_n_pages(s->core.pool));
}

void accounting_check(const struct scheduler *s)
{
    accounting_check_quick(s);
    kvpool_check(s->core.pool);
    int *owned = calloc((size_t)s->info->n_page, sizeof *owned);
    CHECK(owned);
    for (int i = 0; i < s->info->max_seqs; i++) {
        const struct kvmap *m = &s->seq[i].map;
        for (int64_t k = 0; k < (int64_t)m->n_layer * m->stride; k++) {
            CHECK(page_id(m->page[k]) < s->info->n_page);
            if (m->page[k] >= 0) owned[page_id(m->page[k])]++;
        }
    }
    for (int i = 0; i < s->info->n_page; i++)
        CHECK(owned[i] == kvpool_owners(s->core.pool, i) &&
              (owned[i] <= 1 + s->info->kv_codes || s->core.prefix));
    if (s->core.prefix) prefix_check(s->core.prefix);
    free(owned);
    swap_check(s->swap);
    int n = 0, key[ADMIT_KEYS] = {0};
    LIST_EACH (it, &s->waiting) {
        const struct request *r = LIST_ITEM(it, struct request, queue.node);
        CHECK(r->queue.seq == NULL && r->queue.wait_ns > 0);
        key[r->ask.key_id % ADMIT_KEYS]++;
        n++;
    }
    CHECK(n + (int)mailbox_len(s->inbox) == atomic_load(&s->stats.waiting) && n == s->n_by_age);
    int64_t since = 0;
    LIST_EACH (it, &s->by_age) {
        const struct request *r = LIST_ITEM(it, struct request, queue.wait_node);
        CHECK(r->queue.wait_ns >= since);
        since = r->queue.wait_ns;
        n--;
    }
    CHECK(n == 0);
    for (int k = 0; k < ADMIT_KEYS; k++) CHECK(key[k] == s->key_waiting[k]);
}
