/* Who gives way at the limit of connections among those that have sent nothing, with ages that the test sets.
 * Those in the middle of something are in test_give_way.c. */
#include "tests/server/http/door.h"

/* For ever, however slow this machine is. */
static int young(struct world *w)
{
    const int fd = fresh(w);
    int64_t now_ns = INT64_MAX / 2;
    LIST_EACH (it, &w->h->conn) {
        struct crowd_member *m = &LIST_ITEM(it, struct http_conn, all)->place;
        if (m->waits && m->what == CROWD_FIRST) crowd_wait(&w->h->crowd, m, CROWD_FIRST, now_ns++);
    }
    return fd;
}

/* --- laws */

static void between_requests_goes_before_who_has_just_connected(void **state)
{
    struct world *w = *state;
    const int fd[] = {young(w), young(w), idle(w), idle(w), young(w), young(w)};
    assert_true(is_closed_silently(w, fd[2]) && is_closed_silently(w, fd[3]));
    assert_int_equal(w->h->stats.evicted, 2);
    assert_int_equal(w->h->stats.refused_early, 0);
    for (int i = 0; i < 6; i++)
        if (i != 2 && i != 3) assert_int_equal(answer(w, fd[i]), 200);
    close_all(fd, 6);
}

static void among_many_that_have_just_connected_the_first_is_told(void **state)
{
    struct world *w = *state;
    enum { N = 3 * MOST };
    int fd[N];
    for (int i = 0; i < N; i++) fd[i] = young(w);
    for (int i = 0; i < N - MOST; i++) assert_int_equal(status(w, fd[i]), 503);
    for (int i = N - MOST; i < N; i++) assert_int_equal(answer(w, fd[i]), 200);
    assert_int_equal(w->h->stats.refused_early, N - MOST);
    assert_int_equal(w->h->stats.evicted, 0);
    close_all(fd, N);
}

static void what_was_silent_for_long_goes_by_age_whether_it_asked_or_not(void **state)
{
    struct world *w = *state;
    int fd[2 * MOST];
    for (int i = 0; i < MOST; i++) {
        fd[i] = i % 2 ? idle(w) : fresh(w);
        let_pass(w, 2000);
    }
    for (int i = 0; i < MOST; i++) {
        fd[MOST + i] = fresh(w);
        assert_true(is_closed_silently(w, fd[i]));
        for (int k = i + 1; k <= MOST + i; k++) assert_true(is_open(w, fd[k]));
    }
    assert_int_equal(w->h->stats.evicted, MOST);
    close_all(fd, 2 * MOST);
}

/* All of it comes between two turns, so nothing of it is looked at before the limit is met. */
static void a_request_that_came_with_a_crowd_is_answered(void **state)
{
    struct world *w = *state;
    enum { N = 10 * MOST };
    int fd[N];
    for (int i = 0; i < N; i++) {
        fd[i] = connect_from(w, 1);
        if (i % 2) say(fd[i], ask);
    }
    turns_until(w, N);
    for (int i = 1; i < N; i += 2) {
        assert_int_equal(status(w, fd[i]), 200);
    }
    close_all(fd, N);
}

int main(void)
{
    log_set_level(LOG_ERROR);
#define LAW(f) cmocka_unit_test_setup_teardown(f, open_world, close_world)
    const struct CMUnitTest tests[] = {
        LAW(between_requests_goes_before_who_has_just_connected),
        LAW(among_many_that_have_just_connected_the_first_is_told),
        LAW(what_was_silent_for_long_goes_by_age_whether_it_asked_or_not),
        LAW(a_request_that_came_with_a_crowd_is_answered),
    };
    return cmocka_run_group_tests_name("server/http/room", tests, NULL, NULL);
}
