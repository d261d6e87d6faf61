/* chat_tools: see chat_tools.h. */
#include "server/api/chat_tools.h"

#include <string.h>

#include "server/api/tool_entry.h"

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

/* --- tool_choice */

/* {"type": "function", "function": {"name": N}}, or with the name beside the type. */
static enum err read_named(const struct chat_tools *t, struct json_in *in, const cJSON *node,
                           struct chat_tool **out)
{
    const cJSON *inner = json_in_get(node, "function"),
                *name = json_in_get(cJSON_IsObject(inner) ? inner : node, "name");
    const char *at = t->dialect == TOOLS_CHAT ? "function.name" : "name";
    if (!cJSON_IsString(name)) return json_in_fail(in, ERR_MISSING_FIELD, at, "must be the name of a tool");
    *out = find(t, name->valuestring);
    if (!*out) return json_in_fail(in, ERR_INVALID_VALUE, at, "is the name of none of the tools");
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

/* It must be called, and once: clients that name a tool read one call. */
static void only(struct chat_tools *t, const struct chat_tool *tool)
{
    for (int i = 0; i < t->n; i++) t->tool[i].allowed = &t->tool[i] == tool;
    t->mode = TOOLS_REQUIRED;
    t->parallel = false;
}

static enum err read_object(struct chat_tools *t, struct json_in *in, const cJSON *node)
{
    const cJSON *type = json_in_get(node, "type");
    struct chat_tool *tool = NULL;
    if (cJSON_IsString(type) && !strcmp(type->valuestring, "allowed_tools")) return read_allowed(t, in, node);
    const bool custom =
        t->dialect == TOOLS_RESPONSES && cJSON_IsString(type) && !strcmp(type->valuestring, "custom");
    if (!custom && (!cJSON_IsString(type) || strcmp(type->valuestring, "function")))
        return json_in_fail(in, ERR_INVALID_VALUE, "type", "must be \"function\"%s or \"allowed_tools\"",
                            t->dialect == TOOLS_RESPONSES ? ", \"custom\"" : "");
    const enum err e = read_named(t, in, node, &tool);
    if (e) return e;
    only(t, tool);
    return OK;
}

/* Anthropic's: {"type": "auto" | "any" | "none"} or {"type": "tool", "name": N}. */
static enum err read_message_choice(struct chat_tools *t, struct json_in *in, const cJSON *node)
{
    static const char *const word[] = {"none", "auto", "any", "tool", NULL};
    struct asked {
        int type;
        bool one;
    } asked = {0};
    static const struct json_row row[] = {
        {.name = "type",
         .type = JSON_WORD,
         JSON_AT(struct asked, type),
         .words = word,
         .flags = JSON_REQUIRED},
        {.name = "disable_parallel_tool_use", .type = JSON_BOOL, JSON_AT(struct asked, one)},
        {.name = NULL},
    };
    struct chat_tool *tool = NULL;
    enum err e = json_in_read(in, node, row, &asked);
    if (!e && asked.type == 3) e = read_named(t, in, node, &tool);
    if (e) return e;
    t->parallel = !asked.one;
    if (tool)
        only(t, tool);
    else
        t->mode = (enum tools_mode)asked.type;
    return OK;
}

static enum err read_choice(struct chat_tools *t, struct json_in *in, const struct json_any *choice)
{
    enum err e = OK;
    t->mode = t->n ? TOOLS_AUTO : TOOLS_NONE;
    if (choice->kind == JSON_KIND_NULL) return OK;
    if (choice->kind == JSON_KIND_OBJECT) {
        const size_t mark = json_in_enter(in, "tool_choice");
        e = t->dialect == TOOLS_MESSAGES ? read_message_choice(t, in, choice->node)
                                         : read_object(t, in, choice->node);
        json_in_leave(in, mark);
    } else if (t->dialect == TOOLS_MESSAGES) {
        e = json_in_fail(in, ERR_INVALID_TYPE, "tool_choice", "must be an object");
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

static enum err read_entries(struct chat_tools *t, struct json_in *in, const cJSON *tools, cJSON *shaped)
{
    enum err e = OK;
    for (const cJSON *c = tools->child; c && !e; c = c->next) {
        struct chat_tool tool;
        const size_t mark = json_in_enter(in, "tools[%d]", t->n);
        e = tool_entry_read(&tool, in, c, t->dialect, t->n);
        if (!e && find(t, tool.name))
            e = json_in_fail(in, ERR_INVALID_VALUE, t->dialect == TOOLS_CHAT ? "function.name" : "name",
                             "is the name of two tools");
        json_in_leave(in, mark);
        if (e) return e;
        cJSON *chat = shaped ? tool_entry_for_chat(&tool) : NULL;
        if (shaped && !(chat && cJSON_AddItemToArray(shaped, chat))) return no_memory(in);
        t->tool[t->n++] = tool;
    }
    return e;
}

enum err chat_tools_read(struct chat_tools *t, struct json_in *in, const cJSON *tools,
                         const struct json_any *choice, bool parallel, enum tool_dialect dialect)
{
    *t = (struct chat_tools){.parallel = parallel, .all_allowed = true, .dialect = dialect};
    const int n = tools ? cJSON_GetArraySize(tools) : 0;
    cJSON *shaped = n && dialect != TOOLS_CHAT ? cJSON_CreateArray() : NULL;
    enum err e = OK;
    if (n) t->tool = arena_array(&in->mem, (size_t)n, sizeof *t->tool);
    if (n && (!t->tool || (dialect != TOOLS_CHAT && !json_in_keep(in, shaped)))) return no_memory(in);
    if (n) e = read_entries(t, in, tools, shaped);
    if (n) t->node = shaped ? shaped : tools;
    if (!e) e = read_choice(t, in, choice);
    for (int i = 0; i < t->n; i++) t->all_allowed = t->all_allowed && t->tool[i].allowed;
    return e;
}

static bool is_at(const struct err_note *note, const char *place)
{
    const size_t n = strlen(place);
    return !strncmp(note->param, place, n) && strchr("/.", note->param[n]);
}

bool chat_tools_relent(struct chat_tools *t, const struct err_note *note)
{
    struct chat_tool *at = NULL;
    bool any = false;
    if (err_status(note->code) != 400) return false;
    for (int i = 0; i < t->n && !at; i++)
        if (is_at(note, t->tool[i].place)) at = &t->tool[i];
    if (at && (at->strict_said || !at->strict)) return false;
    const bool all = !at || ++t->n_relented > TOOLS_RELENT_MOST;
    for (int i = 0; i < t->n; i++) {
        struct chat_tool *tool = &t->tool[i];
        if (tool->strict_said || !tool->strict || (!all && tool != at)) continue;
        tool->strict = false;
        any = true;
    }
    return any;
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
        tool[i].one_text = t->tool[i].custom;
        if (!tool[i].name || !add_text_keys(&t->tool[i], mem, &tool[i])) return ERR_NOMEM;
    }
    *s = (struct tool_set){.tool = tool, .n = t->n};
    *out = s;
    return OK;
}
