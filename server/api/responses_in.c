/* responses_in: see responses_in.h. Strings are referred to, not copied. What an answer consisted of (a
 * thought, text, calls) comes as items of their own, and becomes one message of the assistant again, as the
 * template wrote it: so the prefix stays equal. */
#include "server/api/responses_in.h"

#include <string.h>

#include "server/api/chat_calls.h"
#include "server/api/chat_tree.h"

struct item {
    struct json_str type, call_id, name, arguments, custom, encrypted;
    int role;
    struct json_any content, output, summary;
};
enum { ROLE_USER, ROLE_ASSISTANT, ROLE_SYSTEM, ROLE_DEVELOPER };
static const char *const role_word[] = {"user", "assistant", "system", "developer", NULL};
static const struct json_row item_row[] = {
    {.name = "type", .type = JSON_STRING, JSON_AT(struct item, type)},
    {.name = "role", .type = JSON_WORD, JSON_AT(struct item, role), .words = role_word},
    {.name = "content", .type = JSON_ANY, JSON_AT(struct item, content)},
    {.name = "call_id", .type = JSON_STRING, JSON_AT(struct item, call_id), .min = 1, .max = 256},
    {.name = "name", .type = JSON_STRING, JSON_AT(struct item, name)},
    {.name = "arguments", .type = JSON_STRING, JSON_AT(struct item, arguments)},
    {.name = "input", .type = JSON_STRING, JSON_AT(struct item, custom)},
    {.name = "output", .type = JSON_ANY, JSON_AT(struct item, output)},
    {.name = "summary", .type = JSON_ANY, JSON_AT(struct item, summary)},
    {.name = "encrypted_content", .type = JSON_STRING, JSON_AT(struct item, encrypted)},
    {.name = NULL},
};

struct part {
    struct json_str type, text, refusal;
};
static const struct json_row part_row[] = {
    {.name = "type", .type = JSON_STRING, JSON_AT(struct part, type), .flags = JSON_REQUIRED},
    {.name = "text", .type = JSON_STRING, JSON_AT(struct part, text)},
    {.name = "refusal", .type = JSON_STRING, JSON_AT(struct part, refusal)},
    {.name = NULL},
};

/* The assistant's message on its way. */
struct reader {
    struct json_in *in;
    cJSON *list;
    cJSON *text, *thought, *calls;
    const cJSON *last_calls; /* of the last message that has some */
};

static enum err no_memory(const struct json_in *in)
{
    return err_set(in->note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
}

static enum err need(struct reader *r, const struct json_str *s, const char *name)
{
    return s->p ? OK : json_in_fail(r->in, ERR_MISSING_FIELD, name, "is required");
}

static enum err flush(struct reader *r)
{
    cJSON *m = NULL;
    if (!r->text && !r->thought && !r->calls) return OK;
    if (r->calls) r->last_calls = r->calls;
    const bool ok = chat_tree_message(r->list, "assistant", &m) &&
                    chat_tree_content(m, &r->text, r->calls != NULL) && chat_tree_thought(m, &r->thought) &&
                    chat_tree_calls(m, &r->calls);
    return ok ? OK : no_memory(r->in);
}

/* --- content */

static enum err read_part(struct reader *r, const cJSON *node, cJSON **parts)
{
    static const char *const type[] = {"input_text", "output_text", "text", "summary_text", "reasoning_text"};
    struct part part = {0};
    enum err e = json_in_read(r->in, node, part_row, &part);
    if (e) return e;
    const bool refusal = !strcmp(part.type.p, "refusal");
    bool known = refusal;
    for (size_t i = 0; i < sizeof type / sizeof *type; i++) known |= !strcmp(type[i], part.type.p);
    if (!known)
        return json_in_fail(r->in, ERR_UNSUPPORTED, "type",
                            "\"%.64s\" is not supported: this model reads text", part.type.p);
    const struct json_str *text = refusal ? &part.refusal : &part.text;
    e = need(r, text, refusal ? "refusal" : "text");
    if (!e && !chat_tree_part(parts, text->p)) e = no_memory(r->in);
    return e;
}

/* A string, or a list of parts, under this name. */
static enum err read_content(struct reader *r, const struct json_any *from, const char *name, cJSON **parts)
{
    enum err e = OK;
    int i = 0;
    switch (from->kind) {
    case JSON_KIND_STRING:
        return chat_tree_part(parts, from->node->valuestring) ? OK : no_memory(r->in);
    case JSON_KIND_ARRAY:
        if (!from->node) break;
        for (const cJSON *c = from->node->child; c && !e; c = c->next, i++) {
            const size_t mark = json_in_enter(r->in, "%s[%d]", name, i);
            e = read_part(r, c, parts);
            json_in_leave(r->in, mark);
        }
        return e;
    case JSON_KIND_NULL:
        return json_in_fail(r->in, ERR_MISSING_FIELD, name, "is required");
    default:
        break;
    }
    return json_in_fail(r->in, ERR_INVALID_TYPE, name, "must be a string or an array of parts");
}

/* --- items */

static enum err add_message(struct reader *r, const struct item *it)
{
    cJSON *m = NULL, *parts = NULL;
    enum err e = OK;
    if (it->role == ROLE_ASSISTANT) {
        if (r->text && !r->calls) e = flush(r);
        return e ? e : read_content(r, &it->content, "content", &r->text);
    }
    e = flush(r);
    if (!e) e = read_content(r, &it->content, "content", &parts);
    if (!e && !(chat_tree_message(r->list, role_word[it->role], &m) && chat_tree_content(m, &parts, false)))
        e = no_memory(r->in);
    cJSON_Delete(parts);
    return e;
}

/* What was reasoned stands in the content; what came from elsewhere may have a summary alone. */
static enum err add_thought(struct reader *r, const struct item *it)
{
    enum err e = r->text && !r->calls ? flush(r) : OK;
    if (e) return e;
    if (it->content.kind != JSON_KIND_NULL) return read_content(r, &it->content, "content", &r->thought);
    return it->summary.kind != JSON_KIND_NULL ? read_content(r, &it->summary, "summary", &r->thought) : OK;
}

static enum err add_call(struct reader *r, const struct item *it)
{
    enum err e = need(r, &it->call_id, "call_id");
    if (!e) e = need(r, &it->name, "name");
    if (!e) e = need(r, &it->arguments, "arguments");
    if (e) return e;
    return chat_tree_call(&r->calls, it->call_id.p, it->name.p, NULL, it->arguments.p) ? OK
                                                                                       : no_memory(r->in);
}

/* A custom tool's input is one text: the model wrote it as the argument "input". */
static enum err add_custom_call(struct reader *r, const struct item *it)
{
    enum err e = need(r, &it->call_id, "call_id");
    if (!e) e = need(r, &it->name, "name");
    if (!e) e = need(r, &it->custom, "input");
    if (e) return e;
    cJSON *args = cJSON_CreateObject(), *text = args ? cJSON_CreateStringReference(it->custom.p) : NULL;
    if (!text || !cJSON_AddItemToObjectCS(args, "input", text)) {
        cJSON_Delete(args);
        return no_memory(r->in);
    }
    if (!json_in_keep(r->in, args)) return no_memory(r->in);
    return chat_tree_call(&r->calls, it->call_id.p, it->name.p, args, NULL) ? OK : no_memory(r->in);
}

static enum err add_output(struct reader *r, const struct item *it)
{
    cJSON *m = NULL, *parts = NULL;
    enum err e = need(r, &it->call_id, "call_id");
    if (!e) e = flush(r);
    if (!e && !chat_calls_have(r->last_calls, it->call_id.p))
        e = json_in_fail(r->in, ERR_INVALID_VALUE, "call_id", "must be that of one of the calls made last");
    if (!e) e = read_content(r, &it->output, "output", &parts);
    if (!e && !(chat_tree_message(r->list, "tool", &m) &&
                chat_tree_string(m, "tool_call_id", it->call_id.p) && chat_tree_content(m, &parts, false)))
        e = no_memory(r->in);
    cJSON_Delete(parts);
    return e;
}

static const struct {
    const char *type;
    enum err (*add)(struct reader *r, const struct item *it);
} kind_of[] = {
    {"message", add_message},
    {"reasoning", add_thought},
    {"function_call", add_call},
    {"function_call_output", add_output},
    {"custom_tool_call", add_custom_call},
    {"custom_tool_call_output", add_output},
};

static enum err add_item(struct reader *r, const cJSON *node)
{
    struct item it = {.role = -1};
    enum err e = json_in_read(r->in, node, item_row, &it);
    if (e) return e;
    const char *type = it.type.p ? it.type.p : "message";
    if (!strcmp(type, "message") && it.role < 0)
        return json_in_fail(r->in, ERR_MISSING_FIELD, it.type.p ? "role" : "type", "is required");
    for (size_t i = 0; i < sizeof kind_of / sizeof *kind_of; i++)
        if (!strcmp(kind_of[i].type, type)) return kind_of[i].add(r, &it);
    return json_in_fail(r->in, ERR_UNSUPPORTED, "type", "\"%.64s\" is not supported as an item", type);
}

static enum err add_items(struct reader *r, const cJSON *list, const char *name)
{
    enum err e = OK;
    int i = 0;
    for (const cJSON *c = list->child; c && !e; c = c->next, i++) {
        const size_t mark = json_in_enter(r->in, "%s[%d]", name, i);
        e = add_item(r, c);
        json_in_leave(r->in, mark);
    }
    return e;
}

/* --- what came before */

/* Oldest first. The chain is as long as the conversation, so it is turned round, not walked by recursion. */
static enum err add_past(struct reader *r, const struct response_entry *last)
{
    struct json_in *in = r->in;
    size_t n = 0, n_text;
    for (const struct response_entry *e = last; e; e = response_entry_previous(e)) n++;
    const struct response_entry **v = n ? arena_array(&in->mem, n, sizeof *v) : NULL;
    if (n && !v) return no_memory(in);
    size_t i = n;
    for (const struct response_entry *e = last; e; e = response_entry_previous(e)) v[--i] = e;
    enum err e = OK;
    for (i = 0; i < n && !e; i++) {
        const char *text = response_entry_items(v[i], &n_text);
        cJSON *items = cJSON_ParseWithLength(text, n_text);
        e = json_in_keep(in, items) ? add_items(r, items, "previous_response_id") : no_memory(in);
    }
    return e;
}

enum err responses_in(struct params *p, struct json_in *in, const struct response_entry *previous)
{
    struct reader r = {.in = in, .list = cJSON_CreateArray()};
    cJSON *m = NULL;
    if (!json_in_keep(in, r.list)) return no_memory(in);
    enum err e = OK;
    if (p->instructions.p && p->instructions.n &&
        !(chat_tree_message(r.list, "system", &m) && chat_tree_string(m, "content", p->instructions.p)))
        e = no_memory(in);
    if (!e) e = add_past(&r, previous);
    if (!e && p->input.kind == JSON_KIND_STRING) {
        e = flush(&r);
        if (!e && !(chat_tree_message(r.list, "user", &m) &&
                    chat_tree_string(m, "content", p->input.node->valuestring)))
            e = no_memory(in);
    } else if (!e && p->input.kind == JSON_KIND_ARRAY && p->input.node) {
        e = add_items(&r, p->input.node, "input");
    } else if (!e && p->input.kind != JSON_KIND_NULL) {
        e = json_in_fail(in, ERR_INVALID_TYPE, "input", "must be a string or an array of items");
    }
    if (!e) e = flush(&r);
    cJSON_Delete(r.text);
    cJSON_Delete(r.thought);
    cJSON_Delete(r.calls);
    if (!e && !r.list->child) e = json_in_fail(in, ERR_MISSING_FIELD, "input", "is required");
    p->messages = r.list;
    return e;
}

/* --- what is said again */

static const char *printed(struct arena *mem, const cJSON *node, const char *otherwise)
{
    if (!node) return otherwise;
    char *text = cJSON_PrintUnformatted(node);
    const char *copy = text ? arena_strndup(mem, text, strlen(text)) : NULL;
    cJSON_free(text);
    return copy;
}

/* A string is a message of the user. */
static bool keep_items(struct response_ask *out, struct arena *mem, const struct params *p)
{
    struct strbuf b;
    strbuf_init(&b);
    if (p->input.kind == JSON_KIND_STRING) {
        strbuf_puts(&b, "{\"type\":\"message\",\"role\":\"user\",\"content\":");
        char *text = cJSON_PrintUnformatted(p->input.node);
        if (text)
            strbuf_puts(&b, text);
        else
            b.failed = true;
        cJSON_free(text);
        strbuf_putc(&b, '}');
    }
    for (const cJSON *c = p->input.kind == JSON_KIND_ARRAY ? p->input.node->child : NULL; c; c = c->next) {
        char *text = cJSON_PrintUnformatted(c);
        if (c != p->input.node->child) strbuf_putc(&b, ',');
        if (text)
            strbuf_puts(&b, text);
        else
            b.failed = true;
        cJSON_free(text);
    }
    out->items = strbuf_failed(&b) ? NULL : arena_strndup(mem, b.data ? b.data : "", b.len);
    out->n_items = b.len;
    strbuf_fini(&b);
    return out->items;
}

static bool keep_string(const char **to, struct arena *mem, const struct json_str *s)
{
    *to = s->p ? arena_strndup(mem, s->p, s->n) : NULL;
    return *to || !s->p;
}

enum err response_ask_fill(struct response_ask *out, struct arena *mem, const struct params *p,
                           struct json_in *in)
{
    out->tools = "[]";
    out->tool_choice = "\"auto\"";
    out->text = printed(mem, p->text, "{\"format\":{\"type\":\"text\"}}");
    out->reasoning = printed(mem, p->reasoning, "{\"effort\":null,\"summary\":null}");
    out->metadata = printed(mem, p->metadata, "{}");
    out->max_output_tokens = p->max_tokens;
    out->max_tool_calls = p->max_tool_calls;
    out->store = p->store;
    out->parallel_calls = p->parallel_calls;
    out->truncates = p->truncation == 1;
    const bool ok = out->tools && out->tool_choice && out->text && out->reasoning && out->metadata &&
                    keep_string(&out->previous_id, mem, &p->previous_response_id) &&
                    keep_string(&out->instructions, mem, &p->instructions) &&
                    keep_string(&out->user, mem, &p->user) &&
                    keep_string(&out->safety_identifier, mem, &p->safety_identifier) &&
                    keep_string(&out->prompt_cache_key, mem, &p->prompt_cache_key) &&
                    (!p->store || keep_items(out, mem, p));
    return ok ? OK : no_memory(in);
}
