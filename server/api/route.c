/* route: POST /v1/route, the route that a prompt would get, its time and its memory, without an answer. Loop
 * thread only. The worker's step is prep.c's, the wait and the answer gen.c's. */
#include "server/api/internal.h"

void api_route(struct http_call *c, void *app) { api_take(c, app, API_ROUTE); }
