/* routes: the table of paths. What is not in it does not exist. */
#ifndef FLUXD_SERVER_API_ROUTES_H
#define FLUXD_SERVER_API_ROUTES_H

#include "server/http/http.h"

extern const struct http_route routes[];
extern const int n_routes;

#endif
