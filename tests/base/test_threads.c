#include "tests/base/cm.h"

#include <grp.h>
#include <pthread.h>
#include <stdio.h>

#include "base/threads.h"

static void as_many_as_are_asked_for_can_be_started(void **state)
{
    (void)state;
    for (int n = 0; n <= 64; n++) assert_true(threads_can_start(n));
}

static void *nothing(void *arg) { return arg; }

/* Another user, who has this one process: with `n` threads allowed n - 1 may be started, and that many right
 * afterwards. */
static void try_under_limits(void)
{
    for (int n = 1; n <= 8; n++) {
        struct rlimit limit = {(rlim_t)n, 64};
        pthread_t t[8];
        if (setrlimit(RLIMIT_NPROC, &limit) != 0) _exit(2);
        for (int try = 0; try < 50; try++)
            for (int more = 0; more <= 8; more++) {
                if (threads_can_start(more) != (more <= n - 1)) _exit(3);
                for (int i = 0; i < more && more == n - 1; i++)
                    if (pthread_create(&t[i], NULL, nothing, NULL) != 0)
                        _exit(4); /* none of the tried ones counts any more */
                for (int i = 0; i < more && more == n - 1; i++) pthread_join(t[i], NULL);
                for (int wait = 0; wait < 1000 && more == n - 1 && !threads_can_start(n - 1); wait++)
                    usleep(1000); /* until ours have gone */
            }
    }
    _exit(0);
}

static void the_limit_is_told_and_nothing_counts_against_it_afterwards(void **state)
{
    (void)state;
    if (geteuid() != 0) skip(); /* it takes root to become a user who has no other thread */
    char out[256];
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        const uid_t other = 0x100000u + (uid_t)getpid();
        setrlimit(RLIMIT_NPROC, &(struct rlimit){64, 64});
        if (setgroups(0, NULL) != 0 || setgid(other) != 0 || setuid(other) != 0) _exit(5);
        try_under_limits();
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    snprintf(out, sizeof out, "exit %d", WEXITSTATUS(status));
    assert_string_equal(out, "exit 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_many_as_are_asked_for_can_be_started),
        cmocka_unit_test(the_limit_is_told_and_nothing_counts_against_it_afterwards),
    };
    return cmocka_run_group_tests_name("base/threads", tests, NULL, NULL);
}
