/* log: one line of key=value per fact, to stderr. Any thread. A blocked or full stderr drops lines and counts
 * them; it never blocks serving. */
#ifndef FLUXD_BASE_LOG_H
#define FLUXD_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

enum log_format { LOG_TEXT, LOG_JSON };

void log_set_level(enum log_level level); /* default LOG_INFO */
void log_set_format(enum log_format f);   /* default LOG_TEXT; LOG_JSON: one object a line, see log_json.h */

/* log_line(LOG_INFO, "model loaded", "path=%s weights_mib=%.1f", ...) prints
 * "2026-11-23T21:43:48.123Z info  model loaded path=... weights_mib=..." in one write(2).
 * Control characters in the result are escaped, so that no input can forge a line. */
void log_line(enum log_level level, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

uint64_t log_dropped(void); /* lines lost so far */
void log_tell_lost(
    void); /* one line about those lost since it was last told, once there is room; one thread calls it */

/* A plain line for people, on standard output or error (there an event, where lines are JSON): false where
 * there was no room for it. Never blocks either. */
bool log_say(int fd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void log_wait(int fd, int ms); /* before an exit: until fd has room for the last words, at most so long */

#endif
