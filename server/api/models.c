/* models: GET /v1/models, GET /v1/models/{id} and GET /tokenizer_info. Loop thread only. */
#include <string.h>

#include "server/api/internal.h"
#include "server/json/out.h"

static void write_model(struct json_out *o, const struct app *a)
{
    json_out_object(o, NULL);
    json_out_text(o, "id", a->names.id);
    json_out_text(o, "object", "model");
    json_out_int(o, "created", a->ready_wall_s);
    json_out_text(o, "owned_by", "fluxd");
    json_out_text(o, "root", a->names.id);
    json_out_null(o, "parent");
    json_out_int(o, "max_model_len", a->model->max_len);
    json_out_text(o, "weights", a->model->weights);
    json_out_text(o, "head", a->model->head_type);
    json_out_int(o, "weights_bytes", a->model->weight_bytes);
    json_out_end(o);
}

static void refuse(struct http_call *c, const struct app *a, const struct err_note *note)
{
    api_refuse(a->api, c, API_MODELS, note);
}

/* What a writer says of the model; once there is one. */
static void tell(struct http_call *c, const struct app *a,
                 void (*write)(struct json_out *, const struct app *))
{
    struct strbuf body;
    struct json_out o;
    struct err_note note;
    if (!a->model) {
        err_set(&note, ERR_LOADING, NULL, "%s", err_text(ERR_LOADING));
        refuse(c, a, &note);
        return;
    }
    strbuf_init(&body);
    json_out_init(&o, &body);
    write(&o, a);
    if (strbuf_failed(&body)) {
        err_set(&note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
        refuse(c, a, &note);
    } else {
        api_count(&a->api->stats, API_MODELS, 200);
        http_reply(c, 200, "application/json", body.data, body.len, NULL);
    }
    strbuf_fini(&body);
}

static void write_list(struct json_out *o, const struct app *a)
{
    json_out_object(o, NULL);
    json_out_text(o, "object", "list");
    json_out_array(o, "data");
    write_model(o, a);
    json_out_end(o);
    json_out_end(o);
}

void api_models(struct http_call *c, void *app) { tell(c, app, write_list); }

void api_model(struct http_call *c, void *app)
{
    const struct app *a = app;
    struct err_note note;
    if (!a->model || model_names_has(&a->names, http_path_rest(c))) {
        tell(c, a, write_model);
        return;
    }
    model_names_refuse(&a->names, http_path_rest(c), &note);
    refuse(c, a, &note);
}

static void write_token(struct json_out *o, const char *key, const struct tokenizer *t, int32_t id)
{
    size_t n;
    const char *text = tokenizer_bytes(t, id, &n);
    if (id >= 0)
        json_out_string(o, key, text, n);
    else
        json_out_null(o, key);
}

static void write_tokenizer(struct json_out *o, const struct app *a)
{
    json_out_object(o, NULL);
    json_out_text(o, "tokenizer_class", "PreTrainedTokenizerFast");
    json_out_int(o, "model_max_length", a->model->max_len);
    json_out_int(o, "vocab_size", tokenizer_n_piece(a->tokenizer));
    write_token(o, "bos_token", a->tokenizer, tokenizer_bos(a->tokenizer));
    write_token(o, "eos_token", a->tokenizer, api_eos_id(a));
    if (a->chat_template)
        json_out_string(o, "chat_template", a->template_text, a->n_template);
    else
        json_out_null(o, "chat_template");
    json_out_end(o);
}

/* What a client with templates of its own needs (as vLLM and lm-eval's remote tokenizer have it); text goes
 * to /tokenize. */
void api_tokenizer_info(struct http_call *c, void *app) { tell(c, app, write_tokenizer); }
