/* completions: POST /v1/completions. Loop thread only. The worker's step is prep.c's, the answer gen.c's. */
#include "server/api/internal.h"

void api_completions(struct http_call *c, void *app) { api_take(c, app, API_COMPLETIONS); }
