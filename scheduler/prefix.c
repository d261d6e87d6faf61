/* prefix: see prefix.h. What finds and shares; the tree itself is prefix_node.c's. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "scheduler/prefix_internal.h"

enum {
    NODES_PER_PAGE_SET = 4 /* room for nodes that gave their sparse layers' pages up */,
    NODES_LEAST = 64
};

/* --- open */

static bool alloc_fills(struct prefix *p)
{
    const struct prefix_conf *c = &p->c;
    size_t L = (size_t)c->n_layer;
    p->fill = calloc((size_t)c->max_seqs, sizeof *p->fill);
    for (int i = 0; p->fill && i < c->max_seqs; i++) {
        p->fill[i].node = calloc((size_t)c->max_blocks, sizeof *p->fill[i].node);
        p->fill[i].has_sum = calloc(L, 1);
        p->fill[i].due = calloc(L, 1);
        p->fill[i].sum = calloc(L * (size_t)c->n_sum + 1, sizeof(float));
        if (!p->fill[i].node || !p->fill[i].has_sum || !p->fill[i].due || !p->fill[i].sum) return false;
    }
    return p->fill != NULL;
}

enum err prefix_open(struct prefix **out, const struct prefix_conf *conf)
{
    struct prefix *p = *out = calloc(1, sizeof *p);
    if (!p) return ERR_NOMEM;
    size_t L = (size_t)conf->n_layer;
    p->c = *conf;
    p->n_node = prefix_blocks_most(conf) * NODES_PER_PAGE_SET + NODES_LEAST;
    p->sum_block = (conf->sum_tok + PAGE_TOK - 1) / PAGE_TOK - 1;
    for (p->mask = 64; p->mask < (uint64_t)p->n_node; p->mask *= 2) {
    }
    list_init(&p->age);
    list_init(&p->loose);
    hash_random_key(p->key);
    p->node = calloc((size_t)p->n_node, sizeof *p->node);
    p->page = calloc((size_t)p->n_node * L, sizeof *p->page);
    p->route = calloc((size_t)p->n_node * L, 1);
    p->bucket = calloc((size_t)p->mask, sizeof(struct prefix_node *));
    p->mask--;
    p->hash = calloc((size_t)conf->max_blocks, sizeof *p->hash);
    if (!p->node || !p->page || !p->route || !p->bucket || !p->hash || !alloc_fills(p)) {
        prefix_close(p);
        *out = NULL;
        return ERR_NOMEM;
    }
    for (int i = p->n_node - 1; i >= 0; i--) {
        struct prefix_node *n = &p->node[i];
        n->page = p->page + (size_t)i * L;
        n->route = p->route + (size_t)i * L;
        n->next = p->free;
        p->free = n;
    }
    return OK;
}

void prefix_close(struct prefix *p)
{
    if (!p) return;
    for (int i = 0; p->fill && i < p->c.max_seqs; i++) {
        prefix_drop(p, i);
        free(p->fill[i].node);
        free(p->fill[i].has_sum);
        free(p->fill[i].due);
        free(p->fill[i].sum);
    }
    while (prefix_give_up_one(p)) {
    }
    void *parts[] = {p->fill, p->node, p->page, p->route, p->bucket, p->hash};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) free(parts[i]);
    free(p);
}

void prefix_make_room(struct prefix *p, int n)
{
    while (p && kvpool_n_free(p->c.pool) < n && kvpool_n_idle(p->c.pool) > 0 && prefix_give_up_one(p)) {
    }
}

/* --- finding */

/* A router decides open bits from the sum of the prompt's first rows: where that was never made, no bit may
 * be open. */
static bool serves(const struct prefix *p, const struct prefix_node *n, const uint8_t *route)
{
    const struct prefix_node *first = n;
    bool open = false;
    for (int l = 0; l < p->c.n_layer; l++) {
        open = open || route[l] == ROUTE_OPEN;
        if (route[l] != ROUTE_OPEN && n->route[l] != ROUTE_OPEN && route[l] != n->route[l]) return false;
    }
    if (!open) return true;
    if (!p->c.n_sum || n->block < p->sum_block) return false;
    while (first->block > p->sum_block) first = first->up;
    for (int l = 0; l < p->c.n_layer; l++)
        if (route[l] == ROUTE_OPEN && !(first->sum && first->has_sum[l])) return false;
    return true;
}

/* The window before the next block is there in sparse layers; all else always is. */
static bool can_resume(const struct prefix *p, const struct prefix_node *n)
{
    int last = n->block - p->c.local_blocks + 2;
    for (; n && n->block >= last && n->block >= p->c.sink_blocks; n = n->up)
        if (!n->whole) return false;
    return true;
}

static bool same_prompt(const struct prefix_node *n, const struct prefix_ask *ask)
{
    const struct prefix_node *first = n;
    for (; n; first = n, n = n->up)
        if (memcmp(n->tok, ask->tok + (int64_t)n->block * PAGE_TOK, sizeof n->tok) != 0) return false;
    return first->key_id == ask->key_id && prefix_same_salt(first->salt, ask->salt);
}

struct prefix_hit prefix_find(struct prefix *p, const struct prefix_ask *ask)
{
    int n = ask->n_tok / PAGE_TOK;
    struct hash128 h = prefix_hash_first(p, ask->key_id, ask->salt);
    for (int b = 0; b < n; b++) p->hash[b] = h = prefix_hash_page(p, h, ask->tok + (int64_t)b * PAGE_TOK);
    for (int b = n - 1; b >= 0; b--)
        for (struct prefix_node *m = p->bucket[p->hash[b].lo & p->mask]; m; m = m->next) {
            if (m->hash.lo != p->hash[b].lo || m->hash.hi != p->hash[b].hi || m->block != b ||
                !serves(p, m, ask->route) || !can_resume(p, m))
                continue;
            if (!same_prompt(m, ask)) continue;
            prefix_node_touch(p, m);
            prefix_node_mark(p, m, 0);
            return (struct prefix_hit){.node = m, .n_block = b + 1};
        }
    return (struct prefix_hit){0};
}

const uint8_t *prefix_route(const struct prefix_hit *h) { return h->node->route; }

void prefix_share(struct prefix *p, const struct prefix_hit *h, const uint8_t *route, struct kvmap *map)
{
    const int window = h->n_block - p->c.local_blocks + 1; /* the next query stands in block n_block */
    const uint8_t *bit = h->node->route[0] == ROUTE_OPEN ? route : h->node->route;
    for (const struct prefix_node *n = h->node; n; n = n->up)
        for (int l = 0; l < p->c.n_layer; l++) {
            if (p->c.streams && bit[l] == ROUTE_SPARSE && n->block >= p->c.sink_blocks && n->block < window)
                continue;
            CHECK(n->page[l] >= 0);
            kvmap_share(map, p->c.pool, l, n->block, n->page[l]);
        }
    kvmap_shared(map);
}

/* --- counts and checks */

struct prefix_count prefix_count(const struct prefix *p)
{
    return p ? (struct prefix_count){.n_node = p->n_used,
                                     .n_page = kvpool_n_kept(p->c.pool),
                                     .evicted = p->evicted}
             : (struct prefix_count){0};
}

void prefix_check(const struct prefix *p)
{
    int n_page = 0, n_node = 0, indexed = 0, filling = 0;
    LIST_EACH (it, &p->age) {
        const struct prefix_node *n = LIST_ITEM(it, struct prefix_node, age);
        int have = 0;
        for (int l = 0; l < p->c.n_layer; l++) have += n->page[l] >= 0;
        CHECK(!n->whole || have == p->c.n_layer);
        CHECK(list_empty(&n->loose) || (n->whole && !n->resume && !n->fill));
        CHECK(n->block == (n->up ? n->up->block + 1 : 0));
        for (const struct prefix_node *o = n->up; o; o = o->up) CHECK(o->n_under > 0);
        n_page += have;
        filling += n->fill != NULL;
        n_node++;
    }
    for (uint64_t b = 0; b <= p->mask; b++)
        for (const struct prefix_node *n = p->bucket[b]; n; n = n->next) {
            CHECK(!n->fill);
            indexed++;
        }
    CHECK(n_node == p->n_used && indexed + filling == n_node && n_page == kvpool_n_keeps(p->c.pool) &&
          kvpool_n_kept(p->c.pool) <= p->c.max_pages);
    for (const struct prefix_node *n = p->free; n; n = n->next) n_node++;
    CHECK(n_node == p->n_node);
}
