/* rx: nodes and their constructors. A constructor brings its node into one form (children flat, sorted and
 * single, classes merged, neutral ones left out), so that the states of an automaton are few. */
#include "server/text/grammar/rx.h"

#include <stdlib.h>

enum { TABLE_FIRST = 1024 };

static uint64_t node_hash(const struct rx *x, const struct rx_node *n, const uint32_t *child)
{
    uint32_t w[4] = {n->kind, n->a, n->b, n->c};
    if (n->kind == RX_KIND_ALT || n->kind == RX_KIND_AND) {
        w[1] = 0;
        return pool_hash(child, n->b * sizeof *child, pool_hash(w, sizeof w, 1));
    }
    if (n->kind == RX_KIND_CLASS) {
        w[1] = 0;
        return pool_hash(&x->set[n->a], sizeof *x->set, pool_hash(w, sizeof w, 2));
    }
    return pool_hash(w, sizeof w, 3);
}

static bool node_equal(const struct rx *x, const struct rx_node *m, const struct rx_node *n,
                       const uint32_t *child)
{
    if (m->kind != n->kind) return false;
    if (n->kind == RX_KIND_ALT || n->kind == RX_KIND_AND)
        return m->b == n->b && memcmp(x->list + m->a, child, n->b * sizeof *child) == 0;
    if (n->kind == RX_KIND_CLASS) return memcmp(&x->set[m->a], &x->set[n->a], sizeof *x->set) == 0;
    return m->a == n->a && m->b == n->b && m->c == n->c;
}

static const uint32_t *children(const struct rx *x, const struct rx_node *n)
{
    return n->kind == RX_KIND_ALT || n->kind == RX_KIND_AND ? x->list + n->a : NULL;
}

static bool table_grow(struct rx *x)
{
    size_t cap = x->cap_table ? x->cap_table * 2 : TABLE_FIRST;
    uint32_t *t = pool_alloc(x->pool, cap, sizeof *t);
    if (!t) return false;
    for (uint32_t id = 0; id < x->n; id++) {
        size_t at = node_hash(x, &x->node[id], children(x, &x->node[id])) & (cap - 1);
        while (t[at]) at = (at + 1) & (cap - 1);
        t[at] = id + 1;
    }
    pool_forget(x->pool, x->cap_table * sizeof *t);
    free(x->table);
    x->table = t;
    x->cap_table = cap;
    return true;
}

static uint8_t node_flags(const struct rx *x, const struct rx_node *n, const uint32_t *child)
{
    bool null = false, impure = n->kind == RX_KIND_AND || n->kind == RX_KIND_NOT;
    switch ((enum rx_kind)n->kind) {
    case RX_KIND_EPS:
    case RX_KIND_ALL:
        null = true;
        break;
    case RX_KIND_CAT: {
        uint8_t f = x->node[n->a].flags, g = x->node[n->b].flags;
        null = f & g & RX_NULLABLE;
        impure = (f | g) & RX_IMPURE;
        break;
    }
    case RX_KIND_ALT:
    case RX_KIND_AND:
        null = n->kind == RX_KIND_AND;
        for (uint32_t i = 0; i < n->b; i++) {
            uint8_t f = x->node[child[i]].flags;
            null = n->kind == RX_KIND_AND ? null && (f & RX_NULLABLE) : null || (f & RX_NULLABLE);
            impure = impure || (f & RX_IMPURE);
        }
        break;
    case RX_KIND_NOT:
        null = !rx_nullable(x, n->a);
        break;
    case RX_KIND_REP:
        null = n->b == 0;
        impure = x->node[n->a].flags & RX_IMPURE;
        break;
    case RX_KIND_MOD:
        null = rx_mod_nullable(x, n);
        break;
    default:
        break;
    }
    return (uint8_t)((null ? RX_NULLABLE : 0) | (impure ? RX_IMPURE : 0));
}

static bool node_room(struct rx *x)
{
    return pool_grow(x->pool, &x->node, &x->cap_node, x->n + 1, sizeof *x->node) &&
           pool_grow(x->pool, &x->state, &x->cap_state, x->n + 1, sizeof *x->state) &&
           pool_grow(x->pool, &x->mark, &x->cap_mark, x->n + 1, sizeof *x->mark);
}

/* child: the children of ALT and AND, sorted. They may lie anywhere but in x->list. */
uint32_t rx_intern(struct rx *x, struct rx_node n, const uint32_t *child)
{
    if (!pool_step(x->pool, 1)) return RX_EMPTY;
    if ((x->n + 1) * 2 > x->cap_table && !table_grow(x)) return RX_EMPTY;
    size_t at = node_hash(x, &n, child) & (x->cap_table - 1);
    for (; x->table[at]; at = (at + 1) & (x->cap_table - 1))
        if (node_equal(x, &x->node[x->table[at] - 1], &n, child)) return x->table[at] - 1;
    if (!node_room(x)) return RX_EMPTY;
    n.flags = node_flags(x, &n, child);
    if (child) {
        if (!pool_grow(x->pool, &x->list, &x->cap_list, x->n_list + n.b, sizeof *child)) return RX_EMPTY;
        memcpy(x->list + x->n_list, child, n.b * sizeof *child);
        n.a = (uint32_t)x->n_list;
        x->n_list += n.b;
    }
    uint32_t id = (uint32_t)x->n++;
    x->node[id] = n;
    x->state[id] = (struct rx_state){.part = UINT32_MAX};
    x->mark[id] = 0;
    x->table[at] = id + 1;
    return id;
}

bool rx_init(struct rx *x, struct pool *pool)
{
    *x = (struct rx){.pool = pool, .search_most = SIZE_MAX};
    static const uint8_t kind[] = {RX_KIND_EMPTY, RX_KIND_EPS, RX_KIND_ALL};
    for (size_t i = 0; i < sizeof kind; i++) rx_intern(x, (struct rx_node){.kind = kind[i]}, NULL);
    x->product = pool_alloc(pool, RX_PRODUCT_CAP, 2 * sizeof *x->product);
    x->by_part = pool_alloc(pool, RX_PART_CAP, sizeof *x->by_part);
    return pool->fail == OK;
}

void rx_fini(struct rx *x)
{
    for (size_t i = 0; i < x->n_part; i++) free(x->part[i]);
    void *all[] = {x->node,  x->state, x->mark, x->table, x->list,    x->succ,   x->tmp,
                   x->stack, x->set,   x->mod,  x->part,  x->product, x->by_part};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    *x = (struct rx){0};
}

struct rx_mark rx_mark(const struct rx *x)
{
    return (struct rx_mark){.n = x->n, .n_list = x->n_list, .n_set = x->n_set, .n_mod = x->n_mod};
}

void rx_rewind(struct rx *x, const struct rx_mark *m)
{
    x->n = m->n;
    x->n_list = m->n_list;
    x->n_set = m->n_set;
    x->n_mod = m->n_mod;
    x->n_succ = x->n_tmp = 0;
    for (size_t i = 0; i < x->n_part; i++) free(x->part[i]);
    pool_forget(x->pool, x->n_part * sizeof **x->part);
    x->n_part = 0;
    memset(x->by_part, 0, RX_PART_CAP * sizeof *x->by_part);
    memset(x->product, 0, RX_PRODUCT_CAP * 2 * sizeof *x->product);
    memset(x->table, 0, x->cap_table * sizeof *x->table);
    for (uint32_t id = 0; id < x->n; id++) {
        x->state[id] = (struct rx_state){.part = UINT32_MAX};
        size_t at = node_hash(x, &x->node[id], children(x, &x->node[id])) & (x->cap_table - 1);
        while (x->table[at]) at = (at + 1) & (x->cap_table - 1);
        x->table[at] = id + 1;
    }
}

/* --- leaves */

uint32_t rx_byte(struct rx *x, uint8_t b)
{
    return rx_intern(x, (struct rx_node){.kind = RX_KIND_BYTE, .a = b}, NULL);
}

uint32_t rx_class(struct rx *x, const struct rx_set *s)
{
    int n = 0;
    for (int i = 0; i < 4; i++) n += __builtin_popcountll(s->w[i]);
    if (n == 0) return RX_EMPTY;
    if (n == 1)
        for (unsigned b = 0; b < 256; b++)
            if (rx_set_has(s, b)) return rx_byte(x, (uint8_t)b);
    if (!pool_grow(x->pool, &x->set, &x->cap_set, x->n_set + 1, sizeof *x->set)) return RX_EMPTY;
    x->set[x->n_set] = *s;
    size_t before = x->n;
    uint32_t id = rx_intern(x, (struct rx_node){.kind = RX_KIND_CLASS, .a = (uint32_t)x->n_set}, NULL);
    x->n_set += x->n > before; /* else there is such a class already */
    return id;
}

uint32_t rx_range(struct rx *x, uint8_t lo, uint8_t hi)
{
    struct rx_set s = {0};
    for (unsigned b = lo; b <= hi; b++) rx_set_add(&s, b);
    return rx_class(x, &s);
}

uint32_t rx_text(struct rx *x, const void *p, size_t n)
{
    uint32_t r = RX_EPS;
    while (n > 0 && x->pool->fail == OK) r = rx_cat(x, rx_byte(x, ((const uint8_t *)p)[--n]), r);
    return r;
}

uint32_t rx_str(struct rx *x, const char *s) { return rx_text(x, s, strlen(s)); }

/* --- one or two children */

uint32_t rx_cat(struct rx *x, uint32_t a, uint32_t b)
{
    if (a == RX_EMPTY || b == RX_EMPTY) return RX_EMPTY;
    if (a == RX_EPS) return b;
    if (b == RX_EPS) return a;
    if (a == RX_ALL && b == RX_ALL) return RX_ALL;
    return rx_intern(x, (struct rx_node){.kind = RX_KIND_CAT, .a = a, .b = b}, NULL);
}

uint32_t rx_cat3(struct rx *x, uint32_t a, uint32_t b, uint32_t c) { return rx_cat(x, a, rx_cat(x, b, c)); }

uint32_t rx_not(struct rx *x, uint32_t a)
{
    if (a == RX_EMPTY) return x->pool->fail == OK ? RX_ALL : RX_EMPTY;
    if (a == RX_ALL) return RX_EMPTY;
    if (x->node[a].kind == RX_KIND_NOT) return x->node[a].a;
    return rx_intern(x, (struct rx_node){.kind = RX_KIND_NOT, .a = a}, NULL);
}

uint32_t rx_rep(struct rx *x, uint32_t a, uint32_t min, uint32_t max)
{
    if (max < min) return RX_EMPTY;
    if (a == RX_EMPTY) return min == 0 ? RX_EPS : RX_EMPTY;
    if (a == RX_EPS || max == 0) return RX_EPS;
    if (min == 1 && max == 1) return a;
    if (rx_nullable(x, a)) min = 0;
    const struct rx_node *n = &x->node[a];
    if (n->kind == RX_KIND_REP && n->b == 0 && n->c == RX_MORE) return a;
    return rx_intern(x, (struct rx_node){.kind = RX_KIND_REP, .a = a, .b = min, .c = max}, NULL);
}

uint32_t rx_opt(struct rx *x, uint32_t a) { return rx_alt(x, RX_EPS, a); }

/* --- sets of children */

void rx_push(struct rx *x, uint32_t a)
{
    if (pool_grow(x->pool, &x->tmp, &x->cap_tmp, x->n_tmp + 1, sizeof *x->tmp)) x->tmp[x->n_tmp++] = a;
}

/* The children above base made flat, in place behind them. False: one decides all. */
static bool flatten(struct rx *x, enum rx_kind kind, size_t base)
{
    uint32_t neutral = kind == RX_KIND_ALT ? RX_EMPTY : RX_ALL, all = kind == RX_KIND_ALT ? RX_ALL : RX_EMPTY;
    size_t end = x->n_tmp;
    for (size_t i = base; i < end; i++) {
        uint32_t a = x->tmp[i];
        struct rx_node n = x->node[a];
        if (a == neutral) continue;
        if (a == all) return false;
        if (n.kind != kind)
            rx_push(x, a);
        else
            for (uint32_t k = 0; k < n.b; k++) rx_push(x, x->list[n.a + k]);
    }
    size_t n = x->n_tmp - end;
    memmove(x->tmp + base, x->tmp + end, n * sizeof *x->tmp);
    x->n_tmp = base + n;
    return true;
}

static struct rx_set set_of(const struct rx *x, const struct rx_node *n)
{
    struct rx_set s = {0};
    if (n->kind == RX_KIND_CLASS) return x->set[n->a];
    rx_set_add(&s, n->a);
    return s;
}

/* All classes above base become one: their union in an ALT, what they share in an AND. */
static void merge_classes(struct rx *x, enum rx_kind kind, size_t base)
{
    struct rx_set all = {0};
    size_t n = 0, w = base;
    for (size_t i = base; i < x->n_tmp; i++) {
        const struct rx_node *c = &x->node[x->tmp[i]];
        if (c->kind != RX_KIND_BYTE && c->kind != RX_KIND_CLASS) {
            x->tmp[w++] = x->tmp[i];
            continue;
        }
        struct rx_set s = set_of(x, c);
        for (int k = 0; k < 4; k++)
            all.w[k] = n == 0 ? s.w[k] : kind == RX_KIND_ALT ? all.w[k] | s.w[k] : all.w[k] & s.w[k];
        n++;
    }
    x->n_tmp = w;
    if (n) rx_push(x, rx_class(x, &all));
}

static int compare_ids(const void *a, const void *b)
{
    uint32_t p = *(const uint32_t *)a, q = *(const uint32_t *)b;
    return (p > q) - (p < q);
}

static bool sort_single(struct rx *x, size_t base)
{
    uint32_t *v = x->tmp + base;
    size_t n = x->n_tmp - base, w = 0;
    if (n > 1) qsort(v, n, sizeof *v, compare_ids);
    for (size_t i = 0; i < n; i++)
        if (w == 0 || v[w - 1] != v[i]) v[w++] = v[i];
    x->n_tmp = base + w;
    for (size_t i = 0; i < w; i++) {
        const struct rx_node *c = &x->node[v[i]];
        if (c->kind == RX_KIND_NOT && bsearch(&c->a, v, w, sizeof *v, compare_ids)) return false;
    }
    return true;
}

/* The empty string decides an AND that has it, and is left out of an ALT that has it anyway. */
static bool settle_empty_string(struct rx *x, enum rx_kind kind, size_t base)
{
    size_t at = SIZE_MAX, others = 0;
    for (size_t i = base; i < x->n_tmp; i++) {
        if (x->tmp[i] == RX_EPS)
            at = i;
        else
            others += rx_nullable(x, x->tmp[i]);
    }
    if (at == SIZE_MAX) return true;
    if (kind == RX_KIND_AND) {
        bool all = others == x->n_tmp - base - 1;
        x->n_tmp = base;
        rx_push(x, all ? RX_EPS : RX_EMPTY);
        return all;
    }
    if (others) {
        memmove(x->tmp + at, x->tmp + at + 1, (x->n_tmp - at - 1) * sizeof *x->tmp);
        x->n_tmp--;
    }
    return true;
}

static uint32_t close_set(struct rx *x, enum rx_kind kind, size_t base)
{
    uint32_t r = kind == RX_KIND_ALT ? RX_ALL : RX_EMPTY; /* what decides all */
    if (x->pool->fail != OK) {
        x->n_tmp = base < x->n_tmp ? base : x->n_tmp;
        return RX_EMPTY;
    }
    bool open = flatten(x, kind, base);
    if (open) {
        merge_classes(x, kind, base);
        for (size_t i = base; kind == RX_KIND_AND && i < x->n_tmp; i++) open = open && x->tmp[i] != RX_EMPTY;
    }
    if (open && (open = sort_single(x, base))) open = settle_empty_string(x, kind, base);
    if (open) {
        size_t n = x->n_tmp - base;
        if (n == 0)
            r = kind == RX_KIND_ALT ? RX_EMPTY : RX_ALL;
        else if (n == 1)
            r = x->tmp[base];
        else
            r = rx_intern(x, (struct rx_node){.kind = (uint8_t)kind, .b = (uint32_t)n}, x->tmp + base);
    }
    x->n_tmp = base;
    return x->pool->fail == OK ? r : RX_EMPTY;
}

uint32_t rx_alt_of(struct rx *x, size_t base) { return close_set(x, RX_KIND_ALT, base); }
uint32_t rx_and_of(struct rx *x, size_t base) { return close_set(x, RX_KIND_AND, base); }

uint32_t rx_alt(struct rx *x, uint32_t a, uint32_t b)
{
    size_t base = x->n_tmp;
    rx_push(x, a);
    rx_push(x, b);
    return rx_alt_of(x, base);
}

uint32_t rx_and(struct rx *x, uint32_t a, uint32_t b)
{
    size_t base = x->n_tmp;
    rx_push(x, a);
    rx_push(x, b);
    return rx_and_of(x, base);
}

uint32_t rx_minus(struct rx *x, uint32_t a, uint32_t b) { return rx_and(x, a, rx_not(x, b)); }

/* --- many texts */

static int compare_lits(const void *a, const void *b)
{
    const struct rx_lit *p = a, *q = b;
    int c = memcmp(p->p, q->p, p->n < q->n ? p->n : q->n);
    return c ? c : (p->n > q->n) - (p->n < q->n);
}

/* text[0..n) is sorted and agrees in its first `at` bytes. Recursion goes down only where texts part. */
static uint32_t lits_from(struct rx *x, const struct rx_lit *text, size_t n, size_t at)
{
    size_t end = at, base = x->n_tmp;
    while (end < text[0].n && end < text[n - 1].n && text[0].p[end] == text[n - 1].p[end]) end++;
    if (x->pool->fail != OK) return RX_EMPTY;
    size_t i = 0;
    while (i < n && text[i].n == end) i++;
    if (i > 0) rx_push(x, RX_EPS);
    while (i < n) {
        size_t k = i;
        while (k < n && text[k].p[end] == text[i].p[end]) k++;
        rx_push(x, k - i == 1 ? rx_text(x, text[i].p + end, text[i].n - end)
                              : lits_from(x, text + i, k - i, end));
        i = k;
    }
    uint32_t r = rx_alt_of(x, base);
    while (end > at) r = rx_cat(x, rx_byte(x, (uint8_t)text[0].p[--end]), r);
    return r;
}

uint32_t rx_lits(struct rx *x, struct rx_lit *text, size_t n)
{
    if (n == 0 || !pool_step(x->pool, 2 * n)) return RX_EMPTY;
    qsort(text, n, sizeof *text, compare_lits);
    return lits_from(x, text, n, 0);
}
