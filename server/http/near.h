/* near: which path a client may have meant. Pure. */
#ifndef FLUXD_SERVER_HTTP_NEAR_H
#define FLUXD_SERVER_HTTP_NEAR_H

#include "server/http/http.h"

/* The path of the table that url, which is none of them, comes nearest to: it ends in the path or in what
 * follows its "/v1" (a base URL without /v1, with it twice, or with something before), or has few letters
 * that differ. Slashes too many and upper case do not count. NULL: none is near. */
const char *near_path(const struct http_route *route, int n_route, const char *url);

#endif
