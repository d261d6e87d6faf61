/* log: any thread formats its own line; one at a time hands it to stderr. The level and the counter are the only state.
 *
 * stderr's O_NONBLOCK flag is not ours to set: it sits in the open file description, shared with the shell and whatever
 * else writes there. Each kind of stderr has another way to be asked, without that flag, not to block (see emit). */
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
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#define LINE_BYTES 4096 /* with the newline; up to PIPE_BUF a pipe takes a line whole or not at all */
_Static_assert(LINE_BYTES <= PIPE_BUF, "a line must be atomic on a pipe");

/* How long a thread waits for another's write before its line is given up. Only a disk that hangs takes that long. */
#define TURN_NS 10000000

static _Atomic int          log_level = LOG_INFO;
static atomic_uint_fast64_t n_dropped;
static atomic_flag          busy = ATOMIC_FLAG_INIT; /* held around one emit */
static bool                 torn;                    /* under busy: the last line has no newline yet */

static const struct {
    const char *word, *column;
} level_table[] = {
    [LOG_ERROR] = {"error", "error"},
    [LOG_WARN] = {"warn", "warn "},
    [LOG_INFO] = {"info", "info "},
    [LOG_DEBUG] = {"debug", "debug"},
};
#define N_LEVELS (int)(sizeof level_table / sizeof *level_table)

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
}

bool log_level_parse(const char *word, enum log_level *out)
{
    for (int i = 0; i < N_LEVELS; i++) {
        if (strcmp(word, level_table[i].word) == 0) {
            *out = (enum log_level)i;
            return true;
        }
    }
    return false;
}

uint64_t log_dropped(void)
{
    return atomic_load_explicit(&n_dropped, memory_order_relaxed);
}

/* ---- text ---- */

struct line {
    char   text[LINE_BYTES];
    size_t len;
    bool   full;
};

#define LINE_TAIL "...\n" /* room kept for it: ends a line that did not fit */

/* Length of the well-formed UTF-8 sequence (Unicode 3.9, table 3-7) at p that may be shown as it is; 0 when the byte
 * at p has to be escaped. Shown is all but C0, DEL, C1 and the separators U+2028 and U+2029, which end a line for some
 * readers; C1 and stray bytes steer 8-bit terminals. */
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
    size_t            n = strlen(s);
    while (n > 0 && !l->full) {
        unsigned char c = (unsigned char)*s;
        size_t        len = plain_len((const unsigned char *)s, n);
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

static void line_put_head(struct line *l, enum log_level level)
{
    struct timespec now;
    struct tm       utc;
    char            head[48];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(head, sizeof head, "%Y-%m-%dT%H:%M:%S", &utc);
    line_put(l, head, n);
    int m = snprintf(head, sizeof head, ".%03dZ %s ", (int)(now.tv_nsec / 1000000), level_table[level].column);
    line_put(l, head, (size_t)m);
}

/* ---- output ---- */

/* Writes what fits without blocking; the number of bytes written, or -1.
 * - Socket (journald): MSG_DONTWAIT.
 * - Terminal: poll() promises room for one byte, not for a line, so an open file description of our own is made, which
 *   may be non-blocking. A terminal that another user owns cannot be opened; it gets the poll.
 * - Pipe: poll() promises a free page, that is PIPE_BUF bytes. One line at a time, so that the promise still holds at
 *   the write. A pipe without reader is left alone: no SIGPIPE.
 * - File: always ready. */
static ssize_t emit(const char *p, size_t n)
{
    ssize_t done = send(STDERR_FILENO, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (done >= 0 || errno != ENOTSOCK) return done;

    if (isatty(STDERR_FILENO)) {
        int fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd >= 0) {
            done = write(fd, p, n);
            close(fd);
            return done;
        }
    }
    struct pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&ready, 1, 0) != 1 || ready.revents != POLLOUT) return -1;
    return write(STDERR_FILENO, p, n);
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
    bool ok = !torn || emit("\n", 1) == 1;
    if (ok) {
        ssize_t done = emit(l->text, l->len);
        ok = done >= (ssize_t)l->len - 1; /* a line that only misses its newline gets it before the next one */
        torn = done > 0 && done < (ssize_t)l->len;
    }
    atomic_flag_clear_explicit(&busy, memory_order_release);
    return ok;
}

void log_line(enum log_level level, const char *event, const char *fmt, ...)
{
    if ((int)level > atomic_load_explicit(&log_level, memory_order_relaxed)) return;
    int errno_before = errno; /* callers log on their way out of a failed call */

    char    fields[LINE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(fields, sizeof fields, fmt, ap);
    va_end(ap);

    struct line l = {.len = 0};
    line_put_head(&l, level);
    line_put_escaped(&l, event);
    if (n > 0) {
        line_put(&l, " ", 1);
        line_put_escaped(&l, fields);
    }
    if (l.full || n < 0 || (size_t)n >= sizeof fields) {
        memcpy(l.text + l.len, "...", 3);
        l.len += 3;
    }
    l.text[l.len++] = '\n';

    if (!emit_in_turn(&l)) atomic_fetch_add_explicit(&n_dropped, 1, memory_order_relaxed);
    errno = errno_before;
}
