/* tool_entry: see tool_entry.h. A custom tool takes one text, which may hold to a pattern. The model is told
 * of a function with the argument "input": no template knows anything else. */
#include "server/api/tool_entry.h"

#include <stdio.h>
#include <string.h>

enum { PATTERN_BYTES = 65536 };

struct entry {
    struct json_str type, name, description;
    struct json_any schema;
    const cJSON *inner, *format;
    bool strict;
};

#define F(field, kind, member, ...)                                                                          \
    {                                                                                                        \
        .name = field, .type = kind, JSON_AT(struct entry, member), __VA_ARGS__                              \
    }
#define NAME F("name", JSON_STRING, name, .min = 1, .max = TOOL_NAME_BYTES, .flags = JSON_REQUIRED)
static const struct json_row type_row[] = {F("type", JSON_STRING, type), {.name = NULL}},
                             chat_row[] = {F("type", JSON_STRING, type, .flags = JSON_REQUIRED),
                                           F("function", JSON_OBJECT, inner),
                                           {.name = NULL}},
                             function_row[] = {NAME,
                                               F("description", JSON_STRING, description),
                                               F("parameters", JSON_ANY, schema),
                                               F("strict", JSON_BOOL, strict),
                                               {.name = NULL}},
                             message_row[] = {NAME,
                                              F("description", JSON_STRING, description),
                                              F("input_schema", JSON_ANY, schema),
                                              F("strict", JSON_BOOL, strict),
                                              {.name = NULL}},
                             custom_row[] = {NAME,
                                             F("description", JSON_STRING, description),
                                             F("format", JSON_OBJECT, format),
                                             {.name = NULL}};

struct format {
    struct json_str type, syntax, definition;
};
static const struct json_row format_row[] = {
    {.name = "type", .type = JSON_STRING, JSON_AT(struct format, type), .flags = JSON_REQUIRED},
    {.name = "syntax", .type = JSON_STRING, JSON_AT(struct format, syntax)},
    {.name = "definition", .type = JSON_STRING, JSON_AT(struct format, definition), .max = PATTERN_BYTES},
    {.name = NULL},
};

static enum err no_memory(struct json_in *in)
{
    return err_set(in->note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
}

/* Calls name a tool in many ways of writing, so a name has no character that means something in one. */
static bool is_name(const char *s)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:";
    return s[strspn(s, letters)] == '\0';
}

static bool is(const struct json_str *s, const char *word) { return s->p && !strcmp(s->p, word); }

static enum err refuse_type(struct json_in *in, const struct json_str *type, const char *known)
{
    if (!type->p) return json_in_fail(in, ERR_MISSING_FIELD, "type", "is required");
    return json_in_fail(in, ERR_UNSUPPORTED, "type",
                        "\"%.64s\" is not supported: no tools are run here, so %s", type->p, known);
}

/* Which of the dialect's tables the node is read by. */
static enum err pick_rows(struct json_in *in, const cJSON *node, enum tool_dialect dialect,
                          const struct json_row **rows, struct entry *entry)
{
    enum err e = json_in_read(in, node, dialect == TOOLS_CHAT ? chat_row : type_row, entry);
    if (e) return e;
    switch (dialect) {
    case TOOLS_CHAT:
        *rows = function_row;
        if (!is(&entry->type, "function")) return refuse_type(in, &entry->type, "it must be \"function\"");
        return entry->inner ? OK : json_in_fail(in, ERR_MISSING_FIELD, "function", "is required");
    case TOOLS_MESSAGES:
        *rows = message_row;
        if (!entry->type.p || is(&entry->type, "custom")) return OK;
        return refuse_type(in, &entry->type, "it must be \"custom\" or absent");
    case TOOLS_RESPONSES:
        *rows = is(&entry->type, "custom") ? custom_row : function_row;
        if (is(&entry->type, "function") || is(&entry->type, "custom")) return OK;
        return refuse_type(in, &entry->type, "it must be \"function\" or \"custom\"");
    }
    return ERR_INTERNAL;
}

/* --- custom tools */

/* The schema of {"input": TEXT}; pattern NULL: any text. */
static const cJSON *text_schema(struct json_in *in, const char *pattern)
{
    cJSON *all = cJSON_CreateObject(), *of = NULL, *input = NULL, *need = NULL;
    bool ok = all && cJSON_AddStringToObject(all, "type", "object") &&
              (of = cJSON_AddObjectToObject(all, "properties")) &&
              (input = cJSON_AddObjectToObject(of, "input")) &&
              cJSON_AddStringToObject(input, "type", "string") &&
              (!pattern || cJSON_AddStringToObject(input, "pattern", pattern)) &&
              (need = cJSON_AddArrayToObject(all, "required")) &&
              cJSON_AddItemToArray(need, cJSON_CreateString("input")) &&
              cJSON_AddFalseToObject(all, "additionalProperties");
    if (ok && json_in_keep(in, all)) return all;
    if (!ok) cJSON_Delete(all);
    return NULL;
}

static enum err read_format(struct json_in *in, const cJSON *node, const char **pattern)
{
    struct format f = {0};
    enum err e = json_in_read(in, node, format_row, &f);
    if (e || is(&f.type, "text")) return e;
    if (!is(&f.type, "grammar"))
        return json_in_fail(in, ERR_INVALID_VALUE, "type", "must be \"text\" or \"grammar\"");
    if (!is(&f.syntax, "regex"))
        return json_in_fail(in, ERR_UNSUPPORTED, "syntax", "is supported as \"regex\" only");
    if (!f.definition.p) return json_in_fail(in, ERR_MISSING_FIELD, "definition", "is required");
    char *own = arena_alloc(&in->mem, f.definition.n + 8);
    if (!own) return no_memory(in);
    snprintf(own, f.definition.n + 8, "^(?:%s)$", f.definition.p);
    *pattern = own;
    return OK;
}

static enum err read_custom(struct chat_tool *t, struct json_in *in, const struct entry *entry)
{
    const char *pattern = NULL;
    enum err e = OK;
    if (entry->format) {
        const size_t mark = json_in_enter(in, "format");
        e = read_format(in, entry->format, &pattern);
        json_in_leave(in, mark);
    }
    if (e) return e;
    t->custom = t->strict = t->strict_said = true;
    t->format = entry->format;
    t->parameters = text_schema(in, pattern);
    return t->parameters ? OK : no_memory(in);
}

/* --- */

static const char *place_of(struct json_in *in, int index, enum tool_dialect dialect, bool custom)
{
    static const char *const schema[] = {[TOOLS_CHAT] = "function.parameters",
                                         [TOOLS_MESSAGES] = "input_schema",
                                         [TOOLS_RESPONSES] = "parameters"};
    char place[64];
    snprintf(place, sizeof place, "tools[%d].%s", index, custom ? "format.definition" : schema[dialect]);
    return arena_strndup(&in->mem, place, strlen(place));
}

enum err tool_entry_read(struct chat_tool *out, struct json_in *in, const cJSON *node,
                         enum tool_dialect dialect, int index)
{
    struct entry entry = {0};
    const struct json_row *rows = NULL;
    enum err e = pick_rows(in, node, dialect, &rows, &entry);
    if (e) return e;
    const cJSON *from = entry.inner ? entry.inner : node;
    const bool custom = rows == custom_row, says = json_in_get(from, "strict") != NULL;
    const size_t mark = entry.inner ? json_in_enter(in, "function") : 0;
    entry.strict = dialect == TOOLS_RESPONSES;
    e = json_in_read(in, from, rows, &entry);
    if (!e && !is_name(entry.name.p))
        e = json_in_fail(in, ERR_INVALID_VALUE, "name", "must have only letters, digits and _ - . / :");
    if (!e && entry.schema.kind != JSON_KIND_NULL && entry.schema.kind != JSON_KIND_OBJECT)
        e = json_in_fail(in, ERR_INVALID_TYPE, dialect == TOOLS_MESSAGES ? "input_schema" : "parameters",
                         "must be an object");
    *out = (struct chat_tool){.name = entry.name.p,
                              .description = entry.description.p,
                              .parameters = entry.schema.node,
                              .place = place_of(in, index, dialect, custom),
                              .strict = entry.strict,
                              .strict_said = says || dialect != TOOLS_RESPONSES,
                              .allowed = true};
    if (!e && !out->place) e = no_memory(in);
    if (!e && custom) e = read_custom(out, in, &entry);
    if (entry.inner) json_in_leave(in, mark);
    return e;
}

cJSON *tool_entry_for_chat(const struct chat_tool *t)
{
    cJSON *all = cJSON_CreateObject(), *f = all && cJSON_AddStringToObject(all, "type", "function")
                                                ? cJSON_AddObjectToObject(all, "function")
                                                : NULL;
    bool ok = f && cJSON_AddItemToObjectCS(f, "name", cJSON_CreateStringReference(t->name));
    if (ok && t->description)
        ok = cJSON_AddItemToObjectCS(f, "description", cJSON_CreateStringReference(t->description));
    if (ok && t->parameters)
        ok = cJSON_AddItemToObjectCS(f, "parameters", cJSON_CreateObjectReference(t->parameters->child));
    if (ok) return all;
    cJSON_Delete(all);
    return NULL;
}
