/* trace: names that a client gives to its request. Pure. One that is not as it must be counts as not sent. */
#ifndef FLUXD_SERVER_HTTP_TRACE_H
#define FLUXD_SERVER_HTTP_TRACE_H

#include <stddef.h>

enum { TRACE_ID_BYTES = 129, TRACE_PARENT_BYTES = 56 }; /* with their NUL */

/* Zero, then every header. */
struct trace {
    char id[TRACE_ID_BYTES];         /* X-Request-Id: 1 to 128 of letters, digits and -._:/+=@~ */
    char parent[TRACE_PARENT_BYTES]; /* traceparent, the fields of version 00 (W3C Trace Context, 3.2) */
    int n_id, n_parent;              /* headers seen: of two nobody knows which one is meant */
};

void trace_header(struct trace *t, const char *name, size_t n_name, const char *value, size_t n_value);

#endif
