/* tokenize: POST /tokenize and POST /detokenize. Loop thread only. The worker's step is prep_text.c's. */
#include "server/api/internal.h"

void api_tokenize(struct http_call *c, void *app) { api_take(c, app, API_TOKENIZE); }

void api_detokenize(struct http_call *c, void *app) { api_take(c, app, API_DETOKENIZE); }
