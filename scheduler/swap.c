/* swap: see swap.h. A kvpool and kvmaps of its own, over host memory: the same rules, other bytes. */
#include "scheduler/swap.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"

struct swapped {
    struct kvmap map;
    bool taken;
    int pos;
    int64_t last_tok_ns;
};
struct swap {
    int64_t page_bytes;
    unsigned char *mem;
    struct kvpool *pool; /* NULL: no swap space */
    int n;               /* sequences that may be swapped at once */
    struct swapped *seq;
    double page_ms; /* one page, one way; measured */
};

static const double FIRST_GUESS_BYTES_PER_MS = 4e6;

enum err swap_open(struct swap **out, const struct engine_info *m, int64_t bytes, struct err_note *note)
{
    struct swap *w = *out = calloc(1, sizeof *w);
    if (!w) return err_set(note, ERR_NOMEM, NULL, "no memory for the scheduler");
    w->page_bytes = m->page_bytes;
    w->page_ms = (double)m->page_bytes / FIRST_GUESS_BYTES_PER_MS;
    int64_t n = bytes / m->page_bytes;
    if (n > INT32_MAX) n = INT32_MAX;
    if (n == 0) return OK;
    w->mem = malloc((size_t)(n * m->page_bytes));
    w->pool = kvpool_new((int)n);
    w->seq = calloc((size_t)m->max_seqs, sizeof *w->seq);
    bool whole = w->mem && w->pool && w->seq;
    for (; whole && w->n < m->max_seqs; w->n++)
        whole = kvmap_init(&w->seq[w->n].map, m->n_layer, blocks_of(m->max_len));
    if (whole) return OK;
    swap_close(w);
    *out = NULL;
    return err_set(note, ERR_NOMEM, "--swap-space-bytes", "no memory for %lld pages of swap space",
                   (long long)n);
}

void swap_close(struct swap *w)
{
    if (!w) return;
    for (int i = 0; i < w->n; i++) kvmap_fini(&w->seq[i].map);
    kvpool_free(w->pool);
    free(w->mem);
    free(w->seq);
    free(w);
}

double swap_ms(const struct swap *w, int n_pages)
{
    return w->pool && n_pages <= kvpool_n_free(w->pool) ? 2 * w->page_ms * n_pages : INFINITY;
}

static unsigned char *bytes_of(const struct swap *w, const struct swapped *h, int64_t at)
{
    const int32_t entry = h->map.page[at];
    return page_has_codes(entry) ? w->mem + page_half(entry) * (w->page_bytes / 2)
                                 : w->mem + entry * w->page_bytes;
}

static void forget(struct swap *w, struct swapped *h)
{
    kvmap_give_all(&h->map, w->pool);
    h->taken = false;
}

static void learn(struct swap *w, int64_t t0, int n)
{
    if (n > 0) w->page_ms += (clock_ms_since(t0) / n - w->page_ms) / 4;
}

/* The maps are alike, so a block stands at the same place in both; halves that stood alone, behind shared
 * ones, come together on the way. */
bool swap_out(struct swap *w, struct engine *e, struct seq *q)
{
    struct swapped *h = NULL;
    for (int i = 0; i < w->n && !h; i++) h = w->seq[i].taken ? NULL : &w->seq[i];
    if (!h || q->map.n_held > kvpool_n_free(w->pool)) return false;
    h->taken = true;
    int64_t t0 = clock_ns();
    for (int l = 0; l < q->map.n_layer; l++)
        for (int b = 0; b < q->map.stride; b++) {
            int64_t at = (int64_t)l * q->map.stride + b;
            if (q->map.page[at] < 0) continue;
            if (!kvmap_take(&h->map, w->pool, l, b, b + 1, page_has_codes(q->map.page[at])) ||
                engine_page_read(e, q->map.page[at], bytes_of(w, h, at))) {
                forget(w, h);
                return false;
            }
        }
    learn(w, t0, h->map.n_held);
    h->pos = q->pos;
    h->last_tok_ns = q->last_tok_ns;
    q->req->queue.swapped = h;
    return true;
}

bool swap_in(struct swap *w, struct engine *e, struct kvpool *pool, struct seq *q, struct request *r)
{
    struct swapped *h = r->queue.swapped;
    enum err err = OK;
    int64_t t0 = clock_ns();
    for (int l = 0; l < h->map.n_layer && !err; l++)
        for (int b = 0; b < h->map.stride && !err; b++) {
            int64_t at = (int64_t)l * h->map.stride + b;
            if (h->map.page[at] < 0) continue;
            CHECK(kvmap_take(&q->map, pool, l, b, b + 1, page_has_codes(h->map.page[at]))); /* promised */
            err = engine_page_write(e, q->map.page[at], bytes_of(w, h, at));
        }
    if (err)
        kvmap_give_all(&q->map, pool);
    else
        learn(w, t0, h->map.n_held);
    q->pos = h->pos;
    q->last_tok_ns = h->last_tok_ns;
    swap_drop(w, r);
    return !err;
}

int swap_pages(const struct request *r)
{
    const struct swapped *h = r->queue.swapped;
    return h ? h->map.n_held : 0;
}

void swap_drop(struct swap *w, struct request *r)
{
    if (r->queue.swapped) forget(w, r->queue.swapped);
    r->queue.swapped = NULL;
}

void swap_check(const struct swap *w)
{
    int held = 0;
    for (int i = 0; i < w->n; i++) held += w->seq[i].map.n_held;
    if (!w->pool) return;
    kvpool_check(w->pool);
    CHECK(held + kvpool_n_free(w->pool) == kvpool_n_pages(w->pool));
}

int swap_held(const struct swap *w)
{
    int n = 0;
    for (int i = 0; w && i < w->n; i++) n += w->seq[i].taken;
    return n;
}
