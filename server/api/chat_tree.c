/* chat_tree: see chat_tree.h. */
#include "server/api/chat_tree.h"

#include <stdlib.h>
#include <string.h>

/* Hands item to m; it is freed where that fails. */
static bool give(cJSON *m, const char *key, cJSON *item)
{
    if (item && (key ? cJSON_AddItemToObjectCS(m, key, item) : cJSON_AddItemToArray(m, item))) return true;
    cJSON_Delete(item);
    return false;
}

bool chat_tree_string(cJSON *m, const char *key, const char *text)
{
    return give(m, key, cJSON_CreateStringReference(text));
}

bool chat_tree_message(cJSON *list, const char *role, cJSON **out)
{
    *out = cJSON_CreateObject();
    return give(list, NULL, *out) && chat_tree_string(*out, "role", role);
}

static cJSON *add_object(cJSON **list)
{
    if (!*list) *list = cJSON_CreateArray();
    cJSON *o = *list ? cJSON_CreateObject() : NULL;
    return o && give(*list, NULL, o) ? o : NULL;
}

bool chat_tree_part(cJSON **parts, const char *text)
{
    cJSON *o = add_object(parts);
    return o && chat_tree_string(o, "type", "text") && chat_tree_string(o, "text", text);
}

bool chat_tree_call(cJSON **calls, const char *id, const char *name, const cJSON *arguments, const char *text)
{
    cJSON *o = add_object(calls), *f = cJSON_CreateObject();
    if (!o || !give(o, "function", f)) {
        if (!o) cJSON_Delete(f);
        return false;
    }
    cJSON *value = arguments ? cJSON_CreateObjectReference(arguments->child)
                   : text    ? cJSON_CreateStringReference(text)
                             : cJSON_CreateObject();
    return chat_tree_string(o, "id", id) && chat_tree_string(o, "type", "function") &&
           chat_tree_string(f, "name", name) && give(f, "arguments", value);
}

static bool hand_over(cJSON *m, const char *key, cJSON **list)
{
    cJSON *it = *list;
    *list = NULL;
    return give(m, key, it);
}

bool chat_tree_content(cJSON *m, cJSON **parts, bool may_lack)
{
    if (*parts) return hand_over(m, "content", parts);
    return give(m, "content", may_lack ? cJSON_CreateNull() : cJSON_CreateStringReference(""));
}

/* The chat's field is one string. */
bool chat_tree_thought(cJSON *m, cJSON **parts)
{
    struct strbuf all;
    if (!*parts) return true;
    strbuf_init(&all);
    for (const cJSON *c = (*parts)->child; c; c = c->next) {
        if (c != (*parts)->child) strbuf_putc(&all, '\n');
        strbuf_puts(&all, json_in_get(c, "text")->valuestring);
    }
    const bool ok =
        !strbuf_failed(&all) && give(m, "reasoning_content", cJSON_CreateString(all.data ? all.data : ""));
    strbuf_fini(&all);
    cJSON_Delete(*parts);
    *parts = NULL;
    return ok;
}

bool chat_tree_calls(cJSON *m, cJSON **calls) { return !*calls || hand_over(m, "tool_calls", calls); }
