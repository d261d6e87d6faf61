/* Who gives way where there is no room for one more, against a plain search through all. */
#include "tests/base/cm.h"

#include <stdlib.h>
#include <string.h>

#include "server/http/crowd.h"

enum { N = 200, ADDRESSES = 12, STEPS = 20000, MS = 1000000 };

struct someone {
    struct crowd_member m;
    bool here, alone;
    struct peer_who who;
    int64_t since_ms; /* < 0: it does not wait */
    enum crowd_for what;
    bool served;
};

static uint64_t state_of_random;
static unsigned pick(unsigned n)
{
    state_of_random = state_of_random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(state_of_random >> 33) % n;
}

static bool same(const struct someone *a, const struct someone *b)
{
    if (a == b) return true;
    return !a->alone && !b->alone && a->who.hi == b->who.hi && a->who.lo == b->who.lo;
}

static int n_waiting(const struct someone *all, const struct someone *like)
{
    int n = 0;
    for (int i = 0; i < N; i++) n += all[i].here && all[i].since_ms >= 0 && same(&all[i], like);
    return n;
}

static int n_served(const struct someone *all, const struct someone *like)
{
    int n = 0;
    for (int i = 0; i < N; i++) n += all[i].here && all[i].served && same(&all[i], like);
    return n;
}

static int64_t end_ms(const struct someone *s)
{
    return s->since_ms + (s->what == CROWD_NEXT ? 0 : CROWD_GRACE_MS);
}

/* Who loses least goes first. */
static int64_t rank(const struct someone *s, int64_t now_ms)
{
    const int64_t late = 1000000000;
    const bool silent = s->what == CROWD_NEXT || (s->what == CROWD_FIRST && end_ms(s) <= now_ms);
    return end_ms(s) + (silent ? 0 : late);
}

/* The law: of an address with the most that wait, and of these the one with the first end of a grace. */
static void assert_is_first(const struct crowd *w, const struct someone *all, int64_t now_ms)
{
    const struct crowd_member *m = crowd_first(w, now_ms * MS);
    const struct someone *of = NULL, *first = NULL;
    for (int i = 0; i < N; i++) {
        if (!all[i].here || all[i].since_ms < 0) continue;
        const int more = of ? n_waiting(all, &all[i]) - n_waiting(all, of) : 1;
        if (more > 0 || (more == 0 && end_ms(&all[i]) < end_ms(of))) of = &all[i];
    }
    if (!of) {
        assert_null(m);
        return;
    }
    for (int i = 0; i < N; i++)
        if (all[i].here && all[i].since_ms >= 0 && same(&all[i], of) &&
            (!first || rank(&all[i], now_ms) < rank(first, now_ms)))
            first = &all[i];
    const struct someone *s = LIST_ITEM(m, struct someone, m);
    assert_true(s->here && s->since_ms >= 0);
    assert_int_equal(rank(s, now_ms), rank(first, now_ms));
}

static struct peer_who some_address(void)
{
    return (struct peer_who){.hi = pick(2), .lo = pick(ADDRESSES / 2)};
}

static void change(struct crowd *w, struct someone *s, int64_t now_ms)
{
    if (!s->here) {
        *s = (struct someone){.here = true, .alone = pick(10) == 0, .who = some_address(), .since_ms = -1};
        assert_true(crowd_enter(w, &s->m, s->alone ? NULL : &s->who));
        return;
    }
    switch (pick(6)) {
    case 0:
        crowd_leave(w, &s->m);
        s->here = false;
        return;
    case 1:
        crowd_serve(w, &s->m);
        s->since_ms = -1;
        s->served = true;
        return;
    case 2:
        crowd_go_on(w, &s->m);
        s->since_ms = -1;
        s->served = false;
        return;
    case 3:
        s->alone = pick(4) == 0;
        s->who = some_address();
        assert_true(crowd_move(w, &s->m, s->alone ? NULL : &s->who));
        return;
    default:
        s->what = pick(N_CROWD);
        s->since_ms = now_ms;
        s->served = false;
        crowd_wait(w, &s->m, s->what, now_ms * MS);
    }
}

static void the_address_with_the_most_gives_way_and_of_it_who_loses_least(void **state)
{
    (void)state;
    static struct someone all[N];
    struct crowd w;
    assert_true(crowd_init(&w, 8));
    for (int step = 0; step < STEPS; step++) {
        struct someone *s = &all[pick(step < STEPS / 2 ? 20 : N)];
        const int64_t now_ms = step; /* each at a time of its own, so that there are no ties */
        change(&w, s, now_ms);
        if (step % 8 == 0 || step < 2000) assert_is_first(&w, all, now_ms + pick(1500));
        if (s->here) assert_int_equal(crowd_served(&s->m), n_served(all, s));
    }
    for (int i = 0; i < N; i++)
        if (all[i].here) crowd_leave(&w, &all[i].m);
    assert_null(crowd_first(&w, INT64_MAX));
    crowd_fini(&w);
}

/* However many come: taking away the first each time finds all of a crowd's own before one of
 * another's. */
static void a_crowd_of_one_address_pays_for_itself(void **state)
{
    (void)state;
    static struct crowd_member crowd[N], few[3];
    const struct peer_who crowded = {.lo = 1}, quiet = {.lo = 2};
    struct crowd w;
    assert_true(crowd_init(&w, N));
    for (int i = 0; i < 3; i++) {
        assert_true(crowd_enter(&w, &few[i], &quiet));
        crowd_wait(&w, &few[i], CROWD_BODY, i);
    }
    for (int i = 0; i < N; i++) {
        assert_true(crowd_enter(&w, &crowd[i], &crowded));
        crowd_wait(&w, &crowd[i], i % N_CROWD, (int64_t)(1 + i) * 5000 * MS);
    }
    for (int i = 0; i < N - 3; i++) {
        struct crowd_member *m = crowd_first(&w, INT64_MAX);
        assert_true(m >= crowd && m < crowd + N);
        crowd_leave(&w, m);
    }
    for (int i = 0; i < 3; i++) crowd_leave(&w, &few[i]);
    while (crowd_first(&w, INT64_MAX)) crowd_leave(&w, crowd_first(&w, INT64_MAX));
    crowd_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_address_with_the_most_gives_way_and_of_it_who_loses_least),
        cmocka_unit_test(a_crowd_of_one_address_pays_for_itself),
    };
    return cmocka_run_group_tests_name("server/http/crowd", tests, NULL, NULL);
}
