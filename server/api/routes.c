/* routes: method, path, handler. A row without .open needs an API key where keys are configured. */
#include "server/api/routes.h"

#include <string.h>

#include "server/api/anthropic.h"
#include "server/api/internal.h"
#include "server/json/out.h"
#include "server/version.h"

/* The handlers of endpoints with a body: each is its row's. */
#define ENDPOINT(id, ...)                                                                                    \
    static void take_##id(struct http_call *c, void *app) { api_take(c, app, API_##id); }
#define VIEW(...)
#include "server/api/endpoints.def"
#undef ENDPOINT

static void show_root(struct http_call *c, void *app);

const struct http_route routes[] = {
#define DIALECT_openai    NULL
#define DIALECT_anthropic &anthropic_dialect
#define ENDPOINT(id, at, name, prefix, fields, work, writer, errors)                                         \
    {.method = HTTP_POST, .path = at, .json_body = true, .dialect = DIALECT_##errors, .handle = take_##id},
#include "server/api/endpoints.def"
#undef ENDPOINT
#undef VIEW
    {.method = HTTP_GET, .path = "/v1/responses/*", .handle = api_response},
    {.method = HTTP_DELETE, .path = "/v1/responses/*", .handle = api_response_delete},
    {.method = HTTP_POST, .path = "/v1/responses/*/cancel", .handle = api_response_cancel},
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
     .handle = show_root}, /* holds no data: the page asks with the user's key */
};
const int n_routes = sizeof routes / sizeof *routes;

static const char *method_of(enum http_method m)
{
    return m == HTTP_GET ? "GET" : m == HTTP_POST ? "POST" : "DELETE";
}

static void list_paths(struct http_call *c)
{
    struct strbuf b;
    struct json_out o;
    strbuf_init(&b);
    json_out_init(&o, &b);
    json_out_object(&o, NULL);
    json_out_text(&o, "name", "fluxd");
    json_out_text(&o, "version", FLUXD_VERSION);
    json_out_array(&o, "endpoints");
    for (int i = 0; i < n_routes; i++) {
        json_out_object(&o, NULL);
        json_out_text(&o, "method", method_of(routes[i].method));
        json_out_text(&o, "path", routes[i].path);
        json_out_bool(&o, "open", routes[i].open);
        json_out_end(&o);
    }
    json_out_end(&o);
    json_out_end(&o);
    if (strbuf_failed(&b)) {
        struct err_note note;
        err_set(&note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
        http_reply_error(c, &note, 1);
    } else {
        http_reply(c, 200, "application/json", b.data, b.len, "Vary: Accept\r\n");
    }
    strbuf_fini(&b);
}

/* Browsers ask for HTML by name; to everybody else the root says what there is. */
static void show_root(struct http_call *c, void *app)
{
    const char *accept = http_header(c, "Accept");
    if (accept && strcasestr(accept, "text/html"))
        api_page(c, app);
    else
        list_paths(c);
}
