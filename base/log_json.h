/* log_json: a line of the log as one JSON object. Pure. */
#ifndef FLUXD_BASE_LOG_JSON_H
#define FLUXD_BASE_LOG_JSON_H

#include <stddef.h>

enum { LOG_JSON_LEAST = 256 };

/* Writes {"time":..,"level":..,"event":..,KEY:VALUE,..} and a line end, cap bytes (at least LOG_JSON_LEAST)
 * at most, no NUL; returns the length. fields are those of a text line: key=value, key="value"; what is
 * quoted is a string, what looks like a number is one. A line that is too long is cut inside a value, or
 * between two, and has "cut":true; it is JSON all the same. */
size_t log_json(char *out, size_t cap, const char *time, const char *level, const char *event,
                const char *fields);

#endif
