/* chart: rows. */
#include <stdlib.h>

#include "server/text/grammar/chart.h"

#define SELF (UINT32_MAX - 1) /* the row that is being made */
#define ROOT (UINT32_MAX - 2) /* origin of the whole text's rule */

static int compare_items(const void *a, const void *b)
{
    const struct chart_item *p = a, *q = b;
    if (p->state != q->state) return p->state < q->state ? -1 : 1;
    return (p->origin > q->origin) - (p->origin < q->origin);
}

static int compare_exits(const void *a, const void *b)
{
    const struct chart_exit *p = a, *q = b;
    if (p->id != q->id) return p->id < q->id ? -1 : 1;
    return compare_items(&p->then, &q->then);
}

static uint64_t item_hash(struct chart_item i)
{
    uint64_t h = ((uint64_t)i.state << 32 | i.origin) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

static bool seen_grow(struct chart *c)
{
    size_t cap = c->cap_seen ? c->cap_seen * 2 : 64;
    if (!pool_grow(c->pool, &c->seen, &c->cap_seen, cap, sizeof *c->seen)) return false;
    memset(c->seen, 0, c->cap_seen * sizeof *c->seen);
    for (size_t i = 0; i < c->n_item; i++) {
        size_t at = item_hash(c->item[i]) & (c->cap_seen - 1);
        while (c->seen[at]) at = (at + 1) & (c->cap_seen - 1);
        c->seen[at] = (uint32_t)i + 1;
    }
    return true;
}

static void add_item(struct chart *c, uint32_t state, uint32_t origin)
{
    struct chart_item it = {state, origin};
    if (c->n_item >= c->threads_max) pool_fail(c->pool, ERR_UNSUPPORTED, "threads");
    if ((c->n_item + 1) * 2 > c->cap_seen && !seen_grow(c)) return;
    size_t at = item_hash(it) & (c->cap_seen - 1);
    for (; c->seen[at]; at = (at + 1) & (c->cap_seen - 1))
        if (compare_items(&c->item[c->seen[at] - 1], &it) == 0) return;
    if (!pool_grow(c->pool, &c->item, &c->cap_item, c->n_item + 1, sizeof it)) return;
    c->item[c->n_item++] = it;
    c->seen[at] = (uint32_t)c->n_item;
}

static void add_exit(struct chart *c, struct chart_exit **v, size_t *n, size_t *cap, struct chart_exit e)
{
    if (pool_grow(c->pool, v, cap, *n + 1, sizeof e)) (*v)[(*n)++] = e;
}

/* Rule is complete: whatever waits for it in its origin goes on. */
static void complete(struct chart *c, uint32_t rule, uint32_t origin)
{
    const struct chart_row *r = &c->row[origin];
    size_t lo = r->wait, hi = r->wait + r->n_wait;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (c->exit[mid].id < rule)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo < r->wait + r->n_wait && c->exit[lo].id == rule && c->pool->fail == OK; lo++)
        add_item(c, c->exit[lo].then.state, c->exit[lo].then.origin);
}

static void follow(struct chart *c, struct chart_item it)
{
    const struct rtn *g = c->g;
    for (uint32_t i = 0; i < g->state[it.state].n; i++) {
        const struct rtn_edge *e = &g->edge[g->state[it.state].first + i];
        struct chart_exit x = {e->id, {e->to, it.origin}};
        switch (e->label) {
        case RTN_FREE:
            add_item(c, e->to, it.origin);
            break;
        case RTN_LEXEME:
            add_exit(c, &c->lexeme, &c->n_lexeme, &c->cap_lexeme, x);
            break;
        default:
            add_exit(c, &c->wait, &c->n_wait, &c->cap_wait, x);
            add_item(c, rtn_start(g, e->id), SELF);
            if (g->rule[e->id].nullable) add_item(c, e->to, it.origin);
            break;
        }
    }
}

/* All items that follow from the kernel without reading. */
static bool close_row(struct chart *c, const struct chart_item *kernel, size_t n)
{
    bool accept = false;
    c->n_item = c->n_lexeme = c->n_wait = 0;
    if (c->cap_seen) memset(c->seen, 0, c->cap_seen * sizeof *c->seen);
    for (size_t i = 0; i < n; i++) add_item(c, kernel[i].state, kernel[i].origin);
    for (size_t i = 0; i < c->n_item && pool_step(c->pool, 1); i++) {
        struct chart_item it = c->item[i];
        follow(c, it);
        if (!c->g->state[it.state].accept || it.origin == SELF)
            continue; /* an empty rule went on when it was called */
        if (it.origin == ROOT)
            accept = true;
        else
            complete(c, c->g->state[it.state].rule, it.origin);
    }
    return accept;
}

/* Takes the row being made as their own origin where an exit says SELF, and copies them behind all exits. */
static uint32_t keep_exits(struct chart *c, struct chart_exit *v, size_t n, uint32_t self)
{
    for (size_t i = 0; i < n; i++)
        if (v[i].then.origin == SELF) v[i].then.origin = self;
    if (n > 1) qsort(v, n, sizeof *v, compare_exits);
    size_t at = c->n_exit;
    if (!pool_grow(c->pool, &c->exit, &c->cap_exit, at + n, sizeof *v)) return 0;
    if (n) memcpy(c->exit + at, v, n * sizeof *v);
    c->n_exit += n;
    return (uint32_t)at;
}

static bool table_grow(struct chart *c)
{
    size_t cap = c->cap_row_table ? c->cap_row_table * 2 : 256;
    if (!pool_grow(c->pool, &c->row_table, &c->cap_row_table, cap, sizeof *c->row_table)) return false;
    memset(c->row_table, 0, c->cap_row_table * sizeof *c->row_table);
    for (size_t i = 0; i < c->n_row; i++) {
        size_t at = c->row[i].hash & (c->cap_row_table - 1);
        while (c->row_table[at]) at = (at + 1) & (c->cap_row_table - 1);
        c->row_table[at] = (uint32_t)i + 1;
    }
    return true;
}

static uint32_t make_row(struct chart *c, const struct chart_item *kernel, size_t n, uint64_t hash)
{
    uint32_t id = (uint32_t)c->n_row;
    bool accept = close_row(c, kernel, n);
    if (c->pool->fail != OK || !pool_grow(c->pool, &c->row, &c->cap_row, c->n_row + 1, sizeof *c->row) ||
        !pool_grow(c->pool, &c->kernel, &c->cap_kernel, c->n_kernel + n, sizeof *kernel))
        return CHART_UNKNOWN;
    struct chart_row r = {.hash = hash,
                          .kernel = (uint32_t)c->n_kernel,
                          .n_kernel = (uint32_t)n,
                          .accept = accept,
                          .part = CHART_UNKNOWN};
    memcpy(c->kernel + c->n_kernel, kernel, n * sizeof *kernel);
    c->n_kernel += n;
    r.lexeme = keep_exits(c, c->lexeme, c->n_lexeme, id);
    r.n_lexeme = (uint32_t)c->n_lexeme;
    r.wait = keep_exits(c, c->wait, c->n_wait, id);
    r.n_wait = (uint32_t)c->n_wait;
    if (c->pool->fail != OK) return CHART_UNKNOWN;
    c->row[c->n_row++] = r;
    return id;
}

uint32_t chart_row(struct chart *c, struct chart_item *kernel, size_t n)
{
    if (n > 1) qsort(kernel, n, sizeof *kernel, compare_items);
    size_t w = 0;
    for (size_t i = 0; i < n; i++)
        if (w == 0 || compare_items(&kernel[w - 1], &kernel[i]) != 0) kernel[w++] = kernel[i];
    uint64_t hash = pool_hash(kernel, w * sizeof *kernel, 11);
    if ((c->n_row + 1) * 2 > c->cap_row_table && !table_grow(c)) return CHART_UNKNOWN;
    size_t at = hash & (c->cap_row_table - 1);
    for (; c->row_table[at]; at = (at + 1) & (c->cap_row_table - 1)) {
        const struct chart_row *r = &c->row[c->row_table[at] - 1];
        if (r->hash == hash && r->n_kernel == w &&
            memcmp(c->kernel + r->kernel, kernel, w * sizeof *kernel) == 0)
            return c->row_table[at] - 1;
    }
    uint32_t id = make_row(c, kernel, w, hash);
    if (id != CHART_UNKNOWN) c->row_table[at] = id + 1;
    return id;
}

uint32_t chart_row_first(struct chart *c)
{
    struct chart_item first = {rtn_start(c->g, 0), ROOT};
    return chart_row(c, &first, 1);
}
