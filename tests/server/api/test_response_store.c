/* response_store: found by key and id alone, bounded, and a chain is freed with its last link. */
#include <stdio.h>
#include <string.h>

#include "server/api/response_store.h"
#include "tests/base/cm.h"

static bool put(struct response_store *s, uint32_t key, const char *id, struct response_entry *previous,
                size_t n)
{
    static char body[1 << 16];
    memset(body, 'x', sizeof body);
    return response_store_put(s, &(struct response_put){.key_id = key,
                                                        .id = id,
                                                        .previous = previous,
                                                        .answer = body,
                                                        .n_answer = n,
                                                        .items = "[]",
                                                        .n_items = 2});
}

static void an_entry_is_found_by_its_key_and_id(void **st)
{
    (void)st;
    struct response_store *s = response_store_new(1 << 20, 3600);
    assert_true(put(s, 1, "a", NULL, 10));
    assert_true(put(s, 2, "a", NULL, 20));
    size_t n;
    struct response_entry *one = response_store_get(s, 1, "a"), *two = response_store_get(s, 2, "a");
    response_entry_answer(one, &n);
    assert_int_equal(n, 10);
    response_entry_answer(two, &n);
    assert_int_equal(n, 20);
    assert_memory_equal(response_entry_items(two, &n), "[]", 2);
    assert_null(response_store_get(s, 3, "a"));
    assert_null(response_store_get(s, 1, "b"));
    assert_true(response_store_drop(s, 1, "a"));
    assert_false(response_store_drop(s, 1, "a"));
    assert_null(response_store_get(s, 1, "a"));
    response_entry_answer(one, &n); /* still ours */
    assert_int_equal(n, 10);
    response_store_release(s, one);
    response_store_release(s, two);
    assert_int_equal(response_store_count(s), 1);
    response_store_free(s);
}

static void the_same_id_again_takes_the_place(void **st)
{
    (void)st;
    struct response_store *s = response_store_new(1 << 20, 3600);
    assert_true(put(s, 0, "a", NULL, 10));
    const size_t before = response_store_bytes(s);
    assert_true(put(s, 0, "a", NULL, 30));
    assert_int_equal(response_store_count(s), 1);
    assert_int_equal(response_store_bytes(s), before + 20);
    response_store_free(s);
}

static void the_oldest_give_way_and_the_bytes_never_exceed_their_bound(void **st)
{
    (void)st;
    struct response_store *s = response_store_new(10000, 3600);
    char id[16];
    for (int i = 0; i < 100; i++) {
        snprintf(id, sizeof id, "r%d", i);
        assert_true(put(s, 0, id, NULL, 1000));
        assert_true(response_store_bytes(s) <= 10000);
        struct response_entry *e = response_store_get(s, 0, id);
        assert_non_null(e);
        response_store_release(s, e);
    }
    assert_null(response_store_get(s, 0, "r0"));
    assert_true(response_store_count(s) >= 5 && response_store_count(s) < 10);
    assert_false(put(s, 0, "large", NULL, 20000));
    assert_null(response_store_get(s, 0, "large"));
    assert_true(response_store_bytes(s) <= 10000);
    response_store_free(s);
}

/* Longer than any stack would take by recursion. */
static void a_chain_lives_as_long_as_its_last_link(void **st)
{
    (void)st;
    enum { LINKS = 20000 };
    struct response_store *s = response_store_new((size_t)1 << 26, 3600);
    struct response_entry *last = NULL;
    char id[16];
    for (int i = 0; i < LINKS; i++) {
        snprintf(id, sizeof id, "r%d", i);
        assert_true(put(s, 0, id, last, 8));
        response_store_release(s, last);
        last = response_store_get(s, 0, id);
    }
    for (int i = 0; i < LINKS - 1; i++) {
        snprintf(id, sizeof id, "r%d", i);
        assert_true(response_store_drop(s, 0, id));
    }
    int n = 0;
    for (const struct response_entry *e = last; e; e = response_entry_previous(e)) n++;
    assert_int_equal(n, LINKS);
    assert_int_equal(response_store_count(s), 1);
    response_store_release(s, last);
    assert_true(response_store_bytes(s) > LINKS * 8);
    assert_true(response_store_drop(s, 0, "r19999"));
    assert_int_equal(response_store_bytes(s), 0);
    response_store_free(s);
}

static void what_has_expired_is_not_found(void **st)
{
    (void)st;
    struct response_store *s = response_store_new(1 << 20, 0);
    assert_true(put(s, 0, "a", NULL, 10));
    assert_null(response_store_get(s, 0, "a"));
    assert_int_equal(response_store_bytes(s), 0);
    response_store_free(s);
}

static void nothing_is_held_where_nothing_may_be(void **st)
{
    (void)st;
    struct response_store *s = response_store_new(0, 3600);
    assert_false(put(s, 0, "a", NULL, 0));
    assert_int_equal(response_store_bytes(s), 0);
    response_store_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_entry_is_found_by_its_key_and_id),
        cmocka_unit_test(the_same_id_again_takes_the_place),
        cmocka_unit_test(the_oldest_give_way_and_the_bytes_never_exceed_their_bound),
        cmocka_unit_test(a_chain_lives_as_long_as_its_last_link),
        cmocka_unit_test(what_has_expired_is_not_found),
        cmocka_unit_test(nothing_is_held_where_nothing_may_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
