/* responses: GET and DELETE /v1/responses/{id}, and POST /v1/responses/{id}/cancel. Loop thread only. A
 * response is found while it runs and, where it is stored, after; by the key that asked for it alone. */
#include <string.h>

#include "server/api/gen.h"
#include "server/json/out.h"

static void refuse(struct http_call *c, struct api *api, enum err e, const char *fmt, const char *id)
{
    struct err_note note;
    err_set(&note, e, NULL, fmt, id);
    api_refuse(api, c, API_RESPONSE, &note);
}

static void not_found(struct http_call *c, struct api *api, const char *id)
{
    refuse(c, api, ERR_RESPONSE_NOT_FOUND, "Response with id '%.128s' not found.", id);
}

static void reply(struct http_call *c, struct api *api, struct strbuf *body, bool ok)
{
    struct err_note note;
    if (ok && !strbuf_failed(body)) {
        api_count(&api->stats, API_RESPONSE, 200);
        http_reply(c, 200, "application/json", body->data, body->len, NULL);
    } else {
        err_set(&note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
        api_refuse(api, c, API_RESPONSE, &note);
    }
}

static void reply_now(struct http_call *c, struct api *api, struct gen *g)
{
    struct strbuf body;
    strbuf_init(&body);
    reply(c, api, &body, gen_now(g, &body));
    strbuf_fini(&body);
}

void api_response(struct http_call *c, void *app)
{
    struct api *api = ((struct app *)app)->api;
    const char *id = http_path_rest(c);
    struct gen *g = gen_find(api, api_key_id(c), id);
    if (g && gen_stored(g)) {
        reply_now(c, api, g);
        return;
    }
    struct response_entry *e = response_store_get(api->responses, api_key_id(c), id);
    if (!e) {
        not_found(c, api, id);
        return;
    }
    size_t n;
    const char *text = response_entry_answer(e, &n);
    api_count(&api->stats, API_RESPONSE, 200);
    http_reply(c, 200, "application/json", text, n, NULL);
    response_store_release(api->responses, e);
}

/* One that runs is ended, and never stored. */
void api_response_delete(struct http_call *c, void *app)
{
    struct api *api = ((struct app *)app)->api;
    const char *id = http_path_rest(c);
    struct gen *g = gen_find(api, api_key_id(c), id);
    const bool runs = g && gen_stored(g);
    if (runs) gen_forget(g);
    if (!runs && !response_store_drop(api->responses, api_key_id(c), id)) {
        not_found(c, api, id);
        return;
    }
    struct strbuf body;
    struct json_out o;
    strbuf_init(&body);
    json_out_init(&o, &body);
    json_out_object(&o, NULL);
    json_out_text(&o, "id", id);
    json_out_text(&o, "object", "response");
    json_out_bool(&o, "deleted", true);
    json_out_end(&o);
    reply(c, api, &body, true);
    strbuf_fini(&body);
}

void api_response_cancel(struct http_call *c, void *app)
{
    struct api *api = ((struct app *)app)->api;
    const char *id = http_path_rest(c);
    struct gen *g = gen_find(api, api_key_id(c), id);
    if (g) {
        gen_cancel(g);
        reply_now(c, api, g);
        return;
    }
    struct response_entry *e = response_store_get(api->responses, api_key_id(c), id);
    if (e)
        refuse(c, api, ERR_INVALID_REQUEST, "the response '%.128s' is finished: it cannot be cancelled", id);
    else
        not_found(c, api, id);
    response_store_release(api->responses, e);
}
