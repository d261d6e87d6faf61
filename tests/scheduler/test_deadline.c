/* deadline: what is over, and what is not, in virtual time. */
#include "tests/scheduler/virtual.h"

#include <string.h>

static const struct fake_conf SMALL = {FAKE_SMALL, .max_seqs = 6};

struct house {
    struct engine *e;
    struct scheduler *s;
};

static struct house open_house(struct fake_conf fc, struct scheduler_conf c)
{
    struct house h = {.e = fake_open(&fc)};
    struct err_note note;
    c.queue_len = 9;
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

/* A long answer runs on a house for one; what else comes waits until its queue time is over. */
static void a_request_that_waits_too_long_ends_and_others_stay(void **st)
{
    (void)st;
    uint32_t seed = 10;
    struct fake_conf c = SMALL;
    c.max_seqs = 1;
    struct house h = open_house(c, (struct scheduler_conf){.queue_timeout_ms = 100});
    struct guest *g[3];
    int turns = 0, ended[3] = {0};
    for (int i = 0; i < 3; i++) {
        guest_submit(h.s, g[i] = guest_new(&seed, 10, 600));
        virtual_turn(h.s, 1);
    }
    for (; !g[0]->done; turns++) {
        virtual_turn(h.s, 1);
        for (int i = 0; i < 3; i++) {
            guest_read(g[i]);
            ended[i] = g[i]->done && !ended[i] ? turns : ended[i];
        }
    }
    assert_int_equal(g[0]->finish, FINISH_LENGTH);
    for (int i = 1; i < 3; i++) {
        assert_int_equal(g[i]->finish, FINISH_ERROR);
        assert_int_equal(g[i]->r.shared.note.code, ERR_OVERLOAD);
        assert_non_null(strstr(g[i]->r.shared.note.text, "queue-timeout-ms"));
        assert_int_equal(g[i]->n_got, 0);
        assert_in_range(ended[i], 90, 130); /* a turn is a ms, and the clocks are looked at every 20 */
    }
    assert_int_equal(atomic_load(&scheduler_stats(h.s)->timed_out), 2);
    for (int i = 0; i < 3; i++) guest_free(g[i]);
    close_house(&h);
}

static void first_token_and_total_time_have_ends(void **st)
{
    (void)st;
    for (int total = 0; total < 2; total++) {
        uint32_t seed = 11;
        struct scheduler_conf sc = {0};
        *(total ? &sc.request_timeout_ms : &sc.first_token_timeout_ms) = total ? 300 : 40;
        struct house h = open_house(SMALL, sc);
        struct guest *g = guest_new(&seed, total ? 10 : 1500, 500);
        guest_submit(h.s, g);
        for (; !g->done; guest_read(g)) virtual_turn(h.s, 10);
        assert_int_equal(g->finish, FINISH_ERROR);
        assert_int_equal(g->r.shared.note.code, ERR_DEADLINE);
        assert_non_null(
            strstr(g->r.shared.note.text, total ? "request-timeout-ms" : "first-token-timeout-ms"));
        assert_in_range(g->n_got, total ? 28 : 0, total ? 33 : 0);
        guest_free(g);
        close_house(&h);
    }
}

static void a_client_that_does_not_read_is_no_lack_of_progress(void **st)
{
    (void)st;
    uint32_t seed = 12;
    struct house h = open_house(SMALL, (struct scheduler_conf){.progress_timeout_ms = 100});
    struct guest *g = guest_new(&seed, 20, 200);
    guest_submit(h.s, g);
    while (atomic_load(&scheduler_stats(h.s)->resting) == 0) virtual_turn(h.s, 1);
    for (int i = 0; i < 300; i++) virtual_turn(h.s, 10);
    for (; !g->done; guest_read(g)) virtual_turn(h.s, 1);
    assert_int_equal(g->finish, FINISH_LENGTH);
    assert_int_equal(g->n_got, 200);
    guest_free(g);
    close_house(&h);
}

int main(void)
{
    const struct CMUnitTest t[] = {cmocka_unit_test(a_request_that_waits_too_long_ends_and_others_stay),
                                   cmocka_unit_test(first_token_and_total_time_have_ends),
                                   cmocka_unit_test(a_client_that_does_not_read_is_no_lack_of_progress)};
    return cmocka_run_group_tests(t, NULL, NULL);
}
