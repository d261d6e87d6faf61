/* cm: cmocka with the headers it wants first, and what the tests of base/ share. */
#ifndef FLUXD_TESTS_BASE_CM_H
#define FLUXD_TESTS_BASE_CM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs fn in a child with its stderr in `out` (NUL-terminated, cut at size); the child's wait status. */
static inline int run_child(void (*fn)(void), char *out, size_t size)
{
    int end[2];
    assert_int_equal(pipe(end), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        signal(SIGABRT, SIG_DFL); /* cmocka catches it */
        dup2(end[1], STDERR_FILENO);
        close(end[0]);
        close(end[1]);
        fn();
        _exit(0);
    }
    close(end[1]);
    size_t len = 0;
    ssize_t n;
    while (len < size - 1 && (n = read(end[0], out + len, size - 1 - len)) > 0) len += (size_t)n;
    out[len] = '\0';
    close(end[0]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

/* fn must end in a failed CHECK whose line names `what`. */
static inline void assert_check_fails(void (*fn)(void), const char *what)
{
    char out[4096];
    int status = run_child(fn, out, sizeof out);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_non_null(strstr(out, "check failed"));
    assert_non_null(strstr(out, what));
}

#endif
