/* mask: the tokens of one lexeme. Most of a text lies inside long lexemes (strings), which come up in many
 * places; the tokens that stay inside one depend on the lexeme's state alone, so they are found once, with
 * the places in the tries where the lexeme may end. */
#include <stdlib.h>

#include "server/text/grammar/mask.h"

enum { LIVE_BYTES_LEAST = 10 /* a state that few bytes leave is walked as quickly as it is looked up */ };

/* --- how many plain characters (of a JSON string: no quote, backslash or control character) a state takes,
 * in any order */

struct span {
    uint8_t lo, hi;
};
struct shape {
    uint8_t n;
    struct span at[4];
};
/* Unicode 15, table 3-7, without what a JSON string escapes. */
static const struct shape shapes[] = {
    {1, {{0x20, 0x21}}},
    {1, {{0x23, 0x5b}}},
    {1, {{0x5d, 0x7f}}},
    {2, {{0xc2, 0xdf}, {0x80, 0xbf}}},
    {3, {{0xe0, 0xe0}, {0xa0, 0xbf}, {0x80, 0xbf}}},
    {3, {{0xe1, 0xec}, {0x80, 0xbf}, {0x80, 0xbf}}},
    {3, {{0xed, 0xed}, {0x80, 0x9f}, {0x80, 0xbf}}},
    {3, {{0xee, 0xef}, {0x80, 0xbf}, {0x80, 0xbf}}},
    {4, {{0xf0, 0xf0}, {0x90, 0xbf}, {0x80, 0xbf}, {0x80, 0xbf}}},
    {4, {{0xf1, 0xf3}, {0x80, 0xbf}, {0x80, 0xbf}, {0x80, 0xbf}}},
    {4, {{0xf4, 0xf4}, {0x80, 0x8f}, {0x80, 0xbf}, {0x80, 0xbf}}},
};

enum { RUN_STATES = 64, RUN_MOST = VOCAB_MIDDLE_CHARS };

struct run {
    uint32_t seen[RUN_STATES];
    unsigned n, older; /* of seen: those that fewer characters lead to */
    bool again;        /* more characters led to one of those */
};

static bool run_shape(struct rx *x, uint32_t rx, const struct shape *s, unsigned at, struct run *r)
{
    if (at == s->n) {
        for (unsigned i = 0; i < r->n; i++)
            if (r->seen[i] == rx) {
                r->again = r->again || i < r->older;
                return true;
            }
        if (r->n == RUN_STATES) return false;
        r->seen[r->n++] = rx;
        return true;
    }
    const struct rx_state *st = rx_state(x, rx);
    if (!st) return false;
    struct rx_set seen = {0};
    uint32_t part = st->part;
    for (unsigned b = s->at[at].lo; b <= s->at[at].hi; b++) {
        unsigned cls = x->part[part]->cls[b];
        if (rx_set_has(&seen, cls)) continue;
        rx_set_add(&seen, cls);
        uint32_t to = rx_step(x, rx, (uint8_t)b);
        if (to == RX_EMPTY || !run_shape(x, to, s, at + 1, r)) return false;
    }
    return true;
}

/* No plain character may come. */
static bool is_shut(struct rx *x, uint32_t rx)
{
    const struct rx_state *st = rx_state(x, rx);
    if (!st) return false;
    struct rx_state s = *st;
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++)
        for (unsigned b = shapes[k].at[0].lo; b <= shapes[k].at[0].hi; b++)
            if (x->succ[s.next + x->part[s.part]->cls[b]] != RX_EMPTY) return false;
    return true;
}

/* A state that lets through the same tokens of up to `bytes` bytes, with counters of no more than they can
 * count, so that long counts have few states. Only of what is never empty, where what a token may be does not
 * depend on what can come after it. */
static uint32_t near_state(struct rx *x, uint32_t rx, uint32_t bytes)
{
    struct rx_node n = x->node[rx];
    if (n.flags & RX_IMPURE) return rx;
    if (n.kind == RX_KIND_CAT) return rx_cat(x, near_state(x, n.a, bytes), n.b);
    if (n.kind != RX_KIND_REP || rx_nullable(x, n.a)) return rx;
    return rx_rep(x, n.a, n.b > bytes ? bytes + 1 : n.b, n.c >= bytes ? RX_MORE : n.c);
}

/* How many plain characters may come in any order: RUN_MOST at most, RUN_MOST + 1: any number. exactly: and
 * after them none of this lexeme. */
struct plain {
    unsigned run;
    bool exactly;
};

/* Of a state whose ways part: layer by layer, a character each. */
static struct plain run_of_many(struct rx *x, uint32_t rx)
{
    struct run r = {.seen = {rx}, .n = 1};
    unsigned from = 0, to;
    for (unsigned run = 0; run <= RUN_MOST; run++, from = to) {
        bool open = true, exactly = !r.again; /* else there are ways of so many characters to older states */
        to = r.older = r.n;
        for (unsigned i = from; i < to && open; i++)
            for (size_t k = 0; k < sizeof shapes / sizeof *shapes && open; k++)
                open = run_shape(x, r.seen[i], &shapes[k], 0, &r);
        for (unsigned i = from; i < to && !open; i++) exactly = exactly && is_shut(x, r.seen[i]);
        if (!open) return (struct plain){run, exactly};
        if (r.n == to) return (struct plain){RUN_MOST + 1, false};
    }
    return (struct plain){RUN_MOST, false};
}

static bool find_run(const struct grammar *g, uint32_t rx, struct plain *p)
{
    unsigned v = rx < g->cap_run_at ? g->run_at[rx] : 0;
    *p = (struct plain){(v >> 1) - 1, v & 1};
    return v != 0;
}

static void keep_run(struct grammar *g, uint32_t rx, struct plain p)
{
    struct pool own = {.bytes_max = SIZE_MAX, .steps_max = UINT64_MAX};
    size_t old = g->cap_run_at;
    if (g->pool.fail != OK || !pool_grow(&own, &g->run_at, &g->cap_run_at, (size_t)rx + 1, sizeof *g->run_at))
        return;
    if (g->cap_run_at > old) memset(g->run_at + old, 0, (g->cap_run_at - old) * sizeof *g->run_at);
    g->run_at[rx] = (uint8_t)((p.run + 1) << 1 | p.exactly);
}

/* A counter's states follow each other, and each has one more than the next; so they are found from the end
 * on. */
static struct plain plain_run(struct grammar *g, uint32_t rx)
{
    enum { CHAIN = 4 * (RUN_MOST + 1) /* bytes */ };
    uint32_t chain[CHAIN + 1], at = near_state(&g->x, rx, GRAMMAR_TOKEN_BYTES);
    unsigned n = 0;
    struct plain p;
    if (at == rx) at = near_state(&g->x, rx, CHAIN);
    bool cut = at != rx && near_state(&g->x, rx, GRAMMAR_TOKEN_BYTES) != at;
    while (!find_run(g, at, &p)) {
        struct run r = {.n = 0};
        bool open = true;
        for (size_t k = 0; k < sizeof shapes / sizeof *shapes && open; k++)
            open = run_shape(&g->x, at, &shapes[k], 0, &r);
        if (n < CHAIN && open && r.n == 1 && r.seen[0] != at) {
            chain[n++] = at;
            at = r.seen[0];
            continue;
        }
        p = run_of_many(&g->x, at);
        keep_run(g, at, p);
        break;
    }
    while (n > 0) {
        if (p.run < RUN_MOST)
            p.run++;
        else
            p.exactly = false;
        keep_run(g, chain[--n], p);
    }
    if (cut && p.run > RUN_MOST) p = (struct plain){RUN_MOST, false};
    return p;
}

/* --- walking */

static bool add_exit(struct grammar *g, struct inside *in, size_t node)
{
    struct pool p = {.bytes_max = SIZE_MAX, .steps_max = UINT64_MAX};
    if (!pool_grow(&p, &in->exit, &in->cap_exit, in->n_exit + 1, sizeof *in->exit)) {
        pool_fail(&g->pool, ERR_NOMEM, NULL);
        return false;
    }
    in->exit[in->n_exit++] = (struct inside_exit){.node = (uint32_t)node};
    return true;
}

static bool walk(struct grammar *g, struct inside *in, unsigned slice)
{
    struct rx *x = &g->x;
    const struct vocab_trie *t = &g->vocab->trie[slice];
    uint32_t stack[GRAMMAR_TOKEN_BYTES + 1] = {in->rx};
    if (!rx_state(x, in->rx)) return false;
    for (size_t i = 0; i < t->n;) {
        uint32_t tb = t->node[i].token_byte, sd = t->node[i].skip_depth, depth = sd & 0xff;
        const struct rx_state *s = &x->state[stack[depth - 1]];
        uint32_t to = x->succ[s->next + x->part[s->part]->cls[tb & 0xff]];
        if (to != RX_EMPTY && x->node[to].flags & RX_IMPURE && !rx_live(x, to)) to = RX_EMPTY;
        if (to == RX_EMPTY) {
            i += sd >> 8;
            continue;
        }
        if (tb >> 8 != VOCAB_NO_TOKEN) mask_set(g->vocab, in->bits, (int32_t)(tb >> 8));
        if (sd >> 8 > 1) {
            if (rx_nullable(x, to) && !add_exit(g, in, i)) return false;
            if (!rx_state(x, to)) return false;
            stack[depth] = to;
        }
        i++;
    }
    return g->pool.fail == OK;
}

/* --- keeping */

bool inside_is_quick(struct grammar *g, uint32_t rx)
{
    struct plain p = plain_run(g, rx);
    return p.exactly || p.run >= VOCAB_SHORT_CHARS;
}

bool inside_helps(struct grammar *g, uint32_t rx)
{
    unsigned live = 0;
    const struct rx_state *s = rx_state(&g->x, rx);
    if (!s) return false;
    const struct rx_part *p = g->x.part[s->part];
    for (unsigned k = 0; k < p->n; k++) live += g->x.succ[s->next + k] != RX_EMPTY ? p->size[k] : 0;
    return live >= LIVE_BYTES_LEAST;
}

void inside_forget(struct grammar *g)
{
    for (size_t i = 0; i < g->n_inside; i++) {
        free(g->inside[i].bits);
        free(g->inside[i].exit);
    }
    g->n_inside = 0;
    for (int s = 0; s < VOCAB_SLICES; s++)
        if (g->cap_inside_at[s]) memset(g->inside_at[s], 0, g->cap_inside_at[s] * sizeof *g->inside_at[s]);
}

static const struct inside *inside_of(struct grammar *g, uint32_t rx, unsigned slice)
{
    struct pool p = {.bytes_max = SIZE_MAX, .steps_max = UINT64_MAX};
    size_t words = g->vocab->n_word, old = g->cap_inside_at[slice];
    if (rx < old && g->inside_at[slice][rx]) return &g->inside[g->inside_at[slice][rx] - 1];
    if (!pool_grow(&p, &g->inside, &g->cap_inside, g->n_inside + 1, sizeof *g->inside) ||
        !pool_grow(&p, &g->inside_at[slice], &g->cap_inside_at[slice], (size_t)rx + 1,
                   sizeof *g->inside_at[slice]))
        return NULL;
    if (g->cap_inside_at[slice] > old)
        memset(g->inside_at[slice] + old, 0, (g->cap_inside_at[slice] - old) * sizeof *g->inside_at[slice]);
    struct inside *in = &g->inside[g->n_inside];
    *in = (struct inside){.rx = rx, .bits = calloc(words ? words : 1, sizeof *in->bits)};
    if (!in->bits || !walk(g, in, slice)) {
        free(in->bits);
        free(in->exit);
        return NULL;
    }
    g->inside_at[slice][rx] = (uint32_t)++g->n_inside;
    return in;
}

/* Whether a plain character may come at a config; true also when the pool has failed. */
static bool plain_begins(struct grammar *g, uint32_t config)
{
    struct chart *c = &g->chart;
    if (!chart_open(c, config)) return true;
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++)
        for (unsigned b = shapes[k].at[0].lo; b <= shapes[k].at[0].hi; b++)
            if (chart_step(c, config, (uint8_t)b) != CHART_DEAD || c->pool->fail != OK) return true;
    return false;
}

bool inside_add(struct grammar *g, const struct chart_thread *thread, uint32_t *bits,
                struct inside out[VOCAB_SLICES])
{
    const uint32_t rx = thread->at;
    static const uint32_t bytes[VOCAB_SLICES] = {[VOCAB_OTHER] = VOCAB_SHORT_CHARS,
                                                 [VOCAB_OTHER_LONG] = GRAMMAR_TOKEN_BYTES,
                                                 [VOCAB_SHORT] = 4 * VOCAB_SHORT_CHARS,
                                                 [VOCAB_MIDDLE] = 4 * VOCAB_MIDDLE_CHARS,
                                                 [VOCAB_LONG] = GRAMMAR_TOKEN_BYTES};
    static const unsigned chars[VOCAB_SLICES] = {
        [VOCAB_SHORT] = VOCAB_SHORT_CHARS, [VOCAB_MIDDLE] = VOCAB_MIDDLE_CHARS, [VOCAB_LONG] = RUN_MOST + 1};
    size_t room = g->lim.mask_bytes / 2 / (g->vocab->n_word * sizeof *bits + 1);
    struct plain p = plain_run(g, rx);
    if (p.exactly) p.exactly = !plain_begins(g, chart_after(&g->chart, thread));
    if (g->n_inside && g->n_inside + VOCAB_SLICES > room) inside_forget(g);
    mask_or(g->vocab, bits, g->vocab->plain[p.run]);
    for (unsigned s = 0; s < VOCAB_SLICES; s++) {
        out[s] = (struct inside){0};
        if (s >= VOCAB_SHORT && (p.exactly || p.run >= chars[s])) continue;
        const struct inside *in = inside_of(g, near_state(&g->x, rx, bytes[s]), s);
        if (!in) return false;
        mask_or(g->vocab, bits, in->bits);
        out[s] = *in;
    }
    return g->pool.fail == OK;
}
