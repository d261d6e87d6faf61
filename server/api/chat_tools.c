/* chat_tools: see chat_tools.h. */
#include "server/api/chat_tools.h"

#include <string.h>

struct entry {
    struct json_str type;
    const cJSON *function;
};
static const struct json_row entry_row[] = {
    {.name = "type", .type = JSON_STRING, JSON_AT(struct entry, type), .flags = JSON_REQUIRED},
    {.name = "function", .type = JSON_OBJECT, JSON_AT(struct entry, function)},
    {.name = NULL},
};

struct function {
    struct json_str name, description;
    struct json_any parameters;
    bool strict;
};
static const struct json_row function_row[] = {
    {.name = "name",
     .type = JSON_STRING,
     JSON_AT(struct function, name),
     .min = 1,
     .max = TOOL_NAME_BYTES,
     .flags = JSON_REQUIRED},
    {.name = "description", .type = JSON_STRING, JSON_AT(struct function, description)},
    {.name = "parameters", .type = JSON_ANY, JSON_AT(struct function, parameters)},
    {.name = "strict", .type = JSON_BOOL, JSON_AT(struct function, strict)},
    {.name = NULL},
};

static enum err no_memory(struct json_in *in)
{
    return err_set(in->note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
}

static struct chat_tool *find(const struct chat_tools *t, const char *name)
{
    for (int i = 0; i < t->n; i++)
        if (!strcmp(t->tool[i].name, name)) return &t->tool[i];
    return NULL;
}

/* Calls name a tool in many ways of writing, so a name has no character that means something in one. */
static bool is_name(const char *s)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:";
    return s[strspn(s, letters)] == '\0';
}

static enum err read_function(struct chat_tools *t, struct json_in *in, const cJSON *node)
{
    struct function f = {0};
    enum err e = json_in_read(in, node, function_row, &f);
    if (e) return e;
    if (!is_name(f.name.p))
        return json_in_fail(in, ERR_INVALID_VALUE, "name", "must have only letters, digits and _ - . / :");
    if (find(t, f.name.p)) return json_in_fail(in, ERR_INVALID_VALUE, "name", "is the name of two tools");
    if (f.parameters.kind != JSON_KIND_NULL && f.parameters.kind != JSON_KIND_OBJECT)
        return json_in_fail(in, ERR_INVALID_TYPE, "parameters", "must be an object");
    t->tool[t->n++] = (struct chat_tool){
        .name = f.name.p, .parameters = f.parameters.node, .strict = f.strict, .allowed = true};
    return OK;
}

static enum err read_entry(struct chat_tools *t, struct json_in *in, const cJSON *node)
{
    struct entry entry = {0};
    enum err e = json_in_read(in, node, entry_row, &entry);
    if (e) return e;
    if (strcmp(entry.type.p, "function"))
        return json_in_fail(in, ERR_UNSUPPORTED, "type", "must be \"function\": no other tools are run here");
    if (!entry.function) return json_in_fail(in, ERR_MISSING_FIELD, "function", "is required");
    const size_t mark = json_in_enter(in, "function");
    e = read_function(t, in, entry.function);
    json_in_leave(in, mark);
    return e;
}

/* --- tool_choice */

/* {"type": "function", "function": {"name": N}}, or with the name beside the type. */
static enum err read_named(const struct chat_tools *t, struct json_in *in, const cJSON *node,
                           struct chat_tool **out)
{
    const cJSON *inner = json_in_get(node, "function"),
                *name = json_in_get(cJSON_IsObject(inner) ? inner : node, "name");
    if (!cJSON_IsString(name))
        return json_in_fail(in, ERR_MISSING_FIELD, "function.name", "must be the name of a tool");
    *out = find(t, name->valuestring);
    if (!*out)
        return json_in_fail(in, ERR_INVALID_VALUE, "function.name", "is the name of none of the tools");
    return OK;
}

static enum err set_mode(struct chat_tools *t, struct json_in *in, const char *name, const cJSON *word)
{
    static const char *const mode[] = {
        [TOOLS_NONE] = "none", [TOOLS_AUTO] = "auto", [TOOLS_REQUIRED] = "required"};
    for (int i = 0; i < 3 && cJSON_IsString(word); i++)
        if (!strcmp(word->valuestring, mode[i])) {
            t->mode = (enum tools_mode)i;
            return OK;
        }
    return json_in_fail(in, ERR_INVALID_VALUE, name, "must be \"none\", \"auto\", \"required\" or an object");
}

/* {"type": "allowed_tools", "allowed_tools": {"mode": M, "tools": [...]}}, or with both beside the type. */
static enum err read_allowed(struct chat_tools *t, struct json_in *in, const cJSON *node)
{
    const cJSON *inner = json_in_get(node, "allowed_tools"), *from = cJSON_IsObject(inner) ? inner : node,
                *list = json_in_get(from, "tools");
    enum err e = set_mode(t, in, "mode", json_in_get(from, "mode"));
    int i = 0;
    if (!e && !cJSON_IsArray(list))
        e = json_in_fail(in, ERR_MISSING_FIELD, "tools", "must be a list of tools");
    for (int k = 0; k < t->n; k++) t->tool[k].allowed = false;
    for (const cJSON *c = e ? NULL : list->child; c && !e; c = c->next, i++) {
        struct chat_tool *tool = NULL;
        const size_t mark = json_in_enter(in, "tools[%d]", i);
        e = read_named(t, in, c, &tool);
        json_in_leave(in, mark);
        if (!e) tool->allowed = true;
    }
    if (!e && i == 0 && t->mode != TOOLS_NONE)
        e = json_in_fail(in, ERR_INVALID_VALUE, "tools", "must name a tool at least");
    return e;
}

static enum err read_object(struct chat_tools *t, struct json_in *in, const cJSON *node)
{
    const cJSON *type = json_in_get(node, "type");
    struct chat_tool *tool = NULL;
    if (cJSON_IsString(type) && !strcmp(type->valuestring, "allowed_tools")) return read_allowed(t, in, node);
    if (!cJSON_IsString(type) || strcmp(type->valuestring, "function"))
        return json_in_fail(in, ERR_INVALID_VALUE, "type", "must be \"function\" or \"allowed_tools\"");
    const enum err e = read_named(t, in, node, &tool);
    if (e) return e;
    for (int i = 0; i < t->n; i++) t->tool[i].allowed = &t->tool[i] == tool;
    t->mode = TOOLS_REQUIRED;
    return OK;
}

static enum err read_choice(struct chat_tools *t, struct json_in *in, const struct json_any *choice)
{
    enum err e = OK;
    t->mode = t->n ? TOOLS_AUTO : TOOLS_NONE;
    if (choice->kind == JSON_KIND_NULL) return OK;
    if (choice->kind == JSON_KIND_OBJECT) {
        const size_t mark = json_in_enter(in, "tool_choice");
        e = read_object(t, in, choice->node);
        json_in_leave(in, mark);
    } else if (choice->kind == JSON_KIND_STRING) {
        e = set_mode(t, in, "tool_choice", choice->node);
    } else {
        e = json_in_fail(in, ERR_INVALID_TYPE, "tool_choice", "must be a word or an object");
    }
    if (!e && t->n == 0 && t->mode == TOOLS_REQUIRED)
        e = json_in_fail(in, ERR_INVALID_VALUE, "tool_choice", "needs tools that could be called");
    if (t->n == 0) t->mode = TOOLS_NONE;
    return e;
}

enum err chat_tools_read(struct chat_tools *t, struct json_in *in, const cJSON *tools,
                         const struct json_any *choice, bool parallel)
{
    *t = (struct chat_tools){.parallel = parallel, .all_allowed = true};
    const int n = tools ? cJSON_GetArraySize(tools) : 0;
    enum err e = OK;
    if (n) t->tool = arena_array(&in->mem, (size_t)n, sizeof *t->tool);
    if (n && !t->tool) return no_memory(in);
    for (const cJSON *c = n ? tools->child : NULL; c && !e; c = c->next) {
        const size_t mark = json_in_enter(in, "tools[%d]", t->n);
        e = read_entry(t, in, c);
        json_in_leave(in, mark);
    }
    if (n) t->node = tools;
    if (!e) e = read_choice(t, in, choice);
    for (int i = 0; i < t->n; i++) t->all_allowed = t->all_allowed && t->tool[i].allowed;
    return e;
}

/* --- for the parser */

/* Nothing but a string fits the schema, as far as its type and enum say. */
static bool is_text(const cJSON *schema)
{
    const cJSON *type = json_in_get(schema, "type"), *list = json_in_get(schema, "enum");
    if (type) return cJSON_IsString(type) && !strcmp(type->valuestring, "string");
    bool text = cJSON_IsArray(list) && list->child;
    for (const cJSON *c = text ? list->child : NULL; c; c = c->next) text = text && cJSON_IsString(c);
    return text;
}

static bool add_text_keys(const struct chat_tool *from, struct arena *mem, struct tool *to)
{
    const cJSON *all = json_in_get(from->parameters, "properties");
    if (!cJSON_IsObject(all)) return true;
    const char **key = arena_array(mem, (size_t)cJSON_GetArraySize(all) + 1, sizeof *key);
    if (!key) return false;
    for (const cJSON *c = all->child; c; c = c->next)
        if (is_text(c) && !(key[to->n_text_key++] = arena_strndup(mem, c->string, strlen(c->string))))
            return false;
    to->text_key = key;
    return true;
}

enum err chat_tools_set(const struct chat_tools *t, struct arena *mem, const struct tool_set **out)
{
    *out = NULL;
    if (t->mode == TOOLS_NONE) return OK;
    struct tool_set *s = arena_alloc(mem, sizeof *s);
    struct tool *tool = arena_array(mem, (size_t)t->n, sizeof *tool);
    if (!s || !tool) return ERR_NOMEM;
    for (int i = 0; i < t->n; i++) {
        tool[i].n_name = strlen(t->tool[i].name);
        tool[i].name = arena_strndup(mem, t->tool[i].name, tool[i].n_name);
        if (!tool[i].name || !add_text_keys(&t->tool[i], mem, &tool[i])) return ERR_NOMEM;
    }
    *s = (struct tool_set){.tool = tool, .n = t->n};
    *out = s;
    return OK;
}
