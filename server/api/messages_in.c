/* messages_in: see messages_in.h. Strings are referred to, not copied: the body outlives the prompt's making.
 */
#include "server/api/messages_in.h"

#include <string.h>

#include "server/api/chat_calls.h"
#include "server/api/chat_tree.h"

struct block {
    struct json_str type, text, thinking, id, name, tool_use_id;
    struct json_any content;
    const cJSON *input;
    bool is_error;
};

/* cache_control and citations of a block change no answer. */
static const struct json_row block_row[] = {
    {.name = "type", .type = JSON_STRING, JSON_AT(struct block, type), .flags = JSON_REQUIRED},
    {.name = "text", .type = JSON_STRING, JSON_AT(struct block, text)},
    {.name = "thinking", .type = JSON_STRING, JSON_AT(struct block, thinking)},
    {.name = "id", .type = JSON_STRING, JSON_AT(struct block, id)},
    {.name = "name", .type = JSON_STRING, JSON_AT(struct block, name)},
    {.name = "tool_use_id", .type = JSON_STRING, JSON_AT(struct block, tool_use_id)},
    {.name = "content", .type = JSON_ANY, JSON_AT(struct block, content)},
    {.name = "input", .type = JSON_OBJECT, JSON_AT(struct block, input)},
    {.name = "is_error", .type = JSON_BOOL, JSON_AT(struct block, is_error)},
    {.name = NULL},
};

/* One message on its way: what its blocks have given so far. */
struct reader {
    struct json_in *in;
    cJSON *list; /* of the chat's messages */
    bool assistant;
    cJSON *text;    /* parts */
    cJSON *thought; /* parts of what was reasoned */
    cJSON *calls;
    const cJSON *last_calls; /* of the last message that has some */
};

static enum err no_memory(const struct json_in *in)
{
    return err_set(in->note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
}

/* --- blocks */

static enum err need(struct reader *r, const struct json_str *s, const char *name)
{
    return s->p ? OK : json_in_fail(r->in, ERR_MISSING_FIELD, name, "is required");
}

static enum err add_text(struct reader *r, const struct block *b)
{
    enum err e = need(r, &b->text, "text");
    if (e) return e;
    return chat_tree_part(&r->text, b->text.p) ? OK : no_memory(r->in);
}

static enum err add_thought(struct reader *r, const struct block *b)
{
    enum err e = need(r, &b->thinking, "thinking");
    if (e) return e;
    return chat_tree_part(&r->thought, b->thinking.p) ? OK : no_memory(r->in);
}

static enum err add_use(struct reader *r, const struct block *b)
{
    enum err e = need(r, &b->id, "id");
    if (!e) e = need(r, &b->name, "name");
    if (e) return e;
    return chat_tree_call(&r->calls, b->id.p, b->name.p, b->input, NULL) ? OK : no_memory(r->in);
}

static enum err flush(struct reader *r, const char *role)
{
    cJSON *m = NULL;
    if (!r->text && !r->thought && !r->calls) return OK;
    if (r->calls) r->last_calls = r->calls;
    const bool ok = chat_tree_message(r->list, role, &m) &&
                    chat_tree_content(m, &r->text, r->calls != NULL) && chat_tree_thought(m, &r->thought) &&
                    chat_tree_calls(m, &r->calls);
    return ok ? OK : no_memory(r->in);
}

/* A result is a message of its own; it begins with what tells the model of a failure. */
static enum err add_result(struct reader *r, const struct block *b)
{
    struct json_in *in = r->in;
    enum err e = need(r, &b->tool_use_id, "tool_use_id");
    if (!e && !chat_calls_have(r->last_calls, b->tool_use_id.p))
        e = json_in_fail(in, ERR_INVALID_VALUE, "tool_use_id",
                         "must be the id of a tool_use block in the last message that has some");
    if (!e) e = flush(r, "user");
    cJSON *m = NULL, *parts = NULL;
    if (!e && b->is_error && !chat_tree_part(&parts, "Error:")) e = no_memory(in);
    if (!e && b->content.kind == JSON_KIND_STRING && !chat_tree_part(&parts, b->content.node->valuestring))
        e = no_memory(in);
    int i = 0;
    for (const cJSON *c = b->content.kind == JSON_KIND_ARRAY ? b->content.node->child : NULL; c && !e;
         c = c->next, i++) {
        struct block part = {0};
        const size_t mark = json_in_enter(in, "content[%d]", i);
        e = json_in_read(in, c, block_row, &part);
        if (!e && strcmp(part.type.p, "text"))
            e = json_in_fail(in, ERR_UNSUPPORTED, "type", "must be \"text\": this model reads nothing else");
        if (!e) e = need(r, &part.text, "text");
        if (!e && !chat_tree_part(&parts, part.text.p)) e = no_memory(in);
        json_in_leave(in, mark);
    }
    if (!e && b->content.kind != JSON_KIND_NULL && b->content.kind != JSON_KIND_STRING &&
        b->content.kind != JSON_KIND_ARRAY)
        e = json_in_fail(in, ERR_INVALID_TYPE, "content", "must be a string or an array of blocks");
    if (!e && !(chat_tree_message(r->list, "tool", &m) &&
                chat_tree_string(m, "tool_call_id", b->tool_use_id.p) && chat_tree_content(m, &parts, false)))
        e = no_memory(in);
    cJSON_Delete(parts);
    return e;
}

static enum err skip(struct reader *r, const struct block *b)
{
    (void)r;
    (void)b;
    return OK;
}

static const struct {
    const char *type;
    bool user, assistant; /* whose messages may have it */
    enum err (*add)(struct reader *r, const struct block *b);
} kind_of[] = {
    {"text", true, true, add_text},           {"thinking", false, true, add_thought},
    {"redacted_thinking", false, true, skip}, /* holds nothing that this model could read */
    {"tool_use", false, true, add_use},       {"tool_result", true, false, add_result},
};

static enum err add_block(struct reader *r, const cJSON *node)
{
    struct block b = {0};
    enum err e = json_in_read(r->in, node, block_row, &b);
    if (e) return e;
    for (size_t i = 0; i < sizeof kind_of / sizeof *kind_of; i++) {
        if (strcmp(kind_of[i].type, b.type.p)) continue;
        if (r->assistant ? kind_of[i].assistant : kind_of[i].user) return kind_of[i].add(r, &b);
        return json_in_fail(r->in, ERR_INVALID_VALUE, "type",
                            "\"%s\" does not belong to messages of this role", b.type.p);
    }
    return json_in_fail(r->in, ERR_UNSUPPORTED, "type", "\"%.64s\" is not supported: this model reads text",
                        b.type.p);
}

/* --- messages */

struct message {
    int role;
    struct json_any content;
};
enum { ROLE_USER, ROLE_ASSISTANT, ROLE_SYSTEM };
static const char *const role_word[] = {"user", "assistant", "system", NULL};
static const struct json_row turn_row[] = {
    {.name = "role",
     .type = JSON_WORD,
     JSON_AT(struct message, role),
     .words = role_word,
     .flags = JSON_REQUIRED},
    {.name = "content", .type = JSON_ANY, JSON_AT(struct message, content)},
    {.name = NULL},
};

static enum err add_blocks(struct reader *r, const cJSON *blocks)
{
    enum err e = OK;
    int i = 0;
    for (const cJSON *c = blocks->child; c && !e; c = c->next, i++) {
        const size_t mark = json_in_enter(r->in, "content[%d]", i);
        e = add_block(r, c);
        json_in_leave(r->in, mark);
    }
    return e;
}

static enum err add_message(struct reader *r, const cJSON *node)
{
    struct message m = {0};
    enum err e = json_in_read(r->in, node, turn_row, &m);
    if (e) return e;
    r->assistant = m.role == ROLE_ASSISTANT;
    switch (m.content.kind) {
    case JSON_KIND_STRING:
        e = chat_tree_part(&r->text, m.content.node->valuestring) ? OK : no_memory(r->in);
        break;
    case JSON_KIND_ARRAY:
        e = m.content.node && m.content.node->child
                ? add_blocks(r, m.content.node)
                : json_in_fail(r->in, ERR_INVALID_VALUE, "content", "must have at least one block");
        break;
    case JSON_KIND_NULL:
        e = json_in_fail(r->in, ERR_MISSING_FIELD, "content", "is required");
        break;
    default:
        e = json_in_fail(r->in, ERR_INVALID_TYPE, "content", "must be a string or an array of blocks");
    }
    return e ? e : flush(r, role_word[m.role]);
}

/* --- the system text */

static bool begins_with_one_of(const char *text, const char *list)
{
    for (const char *p = list; *p; p += strcspn(p, ","), p += *p == ',') {
        p += strspn(p, " ");
        const size_t n = strcspn(p, ",");
        if (n > 0 && !strncmp(text, p, n)) return true;
    }
    return false;
}

/* Some clients begin with a line that changes with every request: no prefix would ever be found again. */
static const char *without_lines(const char *text, const char *drop, int *n_dropped)
{
    while (begins_with_one_of(text, drop)) {
        text += strcspn(text, "\n");
        text += *text == '\n';
        ++*n_dropped;
    }
    return text;
}

static enum err add_system(struct reader *r, const struct json_any *system, const char *drop, int *n_dropped)
{
    struct json_in *in = r->in;
    if (system->kind == JSON_KIND_NULL) return OK;
    if (system->kind == JSON_KIND_STRING) {
        const char *text = without_lines(system->node->valuestring, drop, n_dropped);
        if (*text && !chat_tree_part(&r->text, text)) return no_memory(in);
        return flush(r, "system");
    }
    if (system->kind != JSON_KIND_ARRAY || !system->node)
        return json_in_fail(in, ERR_INVALID_TYPE, "system", "must be a string or an array of text blocks");
    enum err e = OK;
    int i = 0;
    for (const cJSON *c = system->node->child; c && !e; c = c->next, i++) {
        struct block b = {0};
        const size_t mark = json_in_enter(in, "system[%d]", i);
        e = json_in_read(in, c, block_row, &b);
        if (!e && strcmp(b.type.p, "text")) e = json_in_fail(in, ERR_UNSUPPORTED, "type", "must be \"text\"");
        if (!e) e = need(r, &b.text, "text");
        const char *text = e || r->text ? b.text.p : without_lines(b.text.p, drop, n_dropped);
        if (!e && *text && !chat_tree_part(&r->text, text)) e = no_memory(in);
        json_in_leave(in, mark);
    }
    return e ? e : flush(r, "system");
}

/* --- the whole */

/* A last message of the assistant is the begin of the answer. */
static void settle_end(struct params *p, const cJSON *list)
{
    const cJSON *last = list->child ? list->child->prev : NULL;
    const cJSON *role = last ? json_in_get(last, "role") : NULL;
    p->continue_final = role && !strcmp(role->valuestring, "assistant") && !json_in_get(last, "tool_calls");
    p->add_generation_prompt = !p->continue_final;
}

enum err messages_in(struct params *p, struct json_in *in, const char *drop, int *n_dropped)
{
    struct reader r = {.in = in, .list = cJSON_CreateArray()};
    *n_dropped = 0;
    if (!json_in_keep(in, r.list)) return no_memory(in);
    enum err e = add_system(&r, &p->system, drop, n_dropped);
    int i = 0;
    for (const cJSON *c = p->messages->child; c && !e; c = c->next, i++) {
        const size_t mark = json_in_enter(in, "messages[%d]", i);
        e = add_message(&r, c);
        json_in_leave(in, mark);
    }
    cJSON_Delete(r.text);
    cJSON_Delete(r.thought);
    cJSON_Delete(r.calls);
    if (e) return e;
    p->messages = r.list;
    settle_end(p, r.list);
    return OK;
}
