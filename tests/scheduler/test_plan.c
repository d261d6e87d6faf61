/* plan, kvmap, kvpool: the pure parts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/plan.h"
#include "tests/base/growth.h"
#include "tests/scheduler/crowd.h"

enum { L = 4 };

static void take_is_all_or_nothing(void **st)
{
    (void)st;
    struct kvpool *p = kvpool_new(5);
    int32_t id[6];
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
    struct kvmap m;
    assert_true(kvmap_init(&m, L, 20));
    assert_true(kvmap_take(&m, p, 1, 0, 10, false));
    assert_int_equal(kvmap_give_dead(&m, p, 1, 1, 3, 9), 6); /* next query in block 9 sees 0, 7, 8, 9 */
    for (int b = 0; b < 10; b++) assert_int_equal(m.page[20 + b] >= 0, b == 0 || b >= 7);
    assert_int_equal(kvmap_give_dead(&m, p, 1, 1, 3, 9), 0);
    assert_int_equal(m.n_held, 4);
    assert_int_equal(kvmap_give_all(&m, p), 4);
    assert_int_equal(kvpool_n_free(p), 100);
    kvmap_fini(&m);
    kvpool_free(p);
}

static int32_t at(const struct kvmap *m, int block) { return m->page[m->stride + block]; }

/* Two blocks of codes a page; what is shared is never gone on with; what was taken as whole pages ends so
 * too. */
static void blocks_of_codes_pair_up_in_pages_of_their_own(void **st)
{
    (void)st;
    struct kvpool *p = kvpool_new(12);
    struct kvmap a, b;
    assert_true(kvmap_init(&a, L, 20) && kvmap_init(&b, L, 20));
    assert_int_equal(kvmap_lack(&a, 1, 0, 5, true), 3);
    assert_true(kvmap_take(&a, p, 1, 0, 5, true));
    assert_int_equal(kvmap_lack(&a, 1, 5, 6, true), 0);
    assert_int_equal(kvmap_lack(&a, 1, 5, 9, true), 2);
    assert_true(kvmap_take(&a, p, 1, 5, 6, true));
    assert_int_equal(a.held[1], 3);
    for (int i = 0; i < 6; i++) {
        assert_true(page_has_codes(at(&a, i)) && page_half(at(&a, i)) % 2 == i % 2);
        assert_int_equal(page_id(at(&a, i)), page_id(at(&a, i & ~1)));
    }
    for (int i = 4; i >= 0; i--) kvmap_share(&b, p, 1, i, at(&a, i));
    kvmap_shared(&b);
    assert_int_equal(b.held[1], 3);
    assert_int_equal(b.odd, 1); /* block 4's other half is the first's */
    assert_true(kvmap_take(&b, p, 1, 5, 8, true));
    assert_true(page_id(at(&b, 5)) != page_id(at(&b, 4)) && page_id(at(&b, 6)) == page_id(at(&b, 7)));
    assert_int_equal(b.held[1], 4 + 1); /* of 8 blocks, and the odd one */
    assert_true(kvmap_take(&b, p, 0, 5, 9, false));
    assert_int_equal(kvmap_settle(&b, p, 0, 5, 9), 1); /* 5 alone, 6 and 7, 8 */
    assert_true(page_has_codes(at(&b, 5)) && page_id(b.page[6]) == page_id(b.page[7]) &&
                page_id(b.page[7]) != page_id(b.page[8]));
    assert_int_equal(kvpool_n_used(p), 3 + 2 + 3);
    kvpool_check(p);
    assert_int_equal(kvmap_give_all(&b, p), 8);
    assert_int_equal(kvmap_give_all(&a, p), 3);
    assert_int_equal(kvpool_n_free(p), 12);
    kvmap_fini(&a);
    kvmap_fini(&b);
    kvpool_free(p);
}

static void a_pool_holds_near_twice_the_full_requests_in_codes(void **st)
{
    (void)st;
    const struct plan_limits plain = {.n_layer = L, .sink_blocks = 1, .local_blocks = 8},
                             codes = {.n_layer = L, .sink_blocks = 1, .local_blocks = 8, .codes = true};
    uint8_t full[L], sparse[L], open[L];
    memset(full, ROUTE_FULL, L), memset(sparse, ROUTE_SPARSE, L), memset(open, ROUTE_OPEN, L);
    for (int n_tok = 20000; n_tok < 21500; n_tok += 100) {
        const int64_t pool = INT64_C(100) << 30, page = INT64_C(8) * 2 * PAGE_TOK * 128 * 2,
                      exp = INT64_C(8) * 2 * PAGE_TOK * 2;
        const int64_t few = pool / page / plan_promise(&plain, full, n_tok),
                      many = pool / (page + exp) / plan_promise(&codes, full, n_tok);
        assert_true(many * 10 >= few * 19);
    }
    for (int n_tok = 1; n_tok < 3000; n_tok += 50) { /* an open bit may come out either way */
        const int s = plan_promise(&codes, sparse, n_tok), f = plan_promise(&codes, full, n_tok);
        assert_int_equal(s, plan_promise(&plain, sparse, n_tok));
        assert_int_equal(plan_promise(&codes, open, n_tok), s > f ? s : f);
    }
}

struct world {
    struct plan_limits lim;
    struct cost cost;
    struct seq seq[8];
    struct request req[8];
    struct seq *slot[8];
    uint8_t route[8][L];
    struct plan p;
    struct plan_row row[8];
    struct plan_piece piece[8];
    struct plan_pick pick[8];
};

static struct world *open_world(void)
{
    struct world *w = calloc(1, sizeof *w);
    w->lim = (struct plan_limits){.n_layer = L,
                                  .chunk_tok = 512,
                                  .n_page = 1000,
                                  .sink_blocks = 1,
                                  .local_blocks = 2,
                                  .sparse_streams = true,
                                  .alone_ms = 50,
                                  .stretch = 2,
                                  .age = 1,
                                  .pass_most = 32};
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
    for (int i = 0; i < 8; i++) kvmap_fini(&w->seq[i].map);
    free(w);
}

static void put(struct world *w, int i, enum seq_phase phase, int n_prompt)
{
    w->req[i] = (struct request){.ask.n_prompt = n_prompt};
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
    for (int i = 0; i < 3; i++) put(w, i, SEQ_DECODE, 100);
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
    w->req[0].queue.submit_ns = 0;
    w->req[1].queue.submit_ns = 3600LL * 1000000000;
    plan_step(&w->p, &w->lim, &w->cost, w->slot, 8, 1000, 3600LL * 1000000000);
    assert_int_equal(w->piece[0].seq, 0);
    close_world(w);
}

static void a_full_ring_rests(void **st)
{
    (void)st;
    struct world *w = open_world();
    put(w, 0, SEQ_DECODE, 10);
    while (request_room(&w->req[0])) request_push(&w->req[0], &(struct event){.kind = EVENT_TOKEN});
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
    uint8_t r[L] = {ROUTE_OPEN, ROUTE_SPARSE, ROUTE_FULL, ROUTE_SPARSE};
    assert_int_equal(plan_promise(&w->lim, r, 10 * PAGE_TOK), 10 + 3 + 10 + 3);
    assert_int_equal(plan_promise(&w->lim, r, PAGE_TOK), 4);
    close_world(w);
}

static void plan_crowd(void *arg, int times)
{
    struct crowd *c = (struct crowd *)arg + (times > 1);
    for (int k = 0; k < 20; k++) crowd_plan(c, k % 2 == 0);
    assert_int_equal(c->p.n_row, c->n_row);
    assert_true(c->p.n_piece > 0);
}

static void planning_is_linear_in_the_rows(void **st)
{
    (void)st;
    struct crowd *c = calloc(2, sizeof *c);
    crowd_init(&c[0], CROWD_ROWS / GROWTH_TIMES, 1);
    crowd_init(&c[1], CROWD_ROWS, GROWTH_TIMES);
    assert_linear("a step of 256 rows and 8 prompts", plan_crowd, c);
    crowd_fini(&c[0]);
    crowd_fini(&c[1]);
    free(c);
}

/* A target is kept; a stretch is met by the nearest number of whole pages, so on average. The layer is so
 * long that cutting it evenly changes nothing. */
static void a_stretch_is_met_and_a_target_is_kept(void **st)
{
    (void)st;
    for (int target = 0; target < 2; target++)
        for (double ms = 6; ms < 60; ms += 0.37) {
            struct world *w = open_world();
            w->cost = (struct cost){.prefill.unit = {0, 0.02, 0},
                                    .decode.unit = {ms, 0, 0}}; /* a page takes 2.56 ms */
            w->lim.chunk_tok = 1 << 13;
            w->lim.stretch = 2.5;
            w->lim.itl_target_ms = target ? 2.5 * ms : 0;
            put(w, 0, SEQ_DECODE, 100);
            put(w, 1, SEQ_PREFILL, 1 << 20);
            plan_step(&w->p, &w->lim, &w->cost, w->slot, 8, 1 << 20, 0);
            double off = w->p.prefill_ms - 1.5 * ms;
            assert_true(target ? off <= 1e-9 && off > -2.57 : off <= 1.281 && off >= -1.281);
            close_world(w);
        }
}

/* A layer that needs several pieces gets no more of them than it must, and none is the small rest of big
 * ones. */
static void pieces_of_a_layer_are_even(void **st)
{
    (void)st;
    const double PAGE_MS = 2.56;
    for (int way = 0; way < 4; way++)
        for (double budget = 2 * PAGE_MS; budget < 80; budget += 0.71) {
            bool target = way % 2;
            struct world *w = open_world();
            w->cost = (struct cost){.prefill.unit = {0, 0.02, 0}, .decode.unit = {budget, 0, 0}};
            w->lim.itl_target_ms = target ? 2 * budget : 0;
            w->lim.chunk_tok = 20 * PAGE_TOK;
            put(w, 0, SEQ_DECODE, 100);
            put(w, 1, SEQ_PREFILL, 50 * PAGE_TOK - (way < 2 ? 3 : 0));
            int n_piece = 0, most = 0, least = INT32_MAX, fit = (int)(budget / PAGE_MS + (target ? 0 : 0.5));
            while (w->seq[1].tok < w->req[1].ask.n_prompt) {
                plan_step(&w->p, &w->lim, &w->cost, w->slot, 8, 1000, 0);
                assert_int_equal(w->p.n_piece, 1);
                assert_true(w->p.prefill_ms <= (target ? budget : budget + PAGE_MS / 2) + 1e-9);
                int pages = blocks_of(w->piece[0].tok1 - w->piece[0].tok0);
                most = pages > most ? pages : most;
                least = pages < least ? pages : least;
                w->seq[1].tok = w->piece[0].tok1;
                n_piece++;
            }
            fit = fit < 20 ? fit : 20;
            assert_true(n_piece == (50 + fit - 1) / fit && most - least <= 1);
            close_world(w);
        }
}

static const int64_t MS = 1000000;

/* One stream and one prompt beside it; the decode pass takes 10 ms. */
static struct world *open_pair(double stretch, double burst_ms, int told_ms, int submit_ms)
{
    struct world *w = open_world();
    w->cost =
        (struct cost){.prefill.unit = {0, 0.002, 0}, .decode.unit = {10, 0, 0}}; /* a page takes 0.256 ms */
    w->lim.chunk_tok = 1 << 13;
    w->lim.stretch = stretch;
    w->lim.burst_ms = burst_ms;
    put(w, 0, SEQ_DECODE, 100);
    w->req[0].queue.first_tok_ns = told_ms * MS;
    put(w, 1, SEQ_PREFILL, 1 << 17);
    w->req[1].queue.submit_ns = submit_ms * MS;
    return w;
}

static double prefill_ms(struct world *w)
{
    plan_step(&w->p, &w->lim, &w->cost, w->slot, 8, 1 << 20, 1000 * MS);
    assert_true(w->p.n_piece > 0);
    return w->p.prefill_ms;
}

static bool near(double x, double ms) { return fabs(x - ms) < 0.5; }

static void streams_are_protected_from_prompts_that_came_after_them(void **st)
{
    (void)st;
    const struct {
        double stretch, burst_ms, target_ms;
        int told_ms, submit_ms;
        double want_ms; /* of prefill */
    } row[] = {{1.6, 25, 0, 500, 700, 6},  {1.6, 25, 0, 500, 525, 6},  {1.6, 25, 0, 500, 524, 15},
               {1.6, 25, 0, 500, 1, 15},   {1.6, 0, 0, 500, 499, 6},   {1.6, 12, 0, 500, 499, 6},
               {3, 25, 0, 500, 499, 16.4}, {3, 25, 0, 500, 700, 16.4}, {1.6, 25, 14, 500, 499, 4},
               {1.6, 25, 14, 500, 700, 4}, {1.6, 25, 22, 500, 499, 12}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct world *w = open_pair(row[i].stretch, row[i].burst_ms, row[i].told_ms, row[i].submit_ms);
        w->lim.itl_target_ms = row[i].target_ms;
        assert_true(near(prefill_ms(w), row[i].want_ms));
        close_world(w);
    }
}

static void one_senior_stream_protects_the_step(void **st)
{
    (void)st;
    struct world *w = open_pair(1.6, 25, 500, 400);
    put(w, 2, SEQ_DECODE, 100);
    w->req[2].queue.first_tok_ns = 450 * MS;
    assert_true(near(prefill_ms(w), 15));
    w->req[2].queue.first_tok_ns = 300 * MS;
    assert_true(near(prefill_ms(w), 6));
    while (request_room(&w->req[2])) /* its client does not read: it is no row of the step */
        request_push(&w->req[2], &(struct event){.kind = EVENT_TOKEN});
    assert_true(near(prefill_ms(w), 15));
    close_world(w);
}

/* Ageing does not cross priorities, so a prompt that starves behind higher ones must not lengthen their steps
 * meanwhile. */
static void a_stream_of_higher_priority_is_senior(void **st)
{
    (void)st;
    struct world *w = open_pair(1.6, 25, 500, 400);
    w->req[1].ask.priority = 1;
    assert_true(near(prefill_ms(w), 6));
    w->req[0].ask.priority = 2;
    assert_true(near(prefill_ms(w), 15));
    close_world(w);
}

/* A newcomer before a long prompt of the burst does not wait through long steps for the little that a stretch
 * would leave it; behind the last of a burst it has that little. */
static void who_goes_before_one_of_a_burst_shares_its_time(void **st)
{
    (void)st;
    struct world *w = open_pair(1.6, 25, 500, 400);
    put(w, 2, SEQ_PREFILL, 1000);
    w->req[2].queue.submit_ns = 700 * MS;
    assert_true(near(prefill_ms(w), 15));
    assert_int_equal(w->piece[0].seq, 2);
    assert_int_equal(w->piece[0].layer1 - w->piece[0].layer0, L); /* 8 ms of work */
    w->req[1].queue.submit_ns = 700 * MS;                         /* all came later */
    assert_true(near(prefill_ms(w), 6));
    put(w, 2, SEQ_PREFILL, 250);
    w->req[2].queue.submit_ns = 400 * MS; /* 2 ms of work of the burst, then the newcomer */
    w->req[1].queue.submit_ns = 700 * MS;
    assert_true(near(prefill_ms(w), 6));
    assert_int_equal(w->piece[0].seq, 2);
    close_world(w);
}

int main(void)
{
    const struct CMUnitTest t[] = {cmocka_unit_test(take_is_all_or_nothing),
                                   cmocka_unit_test(dead_pages_are_those_between_sink_and_window),
                                   cmocka_unit_test(blocks_of_codes_pair_up_in_pages_of_their_own),
                                   cmocka_unit_test(a_pool_holds_near_twice_the_full_requests_in_codes),
                                   cmocka_unit_test(all_that_can_decode_does_and_prefill_gets_its_share),
                                   cmocka_unit_test(a_short_prompt_runs_through_and_overtakes_a_long_one),
                                   cmocka_unit_test(what_waited_long_goes_first),
                                   cmocka_unit_test(a_full_ring_rests),
                                   cmocka_unit_test(a_short_pool_still_moves),
                                   cmocka_unit_test(promises_count_open_layers_as_full),
                                   cmocka_unit_test(a_stretch_is_met_and_a_target_is_kept),
                                   cmocka_unit_test(pieces_of_a_layer_are_even),
                                   cmocka_unit_test(streams_are_protected_from_prompts_that_came_after_them),
                                   cmocka_unit_test(one_senior_stream_protects_the_step),
                                   cmocka_unit_test(a_stream_of_higher_priority_is_senior),
                                   cmocka_unit_test(who_goes_before_one_of_a_burst_shares_its_time),
                                   cmocka_unit_test(planning_is_linear_in_the_rows)};
    return cmocka_run_group_tests(t, NULL, NULL);
}
