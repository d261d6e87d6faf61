/* prefix: the laws of the prefix cache over a pool of pages whose contents are known: a hit gives pages that
 * hold what a run without it would have written, to nobody else's key or salt, whatever was evicted in
 * between. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "engine/batch.h"
#include "scheduler/prefix.h"
#include "tests/base/cm.h"

enum { L = 4, BLOCKS = 12, SINK = 1, LOCAL = 2, SLOTS = 3, SUM = 2, PAGES = 400, TOK = BLOCKS * PAGE_TOK };

struct world {
    struct prefix *p;
    struct kvpool *pool;
    struct kvmap map[SLOTS];
    uint64_t content[PAGES];
    uint32_t seed;
    bool streams;
    int common;
};

static int rnd(struct world *w, int n)
{
    w->seed = w->seed * 1664525u + 1013904223u;
    return (int)((w->seed >> 8) % (uint32_t)n);
}

static void open_common(struct world *w, int max_pages, bool streams, bool hash_nothing, int common)
{
    memset(w, 0, sizeof *w);
    w->seed = 7;
    w->streams = streams;
    w->common = common;
    w->pool = kvpool_new(PAGES);
    struct prefix_conf c = {.n_layer = L,
                            .max_seqs = SLOTS,
                            .max_blocks = BLOCKS,
                            .sink_blocks = SINK,
                            .local_blocks = LOCAL,
                            .common_blocks = common,
                            .streams = streams,
                            .n_sum = SUM,
                            .sum_tok = 100,
                            .max_pages = max_pages,
                            .hash_nothing = hash_nothing,
                            .pool = w->pool};
    assert_int_equal(prefix_open(&w->p, &c), OK);
    for (int i = 0; i < SLOTS; i++) assert_true(kvmap_init(&w->map[i], L, BLOCKS));
}

static void open_world(struct world *w, int max_pages, bool streams, bool hash_nothing)
{
    open_common(w, max_pages, streams, hash_nothing, 0);
}

static void check(const struct world *w)
{
    prefix_check(w->p);
    kvpool_check(w->pool);
}

static void close_world(struct world *w)
{
    check(w);
    assert_int_equal(kvpool_n_used(w->pool), 0);
    prefix_close(w->p);
    assert_int_equal(kvpool_n_free(w->pool), PAGES);
    for (int i = 0; i < SLOTS; i++) kvmap_fini(&w->map[i]);
    kvpool_free(w->pool);
}

/* What stands in a page: all tokens up to its end, and the bits of the layers below, unless all routes have
 * it in common. */
static uint64_t content_of(const struct world *w, const struct prefix_ask *a, const uint8_t *route, int layer,
                           int block)
{
    uint64_t h = 1469598103934665603u + a->key_id * 77u + (a->salt ? (unsigned char)a->salt[0] : 0u);
    for (int i = 0; i < (block + 1) * PAGE_TOK; i++) h = (h ^ (uint64_t)(uint32_t)a->tok[i]) * 1099511628211u;
    for (int l = 0; l < layer && block >= w->common; l++) h = (h ^ route[l]) * 1099511628211u;
    return h * 31 + (uint64_t)layer;
}

static bool visible(const struct world *w, int bit, int query, int b)
{
    return bit == ROUTE_FULL || !w->streams || b < SINK || b > query - LOCAL;
}

static const uint8_t MIXED[L] = {1, 0, 1, 0}, OTHER[L] = {1, 0, 0, 0}, FULL[L] = {1, 1, 1, 1},
                     OPEN[L] = {2, 2, 2, 2};

struct run {
    struct prefix_ask ask;
    struct prefix_hit hit;
    const uint8_t *route; /* all known */
    int n_tok;            /* of the prompt, the part page included */
};

/* Takes what is there, checks it, and computes the rest, giving dead pages back as the scheduler does. */
static int run_prompt(struct world *w, int slot, struct run *r, bool commit)
{
    struct kvmap *m = &w->map[slot];
    r->hit = prefix_find(w->p, &r->ask);
    int from = r->hit.n_block, blocks = (r->n_tok + PAGE_TOK - 1) / PAGE_TOK;
    if (from) assert_memory_equal(prefix_route(&r->hit), from <= w->common ? OPEN : r->route, L);
    if (from) prefix_share(w->p, &r->hit, r->ask.route, m);
    prefix_begin(w->p, slot, &r->ask, &r->hit, 0);
    for (int l = 0; l < L; l++)
        for (int b = from; b < blocks; b++) {
            prefix_make_room(w->p, 1);
            assert_true(kvmap_take(m, w->pool, l, b, b + 1, false));
            w->content[m->page[l * BLOCKS + b]] = content_of(w, &r->ask, r->route, l, b);
            for (int k = 0; k <= b; k++) {
                int32_t page = m->page[l * BLOCKS + k];
                if (visible(w, r->route[l], b, k))
                    assert_true(page >= 0 && w->content[page] == content_of(w, &r->ask, r->route, l, k));
            }
            prefix_note(w->p, slot, l, b, b + 1 < r->ask.n_tok / PAGE_TOK ? b + 1 : r->ask.n_tok / PAGE_TOK,
                        m);
            if (r->route[l] == ROUTE_SPARSE && (w->streams || b == blocks - 1))
                kvmap_give_dead(m, w->pool, l, SINK, LOCAL, b + 1 < blocks ? b + 1 : b);
        }
    if (commit) prefix_commit(w->p, slot, r->route);
    return from;
}

static void leave(struct world *w, int slot)
{
    prefix_drop(w->p, slot);
    kvmap_give_all(&w->map[slot], w->pool);
}

static int once(struct world *w, struct run *r)
{
    int from = run_prompt(w, 0, r, true);
    leave(w, 0);
    check(w);
    return from;
}

static void fill_tokens(struct world *w, int32_t *tok, int from, int n)
{
    for (int i = from; i < n; i++) tok[i] = rnd(w, 1000);
}

static struct run run_of(const int32_t *tok, int n, const uint8_t *route)
{
    return (struct run){.ask = {.tok = tok, .n_tok = n - 1, .route = route}, .route = route, .n_tok = n};
}

static void a_longer_prompt_goes_on_where_the_last_ended(void **st)
{
    (void)st;
    struct world w;
    int32_t tok[TOK];
    open_world(&w, 300, true, false);
    fill_tokens(&w, tok, 0, TOK);
    struct run r = run_of(tok, 5 * PAGE_TOK + 9, MIXED);
    assert_int_equal(once(&w, &r), 0);
    r = run_of(tok, 9 * PAGE_TOK + 1, MIXED);
    assert_int_equal(once(&w, &r), 5);
    assert_int_equal(once(&w, &r), 9);
    r = run_of(tok, 9 * PAGE_TOK, MIXED); /* one token at least is computed */
    assert_int_equal(once(&w, &r), 8);
    close_world(&w);
}

static void another_route_key_salt_or_token_never_hits(void **st)
{
    (void)st;
    for (int constant = 0; constant < 2; constant++) {
        struct world w;
        int32_t tok[TOK];
        open_world(&w, 300, true, constant);
        fill_tokens(&w, tok, 0, TOK);
        struct run r = run_of(tok, 5 * PAGE_TOK, MIXED);
        r.ask.salt = "a";
        r.ask.key_id = 1;
        assert_int_equal(once(&w, &r), 0);
        assert_int_equal(once(&w, &r), 4);
        struct run o = r;
        o.ask.route = o.route = OTHER;
        assert_int_equal(once(&w, &o), 0);
        o = r;
        o.ask.key_id = 2;
        assert_int_equal(once(&w, &o), 0);
        o = r;
        o.ask.salt = "b";
        assert_int_equal(once(&w, &o), 0);
        o.ask.salt = "";
        assert_int_equal(once(&w, &o), 0);
        o.ask.salt = NULL;
        assert_int_equal(once(&w, &o), 0);
        tok[3] ^= 1;
        assert_int_equal(once(&w, &r), 0);
        tok[3] ^= 1;
        assert_int_equal(once(&w, &r), 4);
        tok[3 * PAGE_TOK] ^= 1;
        assert_int_equal(once(&w, &r), 3);
        close_world(&w);
    }
}

/* A prompt of another route goes on behind what cannot differ yet, and its own run there serves the first
 * one. */
static void leading_pages_serve_every_route(void **st)
{
    (void)st;
    struct world w;
    int32_t tok[TOK];
    open_common(&w, 300, true, false, SINK + LOCAL);
    fill_tokens(&w, tok, 0, TOK);
    struct run r = run_of(tok, 6 * PAGE_TOK + 9, MIXED), o = run_of(tok, 6 * PAGE_TOK + 9, OTHER);
    assert_int_equal(once(&w, &r), 0);
    assert_int_equal(once(&w, &o), SINK + LOCAL);
    assert_int_equal(once(&w, &r), 6);
    assert_int_equal(once(&w, &o), 6);
    assert_int_equal(prefix_count(w.p).n_node, SINK + LOCAL + 2 * 3);
    o.ask.route = o.route = FULL;
    assert_int_equal(once(&w, &o), SINK + LOCAL);
    o.ask.key_id = 1;
    assert_int_equal(once(&w, &o), 0);
    close_world(&w);
}

/* Bits that a router decides need what it pooled of the first rows, from a run in which it decided them. */
static void open_bits_need_the_routers_sums(void **st)
{
    (void)st;
    struct world w;
    int32_t tok[TOK];
    open_world(&w, 300, true, false);
    fill_tokens(&w, tok, 0, TOK);
    struct run given = run_of(tok, 5 * PAGE_TOK, MIXED), open = given;
    open.ask.route = OPEN;
    assert_int_equal(once(&w, &given), 0);
    assert_int_equal(prefix_find(w.p, &open.ask).n_block, 0);
    run_prompt(&w, 1, &open, false);
    for (int i = 0; i < L * SUM; i++) prefix_sums(w.p, 1)[i] = (float)i;
    prefix_commit(w.p, 1, MIXED);
    leave(&w, 1);
    struct prefix_hit h = prefix_find(w.p, &open.ask);
    assert_int_equal(h.n_block, 4);
    assert_memory_equal(prefix_route(&h), MIXED, L);
    prefix_begin(w.p, 2, &open.ask, &h, 0);
    for (int i = 0; i < L * SUM; i++) assert_true(prefix_sums(w.p, 2)[i] == (float)i);
    leave(&w, 2);
    close_world(&w);
}

static void a_page_is_evicted_before_a_request_lacks_one(void **st)
{
    (void)st;
    struct world w;
    int32_t tok[TOK];
    open_world(&w, PAGES, true, false);
    for (int i = 0; i < 40; i++) {
        fill_tokens(&w, tok, 0, TOK);
        struct run r = run_of(tok, 10 * PAGE_TOK + 5, i % 2 ? FULL : MIXED);
        once(&w, &r);
        assert_int_equal(once(&w, &r), 10); /* the last is still whole */
    }
    assert_true(prefix_count(w.p).evicted > 0);
    prefix_make_room(w.p, PAGES);
    assert_int_equal(kvpool_n_free(w.pool), PAGES);
    close_world(&w);
}

static void a_prompt_that_comes_to_nothing_leaves_nothing(void **st)
{
    (void)st;
    struct world w;
    int32_t tok[TOK];
    open_world(&w, 300, true, false);
    fill_tokens(&w, tok, 0, TOK);
    struct run r = run_of(tok, 5 * PAGE_TOK, MIXED);
    run_prompt(&w, 0, &r, false);
    assert_int_equal(prefix_find(w.p, &r.ask).n_block, 0);
    leave(&w, 0);
    assert_int_equal(prefix_count(w.p).n_page, 0);
    assert_int_equal(kvpool_n_free(w.pool), PAGES);
    close_world(&w);
}

/* Conversations that grow, branch and change route, three at a time, in room for few: every hit holds what it
 * must (run_prompt compares each visible page), and the counts agree. */
static void random_conversations_agree(void **st)
{
    (void)st;
    static const uint8_t *const routes[] = {MIXED, OTHER, FULL};
    for (int kind = 0; kind < 8; kind++) {
        struct world w;
        static int32_t talk[6][TOK];
        int len[6], hits = 0;
        bool busy[SLOTS] = {0};
        open_common(&w, kind & 1 ? 90 : 250, kind & 2, kind % 4 == 3, kind & 4 ? SINK + LOCAL : 0);
        for (int i = 0; i < 6; i++) fill_tokens(&w, talk[i], 0, len[i] = 200);
        for (int i = 0; i < 1500; i++) {
            int t = rnd(&w, 6), slot = rnd(&w, SLOTS), more = 30 + rnd(&w, 300);
            if (len[t] + more > TOK || rnd(&w, 12) == 0) { /* begins anew, from what another one said */
                int o = rnd(&w, 6), n = rnd(&w, len[o]);
                memmove(talk[t], talk[o], (size_t)n * sizeof **talk);
                fill_tokens(&w, talk[t], n, len[t] = n + 20);
                more = 0;
            }
            fill_tokens(&w, talk[t], len[t], len[t] + more);
            len[t] += more;
            if (busy[slot]) leave(&w, slot);
            struct run r = run_of(talk[t], len[t], routes[rnd(&w, 3)]);
            r.ask.key_id = (uint32_t)rnd(&w, 2);
            hits += run_prompt(&w, slot, &r, rnd(&w, 8) != 0) > 0;
            busy[slot] = true;
            check(&w);
        }
        for (int s = 0; s < SLOTS; s++) leave(&w, s);
        print_message("kind %d: %d hits, %d pages evicted\n", kind, hits, (int)prefix_count(w.p).evicted);
        assert_true(hits > 200 && prefix_count(w.p).evicted > 1000);
        close_world(&w);
    }
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(a_longer_prompt_goes_on_where_the_last_ended),
        cmocka_unit_test(another_route_key_salt_or_token_never_hits),
        cmocka_unit_test(leading_pages_serve_every_route),
        cmocka_unit_test(open_bits_need_the_routers_sums),
        cmocka_unit_test(a_page_is_evicted_before_a_request_lacks_one),
        cmocka_unit_test(a_prompt_that_comes_to_nothing_leaves_nothing),
        cmocka_unit_test(random_conversations_agree),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
