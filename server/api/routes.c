/* routes: method, path, handler. A row without .open needs an API key where keys are configured. */
#include "server/api/routes.h"

#include "server/api/api.h"

const struct http_route routes[] = {
    {.method = HTTP_POST, .path = "/v1/completions", .json_body = true, .handle = api_completions},
    {.method = HTTP_POST, .path = "/v1/chat/completions", .json_body = true, .handle = api_chat},
    {.method = HTTP_POST, .path = "/v1/route", .json_body = true, .handle = api_route},
    {.method = HTTP_GET, .path = "/v1/models", .handle = api_models},
    {.method = HTTP_GET, .path = "/v1/models/*", .handle = api_model},
    {.method = HTTP_POST, .path = "/tokenize", .json_body = true, .handle = api_tokenize},
    {.method = HTTP_POST, .path = "/detokenize", .json_body = true, .handle = api_detokenize},
    {.method = HTTP_GET, .path = "/tokenizer_info", .handle = api_tokenizer_info},
    {.method = HTTP_GET, .path = "/health", .open = true, .handle = api_health},
    {.method = HTTP_GET, .path = "/ready", .open = true, .handle = api_ready},
    {.method = HTTP_GET, .path = "/version", .handle = api_version},
    {.method = HTTP_GET, .path = "/v1/limits", .handle = api_limits},
    {.method = HTTP_GET, .path = "/metrics", .scrape = true, .handle = api_metrics},
    {.method = HTTP_GET,
     .path = "/",
     .open = true,
     .handle = api_page}, /* holds no data: it asks with the user's key */
};
const int n_routes = sizeof routes / sizeof *routes;
