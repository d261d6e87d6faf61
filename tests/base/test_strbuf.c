#include "tests/base/cm.h"

#include "base/strbuf.h"

/* so that an impossible allocation returns NULL under the sanitizer too */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "allocator_may_return_null=1"; }

static volatile size_t no_machine_has = (size_t)PTRDIFF_MAX / 4;
static volatile size_t no_size_t_holds = SIZE_MAX - 2;

static void writes_append_and_end_in_nul(void **state)
{
    (void)state;
    struct strbuf b;
    strbuf_init(&b);
    assert_false(strbuf_failed(&b));
    strbuf_put(&b, NULL, 0);
    assert_string_equal(b.data, "");
    strbuf_puts(&b, "ab");
    strbuf_putc(&b, 'c');
    strbuf_put(&b, "d\0e", 3);
    strbuf_printf(&b, "-%d-%s", 42, "x");
    assert_int_equal(b.len, 11);
    assert_memory_equal(b.data, "abcd\0e-42-x", 12);
    assert_false(strbuf_failed(&b));
    strbuf_fini(&b);
    strbuf_fini(&b);
}

static void growth_keeps_every_byte(void **state)
{
    (void)state;
    struct strbuf b;
    strbuf_init(&b);
    for (int i = 0; i < 10000; i++) {
        strbuf_putc(&b, (char)('a' + i % 26));
        assert_int_equal(b.len, i + 1);
        assert_true(b.cap > b.len);
        assert_int_equal(b.data[b.len], '\0');
    }
    for (int i = 0; i < 10000; i++) assert_int_equal(b.data[i], 'a' + i % 26);
    strbuf_fini(&b);
}

static void printf_of_any_length_fits(void **state)
{
    (void)state;
    for (int n = 0; n < 200; n++) {
        struct strbuf b;
        strbuf_init(&b);
        strbuf_puts(&b, "head");
        strbuf_printf(&b, "%*s%d", n, "", 7);
        assert_int_equal(b.len, 4 + n + 1);
        assert_memory_equal(b.data, "head", 4);
        assert_int_equal(b.data[b.len - 1], '7');
        assert_int_equal(b.data[b.len], '\0');
        strbuf_fini(&b);
    }
}

static void check_failed_for_good(struct strbuf *b)
{
    assert_true(strbuf_failed(b));
    assert_int_equal(b->len, 4);
    assert_string_equal(b->data, "kept");
    strbuf_puts(b, "more");
    strbuf_putc(b, 'm');
    strbuf_printf(b, "%d", 1);
    assert_string_equal(b->data, "kept");
    strbuf_clear(b);
    strbuf_puts(b, "x");
    assert_true(strbuf_failed(b));
    assert_int_equal(b->len, 0);
}

static void failure_is_sticky_and_keeps_what_was_written(void **state)
{
    (void)state;
    const size_t size[] = {no_machine_has, no_size_t_holds};
    for (int i = 0; i < 2; i++) {
        struct strbuf b;
        strbuf_init(&b);
        strbuf_puts(&b, "kept");
        strbuf_put(&b, "x", size[i]);
        check_failed_for_good(&b);
        assert_null(strbuf_take(&b));
        assert_true(strbuf_failed(&b));
        assert_int_equal(b.len, 0);
        strbuf_fini(&b);
        strbuf_init(&b); /* only a new life clears it */
        strbuf_puts(&b, "new");
        assert_false(strbuf_failed(&b));
        strbuf_fini(&b);
    }
}

static void clear_keeps_the_memory(void **state)
{
    (void)state;
    struct strbuf b;
    strbuf_init(&b);
    strbuf_clear(&b);
    assert_int_equal(b.len, 0);
    strbuf_puts(&b, "some text");
    char *data = b.data;
    size_t cap = b.cap;
    strbuf_clear(&b);
    assert_int_equal(b.len, 0);
    assert_string_equal(b.data, "");
    strbuf_puts(&b, "again");
    assert_ptr_equal(b.data, data);
    assert_int_equal(b.cap, cap);
    strbuf_fini(&b);
}

static void drop_front_moves_the_rest_forward(void **state)
{
    (void)state;
    struct strbuf b;
    strbuf_init(&b);
    strbuf_drop_front(&b, 0);
    strbuf_puts(&b, "0123456789");
    strbuf_drop_front(&b, 3);
    assert_string_equal(b.data, "3456789");
    assert_int_equal(b.len, 7);
    strbuf_drop_front(&b, 7);
    assert_string_equal(b.data, "");
    assert_int_equal(b.len, 0);
    strbuf_fini(&b);
}

static void drop_too_much(void)
{
    struct strbuf b;
    strbuf_init(&b);
    strbuf_puts(&b, "ab");
    strbuf_drop_front(&b, 3);
}

static void dropping_more_than_there_is_is_a_bug(void **state)
{
    (void)state;
    assert_check_fails(drop_too_much, "n <= b->len");
}

static void take_hands_the_string_over(void **state)
{
    (void)state;
    struct strbuf b;
    strbuf_init(&b);
    strbuf_puts(&b, "mine");
    char *s = strbuf_take(&b);
    assert_string_equal(s, "mine");
    assert_int_equal(b.len, 0);
    assert_null(b.data);
    strbuf_puts(&b, "other");
    assert_string_equal(s, "mine");
    free(s);
    strbuf_fini(&b);

    s = strbuf_take(&b);
    assert_string_equal(s, "");
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_append_and_end_in_nul),
        cmocka_unit_test(growth_keeps_every_byte),
        cmocka_unit_test(printf_of_any_length_fits),
        cmocka_unit_test(failure_is_sticky_and_keeps_what_was_written),
        cmocka_unit_test(clear_keeps_the_memory),
        cmocka_unit_test(drop_front_moves_the_rest_forward),
        cmocka_unit_test(dropping_more_than_there_is_is_a_bug),
        cmocka_unit_test(take_hands_the_string_over),
    };
    return cmocka_run_group_tests_name("base/strbuf", tests, NULL, NULL);
}
