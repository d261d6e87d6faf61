/* origin: whether a web page that is none of ours is behind a request. Pure: headers in, verdict out.
 *
 * A browser lets any page send requests to any server that its user can reach, and says in Origin and
 * Sec-Fetch-Site whose page it was (Fetch standard; RFC 6454, 7). A page whose own name is made to point here
 * (DNS rebinding) looks like ours in both, but its name stands in Host. What is no browser sends neither
 * Origin nor Sec-Fetch-Site. */
#ifndef FLUXD_SERVER_HTTP_ORIGIN_H
#define FLUXD_SERVER_HTTP_ORIGIN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct origin_rules {
    bool host;         /* Host must be an address, a loopback name or an allowed one */
    bool origin;       /* pages of other origins are refused, but for the listed ones */
    const char *hosts; /* names, separated by commas; NULL is none */
    const char *pages; /* origins, likewise */
};

struct origin_text {
    const char *p; /* NULL: absent */
    size_t n;
};

/* What a request says of itself. Zero, then every header. */
struct origin_seen {
    struct origin_text host, origin, site, mode;
    bool page; /* the caller's: a GET of the page at / */
    bool twice;
};

void origin_header(struct origin_seen *s, const char *name, size_t n_name, const char *value, size_t n_value);

/* OK or ERR_FORBIDDEN. */
enum err origin_verdict(const struct origin_rules *r, const struct origin_seen *s, struct err_note *note);

/* The page that it comes from is one of the listed. */
bool origin_is_listed(const struct origin_rules *r, const struct origin_seen *s);

/* The two lists as an operator gives them: ERR_CONFIG says what is wrong with which part. */
enum err origin_check_hosts(const char *list, struct err_note *note);
enum err origin_check_pages(const char *list, struct err_note *note);

#endif
