#include "tests/base/cm.h"

#include "base/list.h"

struct thing {
    int id;
    struct list node;
};

static int order(struct list *head)
{
    int digits = 0;
    LIST_EACH (it, head) digits = digits * 10 + LIST_ITEM(it, struct thing, node)->id;
    return digits;
}

static void order_is_kept_at_both_ends(void **state)
{
    (void)state;
    struct list head;
    struct thing t[4] = {{.id = 1}, {.id = 2}, {.id = 3}, {.id = 4}};
    list_init(&head);
    assert_true(list_empty(&head));
    list_push_back(&head, &t[1].node);
    list_push_back(&head, &t[2].node);
    list_push_front(&head, &t[0].node);
    list_push_back(&head, &t[3].node);
    assert_int_equal(order(&head), 1234);
    list_remove(&t[2].node);
    list_remove(&t[2].node); /* harmless */
    assert_int_equal(order(&head), 124);
    list_push_front(&head, &t[2].node);
    assert_int_equal(order(&head), 3124);
}

static void a_safe_walk_may_remove(void **state)
{
    (void)state;
    struct list head;
    struct thing t[5] = {{.id = 1}, {.id = 2}, {.id = 3}, {.id = 4}, {.id = 5}};
    list_init(&head);
    for (int i = 0; i < 5; i++) list_push_back(&head, &t[i].node);
    LIST_EACH_SAFE (it, &head) {
        if (LIST_ITEM(it, struct thing, node)->id % 2) list_remove(it);
    }
    assert_int_equal(order(&head), 24);
    LIST_EACH_SAFE (it, &head) list_remove(it);
    assert_true(list_empty(&head));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_is_kept_at_both_ends),
        cmocka_unit_test(a_safe_walk_may_remove),
    };
    return cmocka_run_group_tests_name("base/list", tests, NULL, NULL);
}
