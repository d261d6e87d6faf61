/* log: any thread formats its own line; one at a time hands it to stderr. The level and the counters are the
 * only state.
 *
 * stderr's O_NONBLOCK flag is not ours to set: it sits in the open file description, shared with the shell
 * and whatever else writes there. Each kind of stderr has another way to be asked, without that flag, not to
 * block (see emit). */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log_json.h"

#define LINE_BYTES 4096 /* with the newline; up to PIPE_BUF a pipe takes a line whole or not at all */
_Static_assert(LINE_BYTES <= PIPE_BUF, "a line must be atomic on a pipe");

/* How long a thread waits for another's write before its line is dropped. Only a disk that hangs takes that
 * long. */
#define TURN_NS 10000000

static _Atomic int log_level = LOG_INFO;
static _Atomic int log_format = LOG_TEXT;
static atomic_uint_fast64_t n_dropped;
static atomic_flag busy = ATOMIC_FLAG_INIT; /* held around one emit */
static bool torn;                           /* under busy: the last line has no newline yet */

static const struct {
    const char *word, *column;
} level_table[] = {
    [LOG_ERROR] = {"error", "error"},
    [LOG_WARN] = {"warn", "warn "},
    [LOG_INFO] = {"info", "info "},
    [LOG_DEBUG] = {"debug", "debug"},
};

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
}

void log_set_format(enum log_format f) { atomic_store_explicit(&log_format, (int)f, memory_order_relaxed); }

uint64_t log_dropped(void) { return atomic_load_explicit(&n_dropped, memory_order_relaxed); }

/* ---- text ---- */

struct line {
    char text[LINE_BYTES];
    size_t len;
    bool full;
};

#define LINE_TAIL "...\n" /* room kept for it: ends a line that did not fit */

/* Length of the well-formed UTF-8 sequence (Unicode 3.9, table 3-7) at p that may be shown as it is; 0 when
 * the byte at p has to be escaped. Shown is all but C0, DEL, C1 and the separators U+2028 and U+2029, which
 * end a line for some readers; C1 and stray bytes steer 8-bit terminals. */
static size_t plain_len(const unsigned char *p, size_t n)
{
    unsigned char c = p[0];
    if (c < 0x80) return c >= 0x20 && c != 0x7F;
    size_t len = c >= 0xC2 && c <= 0xDF ? 2 : c >= 0xE0 && c <= 0xEF ? 3 : c >= 0xF0 && c <= 0xF4 ? 4 : 0;
    if (len == 0 || len > n) return 0;

    unsigned char lo = c == 0xC2 || c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80; /* 0xC2: C1 left out */
    unsigned char hi = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    if (p[1] < lo || p[1] > hi) return 0;
    for (size_t i = 2; i < len; i++) {
        if ((p[i] & 0xC0) != 0x80) return 0;
    }
    bool separator = c == 0xE2 && p[1] == 0x80 && (p[2] == 0xA8 || p[2] == 0xA9);
    return separator ? 0 : len;
}

static void line_put(struct line *l, const char *p, size_t n)
{
    if (l->full || n > LINE_BYTES - (sizeof LINE_TAIL - 1) - l->len) {
        l->full = true;
        return;
    }
    memcpy(l->text + l->len, p, n);
    l->len += n;
}

static void line_put_escaped(struct line *l, const char *s)
{
    static const char hex[] = "0123456789abcdef";
    size_t n = strlen(s);
    while (n > 0 && !l->full) {
        unsigned char c = (unsigned char)*s;
        size_t len = plain_len((const unsigned char *)s, n);
        if (len > 0) {
            line_put(l, s, len);
        } else if (c == '\n' || c == '\t' || c == '\r') {
            line_put(l, c == '\n' ? "\\n" : c == '\t' ? "\\t" : "\\r", 2);
        } else {
            line_put(l, (char[]){'\\', 'x', hex[c >> 4], hex[c & 15]}, 4);
        }
        s += len ? len : 1;
        n -= len ? len : 1;
    }
}

static void put_time(char out[48])
{
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(out, 48, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(out + n, 48 - n, ".%03dZ", (int)(now.tv_nsec / 1000000));
}

/* ---- output ---- */

/* A pipe that may not be opened again (another user's, as in some containers): the line goes through a pipe
 * of our own and is moved on from there, because moving is asked not to block by a flag of the call. */
static ssize_t move_line(int fd, const char *p, size_t n)
{
    int own[2];
    ssize_t done = -1;
    if (pipe2(own, O_NONBLOCK | O_CLOEXEC) != 0) return -1;
    if (write(own[1], p, n) == (ssize_t)n) done = splice(own[0], NULL, fd, NULL, n, SPLICE_F_NONBLOCK);
    close(own[0]);
    close(own[1]);
    return done;
}

/* Writes what fits without blocking; the number of bytes written, or -1.
 * - Socket (journald): MSG_DONTWAIT.
 * - Terminal, pipe: an open file description of our own is made, which may be non-blocking. poll() would
 * promise a terminal's room for one byte, not for a line, and a pipe's only until another process writes
 * there.
 * - Where that is not allowed: a pipe gets move_line, a terminal the poll.
 * - A pipe without reader is left alone: no SIGPIPE.
 * - File: always ready. */
static ssize_t emit(int fd, const char *p, size_t n)
{
    ssize_t done = sendto(fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0); /* send() is counted, see recv.h */
    if (done >= 0 || errno != ENOTSOCK) return done;

    struct stat st;
    struct pollfd ready = {.fd = fd, .events = POLLOUT};
    if (poll(&ready, 1, 0) != 1 || ready.revents != POLLOUT || fstat(fd, &st) != 0) return -1;
    if (!S_ISFIFO(st.st_mode) && !isatty(fd)) return write(fd, p, n);

    char name[32];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    int own = open(name, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (own < 0) return S_ISFIFO(st.st_mode) ? move_line(fd, p, n) : write(fd, p, n);
    done = write(own, p, n);
    close(own);
    return done;
}

static bool take_turn(void)
{
    if (!atomic_flag_test_and_set_explicit(&busy, memory_order_acquire)) return true;
    int64_t until = clock_ns() + TURN_NS;
    do {
        sched_yield();
        if (!atomic_flag_test_and_set_explicit(&busy, memory_order_acquire)) return true;
    } while (clock_ns() < until);
    return false;
}

static bool emit_in_turn(const struct line *l)
{
    if (!take_turn()) return false;
    bool ok = !torn || emit(STDERR_FILENO, "\n", 1) == 1;
    if (ok) {
        ssize_t done = emit(STDERR_FILENO, l->text, l->len);
        ok =
            done >= (ssize_t)l->len - 1; /* a line that only misses its newline gets it before the next one */
        torn = done > 0 && done < (ssize_t)l->len;
    }
    atomic_flag_clear_explicit(&busy, memory_order_release);
    return ok;
}

/* Cuts what is too long, and ends the line. */
static void line_end(struct line *l, bool cut)
{
    if (l->full || cut) {
        memcpy(l->text + l->len, "...", 3);
        l->len += 3;
    }
    l->text[l->len++] = '\n';
}

static void make_text(struct line *l, enum log_level level, const char *time, const char *event,
                      const char *fields, bool cut)
{
    line_put(l, time, strlen(time));
    line_put(l, " ", 1);
    line_put(l, level_table[level].column, strlen(level_table[level].column));
    line_put(l, " ", 1);
    line_put_escaped(l, event);
    if (*fields) {
        line_put(l, " ", 1);
        line_put_escaped(l, fields);
    }
    line_end(l, cut);
}

static void make_line(struct line *l, enum log_level level, const char *event, const char *fields, bool cut)
{
    char time[48];
    put_time(time);
    if (atomic_load_explicit(&log_format, memory_order_relaxed) == LOG_TEXT)
        make_text(l, level, time, event, fields, cut);
    else
        l->len = log_json(l->text, sizeof l->text, time, level_table[level].word, event, fields);
}

static bool put_line(enum log_level level, const char *event, const char *fmt, va_list ap)
{
    char fields[LINE_BYTES];
    int n = vsnprintf(fields, sizeof fields, fmt, ap);
    struct line l = {.len = 0};
    if (n < 0) fields[0] = '\0';
    make_line(&l, level, event, fields, n < 0 || (size_t)n >= sizeof fields);
    return emit_in_turn(&l);
}

void log_line(enum log_level level, const char *event, const char *fmt, ...)
{
    if ((int)level > atomic_load_explicit(&log_level, memory_order_relaxed)) return;
    int errno_before = errno; /* callers log on their way out of a failed call */

    va_list ap;
    va_start(ap, fmt);
    if (!put_line(level, event, fmt, ap)) atomic_fetch_add_explicit(&n_dropped, 1, memory_order_relaxed);
    va_end(ap);
    errno = errno_before;
}

static bool try_line(enum log_level level, const char *event, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    bool ok = put_line(level, event, fmt, ap);
    va_end(ap);
    return ok;
}

void log_tell_lost(void)
{
    static uint64_t told;
    uint64_t all = log_dropped();
    if (all > told && try_line(LOG_WARN, "log lines lost", "lines=%llu in_all=%llu",
                               (unsigned long long)(all - told), (unsigned long long)all))
        told = all;
}

bool log_say(int fd, const char *fmt, ...)
{
    struct line l = {.len = 0};
    char text[LINE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (fd == STDERR_FILENO && atomic_load_explicit(&log_format, memory_order_relaxed) == LOG_JSON) {
        make_line(&l, LOG_ERROR, n > 0 ? text : "", "", false);
        return emit_in_turn(&l);
    }
    for (char *p = text; n > 0 && *p && !l.full; p++) line_put(&l, p, 1);
    line_end(&l, false);
    return fd == STDERR_FILENO ? emit_in_turn(&l) : emit(fd, l.text, l.len) == (ssize_t)l.len;
}

void log_wait(int fd, int ms)
{
    struct pollfd room = {.fd = fd, .events = POLLOUT};
    while (poll(&room, 1, ms) < 0 && errno == EINTR) continue;
}
