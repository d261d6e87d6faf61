/* chart: configs. */
#include "server/text/grammar/chart.h"

#include <stdlib.h>

void chart_init(struct chart *c, struct pool *pool, struct rx *x, const struct rtn *g, uint32_t threads_max)
{
    *c = (struct chart){.pool = pool, .x = x, .g = g, .threads_max = threads_max};
    chart_reset(c);
}

void chart_fini(struct chart *c)
{
    void *all[] = {c->row,          c->kernel, c->exit, c->config, c->thread, c->next, c->row_table,
                   c->config_table, c->item,   c->seen, c->lexeme, c->wait,   c->out,  c->ended};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    *c = (struct chart){0};
}

/* --- configs */

static int compare_threads(const void *a, const void *b)
{
    const struct chart_thread *p = a, *q = b;
    if (p->row != q->row) return p->row < q->row ? -1 : 1;
    if (p->lexeme != q->lexeme) return p->lexeme < q->lexeme ? -1 : 1;
    return (p->at > q->at) - (p->at < q->at);
}

static bool table_grow(struct chart *c)
{
    size_t cap = c->cap_config_table ? c->cap_config_table * 2 : 1024;
    if (!pool_grow(c->pool, &c->config_table, &c->cap_config_table, cap, sizeof *c->config_table))
        return false;
    memset(c->config_table, 0, c->cap_config_table * sizeof *c->config_table);
    for (size_t i = 0; i < c->n_config; i++) {
        size_t at = c->config[i].hash & (c->cap_config_table - 1);
        while (c->config_table[at]) at = (at + 1) & (c->cap_config_table - 1);
        c->config_table[at] = (uint32_t)i + 1;
    }
    return true;
}

/* The config of the threads in c->out. */
static uint32_t intern(struct chart *c, bool accept)
{
    if (c->n_out > 1) qsort(c->out, c->n_out, sizeof *c->out, compare_threads);
    size_t n = 0;
    for (size_t i = 0; i < c->n_out; i++)
        if (n == 0 || compare_threads(&c->out[n - 1], &c->out[i]) != 0) c->out[n++] = c->out[i];
    if (n > c->threads_max) pool_fail(c->pool, ERR_UNSUPPORTED, "threads");
    uint64_t hash = pool_hash(c->out, n * sizeof *c->out, accept);
    if ((c->n_config + 1) * 2 > c->cap_config_table && !table_grow(c)) return CHART_DEAD;
    size_t at = hash & (c->cap_config_table - 1);
    for (; c->config_table[at]; at = (at + 1) & (c->cap_config_table - 1)) {
        const struct chart_config *f = &c->config[c->config_table[at] - 1];
        if (f->hash == hash && f->n_thread == n && f->accept == accept &&
            (n == 0 || memcmp(c->thread + f->thread, c->out, n * sizeof *c->out) == 0))
            return c->config_table[at] - 1;
    }
    if (!pool_grow(c->pool, &c->config, &c->cap_config, c->n_config + 1, sizeof *c->config) ||
        !pool_grow(c->pool, &c->thread, &c->cap_thread, c->n_thread + n, sizeof *c->out))
        return CHART_DEAD;
    if (n) memcpy(c->thread + c->n_thread, c->out, n * sizeof *c->out);
    c->config[c->n_config] = (struct chart_config){.hash = hash,
                                                   .thread = (uint32_t)c->n_thread,
                                                   .n_thread = (uint32_t)n,
                                                   .accept = accept,
                                                   .part = CHART_UNKNOWN};
    c->n_thread += n;
    c->config_table[at] = (uint32_t)c->n_config + 1;
    return (uint32_t)c->n_config++;
}

void chart_reset(struct chart *c)
{
    c->n_row = c->n_kernel = c->n_exit = c->n_config = c->n_thread = c->n_next = c->n_out = 0;
    if (c->cap_row_table) memset(c->row_table, 0, c->cap_row_table * sizeof *c->row_table);
    if (c->cap_config_table) memset(c->config_table, 0, c->cap_config_table * sizeof *c->config_table);
    intern(c, false); /* CHART_DEAD */
}

static void push(struct chart *c, uint32_t row, uint32_t lexeme, uint32_t at)
{
    if (pool_grow(c->pool, &c->out, &c->cap_out, c->n_out + 1, sizeof *c->out))
        c->out[c->n_out++] = (struct chart_thread){row, lexeme, at};
}

/* The row that begins here, if there is one. */
static bool push_row(struct chart *c, uint32_t row)
{
    if (row == CHART_UNKNOWN) return false;
    if (c->row[row].n_lexeme) push(c, row, CHART_UNKNOWN, 0);
    return c->row[row].accept;
}

uint32_t chart_begin(struct chart *c)
{
    c->n_out = 0;
    bool accept = push_row(c, chart_row_first(c));
    return c->pool->fail == OK ? intern(c, accept) : CHART_DEAD;
}

/* --- steps */

static size_t first_exit(const struct chart *c, const struct chart_row *r, uint32_t lexeme)
{
    size_t lo = r->lexeme, hi = r->lexeme + r->n_lexeme;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (c->exit[mid].id < lexeme)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static void read_byte(struct chart *c, uint32_t row, uint32_t lexeme, uint32_t at, uint8_t b)
{
    uint32_t to = rx_step(c->x, at, b);
    if (to == RX_EMPTY) return;
    if (to != RX_EPS) push(c, row, lexeme, to);
    if (!rx_nullable(c->x, to)) return;
    const struct chart_row *r = &c->row[row];
    for (size_t i = first_exit(c, r, lexeme); i < r->lexeme + r->n_lexeme && c->exit[i].id == lexeme; i++)
        if (pool_grow(c->pool, &c->ended, &c->cap_ended, c->n_ended + 1, sizeof *c->ended))
            c->ended[c->n_ended++] = c->exit[i].then;
}

static void read_first(struct chart *c, uint32_t row, uint8_t b)
{
    const struct chart_row *r = &c->row[row];
    for (size_t i = r->lexeme; i < r->lexeme + r->n_lexeme && c->pool->fail == OK; i++)
        if (i == r->lexeme || c->exit[i].id != c->exit[i - 1].id)
            read_byte(c, row, c->exit[i].id, c->exit[i].id, b);
}

static uint32_t compute(struct chart *c, uint32_t config, uint8_t b)
{
    struct chart_config f = c->config[config];
    c->n_out = c->n_ended = 0;
    pool_step(c->pool, f.n_thread);
    for (uint32_t i = 0; i < f.n_thread && c->pool->fail == OK; i++) {
        struct chart_thread t = c->thread[f.thread + i];
        if (t.lexeme == CHART_UNKNOWN)
            read_first(c, t.row, b);
        else
            read_byte(c, t.row, t.lexeme, t.at, b);
    }
    bool accept = c->n_ended > 0 && push_row(c, chart_row(c, c->ended, c->n_ended));
    return c->pool->fail == OK ? intern(c, accept) : CHART_DEAD;
}

static uint32_t row_part(struct chart *c, uint32_t row)
{
    if (c->row[row].part != CHART_UNKNOWN) return c->row[row].part;
    struct chart_row r = c->row[row];
    uint32_t part = CHART_UNKNOWN;
    for (size_t i = r.lexeme; i < r.lexeme + r.n_lexeme; i++) {
        const struct rx_state *s = rx_state(c->x, c->exit[i].id);
        if (!s) return CHART_UNKNOWN;
        part = part == CHART_UNKNOWN ? s->part : rx_part_product(c->x, part, s->part);
        if (part == CHART_UNKNOWN) return part;
    }
    c->row[row].part = part;
    return part;
}

bool chart_open(struct chart *c, uint32_t config)
{
    struct chart_config f = c->config[config];
    if (f.part != CHART_UNKNOWN) return true;
    uint32_t part = CHART_UNKNOWN;
    for (uint32_t i = 0; i < f.n_thread; i++) {
        struct chart_thread t = c->thread[f.thread + i];
        const struct rx_state *s = t.lexeme == CHART_UNKNOWN ? NULL : rx_state(c->x, t.at);
        uint32_t p = t.lexeme == CHART_UNKNOWN ? row_part(c, t.row) : s ? s->part : CHART_UNKNOWN;
        if (p == CHART_UNKNOWN) return false;
        part = part == CHART_UNKNOWN ? p : rx_part_product(c->x, part, p);
        if (part == CHART_UNKNOWN) return false;
    }
    if (f.n_thread == 0) {
        const struct rx_state *s = rx_state(c->x, RX_EMPTY);
        if (!s) return false;
        part = s->part;
    }
    unsigned n = c->x->part[part]->n;
    if (!pool_grow(c->pool, &c->next, &c->cap_next, c->n_next + n, sizeof *c->next)) return false;
    for (unsigned k = 0; k < n; k++) c->next[c->n_next + k] = f.n_thread ? CHART_UNKNOWN : CHART_DEAD;
    c->config[config].next = (uint32_t)c->n_next;
    c->config[config].part = part;
    c->n_next += n;
    return true;
}

uint32_t chart_step_class(struct chart *c, uint32_t config, unsigned cls)
{
    if (!chart_open(c, config)) return CHART_DEAD;
    size_t at = c->config[config].next + cls;
    if (c->next[at] != CHART_UNKNOWN) return c->next[at];
    uint32_t to = compute(c, config, c->x->part[c->config[config].part]->rep[cls]);
    if (c->pool->fail != OK) return CHART_DEAD;
    c->next[at] = to;
    return to;
}

uint32_t chart_after(struct chart *c, const struct chart_thread *t)
{
    struct chart_row r = c->row[t->row];
    c->n_out = c->n_ended = 0;
    for (size_t i = first_exit(c, &r, t->lexeme); i < r.lexeme + r.n_lexeme && c->exit[i].id == t->lexeme;
         i++)
        if (pool_grow(c->pool, &c->ended, &c->cap_ended, c->n_ended + 1, sizeof *c->ended))
            c->ended[c->n_ended++] = c->exit[i].then;
    bool accept = c->pool->fail == OK && push_row(c, chart_row(c, c->ended, c->n_ended));
    return c->pool->fail == OK ? intern(c, accept) : CHART_DEAD;
}

uint32_t chart_config(struct chart *c, const struct chart_thread *t, size_t n, bool accept)
{
    c->n_out = 0;
    for (size_t i = 0; i < n; i++) push(c, t[i].row, t[i].lexeme, t[i].at);
    return c->pool->fail == OK ? intern(c, accept) : CHART_DEAD;
}

uint32_t chart_step(struct chart *c, uint32_t config, uint8_t b)
{
    if (!chart_open(c, config)) return CHART_DEAD;
    return chart_step_class(c, config, c->x->part[c->config[config].part]->cls[b]);
}
