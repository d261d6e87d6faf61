/* What a service manager is told: on a socket of the test's own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/notify.h"
#include "tests/base/cm.h"

enum { S = 1000000000 };

static int listen_on(const char *path)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    memcpy(at.sun_path, path, strlen(path));
    if (*path == '@') at.sun_path[0] = '\0';
    assert_int_equal(
        bind(fd, (struct sockaddr *)&at, (socklen_t)(sizeof at.sun_family + strlen(path) + (*path == '/'))),
        0);
    return fd;
}

/* The next datagram is this; "" is none. */
static void heard(int fd, const char *want)
{
    char got[64];
    ssize_t n = recv(fd, got, sizeof got - 1, 0);
    got[n > 0 ? n : 0] = '\0';
    assert_string_equal(got, want);
}

static void each_state_is_one_datagram(void **state)
{
    (void)state;
    char folder[] = "/tmp/notify-XXXXXX", path[64], abstract[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/s", folder);
    snprintf(abstract, sizeof abstract, "@fluxd-test-%d", (int)getpid());
    const char *const name[] = {path, abstract};
    for (int i = 0; i < 2; i++) {
        int fd = listen_on(name[i]);
        struct notify n;
        notify_open(&n, name[i], NULL, NULL);
        heard(fd, "");
        notify_ready(&n);
        heard(fd, "READY=1");
        notify_feed(&n, 9 * (int64_t)S, 9 * (int64_t)S); /* no watchdog was asked for */
        notify_stopping(&n);
        notify_stopping(&n);
        heard(fd, "STOPPING=1");
        heard(fd, "");
        notify_close(&n);
        close(fd);
    }
    unlink(path);
    rmdir(folder);
}

static void the_watchdog_is_fed_at_half_its_time_while_the_engine_lives_and_not_when_it_hangs(void **state)
{
    (void)state;
    char abstract[64];
    snprintf(abstract, sizeof abstract, "@fluxd-test-%d", (int)getpid());
    int fd = listen_on(abstract);
    struct notify n;
    notify_open(&n, abstract, "2000000", NULL);
    int64_t fed = 0;
    for (int64_t ms = 100000; ms < 110000; ms += 100) { /* a beat each 100 ms, asked each 100 ms */
        notify_feed(&n, ms * 1000000, ms * 1000000);
        char got[64];
        fed += recv(fd, got, sizeof got, 0) == (ssize_t)strlen("WATCHDOG=1");
    }
    assert_int_equal(fed, 10);
    for (int64_t ms = 110000; ms < 130000; ms += 100) /* the last beat was before */
        notify_feed(&n, INT64_C(109000) * 1000000, ms * 1000000);
    heard(fd, "");
    notify_feed(&n, 131 * (int64_t)S, 131 * (int64_t)S);
    heard(fd, "WATCHDOG=1");
    heard(fd, "");
    notify_close(&n);
    close(fd);
}

static void the_watchdog_of_another_process_is_not_fed(void **state)
{
    (void)state;
    char name[64], mine[24];
    snprintf(name, sizeof name, "@fluxd-test-%d", (int)getpid());
    snprintf(mine, sizeof mine, "%d", (int)getpid());
    const struct {
        const char *us, *pid;
        bool fed;
    } row[] = {{"1000000", NULL, true}, {"1000000", mine, true},
               {"1000000", "1", false}, {NULL, NULL, false},
               {"", NULL, false},       {"1e6", NULL, false},
               {"-5", NULL, false},     {"99999999999999999999", NULL, false},
               {"1000000", "", false},  {"0", NULL, false}};
    int fd = listen_on(name);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct notify n;
        notify_open(&n, name, row[i].us, row[i].pid);
        notify_feed(&n, 9 * (int64_t)S, 9 * (int64_t)S);
        heard(fd, row[i].fed ? "WATCHDOG=1" : "");
        notify_close(&n);
    }
    close(fd);
}

static void a_socket_that_cannot_be_is_none(void **state)
{
    (void)state;
    char longest[200];
    memset(longest, 'a', sizeof longest);
    longest[0] = '/';
    longest[sizeof longest - 1] = '\0';
    const char *const name[] = {NULL, "", "/", "@", "relative", "vsock:2:1", longest, "/nowhere/at/all"};
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        struct notify n;
        notify_open(&n, name[i], "1000000", NULL);
        notify_ready(&n);
        notify_feed(&n, 9 * (int64_t)S, 9 * (int64_t)S);
        notify_stopping(&n);
        notify_close(&n);
        assert_int_equal(n.fd, -1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_state_is_one_datagram),
        cmocka_unit_test(the_watchdog_is_fed_at_half_its_time_while_the_engine_lives_and_not_when_it_hangs),
        cmocka_unit_test(the_watchdog_of_another_process_is_not_fed),
        cmocka_unit_test(a_socket_that_cannot_be_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
