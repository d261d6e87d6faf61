/* body_room: who may hold how many bytes of bodies. */
#include "tests/base/cm.h"

#include "server/http/body_room.h"

enum { SMALL = 100, ALL = 10000, SHARE = 5000 };

static const struct body_owner ann = {.hi = 1, .lo = 7}, bob = {.hi = 1, .lo = 8}, cat = {.hi = 2, .lo = 7};

static void assert_empty(const struct body_room *r)
{
    assert_true(r->small_bytes == 0 && r->big_bytes == 0 && r->n_hold == 0 && list_empty(&r->client));
}

static enum err grow(struct body_room *r, struct body_hold *h, struct body_owner who, size_t bytes)
{
    struct err_note note;
    return body_room_grow(r, h, who, bytes, &note);
}

/* Whatever the big pool holds, a body up to the small length is never refused, and one byte more is. */
static void a_small_body_always_has_room(void **state)
{
    (void)state;
    struct body_room r;
    body_room_init(&r, SMALL, ALL, ALL);
    struct body_hold big = {0}, small[50] = {0};
    assert_int_equal(grow(&r, &big, ann, ALL), OK);
    for (int i = 0; i < 50; i++) assert_int_equal(grow(&r, &small[i], ann, SMALL), OK);
    assert_int_equal(grow(&r, &small[0], ann, SMALL + 1), ERR_OVERLOAD);
    assert_true(small[0].bytes == SMALL && r.small_bytes == 50 * SMALL && r.big_bytes == ALL);
    for (int i = 0; i < 50; i++) body_room_give(&r, &small[i]);
    body_room_give(&r, &big);
    assert_empty(&r);
}

/* However a body's bytes come, the last sum counts; and the bound is met to the byte. */
static void what_came_counts_whatever_its_pieces(void **state)
{
    (void)state;
    static const size_t piece[] = {1, 7, 99, 100, 101, 1000, SHARE};
    for (size_t p = 0; p < sizeof piece / sizeof *piece; p++) {
        struct body_room r;
        body_room_init(&r, SMALL, ALL, SHARE);
        struct body_hold h = {0};
        for (size_t n = 0; n < SHARE;) {
            n = n + piece[p] < SHARE ? n + piece[p] : SHARE;
            assert_int_equal(grow(&r, &h, ann, n), OK);
            assert_true(r.small_bytes + r.big_bytes == n && h.bytes == n && r.n_hold == 1);
            assert_true((r.big_bytes > 0) == (n > SMALL));
        }
        assert_int_equal(grow(&r, &h, ann, SHARE + 1), ERR_OVERLOAD);
        body_room_give(&r, &h);
        body_room_give(&r, &h);
        assert_empty(&r);
    }
}

/* One client's part is bounded over all its bodies; another's is its own, up to the sum of all. */
static void one_client_never_takes_all(void **state)
{
    (void)state;
    struct body_room r;
    body_room_init(&r, SMALL, ALL, SHARE);
    struct body_hold a[8] = {0}, b = {0}, c = {0};
    for (int i = 0; i < 8; i++) assert_int_equal(grow(&r, &a[i], ann, SHARE / 8), OK);
    assert_int_equal(grow(&r, &a[0], ann, SHARE / 8 + 1), ERR_OVERLOAD);
    assert_int_equal(grow(&r, &b, ann, SMALL + 1), ERR_OVERLOAD);
    assert_int_equal(grow(&r, &b, bob, SHARE - 1), OK);
    assert_int_equal(grow(&r, &c, cat, SMALL + 1), ERR_OVERLOAD);
    body_room_give(&r, &a[3]);
    assert_int_equal(grow(&r, &c, cat, SMALL + 1), OK);
    for (int i = 0; i < 8; i++) body_room_give(&r, &a[i]);
    body_room_give(&r, &b);
    body_room_give(&r, &c);
    assert_empty(&r);
}

static void a_share_is_at_least_one_body_and_at_most_all(void **state)
{
    (void)state;
    assert_true(body_room_share(0, 256, 32) == 128);
    assert_true(body_room_share(0, 256, 200) == 200);
    assert_true(body_room_share(0, 256, 300) == 256);
    assert_true(body_room_share(40, 256, 32) == 40);
    assert_true(body_room_share(20, 256, 32) == 32);
    assert_true(body_room_share(1000, 256, 32) == 256);
}

/* A random crowd, beside a plain count of its own: refusals change nothing, sums hold after every turn,
 * nothing stays. */
static void sums_hold_in_any_order(void **state)
{
    (void)state;
    enum { N = 64, CLIENTS = 5 };
    struct body_room r;
    body_room_init(&r, SMALL, ALL, SHARE);
    struct body_hold h[N] = {0};
    uint64_t x = 88172645463325252u;
    for (int turn = 0; turn < 200000; turn++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        const size_t i = x % N, more = (x >> 8) % 700;
        struct body_owner who = {.hi = 3, .lo = i % CLIENTS};
        const struct body_hold before = h[i];
        if (((x >> 32) & 7) == 0)
            body_room_give(&r, &h[i]);
        else if (grow(&r, &h[i], who, h[i].bytes + more) != OK)
            assert_true(h[i].bytes == before.bytes && h[i].client == before.client);
        size_t big = 0, small = 0, of[CLIENTS] = {0};
        int n = 0;
        for (size_t k = 0; k < N; k++) {
            *(h[k].bytes > SMALL ? &big : &small) += h[k].bytes;
            of[k % CLIENTS] += h[k].bytes > SMALL ? h[k].bytes : 0;
            n += h[k].bytes > 0;
        }
        assert_true(big == r.big_bytes && small == r.small_bytes && n == r.n_hold && big <= ALL);
        for (int k = 0; k < CLIENTS; k++) assert_true(of[k] <= SHARE);
    }
    for (size_t k = 0; k < N; k++) body_room_give(&r, &h[k]);
    assert_empty(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_body_always_has_room),
        cmocka_unit_test(what_came_counts_whatever_its_pieces),
        cmocka_unit_test(one_client_never_takes_all),
        cmocka_unit_test(a_share_is_at_least_one_body_and_at_most_all),
        cmocka_unit_test(sums_hold_in_any_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
