/* openapi: see openapi.h. Bodies come from the tables of fields, answers from openapi.json, which is linked
 * in. A test holds the paths equal to the table of paths. */
#include "server/api/openapi.h"

#include <stdio.h>
#include <string.h>

#include "server/api/endpoint.h"
#include "server/api/openapi_field.h"
#include "server/api/params.h"
#include "server/version.h"

extern const char _binary_openapi_json_start[], _binary_openapi_json_end[];

struct body_row {
    enum api_endpoint endpoint;
    const char *path, *name, *form;
};
static const struct body_row body_row[] = {
#define ENDPOINT(id, path, name, prefix, fields, ...) {API_##id, path, name, #fields},
#define VIEW(...)
#include "server/api/endpoints.def"
#undef ENDPOINT
#undef VIEW
};

static const struct view_row {
    const char *method, *path, *name, *what; /* rows of one path stand together */
    const char *answer;                      /* its schema; NULL: it is no JSON */
    const char *type;
    bool open; /* without a key */
} view_row[] = {
    {"get", "/v1/responses/{id}", "response", "a response that runs or is stored", "responses_answer", NULL,
     false},
    {"delete", "/v1/responses/{id}", "response_delete", "deletes it; one that runs ends", "deleted", NULL,
     false},
    {"post", "/v1/responses/{id}/cancel", "response_cancel", "ends one that runs", "responses_answer", NULL,
     false},
    {"get", "/v1/models", "models", "the model, as a list", "models", NULL, false},
    {"get", "/v1/models/{id}", "model", "the model of that id", "model", NULL, false},
    {"get", "/tokenizer_info", "tokenizer_info", "special tokens and chat template", "tokenizer", NULL,
     false},
    {"get", "/health", "health", "200: alive", "status", NULL, true},
    {"get", "/ready", "ready", "200: able to generate", "status", NULL, true},
    {"get", "/version", "version", "the version of the server", "version", NULL, false},
    {"get", "/v1/limits", "limits", "every limit, with value, default and meaning", "limits", NULL, false},
    {"get", "/metrics", "metrics", "metrics for Prometheus", NULL, "text/plain", false},
    {"get", "/openapi.json", "openapi", "this description", "description", NULL, false},
    {"get", "/", "page", "a chat page; for who wants no HTML the paths there are", "index", "text/html",
     true},
};

static void put_ref(struct json_out *o, const char *key, const char *kind, const char *name)
{
    char at[96];
    snprintf(at, sizeof at, "#/components/%s/%s", kind, name);
    json_out_object(o, key);
    json_out_text(o, "$ref", at);
    json_out_end(o);
}

static void put_media(struct json_out *o, const char *type, const char *schema)
{
    json_out_object(o, type);
    if (schema) {
        put_ref(o, "schema", "schemas", schema);
    } else {
        /* An event is no JSON; readers of descriptions take it as text or as its fields. */
        json_out_object(o, "schema");
        if (strcmp(type, "text/event-stream")) json_out_text(o, "type", "string");
        json_out_end(o);
    }
    json_out_end(o);
}

/* What can be done with a response that was made. */
static void put_links(struct json_out *o)
{
    static const char *const to[] = {"response", "response_cancel", "response_delete"};
    json_out_object(o, "links");
    for (size_t i = 0; i < sizeof to / sizeof *to; i++) {
        json_out_object(o, to[i]);
        json_out_text(o, "operationId", to[i]);
        json_out_object(o, "parameters");
        json_out_text(o, "id", "$response.body#/id");
        json_out_end(o);
        json_out_end(o);
    }
    json_out_end(o);
}

static void put_responses(struct json_out *o, const char *text, const char *schema, bool streams)
{
    json_out_object(o, "responses");
    json_out_object(o, "200");
    json_out_text(o, "description",
                  streams ? "the answer; with \"stream\": true as server-sent events" : "the answer");
    json_out_object(o, "content");
    if (text) put_media(o, text, NULL);
    if (schema) put_media(o, "application/json", schema);
    if (streams) put_media(o, "text/event-stream", NULL);
    json_out_end(o);
    if (streams && schema && !strcmp(schema, "responses_answer")) put_links(o);
    json_out_end(o);
    put_ref(o, "4XX", "responses", "error");
    put_ref(o, "5XX", "responses", "error");
    json_out_end(o);
}

static bool has_field(const struct params_tables *t, const char *name)
{
    for (int i = 0; i < t->n; i++)
        for (const struct json_row *r = t->table[i]; r->name; r++)
            if (!strcmp(r->name, name)) return r->type != JSON_REJECT;
    return false;
}

/* prompt or messages, which a null is not. */
static void put_either(struct json_out *o)
{
    static const char one[] =
        "{\"required\":[\"prompt\"],\"properties\":{\"prompt\":{\"not\":{\"type\":\"null\"}}}}",
                      other[] = "{\"required\":[\"messages\"]}";
    json_out_array(o, "anyOf");
    json_out_raw(o, NULL, one, sizeof one - 1);
    json_out_raw(o, NULL, other, sizeof other - 1);
    json_out_end(o);
}

static void put_parameter(struct json_out *o, const char *name, const char *in, const char *pattern)
{
    json_out_array(o, "parameters");
    json_out_object(o, NULL);
    json_out_text(o, "name", name);
    json_out_text(o, "in", in);
    json_out_bool(o, "required", !strcmp(in, "path"));
    json_out_object(o, "schema");
    json_out_text(o, "type", "string");
    json_out_int(o, "minLength", 1);
    if (pattern) json_out_text(o, "pattern", pattern);
    json_out_end(o);
    json_out_end(o);
    json_out_end(o);
}

/* A body that is answered, by name. */
static const struct {
    const char *name, *body;
} example[] = {
    {"completions", "{\"prompt\":\"hello\",\"max_tokens\":8}"},
    {"chat", "{\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}],\"max_tokens\":8}"},
    {"render", "{\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}"},
    {"tokenize", "{\"prompt\":\"hello\"}"},
    {"detokenize", "{\"tokens\":[0]}"},
    {"route", "{\"prompt\":\"hello\"}"},
    {"messages", "{\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}],\"max_tokens\":8}"},
    {"count_tokens", "{\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}"},
    {"responses", "{\"input\":\"hello\",\"max_output_tokens\":8}"},
    {"input_tokens", "{\"input\":\"hello\"}"},
};

static void put_example(struct json_out *o, const char *name)
{
    for (size_t i = 0; i < sizeof example / sizeof *example; i++)
        if (!strcmp(example[i].name, name))
            json_out_raw(o, "example", example[i].body, strlen(example[i].body));
}

static const char *dialect_of(const struct body_row *b)
{
    return strstr(b->form, "messages") ? "messages" : strcmp(b->form, "responses") ? "chat" : "responses";
}

static void put_body(struct json_out *o, const struct body_row *b)
{
    struct params_tables t;
    char answer[64];
    params_tables(b->endpoint, &t);
    json_out_object(o, b->path);
    json_out_object(o, "post");
    json_out_text(o, "operationId", b->name);
    if (has_field(&t, "route")) put_parameter(o, PARAMS_ROUTE_HEADER, "header", "^(auto|full|sparse|[01]+)$");
    json_out_object(o, "requestBody");
    json_out_bool(o, "required", true);
    json_out_object(o, "content");
    json_out_object(o, "application/json");
    json_out_object(o, "schema");
    json_out_text(o, "type", "object");
    openapi_fields(o, t.table, t.n, dialect_of(b));
    if (t.either)
        put_either(o);
    else
        openapi_required(o, t.table, t.n);
    json_out_end(o);
    put_example(o, b->name);
    for (int i = 0; i < 3; i++) json_out_end(o);
    snprintf(answer, sizeof answer, "%s_answer", b->name);
    put_responses(o, NULL, answer, has_field(&t, "stream"));
    json_out_end(o);
    json_out_end(o);
}

static bool same_path(const struct view_row *a, const struct view_row *b)
{
    return b < view_row + sizeof view_row / sizeof *view_row && !strcmp(a->path, b->path);
}

static void put_view(struct json_out *o, const struct view_row *v, bool keys)
{
    if (v == view_row || !same_path(v - 1, v)) json_out_object(o, v->path);
    json_out_object(o, v->method);
    json_out_text(o, "operationId", v->name);
    json_out_text(o, "summary", v->what);
    if (strchr(v->path, '{')) put_parameter(o, "id", "path", NULL);
    if (keys && v->open) json_out_array(o, "security"), json_out_end(o);
    put_responses(o, v->type, v->answer, false);
    json_out_end(o);
    if (!same_path(v, v + 1)) json_out_end(o);
}

static void put_components(struct json_out *o)
{
    json_out_object(o, "components");
    json_out_raw(o, "schemas", _binary_openapi_json_start,
                 (size_t)(_binary_openapi_json_end - _binary_openapi_json_start));
    json_out_object(o, "responses");
    json_out_object(o, "error");
    json_out_text(o, "description", "the error object");
    json_out_object(o, "content");
    put_media(o, "application/json", "error");
    json_out_end(o);
    json_out_end(o);
    json_out_end(o);
    json_out_object(o, "securitySchemes");
    json_out_object(o, "key");
    json_out_text(o, "type", "http");
    json_out_text(o, "scheme", "bearer");
    for (int i = 0; i < 3; i++) json_out_end(o);
}

void openapi_write(struct strbuf *out, bool keys)
{
    struct json_out o;
    json_out_init(&o, out);
    json_out_object(&o, NULL);
    json_out_text(&o, "openapi", "3.1.0");
    json_out_object(&o, "info");
    json_out_text(&o, "title", "fluxd");
    json_out_text(&o, "version", FLUXD_VERSION);
    json_out_text(&o, "description",
                  "OpenAI-compatible inference server. null is absence; fields that stand nowhere here are "
                  "accepted and have no effect, those under x-unsupported are refused.");
    json_out_end(&o);
    if (keys) {
        json_out_array(&o, "security");
        json_out_object(&o, NULL);
        json_out_array(&o, "key");
        for (int i = 0; i < 3; i++) json_out_end(&o);
    }
    json_out_object(&o, "paths");
    for (size_t i = 0; i < sizeof body_row / sizeof *body_row; i++) put_body(&o, &body_row[i]);
    for (size_t i = 0; i < sizeof view_row / sizeof *view_row; i++) put_view(&o, &view_row[i], keys);
    json_out_end(&o);
    put_components(&o);
    json_out_end(&o);
}
