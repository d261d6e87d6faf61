#include "tests/base/cm.h"

#include <stdio.h>

#include "base/check.h"

static int two = 2; /* not const: the compiler shall not know the outcome */

static const int break_line = __LINE__ + 1;
static void break_it(void) { CHECK(two + two == 5); }

static void a_failed_check_prints_one_line_and_aborts(void **state)
{
    (void)state;
    char out[4096];
    int status = run_child(break_it, out, sizeof out);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);

    size_t n = strlen(out);
    assert_true(n > 1);
    assert_ptr_equal(strchr(out, '\n'), out + n - 1); /* one line, whole */
    assert_non_null(strstr(out, "two + two == 5"));
    char where[64];
    snprintf(where, sizeof where, "test_check.c:%d ", break_line);
    assert_non_null(strstr(out, where));
}

static void a_check_that_holds_evaluates_once_and_goes_on(void **state)
{
    (void)state;
    int n = 0;
    CHECK(++n == 1);
    assert_int_equal(n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_check_prints_one_line_and_aborts),
        cmocka_unit_test(a_check_that_holds_evaluates_once_and_goes_on),
    };
    return cmocka_run_group_tests_name("base/check", tests, NULL, NULL);
}
