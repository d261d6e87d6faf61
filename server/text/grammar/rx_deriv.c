/* rx: derivatives, the automaton made of them, and the search for a string that is left. */
#include "server/text/grammar/rx.h"

#include <stdlib.h>

static void narrow(struct rx_set *same, const struct rx_set *s, bool in)
{
    for (int i = 0; i < 4; i++) same->w[i] &= in ? s->w[i] : ~s->w[i];
}

/* d(id, b); *same keeps the bytes that have the same derivative as b for the same reasons. Recursion goes
 * into heads, sets and complements, whose depth the parsers bound; tails are a loop. */
static uint32_t derive(struct rx *x, uint32_t id, uint8_t b, struct rx_set *same);

static uint32_t derive_leaf(const struct rx *x, const struct rx_node *n, uint8_t b, struct rx_set *same)
{
    struct rx_set s = {0};
    if (n->kind == RX_KIND_CLASS)
        s = x->set[n->a];
    else
        rx_set_add(&s, n->a);
    bool in = rx_set_has(&s, b);
    narrow(same, &s, in);
    return in ? RX_EPS : RX_EMPTY;
}

static uint32_t derive_cat(struct rx *x, uint32_t id, uint8_t b, struct rx_set *same)
{
    size_t base = x->n_tmp;
    for (;;) {
        struct rx_node n = x->node[id];
        if (n.kind != RX_KIND_CAT) {
            rx_push(x, derive(x, id, b, same));
            break;
        }
        uint32_t d = derive(x, n.a, b, same);
        rx_push(x, rx_cat(x, d, n.b));
        if (!rx_nullable(x, n.a)) break;
        id = n.b;
        if (x->pool->fail != OK) break;
    }
    return rx_alt_of(x, base);
}

static uint32_t derive_set(struct rx *x, struct rx_node n, uint8_t b, struct rx_set *same)
{
    size_t base = x->n_tmp;
    for (uint32_t i = 0; i < n.b && x->pool->fail == OK; i++) {
        uint32_t d = derive(x, x->list[n.a + i], b, same);
        if (n.kind == RX_KIND_AND && d == RX_EMPTY) {
            x->n_tmp = base;
            return RX_EMPTY;
        }
        rx_push(x, d);
    }
    return n.kind == RX_KIND_ALT ? rx_alt_of(x, base) : rx_and_of(x, base);
}

static uint32_t derive(struct rx *x, uint32_t id, uint8_t b, struct rx_set *same)
{
    struct rx_node n = x->node[id];
    if (!pool_step(x->pool, 1)) return RX_EMPTY;
    switch ((enum rx_kind)n.kind) {
    case RX_KIND_ALL:
        return RX_ALL;
    case RX_KIND_BYTE:
    case RX_KIND_CLASS:
        return derive_leaf(x, &n, b, same);
    case RX_KIND_CAT:
        return derive_cat(x, id, b, same);
    case RX_KIND_ALT:
    case RX_KIND_AND:
        return derive_set(x, n, b, same);
    case RX_KIND_NOT: {
        uint32_t d = derive(x, n.a, b, same);
        return rx_not(x, d);
    }
    case RX_KIND_REP: {
        uint32_t d = derive(x, n.a, b, same);
        return rx_cat(x, d, rx_rep(x, n.a, n.b ? n.b - 1 : 0, n.c == RX_MORE ? RX_MORE : n.c - 1));
    }
    case RX_KIND_MOD:
        return rx_mod_step(x, id, b, same);
    default:
        return RX_EMPTY;
    }
}

/* --- partitions */

uint32_t rx_part_intern(struct rx *x, const struct rx_part *p)
{
    uint32_t *slot = &x->by_part[pool_hash(p->cls, sizeof p->cls, 17) & (RX_PART_CAP - 1)];
    if (*slot && memcmp(x->part[*slot - 1]->cls, p->cls, sizeof p->cls) == 0) return *slot - 1;
    for (size_t i = 0; i < x->n_part; i++)
        if (x->part[i]->n == p->n && memcmp(x->part[i]->cls, p->cls, sizeof p->cls) == 0) return (uint32_t)i;
    if (!pool_grow(x->pool, &x->part, &x->cap_part, x->n_part + 1, sizeof *x->part)) return UINT32_MAX;
    struct rx_part *own = pool_alloc(x->pool, 1, sizeof *own);
    if (!own) return UINT32_MAX;
    *own = *p;
    memset(own->size, 0, sizeof own->size);
    for (unsigned b = 0; b < 256; b++) own->size[p->cls[b]]++;
    x->part[x->n_part] = own;
    *slot = (uint32_t)x->n_part + 1;
    return (uint32_t)x->n_part++;
}

static struct rx_part product(const struct rx_part *p, const struct rx_part *q)
{
    struct rx_part r = {0};
    uint16_t seen[256];
    uint8_t of[256];
    for (unsigned b = 0; b < 256; b++) { /* seen[k]: the pair of classes that class k of r stands for */
        uint16_t pair = (uint16_t)(p->cls[b] << 8 | q->cls[b]);
        unsigned k = 0;
        while (k < r.n && seen[k] != pair) k++;
        if (k == r.n) {
            seen[r.n] = pair;
            of[r.n] = (uint8_t)b;
            r.n++;
        }
        r.cls[b] = (uint8_t)k;
    }
    memcpy(r.rep, of, r.n);
    return r;
}

uint32_t rx_part_product(struct rx *x, uint32_t a, uint32_t b)
{
    if (a == b || x->part[b]->n == 1) return a;
    if (x->part[a]->n == 1) return b;
    uint64_t pair = a < b ? (uint64_t)a << 32 | b : (uint64_t)b << 32 | a;
    uint64_t *slot = x->product + 2 * ((pair * 0x9e3779b97f4a7c15u >> 40) & (RX_PRODUCT_CAP - 1));
    if (slot[0] == pair + 1) return (uint32_t)slot[1];
    struct rx_part r = product(x->part[pair >> 32], x->part[(uint32_t)pair]);
    uint32_t id = rx_part_intern(x, &r);
    if (id != UINT32_MAX) {
        slot[0] = pair + 1;
        slot[1] = id;
    }
    return id;
}

/* --- states */

static bool set_any(const struct rx_set *s) { return s->w[0] | s->w[1] | s->w[2] | s->w[3]; }

static unsigned set_first(const struct rx_set *s)
{
    for (unsigned i = 0; i < 4; i++)
        if (s->w[i]) return i * 64 + (unsigned)__builtin_ctzll(s->w[i]);
    return 0;
}

/* Bytes with one and the same derivative form one class. */
static bool find_classes(struct rx *x, uint32_t id, struct rx_part *p, uint32_t next[256])
{
    struct rx_set rest = {{~0ull, ~0ull, ~0ull, ~0ull}};
    p->n = 0;
    while (set_any(&rest)) {
        struct rx_set same = rest;
        unsigned first = set_first(&rest), k = 0;
        uint32_t d = derive(x, id, (uint8_t)first, &same);
        if (x->pool->fail != OK) return false;
        while (k < p->n && next[k] != d) k++;
        if (k == p->n) {
            next[p->n] = d;
            p->rep[p->n++] = (uint8_t)first;
        }
        for (unsigned i = 0; i < 4; i++) {
            uint64_t take = same.w[i] & rest.w[i];
            rest.w[i] &= ~take;
            for (; take; take &= take - 1) p->cls[i * 64 + (unsigned)__builtin_ctzll(take)] = (uint8_t)k;
        }
    }
    return true;
}

const struct rx_state *rx_state(struct rx *x, uint32_t id)
{
    if (x->pool->fail != OK) return NULL;
    if (x->state[id].part != UINT32_MAX) return &x->state[id];
    struct rx_part p = {0};
    uint32_t next[256];
    if (!find_classes(x, id, &p, next)) return NULL;
    uint32_t part = rx_part_intern(x, &p);
    if (part == UINT32_MAX || !pool_grow(x->pool, &x->succ, &x->cap_succ, x->n_succ + p.n, sizeof *next))
        return NULL;
    memcpy(x->succ + x->n_succ, next, p.n * sizeof *next);
    x->state[id] = (struct rx_state){.part = part, .next = (uint32_t)x->n_succ};
    x->n_succ += p.n;
    return &x->state[id];
}

/* Depth first over the states of id. All states on the way to one that accepts are live; when none is found,
 * all seen are dead. */
static bool search(struct rx *x, uint32_t id)
{
    size_t depth = 1;
    x->epoch++;
    if (!pool_grow(x->pool, &x->stack, &x->cap_stack, 2, sizeof *x->stack)) return true;
    x->stack[0] = id;
    x->stack[1] = 0;
    x->mark[id] = x->epoch;
    size_t first = x->n_tmp; /* the states seen */
    rx_push(x, id);
    bool found = false;
    while (depth > 0 && !found && x->pool->fail == OK) {
        uint32_t at = x->stack[2 * depth - 2];
        found = x->node[at].flags & (RX_NULLABLE | RX_LIVE) ||
                (at != RX_EMPTY && !(x->node[at].flags & RX_IMPURE)) || x->n_tmp - first > x->search_most;
        if (found) break;
        const struct rx_state *s = rx_state(x, at);
        if (!s) break;
        uint32_t k = x->stack[2 * depth - 1]++;
        if (k >= x->part[s->part]->n) {
            depth--;
            continue;
        }
        uint32_t to = x->succ[s->next + k];
        if (to == RX_EMPTY || x->node[to].flags & RX_DEAD || x->mark[to] == x->epoch) continue;
        x->mark[to] = x->epoch;
        rx_push(x, to);
        if (!pool_grow(x->pool, &x->stack, &x->cap_stack, 2 * depth + 2, sizeof *x->stack)) break;
        x->stack[2 * depth] = to;
        x->stack[2 * depth + 1] = 0;
        depth++;
    }
    if (found)
        while (depth > 0) x->node[x->stack[2 * --depth]].flags |= RX_LIVE;
    else if (x->pool->fail == OK)
        for (size_t i = first; i < x->n_tmp; i++) x->node[x->tmp[i]].flags |= RX_DEAD;
    x->n_tmp = first;
    return found || x->pool->fail != OK;
}

bool rx_live(struct rx *x, uint32_t id)
{
    uint8_t f = x->node[id].flags;
    if (id == RX_EMPTY || f & RX_DEAD) return false;
    if (!(f & RX_IMPURE) || f & (RX_NULLABLE | RX_LIVE)) return true;
    return search(x, id);
}

uint32_t rx_step(struct rx *x, uint32_t id, uint8_t b)
{
    const struct rx_state *s = rx_state(x, id);
    if (!s) return RX_EMPTY;
    uint32_t to = x->succ[s->next + x->part[s->part]->cls[b]];
    return to == RX_EMPTY || !rx_live(x, to) ? RX_EMPTY : to;
}

bool rx_match(struct rx *x, uint32_t id, const void *p, size_t n)
{
    for (size_t i = 0; i < n && id != RX_EMPTY; i++) {
        const struct rx_state *s = rx_state(x, id);
        if (!s) return false;
        id = x->succ[s->next + x->part[s->part]->cls[((const uint8_t *)p)[i]]];
    }
    return id != RX_EMPTY && rx_nullable(x, id);
}
