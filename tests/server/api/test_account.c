/* account: the limits of a key hold over any order of requests, and what was used comes again with time. */
#include "tests/base/cm.h"

#include <stdlib.h>
#include <string.h>

#include "server/api/account.h"

static const int64_t second = 1000000000;

static void nobody_has_no_limits(void **st)
{
    (void)st;
    struct err_note note;
    assert_int_equal(account_enter(NULL, 1, 1000, &note), OK);
    account_answered(NULL, 5);
    account_leave(NULL);
    struct http_account free_of_limits = {.id = 1};
    for (int i = 0; i < 1000; i++)
        assert_int_equal(account_enter(&free_of_limits, second, 1 << 20, &note), OK);
    assert_true(free_of_limits.n_request == 1000 && free_of_limits.n_prompt_tok == 1000u << 20);
}

static void so_many_run_at_once_and_no_more(void **st)
{
    (void)st;
    struct http_account a = {.running_most = 3};
    struct err_note note;
    int running = 0;
    uint64_t refused = 0;
    srand(7);
    for (int i = 0; i < 10000; i++) {
        if (running > 0 && rand() % 2) {
            account_leave(&a);
            running--;
            continue;
        }
        const enum err e = account_enter(&a, i + 1, 1, &note);
        assert_int_equal(e, running < 3 ? OK : ERR_KEY_LIMIT);
        running += !e;
        refused += e != OK;
        assert_int_equal(a.running, running);
    }
    assert_true(refused > 0 && a.n_refused == refused);
    assert_int_equal(account_retry_s(&a), 1);
    assert_int_equal(err_status(ERR_KEY_LIMIT), 429);
}

/* Over hours no more is used than a minute's tokens each minute, one minute's at the start, and the last
 * request. */
static void tokens_of_a_minute_come_back_evenly(void **st)
{
    (void)st;
    enum { RATE = 600, MOST = 250 };
    struct http_account a = {.tok_per_minute = RATE};
    struct err_note note;
    int64_t now = second, used = 0, began = 0;
    srand(11);
    for (int i = 0; i < 20000; i++) {
        now += rand() % (2 * second);
        const int n_prompt = rand() % MOST, n_answer = rand() % MOST;
        if (account_enter(&a, now, n_prompt, &note) == OK) {
            account_answered(&a, n_answer);
            account_leave(&a);
            used += n_prompt + n_answer;
            began++;
        } else {
            const int wait_s = account_retry_s(&a);
            struct http_account then = a;
            assert_true(wait_s >= 1 && wait_s <= 60);
            assert_int_equal(account_enter(&then, now + wait_s * second + second / 100, 1, &note), OK);
        }
        const double allowed = (double)(now - second) / (double)second / 60 * RATE + RATE + 2 * MOST;
        assert_true((double)used <= allowed);
    }
    const double earned = (double)(now - second) / (double)second / 60 * RATE;
    assert_true(began > 0 && (double)used > 0.9 * earned); /* and what there is can be used */
}

static void a_debt_of_any_size_is_told(void **st)
{
    (void)st;
    struct http_account a = {.tok_per_minute = 1};
    struct err_note note;
    assert_int_equal(account_enter(&a, second, 1 << 20, &note), OK);
    account_answered(&a, 1 << 30);
    assert_int_equal(account_enter(&a, 2 * second, 1, &note), ERR_KEY_LIMIT);
    assert_int_equal(account_retry_s(&a), 3600);
    assert_non_null(strstr(note.text, "1 tokens a minute"));
}

int main(void)
{
    const struct CMUnitTest test[] = {
        cmocka_unit_test(nobody_has_no_limits),
        cmocka_unit_test(so_many_run_at_once_and_no_more),
        cmocka_unit_test(tokens_of_a_minute_come_back_evenly),
        cmocka_unit_test(a_debt_of_any_size_is_told),
    };
    return cmocka_run_group_tests(test, NULL, NULL);
}
