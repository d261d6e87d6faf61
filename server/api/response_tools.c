/* response_tools: see response_tools.h. */
#include "server/api/response_tools.h"

#include <stdlib.h>
#include <string.h>

#include "server/json/out.h"

static void put_tree(struct json_out *o, const char *key, const cJSON *node)
{
    char *text = node ? cJSON_PrintUnformatted(node) : NULL;
    if (text)
        json_out_raw(o, key, text, strlen(text));
    else
        json_out_null(o, key);
    if (node && !text) o->buf->failed = true;
    free(text);
}

static void put_tool(struct json_out *o, const struct chat_tool *t)
{
    json_out_object(o, NULL);
    json_out_text(o, "type", t->custom ? "custom" : "function");
    json_out_text(o, "name", t->name);
    json_out_text(o, "description", t->description);
    if (t->custom && t->format) {
        put_tree(o, "format", t->format);
    } else if (t->custom) {
        json_out_object(o, "format");
        json_out_text(o, "type", "text");
        json_out_end(o);
    } else {
        put_tree(o, "parameters", t->parameters);
        json_out_bool(o, "strict", t->strict);
    }
    json_out_end(o);
}

static const char *taken(struct arena *mem, struct strbuf *s)
{
    const char *copy = strbuf_failed(s) ? NULL : arena_strndup(mem, s->data, s->len);
    strbuf_fini(s);
    return copy;
}

enum err response_tools_fill(struct response_ask *out, struct arena *mem, const struct params *p)
{
    struct json_out o;
    struct strbuf s;
    strbuf_init(&s);
    json_out_init(&o, &s);
    json_out_array(&o, NULL);
    for (int i = 0; i < p->calls.n; i++) put_tool(&o, &p->calls.tool[i]);
    json_out_end(&o);
    out->tools = taken(mem, &s);
    if (p->tool_choice.kind != JSON_KIND_NULL) {
        strbuf_init(&s);
        json_out_init(&o, &s);
        put_tree(&o, NULL, p->tool_choice.node);
        out->tool_choice = taken(mem, &s);
    }
    return out->tools && out->tool_choice ? OK : ERR_NOMEM;
}
