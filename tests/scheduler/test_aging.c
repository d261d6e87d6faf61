/* ageing: nobody waits for ever, whatever its priority, key, size and route, and whatever else comes. In
 * virtual time; the bound of admit.h is looked at after every turn, for all that wait. */
#include "tests/scheduler/virtual.h"

enum { PAGES = 220, SEQS = 4, CROWD = 12, AGING_MS = 200, TURNS = 3000 };

struct hall {
    struct engine *e;
    struct scheduler *s;
    struct guest *crowd[CROWD];
    uint32_t seed;
};

static uint32_t rnd(struct hall *h, uint32_t n)
{
    return ((h->seed = h->seed * 1664525u + 1013904223u) >> 8) % n;
}

static struct hall open_hall(uint32_t seed, int aging_ms, enum route_policy policy, int default_max_tok)
{
    struct hall h = {.seed = seed};
    struct fake_conf fc = {.n_layer = 5,
                           .n_page = PAGES,
                           .max_seqs = SEQS,
                           .max_len = 4096,
                           .sink_blocks = 1,
                           .local_blocks = 2,
                           .max_prefill_tok = 2048,
                           .chunk_tok = 512,
                           .sparse_streams = true,
                           .has_router = true,
                           .bad_token = -1};
    struct scheduler_conf sc = {.queue_len = 64,
                                .chunk_tok = 256,
                                .default_max_tok = default_max_tok,
                                .route = "auto",
                                .route_policy = policy,
                                .priority_aging_ms = aging_ms};
    struct err_note note;
    h.e = fake_open(&fc);
    assert_int_equal(scheduler_open(&h.s, &sc, h.e, &note), OK);
    return h;
}

static void close_hall(struct hall *h)
{
    for (int i = 0; i < CROWD; i++) {
        if (h->crowd[i]) scheduler_cancel(h->s, &h->crowd[i]->r);
        while (h->crowd[i] && !h->crowd[i]->done) {
            virtual_turn(h->s, 10);
            guest_read(h->crowd[i]);
        }
        if (h->crowd[i]) guest_free(h->crowd[i]);
    }
    accounting_check(h->s);
    scheduler_close(h->s);
    engine_close(h->e);
}

/* The crowd is always whole: each one that ends comes again. */
static void crowd_turn(struct hall *h, bool named)
{
    for (int i = 0; i < CROWD; i++) {
        struct guest *g = h->crowd[i];
        if (g) guest_read(g);
        if (g && g->done) {
            guest_free(g);
            g = h->crowd[i] = NULL;
        }
        if (g) continue;
        g = h->crowd[i] = guest_new(&h->seed, 20 + (int)rnd(h, 300), 10 + (int)rnd(h, 150));
        g->r.ask.max_new_given = named;
        g->r.ask.key_id = rnd(h, 3);
        g->r.ask.route_ask = (enum route_ask)rnd(h, 4);
        guest_submit(h->s, g);
    }
    virtual_turn(h->s, 10);
}

/* Admissions of others from its arrival to its first token; -1: it has none after all turns. */
static int64_t admissions_before(struct hall *h, struct guest *g, bool named)
{
    for (int i = 0; i < 200; i++) crowd_turn(h, named);
    guest_submit(h->s, g);
    uint64_t begin = h->s->turn;
    for (int i = 0; i < TURNS && !g->done; i++) {
        crowd_turn(h, named);
        guest_read(g);
        if (g->n_got > 0) return (int64_t)(h->s->turn - begin);
    }
    return -1;
}

/* Low priority beside a crowd; as big as the whole pool beside small ones; both; a key that has had most. */
static void nobody_starves_beside_a_steady_crowd(void **st)
{
    (void)st;
    static const enum route_policy policy[] = {ROUTE_POLICY_NONE, ROUTE_POLICY_ORDER, ROUTE_POLICY_BALANCE};
    for (int k = 0; k < 24; k++) {
        for (int aging = 0; aging < 2; aging++) {
            const bool big = k % 2, low = k / 2 % 2 || !big, named = k / 4 % 2;
            struct hall h = open_hall(100 + (uint32_t)k, aging ? AGING_MS : 0, policy[k % 3], 32);
            struct guest *g = guest_new(&h.seed, big ? 3500 : 200, 40);
            g->r.ask.priority = low ? (k % 5 ? 2 : INT32_MAX) : 0;
            g->r.ask.key_id = 7;
            g->r.ask.route_ask = big ? ROUTE_ASK_FULL : ROUTE_ASK_DEFAULT;
            int64_t n = admissions_before(&h, g, named);
            if (aging)
                assert_true(n >= 0);
            else if (low)
                assert_int_equal(n, -1); /* so it is ageing that helps */
            if (g->here) scheduler_cancel(h.s, &g->r);
            for (; !g->done; guest_read(g)) crowd_turn(&h, named);
            guest_free(g);
            close_hall(&h);
        }
    }
}

/* An overdue crowd takes one admission of four from those of higher priority, not all. */
static void who_is_urgent_keeps_three_of_four_admissions(void **st)
{
    (void)st;
    struct hall h = open_hall(5, AGING_MS, ROUTE_POLICY_ORDER, 32);
    struct guest *slow[40], *fast[2] = {NULL};
    int n_slow = 0, n_fast = 0, first_slow = 0;
    for (int i = 0; i < 40; i++) {
        slow[i] = guest_new(&h.seed, 100, 30);
        slow[i]->r.ask.priority = 10;
        guest_submit(h.s, slow[i]);
    }
    for (int i = 0; i < 3 * AGING_MS / 10; i++) virtual_turn(h.s, 10);
    for (int i = 0; i < 40; i++) {
        guest_read(slow[i]);
        first_slow += slow[i]->done;
    }
    for (int turn = 0; turn < 400 && n_slow < 40 - first_slow - SEQS; turn++) {
        for (int i = 0; i < 2; i++) {
            if (fast[i]) guest_read(fast[i]);
            if (fast[i] && fast[i]->done) {
                guest_free(fast[i]);
                fast[i] = NULL;
                n_fast++;
            }
            if (!fast[i]) guest_submit(h.s, fast[i] = guest_new(&h.seed, 100, 10));
        }
        virtual_turn(h.s, 10);
        n_slow = -first_slow;
        for (int i = 0; i < 40; i++) {
            guest_read(slow[i]);
            n_slow += slow[i]->done;
        }
    }
    assert_true(n_slow > 0 && n_fast >= 2 * n_slow);
    for (int i = 0; i < 42; i++) {
        struct guest *g = i < 40 ? slow[i] : fast[i - 40];
        if (g->here) scheduler_cancel(h.s, &g->r);
        for (; !g->done; guest_read(g)) virtual_turn(h.s, 10);
        guest_free(g);
    }
    close_hall(&h);
}

/* Its prompt moves, too: of every four steps with pieces one begins with it, though prompts of higher
 * priority never end. */
static void an_overdue_prompt_goes_first_in_every_fourth_step(void **st)
{
    (void)st;
    struct hall h = open_hall(6, AGING_MS, ROUTE_POLICY_ORDER, 32);
    struct guest *g = guest_new(&h.seed, 3000, 5);
    int step = 0, own = 0;
    g->r.ask.priority = 3;
    guest_submit(h.s, g);
    for (; g->n_got == 0; guest_read(g)) {
        crowd_turn(&h, true);
        const struct plan *p = &h.s->plan;
        struct seq *q = g->r.queue.seq;
        if (!q || p->n_piece == 0 || !plan_overdue(&h.s->core.lim, &g->r, h.s->core.now_ns)) continue;
        step++;
        own += h.s->slot[p->piece[0].seq] == q;
        assert_true(own >= step / AGED_EVERY);
    }
    assert_true(own > 0);
    for (; !g->done; guest_read(g)) crowd_turn(&h, true);
    guest_free(g);
    close_hall(&h);
}

int main(void)
{
    const struct CMUnitTest t[] = {cmocka_unit_test(nobody_starves_beside_a_steady_crowd),
                                   cmocka_unit_test(who_is_urgent_keeps_three_of_four_admissions),
                                   cmocka_unit_test(an_overdue_prompt_goes_first_in_every_fourth_step)};
    return cmocka_run_group_tests(t, NULL, NULL);
}
