/* place: addresses as an operator writes them, and the sockets that come of them. */
#include "tests/base/cm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/http/bind.h"
#include "server/http/place.h"

static void a_list_is_read_part_by_part(void **st)
{
    (void)st;
    static const char *const name[] = {"127.0.0.1", "::1", "::", "some.name", "/run/a socket", "::1"};
    const char *list = " 127.0.0.1,[::1] ,, ::,some.name,\tunix:/run/a socket , [::1]";
    struct place p;
    size_t n = 0;
    assert_int_equal(place_check_list(list, NULL), OK);
    for (; place_next(&list, &p); n++) {
        assert_string_equal(p.name, name[n]);
        assert_int_equal(p.is_path, n == 4);
    }
    assert_int_equal(n, sizeof name / sizeof *name);
}

static void a_part_that_is_no_place_is_named(void **st)
{
    (void)st;
    char long_path[160] = "unix:/", many[400] = "";
    memset(long_path + 6, 'a', 106);
    assert_int_equal(place_check_list(long_path, NULL), OK); /* 107 bytes */
    memset(long_path + 112, 'a', 1);
    for (int i = 0; i < PLACES_MOST + 1; i++) strcat(many, "127.0.0.1,");
    const char *const bad[] = {"",       " ,",   "unix:",     "unix:run/x", "[127.0.0.1]",   "[::1]:8000",
                               "::1::2", "a:80", "http://a/", "a b",        "127.0.0.1,[x]", long_path,
                               many};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err_note note = {0};
        if (place_check_list(bad[i], &note) != ERR_CONFIG) fail_msg("\"%s\" is taken", bad[i]);
        assert_string_equal(note.param, "--host");
    }
    static const char *const mode[] = {"", "8", "66", "0668", "1777", "00660", "-660", "rw-"};
    for (size_t i = 0; i < sizeof mode / sizeof *mode; i++)
        assert_int_equal(place_check_mode(mode[i], NULL), ERR_CONFIG);
    assert_int_equal(place_check_mode("0640", NULL), OK);
    assert_int_equal(place_mode("0640"), 0640);
}

static bool answers(int family, const void *addr, socklen_t n)
{
    const int fd = socket(family, SOCK_STREAM, 0);
    const bool ok = connect(fd, addr, n) == 0;
    close(fd);
    return ok;
}

static void close_set(struct bound_set *s)
{
    while (s->n > 0) bind_close(&s->at[--s->n]);
}

static void all_of_tcp_has_one_port(void **st)
{
    (void)st;
    struct bound_set s;
    struct err_note note;
    assert_int_equal(bind_all(&s, "127.0.0.1,127.0.0.2,localhost", 0, 0600, &note), OK);
    assert_true(s.n >= 2 && s.port > 0);
    for (int i = 0; i < s.n; i++) assert_true(s.at[i].loopback);
    struct bound_set again;
    assert_int_equal(bind_all(&again, "127.0.0.3,127.0.0.2", s.port, 0600, &note), ERR_IO);
    assert_string_equal(note.param, "--port");
    assert_int_equal(again.n, 0);
    close_set(&s);
    assert_int_equal(bind_all(&s, "no-such-name.invalid", 0, 0600, &note), ERR_CONFIG);
    assert_non_null(strstr(note.text, "no-such-name.invalid"));
}

static char folder[] = "/tmp/test_place_XXXXXX";

static const char *path_in(const char *name, char out[80])
{
    snprintf(out, 80, "unix:%s/%s", folder, name);
    return out;
}

static struct sockaddr_un at_path(const char *list)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", list + 5);
    return a;
}

static void a_socket_has_its_mode_and_is_removed_with_its_server(void **st)
{
    (void)st;
    char list[80];
    const struct sockaddr_un a = at_path(path_in("s", list));
    struct stat file;
    static const int mode[] = {0600, 0660, 0666};
    for (int i = 0; i < 3; i++) {
        struct bound_set s;
        umask(0077);
        assert_int_equal(bind_all(&s, list, 0, mode[i], NULL), OK);
        assert_int_equal(s.port, 0);
        assert_int_equal(stat(a.sun_path, &file), 0);
        assert_int_equal(file.st_mode & 0777, mode[i]);
        assert_true(answers(AF_UNIX, &a, sizeof a));
        close_set(&s);
        assert_int_equal(stat(a.sun_path, &file), -1);
    }
}

/* A socket that nobody answers at gives way; one that somebody does, or another file, does not. */
static void only_what_is_dead_gives_way(void **st)
{
    (void)st;
    char list[80];
    const struct sockaddr_un a = at_path(path_in("stale", list));
    struct err_note note;
    struct bound_set first, second;
    assert_int_equal(bind_all(&first, list, 0, 0600, NULL), OK);
    assert_int_equal(bind_all(&second, list, 0, 0600, &note), ERR_IO);
    assert_non_null(strstr(note.text, "another server"));
    assert_true(answers(AF_UNIX, &a, sizeof a));
    close(first.at[0].fd); /* as a kill leaves it */
    assert_int_equal(bind_all(&second, list, 0, 0600, &note), OK);
    assert_true(answers(AF_UNIX, &a, sizeof a));
    free(first.at[0].path);
    unlink(a.sun_path); /* somebody's mistake: then a third server takes the place of the second */
    assert_int_equal(bind_all(&first, list, 0, 0600, &note), OK);
    close_set(&second);
    assert_true(answers(AF_UNIX, &a, sizeof a));
    close_set(&first);
    assert_int_equal(access(a.sun_path, F_OK), -1);
    const int fd = open(a.sun_path, O_CREAT | O_WRONLY, 0600);
    assert_int_equal(write(fd, "x", 1), 1);
    close(fd);
    assert_int_equal(bind_all(&second, list, 0, 0600, &note), ERR_IO);
    assert_int_equal(access(a.sun_path, F_OK), 0);
    unlink(a.sun_path);
    assert_int_equal(bind_all(&second, "unix:/nonexistent/s", 0, 0600, &note), ERR_IO);
}

/* One that fails takes the others back. */
static void all_or_none(void **st)
{
    (void)st;
    char list[80], both[200];
    const struct sockaddr_un a = at_path(path_in("none", list));
    struct bound_set s;
    snprintf(both, sizeof both, "127.0.0.1,%s,unix:/nonexistent/s", list);
    assert_int_equal(bind_all(&s, both, 0, 0600, NULL), ERR_IO);
    assert_int_equal(s.n, 0);
    assert_int_equal(access(a.sun_path, F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest test[] = {
        cmocka_unit_test(a_list_is_read_part_by_part),
        cmocka_unit_test(a_part_that_is_no_place_is_named),
        cmocka_unit_test(all_of_tcp_has_one_port),
        cmocka_unit_test(a_socket_has_its_mode_and_is_removed_with_its_server),
        cmocka_unit_test(only_what_is_dead_gives_way),
        cmocka_unit_test(all_or_none),
    };
    if (!mkdtemp(folder)) return 1;
    const int failed = cmocka_run_group_tests(test, NULL, NULL);
    rmdir(folder);
    return failed;
}
