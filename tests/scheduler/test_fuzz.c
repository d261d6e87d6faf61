/* fuzz: ten thousand turns of random events over the fake engine, which checks every page and every piece
 * itself. The laws: one DONE for each accepted request, its own tokens, accounting that balances after every
 * turn, and an end. `test_fuzz FIRST COUNT` runs other seeds, without a cache and with one of every size in
 * turn.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/scheduler/virtual.h"

enum { LIVE = 40, MOST_TOK = 1400, STEPS = 10000, TALKS = 6, PAGES = 220 };

/* A conversation so far: others share its prefix, in the cache or not. */
struct talk {
    int n;
    enum route_ask ask;
    int32_t tok[MOST_TOK + 300];
};

static uint32_t first_seed, n_seed; /* asked for */

struct client {
    struct request r;
    int n_got, n_done;
    bool reads; /* takes its events */
    enum finish finish;
};
struct fuzz {
    struct engine *e;
    struct scheduler *s;
    struct client *c[LIVE]; /* NULL: free */
    uint32_t seed;
    int accepted, done, cancelled, failed, refused;
    int cache, n_page; /* pages */
    struct talk talk[TALKS];
    int finished[FINISH_KINDS];
};

static uint32_t rnd(struct fuzz *f, uint32_t n)
{
    f->seed = f->seed * 1664525u + 1013904223u;
    return (f->seed >> 8) % n;
}

static void arrive(struct fuzz *f)
{
    int i = (int)rnd(f, LIVE);
    if (f->c[i]) return;
    struct client *c = f->c[i] = calloc(1, sizeof *c);
    const struct talk *t = &f->talk[rnd(f, TALKS)];
    int old = rnd(f, 4) ? (int)(rnd(f, 3) ? (uint32_t)t->n : rnd(f, (uint32_t)t->n + 1))
                        : 0; /* it goes on, or branches */
    int n_prompt = 1 + (int)rnd(f, rnd(f, 5) ? 300 : MOST_TOK);
    n_prompt = old + n_prompt > MOST_TOK ? (old = 0, n_prompt) : old + n_prompt;
    c->r.ask.n_prompt = n_prompt;
    c->r.ask.max_new = (int)rnd(f, 200) + 1;
    c->r.ask.max_new_given = rnd(f, 2);
    c->r.ask.prompt = calloc((size_t)(n_prompt + c->r.ask.max_new + 1), sizeof(int32_t));
    for (int k = 0; k < n_prompt; k++) c->r.ask.prompt[k] = k < old ? t->tok[k] : (int32_t)rnd(f, 1000);
    c->r.shared.use.route = calloc(5, 1);
    c->r.ask.route_ask = old && rnd(f, 4) ? t->ask : (enum route_ask)rnd(f, 4);
    c->r.ask.priority = (int)rnd(f, 3) - 1;
    c->r.ask.key_id = f->cache ? rnd(f, 8) / 7 : rnd(f, 4);
    c->r.ask.cache_salt = rnd(f, 8) ? NULL : "salt";
    c->reads = true;
    struct err_note note;
    enum err err = scheduler_submit(f->s, &c->r, &note);
    if (!err) {
        f->accepted++;
        return;
    }
    assert_true(err == ERR_KV_CAPACITY || err == ERR_QUEUE_FULL);
    f->refused++;
    free(c->r.ask.prompt);
    free(c->r.shared.use.route);
    free(c);
    f->c[i] = NULL;
}

static void read_events(struct fuzz *f, int i)
{
    struct client *c = f->c[i];
    struct event e;
    while (c->reads && request_next_event(&c->r, &e)) {
        assert_int_equal(c->n_done, 0);
        if (e.kind == EVENT_TOKEN) {
            assert_int_equal(e.token.id, fake_token(c->r.ask.prompt, c->r.ask.n_prompt + c->n_got));
            c->n_got++;
            continue;
        }
        c->n_done++;
        c->finish = e.finish;
    }
    if (!c->n_done) return;
    if (c->finish == FINISH_LENGTH) {
        struct talk *t = &f->talk[rnd(f, TALKS)];
        assert_int_equal(c->n_got, c->r.ask.max_new);
        assert_true(c->r.shared.use.n_cached % PAGE_TOK == 0 && c->r.shared.use.n_cached < c->r.ask.n_prompt);
        if (c->r.ask.route_ask == ROUTE_ASK_AUTO)
            for (int l = 0; l < 5; l++)
                assert_int_equal(c->r.shared.use.route[l], fake_bit(c->r.ask.prompt, c->r.ask.n_prompt, l));
        t->n = c->r.ask.n_prompt + c->n_got;
        t->ask = c->r.ask.route_ask;
        memcpy(t->tok, c->r.ask.prompt, (size_t)t->n * sizeof *t->tok);
    }
    f->finished[c->finish]++;
    scheduler_count_end(f->s, c->finish);
    f->done++;
    free(c->r.ask.prompt);
    free(c->r.shared.use.route);
    free(c);
    f->c[i] = NULL;
}

static void poll(struct fuzz *f)
{
    struct request *ready[4 * LIVE];
    while (scheduler_poll(f->s, ready, 4 * LIVE) > 0) {
    }
    for (int i = 0; i < LIVE; i++)
        if (f->c[i]) read_events(f, i);
}

/* cache: KB of pages, each of one; 0: none */
static void open_fuzz(struct fuzz *f, uint32_t seed, int fail_at_step, int cache)
{
    const bool streams = seed % 2, codes = seed / 4 % 2;
    *f = (struct fuzz){.seed = seed, .cache = cache, .n_page = cache > PAGES ? 2 * cache : PAGES};
    struct fake_conf fc = {.n_layer = 5,
                           .resumes = cache > 0,
                           .common_blocks = seed / 2 % 2 && !codes ? 3 : 0,
                           .codes = codes,
                           .tail_tok = cache && !streams ? 128 : 0,
                           .n_page = f->n_page,
                           .max_seqs = 6,
                           .max_len = 2048,
                           .sink_blocks = 1,
                           .local_blocks = 2,
                           .max_prefill_tok = 2048,
                           .chunk_tok = 512,
                           .sparse_streams = streams,
                           .has_router = true,
                           .bad_token = 77,
                           .fail_at_step = fail_at_step};
    f->e = fake_open(&fc);
    struct scheduler_conf sc = {.queue_len = 24,
                                .chunk_tok = 256,
                                .default_max_tok = 32,
                                .route = "auto",
                                .swap_bytes = seed % 2 ? 100 * 1024 : 0,
                                .prefix_bytes = cache * INT64_C(1024),
                                .itl_burst_ms = seed % 4 ? 50 : 0,
                                .priority_aging_ms = seed % 5 * 50,
                                .route_policy = seed % 3 == 0   ? ROUTE_POLICY_NONE
                                                : seed % 3 == 1 ? ROUTE_POLICY_ORDER
                                                                : ROUTE_POLICY_BALANCE};
    struct err_note note;
    assert_int_equal(scheduler_open(&f->s, &sc, f->e, &note), OK);
}

static void close_fuzz(struct fuzz *f)
{
    assert_int_equal(f->done, f->accepted);
    accounting_check(f->s);
    assert_int_equal(kvpool_n_free(f->s->core.pool) + kvpool_n_idle(f->s->core.pool), f->n_page);
    prefix_make_room(f->s->core.prefix, f->n_page);
    assert_int_equal(kvpool_n_free(f->s->core.pool), f->n_page);
    scheduler_close(f->s);
    engine_close(f->e);
}

static void something_happens(struct fuzz *f)
{
    virtual_ns += 1000 * (1 + (int64_t)rnd(f, 20000));
    int i = (int)rnd(f, LIVE);
    struct client *c = f->c[i];
    switch (rnd(f, 24)) {
    case 0:
        queue_resize_pool(f->s, 60 + (int)rnd(f, (uint32_t)f->n_page - 59));
        break;
    case 1:
        if (c) {
            f->cancelled++;
            scheduler_cancel(f->s, &c->r);
        }
        break;
    case 2:
        if (c) c->reads = !c->reads;
        break;
    default:
        arrive(f);
    }
}

static void settle(struct fuzz *f)
{
    enum err err = OK;
    for (int turns = 0; f->done < f->accepted; turns++) {
        assert_true(turns < 200000); /* no livelock */
        for (int i = 0; i < LIVE; i++)
            if (f->c[i]) f->c[i]->reads = true;
        poll(f);
        if (scheduler_turn(f->s, NULL, &err) == TURN_OVER) poll(f);
        virtual_ns += 1000000;
        accounting_check_quick(f->s);
    }
}

/* The events went where they should: of seeds known to do so. */
static void check_reach(const struct fuzz *f, uint32_t seed, int cache)
{
    const struct scheduler_stats *n = &f->s->stats;
    assert_true(!cache || n->prefix_evicted > 100);
    const uint64_t strays =
        engine_info(f->e)->common_blocks ? 0 : 5; /* fewer begin again where routes have pages in common */
    assert_true(cache <= PAGES || (n->prefix_hits > 50 && n->prefix_strays > strays));
    assert_true(cache > PAGES || (atomic_load(&n->swaps) > 0) == seed % 2);
    assert_true(f->accepted > 300 && f->finished[FINISH_LENGTH] > 50 && f->finished[FINISH_CANCELLED] > 10 &&
                f->finished[FINISH_ERROR] > 5);
    assert_true(cache > PAGES || atomic_load(&n->preemptions) > 0);
}

static void run_events(uint32_t first, uint32_t last, int cache)
{
    static struct fuzz f;
    for (uint32_t seed = first; seed <= last; seed++) {
        enum err err = OK;
        open_fuzz(&f, seed, 0, cache);
        for (int i = 0; i < STEPS; i++) {
            something_happens(&f);
            assert_int_not_equal(scheduler_turn(f.s, NULL, &err), TURN_OVER);
            poll(&f);
            accounting_check_quick(f.s);
            aging_check(f.s);
            if (i % 100 == 0) accounting_check(f.s);
        }
        settle(&f);
        print_message(
            "seed %u: %d accepted, %d refused; stop %d, length %d, cancelled %d, error %d; preemptions %d, swaps %d\n",
            seed, f.accepted, f.refused, f.finished[FINISH_STOP], f.finished[FINISH_LENGTH],
            f.finished[FINISH_CANCELLED], f.finished[FINISH_ERROR], (int)atomic_load(&f.s->stats.preemptions),
            (int)atomic_load(&f.s->stats.swaps));
        const struct scheduler_stats *n = &f.s->stats;
        if (cache)
            print_message(
                "cache of %d: hits %d, misses %d, restarts %d, pages evicted %d, cached tokens %d of %d\n",
                cache, (int)n->prefix_hits, (int)n->prefix_misses, (int)n->prefix_strays,
                (int)n->prefix_evicted, (int)n->cached_tok, (int)n->prompt_tok);
        if (!n_seed) check_reach(&f, seed, cache);
        close_fuzz(&f);
    }
}

static void random_events_leave_balanced_books(void **st)
{
    (void)st;
    run_events(1, 3, 0);
}

static void they_do_with_a_prefix_cache_of_any_size(void **st)
{
    (void)st;
    run_events(4, 5, 40);
    run_events(6, 7, 110);
    run_events(8, 10, 500);
}

static void a_device_lost_at_any_step_ends_all_once(void **st)
{
    (void)st;
    for (int step = 1; step < 200; step += 7) {
        static struct fuzz f;
        enum err err = OK;
        open_fuzz(&f, (uint32_t)step, step, step % 3 ? 110 : 0);
        enum turn t = TURN_IDLE;
        for (int i = 0; i < STEPS && t != TURN_OVER; i++) {
            something_happens(&f);
            t = scheduler_turn(f.s, NULL, &err);
            poll(&f);
        }
        assert_int_equal(t, TURN_OVER);
        assert_int_equal(err, ERR_DEVICE);
        settle(&f);
        close_fuzz(&f);
    }
}

/* The door knows the whole pool alone: what it let in and does not fit any more may not wait for ever. */
static void what_a_smaller_pool_cannot_hold_ends(void **st)
{
    (void)st;
    static struct fuzz f;
    enum err err = OK;
    open_fuzz(&f, 2, 0, 0);
    struct client *c = f.c[0] = calloc(1, sizeof *c);
    c->r = (struct request){.ask.n_prompt = MOST_TOK,
                            .ask.max_new = 100,
                            .ask.max_new_given = true,
                            .ask.prompt = calloc(MOST_TOK + 101, sizeof(int32_t)),
                            .shared.use.route = calloc(5, 1),
                            .ask.route_ask = ROUTE_ASK_FULL};
    c->reads = true;
    struct err_note note;
    queue_resize_pool(f.s, 5 * (MOST_TOK + 100) / PAGE_TOK);
    assert_int_equal(scheduler_submit(f.s, &c->r, &note), OK);
    f.accepted++;
    for (int i = 0; i < 3; i++) scheduler_turn(f.s, NULL, &err);
    poll(&f);
    assert_int_equal(f.finished[FINISH_ERROR], 1);
    close_fuzz(&f);
}

static void seeds_that_were_asked_for(void **st)
{
    (void)st;
    static const int cache[] = {0, 40, 110, 500};
    for (uint32_t i = 0; i < n_seed; i++)
        run_events(first_seed + i, first_seed + i, cache[(first_seed + i) % 4]);
}

int main(int argc, char **argv)
{
    if (argc == 3) {
        first_seed = (uint32_t)strtoul(argv[1], NULL, 10);
        n_seed = (uint32_t)strtoul(argv[2], NULL, 10);
        const struct CMUnitTest asked[] = {cmocka_unit_test(seeds_that_were_asked_for)};
        return cmocka_run_group_tests(asked, NULL, NULL);
    }
    const struct CMUnitTest t[] = {cmocka_unit_test(random_events_leave_balanced_books),
                                   cmocka_unit_test(they_do_with_a_prefix_cache_of_any_size),
                                   cmocka_unit_test(what_a_smaller_pool_cannot_hold_ends),
                                   cmocka_unit_test(a_device_lost_at_any_step_ends_all_once)};
    return cmocka_run_group_tests(t, NULL, NULL);
}
