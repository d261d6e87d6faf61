/* routes: method, path, handler. A row without .open needs an API key where keys are configured. */
#include "server/api/routes.h"

#include "server/api/anthropic.h"
#include "server/api/internal.h"

/* The handlers of endpoints with a body: each is its row's. */
#define ENDPOINT(id, ...)                                                                                    \
    static void take_##id(struct http_call *c, void *app) { api_take(c, app, API_##id); }
#define VIEW(...)
#include "server/api/endpoints.def"
#undef ENDPOINT

const struct http_route routes[] = {
#define DIALECT_openai    NULL
#define DIALECT_anthropic &anthropic_dialect
#define ENDPOINT(id, at, name, prefix, fields, work, writer, errors)                                         \
    {.method = HTTP_POST, .path = at, .json_body = true, .dialect = DIALECT_##errors, .handle = take_##id},
#include "server/api/endpoints.def"
#undef ENDPOINT
#undef VIEW
    {.method = HTTP_GET, .path = "/v1/models", .handle = api_models},
    {.method = HTTP_GET, .path = "/v1/models/*", .handle = api_model},
    {.method = HTTP_GET, .path = "/tokenizer_info", .handle = api_tokenizer_info},
    {.method = HTTP_GET, .path = "/health", .open = true, .handle = api_health},
    {.method = HTTP_GET, .path = "/ready", .open = true, .handle = api_ready},
    {.method = HTTP_GET, .path = "/version", .handle = api_version},
    {.method = HTTP_GET, .path = "/v1/limits", .handle = api_limits},
    {.method = HTTP_GET, .path = "/metrics", .scrape = true, .handle = api_metrics},
    {.method = HTTP_GET, .path = "/openapi.json", .handle = api_openapi},
    {.method = HTTP_GET,
     .path = "/",
     .open = true,
     .handle = api_page}, /* holds no data: it asks with the user's key */
};
const int n_routes = sizeof routes / sizeof *routes;
