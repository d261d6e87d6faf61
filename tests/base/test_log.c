#include "tests/base/cm.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <regex.h>
#include <stdio.h>
#include <sys/socket.h>
#include <termios.h>
#include <time.h>

#include "base/log.h"

#define STAMP "20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\\.[0-9]{3}Z "

/* stderr is the test's own from here to stderr_back; nothing may be asserted between, or its message is lost
 */
static int stderr_to(int fd)
{
    int kept = dup(STDERR_FILENO);
    dup2(fd, STDERR_FILENO);
    return kept;
}

static void stderr_back(int kept)
{
    dup2(kept, STDERR_FILENO);
    close(kept);
}

static bool readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1 && (p.revents & POLLIN);
}

/* All that waits in fd, NUL-terminated. */
static char *drain(int fd)
{
    size_t len = 0, cap = 1 << 16;
    char *text = malloc(cap);
    while (readable(fd)) {
        if (cap - len < 8192) text = realloc(text, cap *= 2);
        ssize_t n = read(fd, text + len, cap - len - 1);
        if (n <= 0) break;
        len += (size_t)n;
    }
    text[len] = '\0';
    return text;
}

static bool matches(const char *text, const char *pattern)
{
    regex_t re;
    assert_int_equal(regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB), 0);
    int rc = regexec(&re, text, 0, NULL, 0);
    regfree(&re);
    return rc == 0;
}

/* What log_line prints for one value. free() it. */
static char *logged(const char *value)
{
    int end[2];
    assert_int_equal(pipe(end), 0);
    int kept = stderr_to(end[1]);
    log_line(LOG_INFO, "ev", "v=%s", value);
    stderr_back(kept);
    char *text = drain(end[0]);
    close(end[0]);
    close(end[1]);
    return text;
}

static void a_line_is_time_level_event_fields(void **state)
{
    (void)state;
    int end[2];
    assert_int_equal(pipe(end), 0);
    int kept = stderr_to(end[1]);
    errno = ENOSPC;
    log_line(LOG_INFO, "model loaded", "path=%s weights_mib=%.1f", "m.gguf", 86.25);
    int errno_after = errno;
    log_line(LOG_ERROR, "second", "v=%s", "");
    stderr_back(kept);
    char *text = drain(end[0]);
    assert_true(matches(text, "^" STAMP "info  model loaded path=m\\.gguf weights_mib=86\\.2\n" STAMP
                              "error second v=\n$"));
    assert_int_equal(errno_after, ENOSPC);
    free(text);
    close(end[0]);
    close(end[1]);
}

static void no_value_can_forge_a_line(void **state)
{
    (void)state;
    static const struct {
        const char *value, *shown;
    } table[] = {
        {"a\nb\r\tc", "a\\nb\\r\\tc"},
        {"\x1b[2J\x01\x7f", "\\x1b[2J\\x01\\x7f"},
        {"gr\xC3\xBC\xC3\x9F \xE2\x82\xAC \xF0\x9F\x98\x80 \xC2\xA0",
         "gr\xC3\xBC\xC3\x9F \xE2\x82\xAC \xF0\x9F\x98\x80 \xC2\xA0"},
        {"\xC2\x85\xC2\x9B", "\\xc2\\x85\\xc2\\x9b"},                   /* C1: NEL, CSI */
        {"\xE2\x80\xA8\xE2\x80\xA9", "\\xe2\\x80\\xa8\\xe2\\x80\\xa9"}, /* line and paragraph separator */
        {"\x9b"
         "31m\xFF",
         "\\x9b31m\\xff"}, /* stray bytes */
        {"\xC0\xAF \xE0\x80\xAF \xF0\x80\x80\xAF",
         "\\xc0\\xaf \\xe0\\x80\\xaf \\xf0\\x80\\x80\\xaf"}, /* overlong */
        {"\xED\xA0\x80 \xF4\x90\x80\x80",
         "\\xed\\xa0\\x80 \\xf4\\x90\\x80\\x80"}, /* surrogate, past the end */
        {"\xE2\x82", "\\xe2\\x82"},               /* cut short */
        {"\xE2\x82z", "\\xe2\\x82z"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char want[256];
        char *text = logged(table[i].value);
        snprintf(want, sizeof want, "info  ev v=%s\n", table[i].shown);
        assert_true(matches(text, "^" STAMP));
        assert_string_equal(strstr(text, "info"), want);
        free(text);
    }
}

/* `n` times the string s. free() it. */
static char *repeated(const char *s, size_t n)
{
    char *all = malloc(n * strlen(s) + 1), *p = all;
    *p = '\0';
    for (size_t i = 0; i < n; i++) p = stpcpy(p, s);
    return all;
}

static void a_long_line_is_cut_between_characters(void **state)
{
    (void)state;
    static const char *const filler[][2] = {
        {"a", "a"}, {"\n", "\\n"}, {"\xC3\xBC", "\xC3\xBC"}, {"\x80", "\\x80"}};
    const size_t n_head = strlen("2026-11-23T21:43:48.123Z info  ev v=");
    const size_t most_whole = PIPE_BUF - strlen("...\n");
    for (size_t f = 0; f < sizeof filler / sizeof *filler; f++) {
        size_t unit = strlen(filler[f][1]), n_fit = (most_whole - n_head) / unit;
        for (size_t n = n_fit - 3; n < n_fit + 200; n++) {
            char *value = repeated(filler[f][0], n), *shown = repeated(filler[f][1], n);
            char *text = logged(value), *body = text + n_head;
            bool cut = n > n_fit;
            size_t n_body = (cut ? n_fit : n) * unit;
            assert_memory_equal(body, shown, n_body);
            assert_string_equal(body + n_body, cut ? "...\n" : "\n");
            free(text);
            free(shown);
            free(value);
        }
    }
}

static void lines_above_the_level_are_not_written(void **state)
{
    (void)state;
    int end[2];
    assert_int_equal(pipe(end), 0);
    int kept = stderr_to(end[1]);
    log_line(LOG_DEBUG, "no", "x=%d", 1);
    log_set_level(LOG_WARN);
    log_line(LOG_INFO, "no", "x=%d", 2);
    log_line(LOG_WARN, "yes", "x=%d", 3);
    log_line(LOG_ERROR, "yes", "x=%d", 4);
    log_set_level(LOG_DEBUG);
    log_line(LOG_DEBUG, "yes", "x=%d", 5);
    log_set_level(LOG_INFO);
    stderr_back(kept);
    char *text = drain(end[0]);
    assert_true(matches(text, "^" STAMP "warn  yes x=3\n" STAMP "error yes x=4\n" STAMP "debug yes x=5\n$"));
    free(text);
    close(end[0]);
    close(end[1]);
}

/* Every line of text must be whole ("... n=<i> pad=xx..x end"), i rising; the number of lines. */
static int whole_lines(char *text, int n_pad, bool rising)
{
    int n_lines = 0, last = -1;
    for (char *line = text, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        assert_non_null(end);
        *end = '\0';
        char *p = strstr(line, "n=");
        assert_non_null(p);
        int i = atoi(p + 2);
        assert_true(!rising || i > last);
        last = i;
        assert_int_equal(strspn(strstr(p, "pad=") + 4, "x"), n_pad);
        assert_string_equal(end - 4, " end");
        n_lines++;
    }
    return n_lines;
}

/* Logs n lines of about 100 bytes, n times, into fd, which nobody reads. */
static void log_many(int fd, int n, int n_pad)
{
    char pad[4096];
    memset(pad, 'x', (size_t)n_pad);
    pad[n_pad] = '\0';
    int kept = stderr_to(fd);
    for (int i = 0; i < n; i++) log_line(LOG_INFO, "many", "n=%d pad=%s end", i, pad);
    stderr_back(kept);
}

static void a_full_pipe_drops_and_counts(void **state)
{
    (void)state;
    for (int n_pad = 60; n_pad <= 3500; n_pad += 860) {
        int end[2];
        assert_int_equal(pipe(end), 0);
        int flags = fcntl(end[1], F_GETFL);
        uint64_t before = log_dropped();
        log_many(end[1], 3000, n_pad);
        assert_int_equal(fcntl(end[1], F_GETFL), flags); /* the shared description is as it was */
        int dropped = (int)(log_dropped() - before);
        char *text = drain(end[0]);
        assert_true(dropped > 0);
        assert_int_equal(whole_lines(text, n_pad, true) + dropped, 3000);
        free(text);

        before = log_dropped(); /* once read, lines flow again */
        log_many(end[1], 3, n_pad);
        text = drain(end[0]);
        assert_int_equal(log_dropped(), before);
        assert_int_equal(whole_lines(text, n_pad, true), 3);
        free(text);
        close(end[0]);
        close(end[1]);
    }
}

static void a_pipe_without_reader_kills_nobody(void **state)
{
    (void)state;
    int end[2];
    assert_int_equal(pipe(end), 0);
    close(end[0]);
    uint64_t before = log_dropped();
    log_many(end[1], 5, 10); /* SIGPIPE has its default action here */
    assert_int_equal(log_dropped() - before, 5);
    close(end[1]);
}

static void a_full_disk_drops_and_counts(void **state)
{
    (void)state;
    int fd = open("/dev/full", O_WRONLY);
    assert_true(fd >= 0);
    uint64_t before = log_dropped();
    log_many(fd, 5, 10);
    assert_int_equal(log_dropped() - before, 5);
    close(fd);
}

static void a_closed_stderr_drops_and_counts(void **state)
{
    (void)state;
    uint64_t before = log_dropped();
    int kept = dup(STDERR_FILENO);
    close(STDERR_FILENO);
    log_line(LOG_INFO, "nowhere", "x=%d", 1);
    stderr_back(kept);
    assert_int_equal(log_dropped() - before, 1);
}

static void a_file_gets_every_line(void **state)
{
    (void)state;
    char name[] = "/tmp/test_log_XXXXXX";
    int fd = mkstemp(name);
    assert_true(fd >= 0);
    unlink(name);
    uint64_t before = log_dropped();
    log_many(fd, 500, 60);
    assert_int_equal(log_dropped(), before);
    char *text = calloc(1, 500 * 200);
    assert_true(pread(fd, text, 500 * 200 - 1, 0) > 0);
    assert_int_equal(whole_lines(text, 60, true), 500);
    free(text);
    close(fd);
}

/* A line that was torn when the far end filled up was counted as dropped; all others can be read, also the
 * one that comes after it. */
static int readable_lines(char *text, int n_pad)
{
    int n = 0;
    for (char *line = strtok(text, "\r\n"); line; line = strtok(NULL, "\r\n")) {
        const char *pad = strstr(line, "pad=");
        if (!pad || !matches(line, "^" STAMP "info  many n=[0-9]+ pad=x+ end$")) continue;
        n += (int)strspn(pad + 4, "x") == n_pad;
    }
    return n;
}

static void check_stalled_then_read(int writer, int reader)
{
    int flags = fcntl(writer, F_GETFL);
    for (int n_pad = 50; n_pad < 3900; n_pad += 550) {
        uint64_t before = log_dropped();
        log_many(writer, 3000, n_pad);
        assert_int_equal(fcntl(writer, F_GETFL), flags);
        int dropped = (int)(log_dropped() - before);
        assert_true(dropped > 0);
        char *stalled = drain(reader);

        before = log_dropped();
        log_many(writer, 3, n_pad);
        char *after = drain(reader);
        assert_int_equal(log_dropped(), before);

        char *text = malloc(strlen(stalled) + strlen(after) + 1);
        strcpy(stpcpy(text, stalled), after);
        assert_int_equal(readable_lines(text, n_pad) + dropped, 3003);
        free(text);
        free(after);
        free(stalled);
    }
}

static void a_stalled_socket_drops_and_counts(void **state)
{
    (void)state;
    int s[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    check_stalled_then_read(s[0], s[1]);
    close(s[0]);
    close(s[1]);
}

static void a_stalled_terminal_drops_and_counts(void **state)
{
    (void)state;
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0) {
        print_message("no pseudo terminals here: %s\n", strerror(errno));
        skip();
    }
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    assert_true(slave >= 0);
    check_stalled_then_read(slave, master);
    close(slave);
    close(master);
}

enum { N_THREADS = 4, N_LINES = 300, N_PAD = 60 };

static void *log_from_thread(void *arg)
{
    char pad[N_PAD + 1];
    memset(pad, 'x', N_PAD);
    pad[N_PAD] = '\0';
    for (int i = 0; i < N_LINES; i++) {
        log_line(LOG_INFO, "thread", "t=%d n=%d pad=%s end", *(int *)arg, i, pad);
        if (i % 10 == 0) nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    return NULL;
}

static void *read_slowly(void *arg)
{
    int fd = *(int *)arg;
    size_t len = 0, cap = (size_t)N_THREADS * N_LINES * 200;
    char *text = malloc(cap);
    for (ssize_t n; (n = read(fd, text + len, cap - len - 1 < 700 ? cap - len - 1 : 700)) > 0;) {
        len += (size_t)n;
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
    text[len] = '\0';
    return text;
}

static void threads_never_mix_or_block(void **state)
{
    (void)state;
    int end[2], id[N_THREADS];
    assert_int_equal(pipe(end), 0);
    fcntl(end[1], F_SETPIPE_SZ, 8192); /* two pages: it runs full again and again */
    pthread_t reader, t[N_THREADS];
    assert_int_equal(pthread_create(&reader, NULL, read_slowly, &end[0]), 0);
    uint64_t before = log_dropped();
    int kept = stderr_to(end[1]);
    for (int i = 0; i < N_THREADS; i++) {
        id[i] = i;
        pthread_create(&t[i], NULL, log_from_thread, &id[i]);
    }
    for (int i = 0; i < N_THREADS; i++) pthread_join(t[i], NULL);
    stderr_back(kept);
    close(end[1]);
    void *text;
    pthread_join(reader, &text);
    int dropped = (int)(log_dropped() - before);
    int n_lines = whole_lines(text, N_PAD, false);
    assert_true(n_lines > 0);
    assert_int_equal(n_lines + dropped, N_THREADS * N_LINES);
    free(text);
    close(end[0]);
}

enum { N_ROUNDS = 300 };

static void *log_one_per_round(void *arg)
{
    pthread_barrier_t *round = arg;
    for (int i = 0; i < N_ROUNDS; i++) {
        pthread_barrier_wait(round);
        log_line(LOG_INFO, "race", "n=%d pad=%03000d", i, 0);
        pthread_barrier_wait(round);
    }
    return NULL;
}

/* A pipe with room for one line, and four threads that all see the room: who writes second would wait for a
 * reader. */
static void threads_never_race_for_the_last_room(void **state)
{
    (void)state;
    int end[2], dropped_wrong = 0;
    pthread_barrier_t round;
    pthread_t t[N_THREADS];
    assert_int_equal(pipe(end), 0);
    assert_int_equal(fcntl(end[1], F_SETPIPE_SZ, 4096), 4096);
    pthread_barrier_init(&round, NULL, N_THREADS + 1);
    int kept = stderr_to(end[1]);
    for (int i = 0; i < N_THREADS; i++) pthread_create(&t[i], NULL, log_one_per_round, &round);
    for (int i = 0; i < N_ROUNDS; i++) {
        uint64_t before = log_dropped();
        pthread_barrier_wait(&round);
        pthread_barrier_wait(&round);
        dropped_wrong += log_dropped() - before != N_THREADS - 1;
        free(drain(end[0]));
    }
    for (int i = 0; i < N_THREADS; i++) pthread_join(t[i], NULL);
    stderr_back(kept);
    assert_int_equal(dropped_wrong, 0);
    pthread_barrier_destroy(&round);
    close(end[0]);
    close(end[1]);
}

int main(void)
{
    alarm(60); /* a log call that blocks is a failure */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_time_level_event_fields),
        cmocka_unit_test(no_value_can_forge_a_line),
        cmocka_unit_test(a_long_line_is_cut_between_characters),
        cmocka_unit_test(lines_above_the_level_are_not_written),
        cmocka_unit_test(a_full_pipe_drops_and_counts),
        cmocka_unit_test(a_pipe_without_reader_kills_nobody),
        cmocka_unit_test(a_full_disk_drops_and_counts),
        cmocka_unit_test(a_closed_stderr_drops_and_counts),
        cmocka_unit_test(a_file_gets_every_line),
        cmocka_unit_test(a_stalled_socket_drops_and_counts),
        cmocka_unit_test(a_stalled_terminal_drops_and_counts),
        cmocka_unit_test(threads_never_mix_or_block),
        cmocka_unit_test(threads_never_race_for_the_last_room),
    };
    return cmocka_run_group_tests_name("base/log", tests, NULL, NULL);
}
