/* plan, kvmap, kvpool: the pure parts. */
#include <stdlib.h>
#include <string.h>

#include "scheduler/plan.h"
#include "tests/base/cm.h"

enum { L = 4 };

static void take_is_all_or_nothing(void **st)
{
    (void)st;
    struct kvpool *p = kvpool_new(5);
    int32_t        id[6];
    assert_false(kvpool_take(p, 6, id));
    assert_int_equal(kvpool_n_free(p), 5);
    assert_true(kvpool_take(p, 5, id));
    assert_false(kvpool_take(p, 1, id + 5));
    kvpool_share(p, id[2]);
    kvpool_give(p, 5, id);
    assert_int_equal(kvpool_n_free(p), 4); /* one has another owner */
    kvpool_check(p);
    kvpool_give(p, 1, id + 2);
    assert_int_equal(kvpool_n_free(p), 5);
    kvpool_check(p);
    kvpool_free(p);
}

static void dead_pages_are_those_between_sink_and_window(void **st)
{
    (void)st;
    struct kvpool *p = kvpool_new(100);
    struct kvmap   m;
    assert_true(kvmap_init(&m, L, 20));
    assert_true(kvmap_take(&m, p, 1, 0, 10));
    assert_int_equal(kvmap_give_dead(&m, p, 1, 1, 3, 9), 6); /* next query in block 9 sees 0, 7, 8, 9 */
    for (int b = 0; b < 10; b++)
        assert_int_equal(m.page[20 + b] >= 0, b == 0 || b >= 7);
    assert_int_equal(kvmap_give_dead(&m, p, 1, 1, 3, 9), 0);
    assert_int_equal(m.n_held, 4);
    assert_int_equal(kvmap_give_all(&m, p), 4);
    assert_int_equal(kvpool_n_free(p), 100);
    kvmap_fini(&m);
    kvpool_free(p);
}

struct world {
    struct plan_limits lim;
    struct cost        cost;
    struct seq         seq[8];
    struct request     req[8];
    struct seq        *slot[8];
    uint8_t            route[8][L];
    struct plan        p;
    struct plan_row    row[8];
    struct plan_piece  piece[8];
    struct plan_pick   pick[8];
};

static struct world *open_world(void)
{
    struct world *w = calloc(1, sizeof *w);
    w->lim = (struct plan_limits){.n_layer = L, .chunk_tok = 512, .n_page = 1000, .sink_blocks = 1, .local_blocks = 2, .sparse_streams = true, .alone_ms = 50, .stretch = 2, .age = 1, .pass_most = 32};
    w->cost = (struct cost){.prefill.unit = {0, 0.02, 0.000002}, .decode.unit = {8, 1, 0}};
    w->p = (struct plan){.row = w->row, .piece = w->piece, .pick = w->pick, .max_piece = 8};
    for (int i = 0; i < 8; i++) {
        w->slot[i] = &w->seq[i];
        assert_true(kvmap_init(&w->seq[i].map, L, 64));
    }
    return w;
}

static void close_world(struct world *w)
{
    for (int i = 0; i < 8; i++)
        kvmap_fini(&w->seq[i].map);
    free(w);
}

static void put(struct world *w, int i, enum seq_phase phase, int n_prompt)
{
    w->req[i] = (struct request){.n_prompt = n_prompt};
    memset(w->route[i], ROUTE_FULL, L);
    w->seq[i].req = &w->req[i];
    w->seq[i].phase = phase;
    w->seq[i].pos = n_prompt;
    w->seq[i].view.route = w->route[i];
}

static void all_that_can_decode_does_and_prefill_gets_its_share(void **st)
{
    (void)st;
    struct world *w = open_world();
    for (int i = 0; i < 3; i++)
        put(w, i, SEQ_DECODE, 100);
    put(w, 3, SEQ_PREFILL, 6000);
    plan_step(&w->p, &w->lim, &w->cost, w->slot, 8, 1000, 0);
    assert_int_equal(w->p.n_row, 3);
    assert_int_equal(w->p.n_piece, 1);
    assert_true(w->p.prefill_ms <= 8 + 3 + 1e-9);
    assert_int_equal(w->piece[0].tok1 % PAGE_TOK, 0);
    close_world(w);
}

static void a_short_prompt_runs_through_and_overtakes_a_long_one(void **st)
{
    (void)st;
    struct world *w = open_world();
    put(w, 0, SEQ_PREFILL, 6000);
    put(w, 1, SEQ_PREFILL, 60);
    plan_step(&w->p, &w->lim, &w->cost, w->slot, 8, 1000, 0);
    assert_int_equal(w->piece[0].seq, 1);
    assert_int_equal(w->piece[0].layer1 - w->piece[0].layer0, L);
    assert_true(w->p.n_piece == 2 && w->piece[1].seq == 0);
    close_world(w);
}

static void what_waited_long_goes_first(void **st)
{
    (void)st;
    struct world *w = open_world();
    put(w, 0, SEQ_PREFILL, 6000);
    put(w, 1, SEQ_PREFILL, 60);
    w->req[0].submit_ns = 0;
    w->req[1].submit_ns = 3600LL * 1000000000;
    plan_step(&w->p, &w->lim, &w->cost, w->slot, 8, 1000, 3600LL * 1000000000);
    assert_int_equal(w->piece[0].seq, 0);
    close_world(w);
}

static void a_full_ring_rests(void **st)
{
    (void)st;
    struct world *w = open_world();
    put(w, 0, SEQ_DECODE, 10);
    while (request_room(&w->req[0]))
        request_push(&w->req[0], &(struct event){.kind = EVENT_TOKEN});
    plan_step(&w->p, &w->lim, &w->cost, w->slot, 8, 1000, 0);
    assert_int_equal(w->p.n_row, 0);
    request_push(&w->req[0], &(struct event){.kind = EVENT_DONE}); /* there is always room for it */
    close_world(w);
}

static void a_short_pool_still_moves(void **st)
{
    (void)st;
    struct world *w = open_world();
    put(w, 0, SEQ_PREFILL, 400);
    plan_step(&w->p, &w->lim, &w->cost, w->slot, 8, 1, 0);
    assert_int_equal(w->p.n_piece, 1);
    assert_true(w->piece[0].layer1 == 1 && w->piece[0].tok1 == PAGE_TOK);
    plan_step(&w->p, &w->lim, &w->cost, w->slot, 8, 0, 0);
    assert_int_equal(w->p.n_piece, 0);
    close_world(w);
}

static void promises_count_open_layers_as_full(void **st)
{
    (void)st;
    struct world *w = open_world();
    uint8_t       r[L] = {ROUTE_OPEN, ROUTE_SPARSE, ROUTE_FULL, ROUTE_SPARSE};
    assert_int_equal(plan_promise(&w->lim, r, 10 * PAGE_TOK), 10 + 3 + 10 + 3);
    assert_int_equal(plan_promise(&w->lim, r, PAGE_TOK), 4);
    close_world(w);
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(take_is_all_or_nothing), cmocka_unit_test(dead_pages_are_those_between_sink_and_window),
        cmocka_unit_test(all_that_can_decode_does_and_prefill_gets_its_share), cmocka_unit_test(a_short_prompt_runs_through_and_overtakes_a_long_one),
        cmocka_unit_test(what_waited_long_goes_first), cmocka_unit_test(a_full_ring_rests), cmocka_unit_test(a_short_pool_still_moves),
        cmocka_unit_test(promises_count_open_layers_as_full)};
    return cmocka_run_group_tests(t, NULL, NULL);
}
