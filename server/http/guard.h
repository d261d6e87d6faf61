/* guard: what a request's header block must look like. Pure: bytes in, verdict out. No library, no state.
 *
 * One set of rules for the raw bytes of every request of a connection: conn.c asks it before the first one
 * goes to the HTTP library, frame.c for each one that follows. The rules close the doors by which one request
 * can be read as two (RFC 9112, 6.3 and 11.2): one Host, at most one Content-Length, never together with
 * Transfer-Encoding, no coding but `chunked`, names that are tokens, no bare CR or LF, no folded lines. */
#ifndef FLUXD_SERVER_HTTP_GUARD_H
#define FLUXD_SERVER_HTTP_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Bounds of one header block. A field is a header line, a query parameter or a cookie: the library allocates
 * for each.
 */
struct guard_bound {
    size_t n_byte;
    int n_field;
};

/* Starts as zeros for each block. */
struct guard {
    size_t at;   /* bytes of the block judged so far: whole lines */
    size_t seen; /* bytes of it looked at */
    bool lined;  /* the request line is among them */
    bool http10;
    int n_field;
    int n_host, n_length, n_coding, n_auth, n_api_key;
    uint64_t length; /* Content-Length, the last one */
    bool body; /* a body follows by any of its lengths or codings, even where they contradict each other */
    bool length_huge; /* over INT64_MAX */
    bool length_bad, coding_bad, name_bad, value_bad, expect, expect_other;
};

/* Takes one header. value is without the white space around it. */
void guard_header(struct guard *g, const char *name, size_t n_name, const char *value, size_t n_value);

/* After all headers: OK, ERR_INVALID_REQUEST, ERR_TOO_LARGE (Content-Length > max_body) or ERR_EXPECTATION.
 */
enum err guard_verdict(const struct guard *g, size_t max_body, struct err_note *note);

/* The first n bytes of a block; called again with more of them it goes on where it was. OK: a whole block of
 * g->at bytes stands there and obeys the rules, g is filled (what it says of sizes is for guard_verdict).
 * ERR_IO: not yet whole, nothing wrong so far. Otherwise what is wrong with it: ERR_INVALID_REQUEST,
 * ERR_HTTP_VERSION, ERR_HEADER_SIZE (more bytes or fields than max). */
enum err guard_block(struct guard *g, const char *p, size_t n, const struct guard_bound *max,
                     struct err_note *note);

/* One line behind the last chunk, without its line end: OK, ERR_INVALID_REQUEST or ERR_HEADER_SIZE. *n_field:
 * what its request has of them so far, with those of the header block. */
enum err guard_trailer(const char *p, size_t n, int *n_field, const struct guard_bound *max,
                       struct err_note *note);

bool guard_is_token_char(char c); /* RFC 9110, 5.6.2: of a name */
bool guard_is_value(const char *p,
                    size_t n); /* RFC 9110, 5.5: visible characters, space, tab, bytes from 0x80 on */
int guard_hex(char c);         /* -1: no hexadecimal digit */

/* Percent-decodes n bytes of src into dst (n + 1 bytes). False: a bad escape, or an encoded NUL. */
bool guard_unescape(char *dst, const char *src, size_t n);

#endif
