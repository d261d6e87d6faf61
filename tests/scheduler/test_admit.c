/* admit: who comes in next; plan: order of rows. */
#include <stdlib.h>
#include <string.h>

#include "scheduler/admit.h"
#include "tests/base/cm.h"
#include "tests/scheduler/crowd.h"

enum { L = 4 };
static const uint8_t LOW[L] = {1, 1, 0, 0}, HIGH[L] = {0, 0, 1, 1};
static const struct plan_limits LIM = {.n_layer = L,
                                       .chunk_tok = 512,
                                       .n_page = 1000,
                                       .sink_blocks = 1,
                                       .local_blocks = 2,
                                       .age = 1,
                                       .pass_most = 4};

static struct admit_ask ask(int pages, unsigned key, const uint8_t *route)
{
    return (struct admit_ask){.n_prompt = 1000, .n_tok = 2000, .pages = pages, .key = key, .route = route};
}

static void the_first_that_fits_goes_but_nobody_is_overtaken_for_ever(void **st)
{
    (void)st;
    double served[ADMIT_KEYS] = {0};
    struct admit_room room = {.pages = 50, .prefill_idle = true, .served_ms = served};
    struct admit_ask a[3] = {ask(100, 0, LOW), ask(60, 0, LOW), ask(40, 0, LOW)};
    assert_int_equal(admit_pick(&LIM, &room, a, 3), 2);
    a[0].passed = 4;
    assert_int_equal(admit_pick(&LIM, &room, a, 3), -1); /* the room is kept for it */
    room.pages = 100;
    assert_int_equal(admit_pick(&LIM, &room, a, 3), 0);
    assert_int_equal(admit_pick(&LIM, &room, a, 0), -1);
}

static void a_lower_priority_never_overtakes(void **st)
{
    (void)st;
    double served[ADMIT_KEYS] = {0};
    struct admit_room room = {.pages = 50, .prefill_idle = true, .served_ms = served};
    struct admit_ask a[2] = {ask(100, 0, LOW), ask(40, 0, LOW)};
    a[1].priority = 1;
    assert_int_equal(admit_pick(&LIM, &room, a, 2), -1);
}

static void the_key_that_was_served_least_goes_first(void **st)
{
    (void)st;
    double served[ADMIT_KEYS] = {[1] = 500, [2] = 100};
    struct admit_room room = {.pages = 500, .prefill_idle = true, .served_ms = served};
    struct admit_ask a[3] = {ask(10, 1, LOW), ask(10, 1, LOW), ask(10, 2, LOW)};
    assert_int_equal(admit_pick(&LIM, &room, a, 3), 2);
    a[0].passed = LIM.pass_most;
    assert_int_equal(admit_pick(&LIM, &room, a, 3), 0);
}

static void balance_takes_the_route_that_the_layers_lack(void **st)
{
    (void)st;
    double served[ADMIT_KEYS] = {0};
    int64_t pages[L] = {90, 90, 10, 10};
    struct plan_limits lim = LIM;
    struct admit_room room = {.pages = 500, .prefill_idle = true, .served_ms = served, .layer_pages = pages};
    struct admit_ask a[3] = {ask(10, 0, LOW), ask(10, 0, LOW), ask(10, 0, HIGH)};
    assert_int_equal(admit_pick(&lim, &room, a, 3), 0);
    lim.route_policy = ROUTE_POLICY_BALANCE;
    assert_int_equal(admit_pick(&lim, &room, a, 3), 2);
    a[0].passed = lim.pass_most;
    assert_int_equal(admit_pick(&lim, &room, a, 3), 0);
}

static void held_prompts_leave_room_for_what_fits(void **st)
{
    (void)st;
    double served[ADMIT_KEYS] = {0};
    struct admit_room room = {.pages = 500, .prefill_tok = 900, .served_ms = served};
    struct admit_ask a[1] = {ask(10, 0, LOW)};
    assert_int_equal(admit_pick(&LIM, &room, a, 1), -1);
    room.prefill_idle = true; /* a first prompt of any length */
    assert_int_equal(admit_pick(&LIM, &room, a, 1), 0);
}

static void neighbours_in_rank_differ_in_few_layers(void **st)
{
    (void)st;
    uint8_t a[L], b[L];
    for (unsigned g = 0; g + 1 < 1u << L; g++) { /* routes in order of rank: one layer changes at a time */
        unsigned x = g ^ g >> 1, y = (g + 1) ^ (g + 1) >> 1, differ = 0;
        for (int l = 0; l < L; l++) {
            a[l] = (uint8_t)(x >> (L - 1 - l) & 1);
            b[l] = (uint8_t)(y >> (L - 1 - l) & 1);
            differ += a[l] != b[l];
        }
        assert_int_equal(differ, 1);
        assert_true(plan_route_rank(a, L) < plan_route_rank(b, L));
    }
}

static void rows_are_ordered_by_route(void **st)
{
    (void)st;
    struct crowd *c = calloc(1, sizeof *c);
    int ordered = 0, unordered = 0; /* borders between full and sparse rows */
    crowd_init(c, CROWD_ROWS, 0);
    crowd_plan(c, true);
    assert_int_equal(c->p.n_row, CROWD_ROWS);
    for (int i = 1; i < CROWD_ROWS; i++)
        for (int l = 0; l < 6; l++) {
            ordered += c->route[c->row[i].seq][l] != c->route[c->row[i - 1].seq][l];
            unordered += c->route[i][l] != c->route[i - 1][l];
        }
    assert_true(ordered * 4 < unordered);
    crowd_fini(c);
    free(c);
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(the_first_that_fits_goes_but_nobody_is_overtaken_for_ever),
        cmocka_unit_test(a_lower_priority_never_overtakes),
        cmocka_unit_test(the_key_that_was_served_least_goes_first),
        cmocka_unit_test(balance_takes_the_route_that_the_layers_lack),
        cmocka_unit_test(held_prompts_leave_room_for_what_fits),
        cmocka_unit_test(neighbours_in_rank_differ_in_few_layers),
        cmocka_unit_test(rows_are_ordered_by_route)};
    return cmocka_run_group_tests(t, NULL, NULL);
}
