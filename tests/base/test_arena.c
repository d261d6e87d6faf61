#include "tests/base/cm.h"

#include "base/arena.h"

/* so that an impossible allocation returns NULL under the sanitizer too */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "allocator_may_return_null=1"; }

static void pieces_are_aligned_zeroed_and_apart(void **state)
{
    (void)state;
    enum { N = 3000 };
    static unsigned char *piece[N];
    static size_t size[N];
    struct arena a;
    arena_init(&a, 0);
    uint32_t rng = 1;
    for (int i = 0; i < N; i++) {
        rng = rng * 1664525u + 1013904223u;
        size[i] = i % 100 == 7 ? 20000 + (rng >> 16) : (rng >> 16) % 200;
        piece[i] = arena_alloc(&a, size[i]);
        assert_non_null(piece[i]);
        assert_int_equal((uintptr_t)piece[i] % 16, 0);
        for (size_t k = 0; k < size[i]; k++) assert_int_equal(piece[i][k], 0);
        memset(piece[i], 1 + i % 255, size[i]);
    }
    for (int i = 0; i < N; i++) {
        for (size_t k = 0; k < size[i]; k++) {
            if (piece[i][k] != 1 + i % 255) fail_msg("piece %d was written over at %zu", i, k);
        }
    }
    arena_fini(&a);
}

static void the_limit_is_exact(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 160);
    for (int i = 0; i < 9; i++) assert_non_null(arena_alloc(&a, 16));
    assert_null(arena_alloc(&a, 17));
    assert_int_equal(a.used, 144);
    assert_non_null(arena_alloc(&a, 1)); /* a refusal uses nothing up */
    assert_int_equal(a.used, 160);
    assert_null(arena_alloc(&a, 1));
    assert_null(arena_alloc(&a, 0));
    arena_fini(&a);
}

static void a_refusal_leaves_the_arena_usable(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 0);
    char *p = arena_strndup(&a, "kept", 4);
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_alloc(&a, SIZE_MAX - 15));
    assert_null(arena_alloc(&a, SIZE_MAX / 2));
    assert_null(arena_array(&a, SIZE_MAX / 4, 5));
    assert_null(arena_array(&a, 5, SIZE_MAX / 4));
    assert_null(arena_strndup(&a, "x", SIZE_MAX));
    assert_int_equal(a.used, 16);
    assert_string_equal(p, "kept");
    assert_non_null(arena_alloc(&a, 100));
    arena_fini(&a);
}

static void a_big_piece_does_not_spoil_the_small_ones(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 0);
    char *first = arena_alloc(&a, 16);
    assert_non_null(arena_alloc(&a, 1000000));
    char *second = arena_alloc(&a, 16);
    assert_ptr_equal(second, first + 16); /* still the same block */
    arena_fini(&a);
}

static void an_array_is_a_checked_product(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 0);
    double *d = arena_array(&a, 100, sizeof *d);
    assert_non_null(d);
    for (int i = 0; i < 100; i++) d[i] = i;
    assert_int_equal(a.used, 800);
    assert_non_null(arena_array(&a, 0, 8));
    arena_fini(&a);
}

static void a_copy_holds_all_bytes_and_a_nul(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 0);
    char *p = arena_strndup(&a, "ab\0cdef", 5);
    assert_memory_equal(p, "ab\0cd", 6);
    assert_string_equal(arena_strndup(&a, NULL, 0), "");
    arena_fini(&a);
}

static void an_arena_lives_again_after_fini(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 64);
    assert_non_null(arena_alloc(&a, 64));
    arena_fini(&a);
    arena_fini(&a);
    arena_init(&a, 32);
    assert_non_null(arena_alloc(&a, 32));
    assert_null(arena_alloc(&a, 1));
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_aligned_zeroed_and_apart),
        cmocka_unit_test(the_limit_is_exact),
        cmocka_unit_test(a_refusal_leaves_the_arena_usable),
        cmocka_unit_test(a_big_piece_does_not_spoil_the_small_ones),
        cmocka_unit_test(an_array_is_a_checked_product),
        cmocka_unit_test(a_copy_holds_all_bytes_and_a_nul),
        cmocka_unit_test(an_arena_lives_again_after_fini),
    };
    return cmocka_run_group_tests_name("base/arena", tests, NULL, NULL);
}
