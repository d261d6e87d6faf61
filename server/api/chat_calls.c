/* chat_calls: see chat_calls.h. */
#include "server/api/chat_calls.h"

#include <stdlib.h>
#include <string.h>

struct call {
    struct json_str id;
    const cJSON *function;
};
static const struct json_row call_row[] = {
    {.name = "id", .type = JSON_STRING, JSON_AT(struct call, id), .max = 256, .flags = JSON_REQUIRED},
    {.name = "function", .type = JSON_OBJECT, JSON_AT(struct call, function), .flags = JSON_REQUIRED},
    {.name = NULL},
};

struct function {
    struct json_str name;
    struct json_any arguments;
};
static const struct json_row function_row[] = {
    {.name = "name", .type = JSON_STRING, JSON_AT(struct function, name), .min = 1, .flags = JSON_REQUIRED},
    {.name = "arguments", .type = JSON_ANY, JSON_AT(struct function, arguments)},
    {.name = NULL},
};

static enum err check_call(struct json_in *in, const cJSON *node)
{
    struct call call = {0};
    struct function f = {0};
    enum err e = json_in_read(in, node, call_row, &call);
    if (e) return e;
    const size_t mark = json_in_enter(in, "function");
    e = json_in_read(in, call.function, function_row, &f);
    if (!e && f.arguments.kind != JSON_KIND_NULL && f.arguments.kind != JSON_KIND_STRING &&
        f.arguments.kind != JSON_KIND_OBJECT)
        e = json_in_fail(in, ERR_INVALID_TYPE, "arguments", "must be a string, or an object");
    json_in_leave(in, mark);
    return e;
}

enum err chat_calls_check(struct json_in *in, const cJSON *calls)
{
    enum err e = OK;
    int i = 0;
    for (const cJSON *c = calls->child; c && !e; c = c->next, i++) {
        const size_t mark = json_in_enter(in, "tool_calls[%d]", i);
        e = check_call(in, c);
        json_in_leave(in, mark);
    }
    return e;
}

bool chat_calls_have(const cJSON *calls, const char *id)
{
    for (const cJSON *c = calls ? calls->child : NULL; c; c = c->next) {
        const cJSON *own = json_in_get(c, "id");
        if (cJSON_IsString(own) && !strcmp(own->valuestring, id)) return true;
    }
    return false;
}

/* --- for templates */

static bool put(struct arena *mem, struct tmpl_value *dict, const char *key, const struct tmpl_value *v)
{
    return tmpl_dict_put(mem, dict, tmpl_str(mem, key, strlen(key), TMPL_OURS), v);
}

/* Arguments as JSON text; its memory is the node's or *own, which the caller frees. */
static const char *args_text(const cJSON *args, char **own)
{
    *own = NULL;
    if (cJSON_IsString(args)) return args->valuestring;
    if (!args) return "{}";
    return *own = cJSON_PrintUnformatted(args);
}

static struct tmpl_value *args_value(struct chat_values *values, const cJSON *args, bool as_text)
{
    struct arena *mem = values->mem;
    struct tmpl_value *v = NULL;
    char *own;
    if (!as_text && cJSON_IsObject(args)) return chat_value(values, args);
    const char *text = args_text(args, &own);
    char *copy = text ? arena_strndup(mem, text, strlen(text)) : NULL;
    free(own);
    if (!copy) return NULL;
    if (!as_text) v = chat_value_parse(mem, copy, strlen(copy));
    return v ? v : tmpl_str(mem, copy, strlen(copy), TMPL_OUTSIDE);
}

static struct tmpl_value *function_value(struct chat_values *values, const cJSON *node, bool as_text)
{
    struct arena *mem = values->mem;
    struct tmpl_value *d = tmpl_dict(mem);
    bool args = false;
    for (const cJSON *c = node->child; d && c; c = c->next) {
        const bool is_args = !strcmp(c->string, "arguments");
        args = args || is_args;
        struct tmpl_value *v =
            is_args ? args_value(values, cJSON_IsNull(c) ? NULL : c, as_text) : chat_value(values, c);
        if (!tmpl_dict_put(mem, d, tmpl_str(mem, c->string, strlen(c->string), TMPL_OUTSIDE), v)) return NULL;
    }
    return d && (args || put(mem, d, "arguments", args_value(values, NULL, as_text))) ? d : NULL;
}

static struct tmpl_value *call_value(struct chat_values *values, const cJSON *node, bool as_text)
{
    struct arena *mem = values->mem;
    struct tmpl_value *d = tmpl_dict(mem);
    bool type = false;
    for (const cJSON *c = node->child; d && c; c = c->next) {
        type = type || !strcmp(c->string, "type");
        struct tmpl_value *v =
            !strcmp(c->string, "function") ? function_value(values, c, as_text) : chat_value(values, c);
        if (!tmpl_dict_put(mem, d, tmpl_str(mem, c->string, strlen(c->string), TMPL_OUTSIDE), v)) return NULL;
    }
    return d && (type || put(mem, d, "type", tmpl_str(mem, "function", 8, TMPL_OURS))) ? d : NULL;
}

struct tmpl_value *chat_calls_value(struct chat_values *v, const cJSON *calls, bool as_text)
{
    struct tmpl_value *list = tmpl_list(v->mem);
    for (const cJSON *c = calls->child; list && c; c = c->next)
        if (!tmpl_list_add(v->mem, list, call_value(v, c, as_text))) return NULL;
    return list;
}

/* --- for texts */

static bool past_of(const cJSON *node, struct tool_past *to, char **own)
{
    const cJSON *f = json_in_get(node, "function"), *name = json_in_get(f, "name"),
                *id = json_in_get(node, "id");
    const char *args = args_text(json_in_get(f, "arguments"), own);
    if (!args) return false;
    *to = (struct tool_past){.name = name->valuestring,
                             .n_name = strlen(name->valuestring),
                             .args = *args ? args : "{}",
                             .n_args = *args ? strlen(args) : 2,
                             .id = id->valuestring,
                             .n_id = strlen(id->valuestring)};
    return true;
}

bool chat_calls_text(const struct tool_format *f, const cJSON *calls, struct strbuf *out)
{
    const int n = cJSON_GetArraySize(calls);
    struct tool_past *past = calloc((size_t)n + 1, sizeof *past);
    char **own = calloc((size_t)n + 1, sizeof *own);
    bool ok = past && own;
    int i = 0;
    for (const cJSON *c = calls->child; ok && c; c = c->next, i++) ok = past_of(c, &past[i], &own[i]);
    if (ok) tool_render_calls(f, past, n, out);
    for (i = 0; own && i < n; i++) free(own[i]);
    free(own);
    free(past);
    return ok && !strbuf_failed(out);
}

bool chat_tools_text(const struct tool_format *f, const struct chat_tools *t, struct strbuf *out)
{
    static const char args[] = "{\"argument-name\": \"value\"}";
    const struct tool_past example = {.name = "tool-name",
                                      .n_name = 9,
                                      .args = args,
                                      .n_args = sizeof args - 1,
                                      .id = "abcdefghi",
                                      .n_id = 9};
    bool ok = true;
    strbuf_puts(out, "# Tools\n\nThese tools can be called. Each is described as JSON:\n<tools>\n");
    for (const cJSON *c = t->node->child; ok && c; c = c->next) {
        char *text = cJSON_PrintUnformatted(json_in_get(c, "function"));
        ok = text != NULL;
        strbuf_puts(out, text ? text : "");
        strbuf_putc(out, '\n');
        free(text);
    }
    strbuf_puts(out, "</tools>\n\nTo call a tool, write its name and its arguments in exactly this form:\n");
    tool_render_calls(f, &example, 1, out);
    if (t->mode == TOOLS_REQUIRED) strbuf_puts(out, "\n\nThe answer must be a call.");
    strbuf_puts(out, "\n\nThe result of a call comes back between <tool_response> and </tool_response>.");
    return ok && !strbuf_failed(out);
}
