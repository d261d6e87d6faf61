/* json_escape: the one rule for escapes in JSON strings (RFC 8259, 7), for whatever reads them. Any thread.
 */
#ifndef FLUXD_BASE_JSON_ESCAPE_H
#define FLUXD_BASE_JSON_ESCAPE_H

#include <stdint.h>

enum {
    JSON_ESCAPE_BAD = -1, /* no escape of JSON; *p stays */
    JSON_ESCAPE_HALF = -2 /* half a surrogate pair; *p goes behind it */
};

/* The code point of the escape whose backslash stands at *p; *p goes behind it. */
int32_t json_escape(const char **p, const char *end);

#endif
