/* api_models: GET /v1/models, GET /v1/models/{id} and GET /tokenizer_info. Loop thread only. */
#include <string.h>

#include "server/api_own.h"
#include "server/json_out.h"

static void write_model(struct json_out *o, const struct app *a)
{
    json_out_object(o, NULL);
    json_out_text(o, "id", a->model_id);
    json_out_text(o, "object", "model");
    json_out_int(o, "created", a->ready_wall_s);
    json_out_text(o, "owned_by", "fluxd");
    json_out_text(o, "root", a->model_id);
    json_out_null(o, "parent");
    json_out_int(o, "max_model_len", a->model->max_len);
    json_out_end(o);
}

static void reply(struct api *api, struct http_call *c, struct strbuf *body)
{
    struct err_note note;
    if (strbuf_failed(body)) {
        err_set(&note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
        api_refuse(api, c, API_MODELS, &note);
    } else {
        api_count(&api->stats, API_MODELS, 200);
        http_reply(c, 200, "application/json", body->data, body->len, NULL);
    }
    strbuf_fini(body);
}

/* True: the model is not there yet, and the client was told. */
static bool refuse_loading(struct api *api, struct http_call *c, const struct app *a)
{
    struct err_note note;
    if (a->model)
        return false;
    err_set(&note, ERR_LOADING, NULL, "%s", err_text(ERR_LOADING));
    api_refuse(api, c, API_MODELS, &note);
    return true;
}

void api_models(struct http_call *c, void *app)
{
    struct app     *a = app;
    struct strbuf   body;
    struct json_out o;
    if (refuse_loading(api_of(a), c, a))
        return;
    strbuf_init(&body);
    json_out_init(&o, &body);
    json_out_object(&o, NULL);
    json_out_text(&o, "object", "list");
    json_out_array(&o, "data");
    write_model(&o, a);
    json_out_end(&o);
    json_out_end(&o);
    reply(api_of(a), c, &body);
}

void api_model(struct http_call *c, void *app)
{
    struct app     *a = app;
    struct strbuf   body;
    struct json_out o;
    struct err_note note;
    if (refuse_loading(api_of(a), c, a))
        return;
    if (strcmp(http_path_rest(c), a->model_id)) {
        err_set(&note, ERR_MODEL_NOT_FOUND, "model", "the model \"%.128s\" does not exist here; see /v1/models", http_path_rest(c));
        api_refuse(api_of(a), c, API_MODELS, &note);
        return;
    }
    strbuf_init(&body);
    json_out_init(&o, &body);
    write_model(&o, a);
    reply(api_of(a), c, &body);
}

static void write_token(struct json_out *o, const char *key, const struct tokenizer *t, int32_t id)
{
    size_t      n;
    const char *text = tokenizer_bytes(t, id, &n);
    if (id >= 0)
        json_out_string(o, key, text, n);
    else
        json_out_null(o, key);
}

/* What a client with templates of its own needs (as vLLM and lm-eval's remote tokenizer have it); text goes to /tokenize. */
void api_tokenizer_info(struct http_call *c, void *app)
{
    struct app     *a = app;
    struct strbuf   body;
    struct json_out o;
    if (refuse_loading(api_of(a), c, a))
        return;
    strbuf_init(&body);
    json_out_init(&o, &body);
    json_out_object(&o, NULL);
    json_out_text(&o, "tokenizer_class", "PreTrainedTokenizerFast");
    json_out_int(&o, "model_max_length", a->model->max_len);
    json_out_int(&o, "vocab_size", tokenizer_n_piece(a->tokenizer));
    write_token(&o, "bos_token", a->tokenizer, tokenizer_bos(a->tokenizer));
    write_token(&o, "eos_token", a->tokenizer, api_eos_id(a));
    if (a->chat_template)
        json_out_string(&o, "chat_template", a->template_text, a->n_template);
    else
        json_out_null(&o, "chat_template");
    json_out_end(&o);
    reply(api_of(a), c, &body);
}
