/* prefix: see prefix.h. What a prompt in prefill brings in. Its nodes age from the beginning, but nobody
 * finds them before all layers are done and the route is known; what is there by then already, from another
 * prompt, stays and takes what it lacks. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "scheduler/prefix_internal.h"

static float *sums_at(const struct prefix *p, float *sum, int layer)
{
    return sum + (int64_t)layer * p->c.n_sum;
}

/* What the engine finds in the slot's sums: the hit's, or what the slot's last run left of them. */
static void take_sums(struct prefix *p, struct prefix_fill *f, const struct prefix_ask *ask,
                      const struct prefix_hit *h, int sum_layers)
{
    const struct prefix_node *n = h->node;
    while (n && n->block > p->sum_block) n = n->up;
    for (int l = 0; l < p->c.n_layer; l++) {
        if (h->node) {
            f->has_sum[l] = n->block == p->sum_block && n->sum && n->has_sum[l];
            if (f->has_sum[l])
                memcpy(sums_at(p, f->sum, l), sums_at(p, n->sum, l), (size_t)p->c.n_sum * sizeof(float));
        } else if (l >= sum_layers) {
            f->has_sum[l] = ask->route[l] == ROUTE_OPEN; /* the engine will write it */
        }
    }
}

void prefix_begin(struct prefix *p, int slot, const struct prefix_ask *ask, const struct prefix_hit *h,
                  int sum_layers)
{
    struct prefix_fill *f = &p->fill[slot];
    prefix_drop(p, slot);
    if (p->c.n_sum) take_sums(p, f, ask, h, sum_layers);
    int most = prefix_blocks_most(&p->c), n = ask->n_tok / PAGE_TOK;
    if (h->node) memcpy(f->due, h->node->route, (size_t)p->c.n_layer);
    f->on = true;
    f->from = h->n_block;
    f->key_id = ask->key_id;
    f->salt = ask->salt ? strdup(ask->salt) : NULL;
    if (ask->salt && !f->salt) return;
    struct hash128 hash = h->node ? h->node->hash : prefix_hash_first(p, ask->key_id, ask->salt);
    struct prefix_node *up = h->node;
    for (int b = f->from; b < n && b < most; b++) {
        const int32_t *tok = ask->tok + (int64_t)b * PAGE_TOK;
        /* what is evicted for it is older than these and those before them: so there must be another */
        struct prefix_node *m = p->free || p->n_used > f->from + f->n ? prefix_node_new(p, up) : NULL;
        if (!m) break;
        m->hash = hash = prefix_hash_page(p, hash, tok);
        memcpy(m->tok, tok, sizeof m->tok);
        m->fill = f;
        f->node[f->n++] = m;
        prefix_node_touch(p, m); /* those before it stay younger */
        up = m;
    }
}

const uint8_t *prefix_due(const struct prefix *p, int slot) { return p->fill[slot].due; }

float *prefix_sums(struct prefix *p, int slot) { return p->c.n_sum ? p->fill[slot].sum : NULL; }

void prefix_note(struct prefix *p, int slot, int layer, int block0, int block1, const struct kvmap *map)
{
    struct prefix_fill *f = &p->fill[slot];
    for (int b = block0 > f->from ? block0 : f->from; b < block1 && b < f->from + f->n; b++) {
        while (kvpool_n_kept(p->c.pool) >= p->c.max_pages && prefix_give_up_one(p)) {
        }
        if (b >= f->from + f->n) return;
        struct prefix_node *n = f->node[b - f->from];
        int32_t page = map->page[(int64_t)layer * map->stride + b];
        CHECK(page >= 0 && n->page[layer] < 0);
        kvpool_keep(p->c.pool, page_id(page));
        n->page[layer] = page;
    }
}

/* --- commit */

static struct prefix_node *twin(const struct prefix *p, const struct prefix_node *n,
                                const struct prefix_node *up, const struct prefix_fill *f)
{
    for (struct prefix_node *m = p->bucket[n->hash.lo & p->mask]; m; m = m->next) {
        if (m->up != up || m->block != n->block || memcmp(m->tok, n->tok, sizeof m->tok) != 0 ||
            memcmp(m->route, n->route, (size_t)p->c.n_layer) != 0)
            continue;
        if (up || (m->key_id == f->key_id && prefix_same_salt(m->salt, f->salt))) return m;
    }
    return NULL;
}

static void keep_sums(struct prefix *p, struct prefix_node *n, const struct prefix_fill *f)
{
    if (!p->c.n_sum || n->block != p->sum_block) return;
    if (!n->sum) {
        n->sum = calloc((size_t)p->c.n_layer * (size_t)p->c.n_sum, sizeof *n->sum);
        n->has_sum = calloc((size_t)p->c.n_layer, 1);
    }
    for (int l = 0; n->sum && n->has_sum && l < p->c.n_layer; l++) {
        if (!f->has_sum[l] || n->has_sum[l]) continue;
        n->has_sum[l] = 1;
        memcpy(sums_at(p, n->sum, l), sums_at(p, f->sum, l), (size_t)p->c.n_sum * sizeof(float));
    }
}

/* Pages that the one lacks and the other has. */
static void fill_up(struct prefix *p, struct prefix_node *to, struct prefix_node *from)
{
    for (int l = 0; l < p->c.n_layer; l++)
        if (to->page[l] < 0) {
            to->page[l] = from->page[l];
            from->page[l] = -1;
        }
    to->whole = true;
}

static bool has_sparse(const struct prefix *p, const struct prefix_node *n)
{
    return memchr(n->route, ROUTE_SPARSE, (size_t)p->c.n_layer) != NULL;
}

static void settle_loose(struct prefix *p, struct prefix_node *n)
{
    if (p->c.streams && n->whole && !n->resume && n->block >= p->c.sink_blocks && list_empty(&n->loose) &&
        has_sparse(p, n))
        list_push_front(&p->loose, &n->loose);
}

static struct prefix_node *commit_one(struct prefix *p, struct prefix_fill *f, struct prefix_node *n,
                                      struct prefix_node *up, const uint8_t *route)
{
    if (n->block < p->c.common_blocks)
        memset(n->route, ROUTE_OPEN, (size_t)p->c.n_layer);
    else
        memcpy(n->route, route, (size_t)p->c.n_layer);
    n->whole = true;
    n->fill = NULL;
    if (n->up != up) { /* the page before was there already */
        if (n->up) n->up->n_under--;
        if (up) up->n_under++;
        n->up = up;
    }
    struct prefix_node *old = twin(p, n, up, f);
    if (old) {
        fill_up(p, old, n);
        return old;
    }
    if (!up) {
        n->key_id = f->key_id;
        n->salt = f->salt;
        f->salt = NULL;
    }
    prefix_node_index(p, n);
    return n;
}

void prefix_commit(struct prefix *p, int slot, const uint8_t *route)
{
    struct prefix_fill *f = &p->fill[slot];
    struct prefix_node *up = f->n > 0 ? f->node[0]->up : NULL, *branch = up, *last = NULL;
    for (int i = 0; i < f->n; i++) {
        struct prefix_node *n = f->node[i];
        last = commit_one(p, f, n, up, route);
        if (last != n) branch = last;
        keep_sums(p, last, f);
        settle_loose(p, last);
        up = last;
    }
    for (int i = f->n - 1; i >= 0; i--) /* copies of what was there: they have no children any more */
        if (f->node[i]->n_under == 0 && f->node[i] != last) prefix_node_free(p, f->node[i]);
    if (last) {
        prefix_node_touch(p, last);
        prefix_node_mark(p, last, 1); /* and one before: a router wants to see its last rows anew */
        if (branch != last) prefix_node_mark(p, branch, 0);
    }
    f->n = 0;
    prefix_drop(p, slot);
}

void prefix_drop(struct prefix *p, int slot)
{
    struct prefix_fill *f = &p->fill[slot];
    while (f->n > 0) prefix_node_free(p, f->node[--f->n]);
    free(f->salt);
    f->salt = NULL;
    f->on = false;
}
