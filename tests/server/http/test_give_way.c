/* Who gives way at the limit of connections among those that are in the middle of something. Counted: so many
 * others, so many newcomers, and which of them is answered. */
#include "tests/server/http/door.h"

#define POST(lines)                                                                                          \
    "POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" lines "\r\n"

static const char whole[] = POST("Content-Length: 2\r\n") "{}";

/* What somebody sends who never comes to an end. */
static const char *const unfinished[] = {
    "",
    "G",
    "GET /hello HTTP/1.1\r\nHost: localhost\r\n",
    POST("Content-Length: 20\r\n"),
    POST("Content-Length: 20\r\n") "{",
    POST("Transfer-Encoding: chunked\r\n"),
    POST("Transfer-Encoding: chunked\r\n") "5\r\n{",
    POST("Transfer-Encoding: chunked\r\n") "2\r\n{}\r\n0\r\nX: y\r\n",
    POST("Content-Length: 20\r\nExpect: 100-continue\r\n"),
    "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\nGET /h",
    "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n" POST("Content-Length: 20\r\n") "{",
    "\r\nPOST /hello HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n",
};
enum { N_UNFINISHED = sizeof unfinished / sizeof *unfinished };

/* What somebody sends who is refused at once, and stays. */
static const char *const garbage[] = {
    "\x16\x03\x01\x02",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    POST("Content-Length: 1\r\nContent-Length: 0\r\n") "x",
    "GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "POST /secret HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{",
};
enum { N_GARBAGE = sizeof garbage / sizeof *garbage };

static const char *junk(int i)
{
    return i % 3 == 2 ? garbage[i / 3 % N_GARBAGE] : unfinished[i % N_UNFINISHED];
}

static void serves_a_newcomer(struct world *w, const char *text)
{
    const int fd = fresh_from(w, 1, text);
    assert_int_equal(status(w, fd), 200);
    close(fd);
}

/* --- laws */

static void who_has_not_finished_gives_way_to_who_asks(void **state)
{
    struct world *w = *state;
    for (int kind = 0; kind < N_UNFINISHED; kind++)
        for (int old = 0; old < 2; old++) {
            int fd[MOST];
            for (int i = 0; i < MOST; i++) fd[i] = fresh_from(w, 1, unfinished[kind]);
            if (old) let_pass(w, 2 * CROWD_GRACE_MS);
            for (int i = 0; i < 3 * MOST; i++) serves_a_newcomer(w, i % 2 ? ask : whole);
            close_all(fd, MOST);
        }
    assert_true(w->h->stats.evicted + w->h->stats.refused_early >= 2 * N_UNFINISHED);
}

/* A byte between each two newcomers makes nobody younger. */
static void a_trickle_does_not_keep_a_place(void **state)
{
    struct world *w = *state;
    static const char later[] = "Header: value\r\nHeader: value\r\n";
    for (int kind = 0; kind < N_UNFINISHED; kind++) {
        int fd[MOST];
        for (int i = 0; i < MOST; i++) fd[i] = fresh_from(w, 1, unfinished[kind]);
        for (size_t at = 0; at + 1 < sizeof later; at++) {
            for (int i = 0; i < MOST; i++) send(fd[i], kind == 1 ? "E" : &later[at], 1, MSG_NOSIGNAL);
            let_pass(w, CROWD_GRACE_MS / 8);
            serves_a_newcomer(w, whole);
        }
        close_all(fd, MOST);
    }
}

static void who_gives_way_in_the_middle_is_told(void **state)
{
    struct world *w = *state;
    static const int kind[] = {1, 2, 3, 4, 5, 6, 7};
    for (size_t k = 0; k < sizeof kind / sizeof *kind; k++) {
        int fd[MOST];
        for (int i = 0; i < MOST; i++) {
            fd[i] = fresh_from(w, 1, unfinished[kind[k]]);
            let_pass(w, 2 * CROWD_GRACE_MS);
        }
        for (int i = 0; i < MOST; i++) {
            const int newcomer = fresh(w); /* stays, so that each time the oldest goes */
            assert_int_equal(status(w, fd[i]), 503);
            for (int other = i + 1; other < MOST; other++) assert_true(is_open(w, fd[other]));
            close(fd[i]);
            fd[i] = newcomer;
        }
        close_all(fd, MOST);
        for (int i = 0; i < 20; i++) turn(w);
    }
}

/* All of a storm comes between two turns of the loop, whole requests in the middle of it. */
static void a_storm_leaves_whole_requests_alone(void **state)
{
    struct world *w = *state;
    enum { N = 90 };
    uint64_t total = 0;
    for (int round = 0; round < 12; round++) {
        int fd[N];
        for (int i = 0; i < N; i++) {
            fd[i] = connect_from(w, 1);
            const char *text = i % 9 == 4 ? i % 2 ? ask : whole : junk(round + i);
            send(fd[i], text, strlen(text), MSG_NOSIGNAL);
        }
        turns_until(w, total += N);
        for (int i = 4; i < N; i += 9) assert_int_equal(status(w, fd[i]), 200);
        close_all(fd, N);
    }
}

/* And how the server is can be asked all the time. */
static void a_request_that_is_being_answered_gives_way_to_nobody(void **state)
{
    struct world *w = *state;
    static const char ask_state[] = "GET /state HTTP/1.1\r\nHost: localhost\r\n\r\n";
    int fd[MOST], more[10 * MOST];
    for (int i = 0; i < MOST; i++) fd[i] = fresh_from(w, 1, "GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_int_equal(w->held.n, MOST);
    for (int i = 0; i < 10 * MOST; i++) {
        more[i] = fresh_from(w, 1 + (unsigned)i % 3, i % 2 ? junk(i) : whole);
        if (i % 2 == 0) assert_int_equal(status(w, more[i]), 503);
        serves_a_newcomer(w, ask_state);
    }
    answer_held(&w->held);
    for (int i = 0; i < MOST; i++) assert_int_equal(status(w, fd[i]), 200);
    close_all(fd, MOST);
    close_all(more, 10 * MOST);
}

/* Answers that nobody reads: they stand aside only so far. */
static void who_asks_how_the_server_is_takes_no_place_of_others(void **state)
{
    struct world *w = *state;
    enum { CROWD = 3 * PLACES_OVER };
    int fd[CROWD];
    static char many[200 * 42];
    many[0] = '\0';
    for (int i = 0; i < 200; i++) strcat(many, "GET /state HTTP/1.1\r\nHost: localhost\r\n\r\n");
    for (int i = 0; i < CROWD; i++) {
        fd[i] = connect_from(w, 2);
        setsockopt(fd[i], SOL_SOCKET, SO_RCVBUF, &(int){1}, sizeof(int));
        send(fd[i], many, strlen(many), MSG_NOSIGNAL | MSG_DONTWAIT);
        for (int k = 0; k < 20; k++) turn(w);
    }
    assert_true(w->h->n_aside <= PLACES_OVER);
    for (int i = 0; i < 2 * PLACES_OVER; i++) serves_a_newcomer(w, whole);
    close_all(fd, CROWD);
    for (int i = 0; i < 200; i++) turn(w);
    assert_int_equal(w->h->n_aside, 0);
}

static void nobody_is_touched_while_there_is_room(void **state)
{
    struct world *w = *state;
    static const char *const part[][2] = {
        {"G", "ET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"},
        {POST("Content-Length: 20\r\n") "{", "                  }"},
        {POST("Transfer-Encoding: chunked\r\n") "2\r\n{", "}\r\n0\r\n\r\n"},
    };
    for (size_t kind = 0; kind < sizeof part / sizeof *part; kind++) {
        int fd[MOST - 1];
        for (int i = 0; i < MOST - 1; i++) fd[i] = fresh_from(w, 1, part[kind][0]);
        let_pass(w, INT64_C(100000) * CROWD_GRACE_MS);
        for (int i = 0; i < 3 * MOST; i++) serves_a_newcomer(w, whole);
        for (int i = 0; i < MOST - 1; i++) {
            say(fd[i], part[kind][1]);
            assert_int_equal(status(w, fd[i]), 200);
        }
        close_all(fd, MOST - 1);
        for (int i = 0; i < 20; i++) turn(w);
    }
    assert_int_equal(w->h->stats.evicted + w->h->stats.refused_early, 0);
}

/* The oldest of all, and as slow as can be: but from an address of its own. */
static void a_crowd_leaves_other_addresses_alone(void **state)
{
    struct world *w = *state;
    const int slow = fresh_from(w, 2, "");
    for (size_t at = 0; at + 1 < sizeof whole; at++) {
        let_pass(w, CROWD_GRACE_MS);
        int fd[2 * MOST];
        for (int i = 0; i < 2 * MOST; i++) fd[i] = fresh_from(w, 1, junk((int)at + i));
        assert_int_equal(send(slow, &whole[at], 1, MSG_NOSIGNAL), 1);
        close_all(fd, 2 * MOST);
    }
    assert_int_equal(status(w, slow), 200);
    close(slow);
}

/* From as many addresses as there are places, each with one connection: by the age of what they began. */
static void many_addresses_are_as_one(void **state)
{
    struct world *w = *state;
    unsigned host = 2;
    int fd[10 * MOST];
    for (int i = 0; i < 10 * MOST; i++) {
        fd[i] = fresh_from(w, host++, junk(i));
        let_pass(w, CROWD_GRACE_MS / 2);
        if (i >= MOST) serves_a_newcomer(w, whole);
    }
    close_all(fd, 10 * MOST);
}

/* A body in pieces, each of which comes after all the others and before one more than there is room for. */
static bool body_survives(struct world *w, size_t piece)
{
    enum { PIECES = 24 };
    static char text[32 << 10];
    memset(text, ' ', sizeof text);
    char head[200];
    snprintf(head, sizeof head, POST("Content-Length: %zu\r\n"), PIECES * piece + 2);
    const int fd = fresh_from(w, 1, head);
    bool there = true;
    for (int i = 0; i < PIECES && there; i++) {
        int other[MOST];
        for (int k = 0; k < MOST - 1; k++) other[k] = fresh_from(w, 1, "G");
        assert_int_equal(send(fd, text, piece, MSG_NOSIGNAL | MSG_DONTWAIT), piece);
        for (int k = 0; k < 50; k++) turn(w);
        other[MOST - 1] = fresh_from(w, 1, "G");
        there = is_open(w, fd);
        close_all(other, MOST);
        for (int k = 0; k < 20; k++) turn(w);
    }
    if (there) {
        say(fd, "{}");
        assert_int_equal(status(w, fd), 200);
    }
    close(fd);
    return there;
}

static void an_upload_that_moves_keeps_its_place_and_a_trickle_does_not(void **state)
{
    struct world *w = *state;
    assert_true(body_survives(w, 20 << 10));
    assert_false(body_survives(w, 100));
}

static void nobody_without_a_key_starves_who_has_one(void **state)
{
    struct world *w = *state;
    static const char with_key[] = "POST /secret HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer k\r\n"
                                   "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    for (int round = 0; round < 30; round++) {
        int fd[2 * MOST];
        for (int i = 0; i < 2 * MOST; i++) fd[i] = fresh_from(w, 1, junk(round + i));
        serves_a_newcomer(w, with_key);
        close_all(fd, 2 * MOST);
    }
}

/* Requests being answered give way to nobody: so one address has at most 15/16 of the places by them. */
static void one_address_never_has_all_places(void **state)
{
    struct world *w = *state;
    enum { PLACES = 32, SHARE = 30 };
    int fd[2 * PLACES];
    for (int i = 0; i < 2 * PLACES; i++)
        fd[i] = fresh_from(w, 1, "GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_int_equal(w->held.n, SHARE);
    for (int i = SHARE; i < 2 * PLACES; i++) assert_int_equal(status(w, fd[i]), 503);
    for (int i = 0; i < 5; i++) {
        const int other = fresh_from(w, 2, whole);
        assert_int_equal(status(w, other), 200);
        close(other);
    }
    answer_held(&w->held);
    for (int i = 0; i < SHARE; i++) assert_int_equal(status(w, fd[i]), 200);
    close_all(fd, 2 * PLACES);
}

static void say_for(int fd, const char *path, int client)
{
    char text[200];
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 10.0.0.%d\r\n\r\n",
             path, client);
    say(fd, text);
}

/* The address that counts behind a trusted proxy is the client's. */
static void the_clients_of_a_proxy_have_shares_of_their_own(void **state)
{
    struct world *w = *state;
    enum { PLACES = 32, SHARE = 30 };
    int fd[PLACES], more[PLACES];
    for (int i = 0; i < PLACES; i++) {
        fd[i] = fresh_from(w, 1, "");
        say_for(fd[i], "/hold", 1);
        assert_int_equal(is_open(w, fd[i]), i < SHARE);
    }
    for (int i = 0; i < PLACES - SHARE; i++) {
        more[i] = fresh_from(w, 1, "");
        say_for(more[i], "/hold", 2);
        assert_true(is_open(w, more[i]));
    }
    assert_int_equal(w->held.n, PLACES);
    answer_held(&w->held);
    for (int i = 0; i < SHARE; i++) assert_int_equal(status(w, fd[i]), 200);
    for (int i = 0; i < PLACES - SHARE; i++) assert_int_equal(status(w, more[i]), 200);
    for (int i = 0; i < SHARE; i++) { /* and as before when they ask again */
        say_for(fd[i], "/hello", 3 + i % 2);
        assert_int_equal(status(w, fd[i]), 200);
    }
    close_all(fd, PLACES);
    close_all(more, PLACES - SHARE);
}

static int open_with(void **state, int most, const struct key_list *keys, const char *trusted)
{
    static struct world w;
    open_door(&w, most, keys, trusted);
    *state = &w;
    return 0;
}

static int open_keyed(void **state)
{
    static char key[] = "k";
    static struct key_row row = {.key = key, .name = "ann"};
    static const struct key_list keys = {.row = &row, .n = 1};
    return open_with(state, MOST, &keys, NULL);
}

static int open_wide(void **state) { return open_with(state, 32, NULL, NULL); }
static int open_behind_proxy(void **state) { return open_with(state, 32, NULL, "127.0.0.0/8"); }

int main(void)
{
    log_set_level(LOG_ERROR);
#define LAW_AT(open, f) cmocka_unit_test_setup_teardown(f, open, close_world)
    const struct CMUnitTest tests[] = {
        LAW_AT(open_world, who_has_not_finished_gives_way_to_who_asks),
        LAW_AT(open_world, a_trickle_does_not_keep_a_place),
        LAW_AT(open_world, who_gives_way_in_the_middle_is_told),
        LAW_AT(open_world, a_storm_leaves_whole_requests_alone),
        LAW_AT(open_world, a_request_that_is_being_answered_gives_way_to_nobody),
        LAW_AT(open_wide, who_asks_how_the_server_is_takes_no_place_of_others),
        LAW_AT(open_world, nobody_is_touched_while_there_is_room),
        LAW_AT(open_world, a_crowd_leaves_other_addresses_alone),
        LAW_AT(open_world, many_addresses_are_as_one),
        LAW_AT(open_world, an_upload_that_moves_keeps_its_place_and_a_trickle_does_not),
        LAW_AT(open_keyed, nobody_without_a_key_starves_who_has_one),
        LAW_AT(open_wide, one_address_never_has_all_places),
        LAW_AT(open_behind_proxy, the_clients_of_a_proxy_have_shares_of_their_own),
    };
    return cmocka_run_group_tests_name("server/http/give_way", tests, NULL, NULL);
}
