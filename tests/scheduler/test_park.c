/* park: clients that do not read hold nothing that others wait for, in virtual time. */
#include "tests/scheduler/virtual.h"

enum { SLOTS = 4, MANY = 24, TURN_MS = 20, LONG_TURNS = 2000 };

static const struct fake_conf SMALL = {FAKE_SMALL, .max_seqs = SLOTS};

struct house {
    struct engine *e;
    struct scheduler *s;
    uint32_t seed;
};

static struct house open_house(struct fake_conf fc, struct scheduler_conf c)
{
    struct house h = {.e = fake_open(&fc), .seed = 3};
    struct err_note note;
    c.queue_len = 2 * MANY;
    c.chunk_tok = 256;
    c.default_max_tok = 64;
    c.route = "auto";
    assert_int_equal(scheduler_open(&h.s, &c, h.e, &note), OK);
    return h;
}

static void close_house(struct house *h)
{
    scheduler_close(h->s);
    engine_close(h->e);
}

static struct guest *come(struct house *h, int n_prompt, int n_new)
{
    struct guest *g = guest_new(&h->seed, n_prompt, n_new);
    guest_submit(h->s, g);
    return g;
}

static void turns(struct house *h, int n)
{
    for (int i = 0; i < n; i++) virtual_turn(h->s, TURN_MS);
}

static int preempted(const struct house *h) { return (int)atomic_load(&scheduler_stats(h->s)->preemptions); }

/* Reads until it is done. */
static void finish(struct house *h, struct guest *g, int n_new)
{
    for (int i = 0; i < LONG_TURNS && !g->done; i++) {
        guest_read(g);
        virtual_turn(h->s, TURN_MS);
    }
    guest_read(g);
    assert_true(g->done);
    assert_int_equal(g->finish, FINISH_LENGTH);
    assert_int_equal(g->n_got, n_new);
    guest_free(g);
}

/* Every slot belongs to a client that reads nothing. swap: their pages go to host memory, or are computed
 * again. */
static void who_comes_is_served_though_all_slots_are_held_by_who_does_not_read(void **st)
{
    (void)st;
    for (int swap = 0; swap < 2; swap++) {
        struct house h = open_house(SMALL, (struct scheduler_conf){.swap_bytes = swap ? 1 << 20 : 0});
        struct guest *deaf[SLOTS];
        for (int i = 0; i < SLOTS; i++) deaf[i] = come(&h, 100 + i, 300);
        turns(&h, 100);
        assert_int_equal(preempted(&h), 0);
        assert_int_equal(atomic_load(&scheduler_stats(h.s)->resting), SLOTS);
        for (int k = 0; k < 3; k++) finish(&h, come(&h, 50, 20), 20);
        assert_int_equal(preempted(&h), 1); /* one place is enough for those who come one after another */
        assert_int_equal(atomic_load(&scheduler_stats(h.s)->resting), SLOTS);
        assert_int_equal(atomic_load(&scheduler_stats(h.s)->waiting), 0);
        for (int i = 0; i < SLOTS; i++) finish(&h, deaf[i], 300); /* not a token is lost or told twice */
        close_house(&h);
    }
}

static void pages_of_who_does_not_read_are_given_to_who_waits_for_them(void **st)
{
    (void)st;
    struct fake_conf c = SMALL;
    c.n_page = 60;
    struct house h = open_house(c, (struct scheduler_conf){0});
    struct guest *deaf[2] = {come(&h, 500, 200), come(&h, 500, 200)}, *big;
    turns(&h, 100);
    big = come(&h, 900, 50);
    finish(&h, big, 50);
    assert_true(preempted(&h) > 0);
    for (int i = 0; i < 2; i++) finish(&h, deaf[i], 200);
    close_house(&h);
}

static void where_nobody_waits_nobody_is_parked(void **st)
{
    (void)st;
    struct house h = open_house(SMALL, (struct scheduler_conf){0});
    struct guest *deaf[SLOTS - 1];
    for (int i = 0; i < SLOTS - 1; i++) deaf[i] = come(&h, 100, 300);
    turns(&h, LONG_TURNS);
    for (int k = 0; k < 5; k++) finish(&h, come(&h, 50, 20), 20);
    assert_int_equal(preempted(&h), 0);
    for (int i = 0; i < SLOTS - 1; i++) finish(&h, deaf[i], 300);
    close_house(&h);
}

static void who_reads_slowly_for_a_moment_keeps_its_place(void **st)
{
    (void)st;
    struct house h = open_house(SMALL, (struct scheduler_conf){0});
    struct guest *slow[SLOTS], *next;
    for (int i = 0; i < SLOTS; i++) slow[i] = come(&h, 20, 400);
    turns(&h, 5);
    next = come(&h, 50, 20);
    for (int i = 0; i < 300;
         i++) { /* each reads every 40 turns, which are 800 ms: its ring of 32 is full by then */
        if (i % 40 == 39)
            for (int k = 0; k < SLOTS; k++) guest_read(slow[k]);
        virtual_turn(h.s, TURN_MS);
    }
    assert_int_equal(preempted(&h), 0);
    for (int i = 0; i < SLOTS; i++) finish(&h, slow[i], 400);
    finish(&h, next, 20);
    close_house(&h);
}

/* Held up for ever they would wait behind no deadline of their own: but cancelling and the end reach them. */
static void who_is_parked_ends_like_all_others(void **st)
{
    (void)st;
    for (int how = 0; how < 3; how++) {
        struct house h =
            open_house(SMALL, (struct scheduler_conf){.request_timeout_ms = how == 2 ? 60000 : 0});
        struct guest *deaf[SLOTS], *g;
        enum err err = OK;
        for (int i = 0; i < SLOTS; i++) deaf[i] = come(&h, 100, 300);
        turns(&h, 100);
        g = come(&h, 50, 20);
        finish(&h, g, 20);
        assert_int_equal(h.s->n_parked, 1);
        if (how == 0)
            for (int i = 0; i < SLOTS; i++) scheduler_cancel(h.s, &deaf[i]->r);
        if (how == 1) {
            scheduler_stop(h.s, ERR_DRAINING);
            assert_int_equal(scheduler_turn(h.s, NULL, &err), TURN_OVER);
            struct request *ready[64];
            while (scheduler_poll(h.s, ready, 64) > 0) continue;
        } else {
            turns(&h, how == 2 ? 60000 / TURN_MS + 10 : 3);
        }
        for (int i = 0; i < SLOTS; i++) {
            guest_read(deaf[i]);
            assert_true(deaf[i]->done);
            assert_int_equal(deaf[i]->finish, how == 0 ? FINISH_CANCELLED : FINISH_ERROR);
            guest_free(deaf[i]);
        }
        assert_int_equal(h.s->n_parked, 0);
        close_house(&h);
    }
}

/* Each reads when it likes, or leaves; all end, once, with what they should have. */
static void a_crowd_that_reads_at_random_ends_whole(void **st)
{
    (void)st;
    for (uint32_t round = 0; round < 6; round++) {
        struct house h = open_house(
            SMALL, (struct scheduler_conf){.swap_bytes = round % 2 ? 1 << 20 : 0, .priority_aging_ms = 500});
        struct guest *g[MANY];
        uint32_t x = round + 1;
        h.seed = round;
        for (int i = 0; i < MANY; i++)
            g[i] = come(&h, 10 + (int)(x = x * 1664525u + 1013904223u) % 7 * 60 + 400, 40 + i * 8);
        for (int t = 0; t < 2500; t++) {
            virtual_turn(h.s, TURN_MS);
            x = x * 1664525u + 1013904223u;
            if (x >> 27 == 0 && !g[x % MANY]->done) guest_read(g[x % MANY]);
            if (t == 1500 && !g[3]->done) scheduler_cancel(h.s, &g[3]->r);
        }
        for (int i = 0; i < MANY; i++) {
            for (int t = 0; t < LONG_TURNS && !g[i]->done; t++) {
                for (int k = 0; k < MANY; k++) guest_read(g[k]);
                virtual_turn(h.s, TURN_MS);
            }
            assert_true(g[i]->done);
            assert_true(g[i]->finish == FINISH_LENGTH || i == 3);
            assert_true(g[i]->n_got == 40 + i * 8 || i == 3);
        }
        for (int i = 0; i < MANY; i++) guest_free(g[i]);
        assert_true(preempted(&h) > 0);
        close_house(&h);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_comes_is_served_though_all_slots_are_held_by_who_does_not_read),
        cmocka_unit_test(pages_of_who_does_not_read_are_given_to_who_waits_for_them),
        cmocka_unit_test(where_nobody_waits_nobody_is_parked),
        cmocka_unit_test(who_reads_slowly_for_a_moment_keeps_its_place),
        cmocka_unit_test(who_is_parked_ends_like_all_others),
        cmocka_unit_test(a_crowd_that_reads_at_random_ends_whole),
    };
    return cmocka_run_group_tests_name("scheduler/park", tests, NULL, NULL);
}
