/* room: who may hold how many bytes of answers. */
#include "tests/base/cm.h"

#include "server/api/room.h"

enum { ALL = 1000, N_CLIENT = 7, N_ANSWER = 40 };

static void assert_empty(const struct answer_room *r) { assert_true(r->held == 0 && list_empty(&r->client)); }

static void one_client_gets_its_share_and_others_the_rest(void **state)
{
    (void)state;
    struct answer_room r;
    struct answer_hold a = {0}, b = {0}, c = {0};
    struct err_note note;
    answer_room_init(&r, ALL, 0);
    assert_int_equal(answer_room_set(&r, &a, 1, 300, &note), OK);
    assert_int_equal(answer_room_set(&r, &b, 1, 201, &note), ERR_OVERLOAD);
    assert_non_null(strstr(note.text, "--client-answers-bytes"));
    assert_int_equal(answer_room_set(&r, &b, 1, 200, &note), OK);
    assert_int_equal(answer_room_set(&r, &c, 2, 500, &note), OK);
    assert_int_equal(r.held, ALL);
    answer_room_give(&r, &a);
    assert_int_equal(answer_room_set(&r, &c, 2, 501, &note), ERR_OVERLOAD);
    assert_int_equal(c.bytes, 500);
    assert_int_equal(answer_room_set(&r, &b, 1, 500, &note), OK);
    answer_room_give(&r, &b);
    answer_room_give(&r, &b);
    answer_room_give(&r, &c);
    assert_empty(&r);
}

static void all_together_stay_within_the_whole(void **state)
{
    (void)state;
    struct answer_room r;
    struct answer_hold a = {0}, b = {0};
    struct err_note note;
    answer_room_init(&r, ALL, 900);
    assert_int_equal(answer_room_set(&r, &a, 1, 900, &note), OK);
    assert_int_equal(answer_room_set(&r, &b, 2, 101, &note), ERR_OVERLOAD);
    assert_non_null(strstr(note.text, "--max-answers-bytes"));
    assert_true(b.client == NULL);
    assert_int_equal(answer_room_set(&r, &b, 2, 100, &note), OK);
    answer_room_give(&r, &a);
    answer_room_give(&r, &b);
    assert_empty(&r);
    answer_room_init(&r, ALL, 5 * ALL);
    assert_int_equal(answer_room_set(&r, &a, 1, ALL, &note), OK);
    assert_int_equal(answer_room_set(&r, &a, 1, ALL + 1, &note), ERR_OVERLOAD);
    answer_room_give(&r, &a);
}

static void sums_are_those_of_the_answers(void **state)
{
    (void)state;
    struct answer_room r;
    struct answer_hold hold[N_ANSWER] = {{0}};
    uint32_t x = 5;
    answer_room_init(&r, ALL, 400);
    for (int round = 0; round < 20000; round++) {
        x = x * 1664525u + 1013904223u;
        const int i = (int)(x >> 8) % N_ANSWER, who = i % N_CLIENT;
        const size_t bytes = x % 5 ? (x >> 16) % 120 : 0, before = hold[i].bytes;
        struct err_note note;
        size_t held = 0, of_client = 0;
        const enum err e = answer_room_set(&r, &hold[i], (uint64_t)who, bytes, &note);
        for (int k = 0; k < N_ANSWER; k++) {
            held += hold[k].bytes;
            of_client += k % N_CLIENT == who ? hold[k].bytes : 0;
        }
        assert_int_equal(r.held, held);
        assert_true(held <= ALL && of_client <= 400);
        assert_int_equal(hold[i].bytes, e ? before : bytes);
        if (e) assert_true(held - before + bytes > ALL || of_client - before + bytes > 400);
    }
    for (int i = 0; i < N_ANSWER; i++) answer_room_give(&r, &hold[i]);
    assert_empty(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_client_gets_its_share_and_others_the_rest),
        cmocka_unit_test(all_together_stay_within_the_whole),
        cmocka_unit_test(sums_are_those_of_the_answers),
    };
    return cmocka_run_group_tests_name("server/api/room", tests, NULL, NULL);
}
