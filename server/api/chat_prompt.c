/* chat_prompt: see chat_prompt.h. Every string of the request enters the template as coming from outside;
 * only the words of our own tables (roles, part types) do not. */
#include "server/api/chat_prompt.h"

#include <string.h>

#include "server/api/chat_calls.h"
#include "server/api/chat_value.h"

enum role { ROLE_SYSTEM, ROLE_DEVELOPER, ROLE_USER, ROLE_ASSISTANT, ROLE_TOOL };
static const char *const role_word[] = {"system", "developer", "user", "assistant", "tool", NULL};

struct message {
    int role;
    struct json_any content;
    struct json_str name, tool_call_id, reasoning;
    const cJSON *tool_calls;
};

static const struct json_row message_row[] = {
    {.name = "role",
     .type = JSON_WORD,
     JSON_AT(struct message, role),
     .words = role_word,
     .flags = JSON_REQUIRED},
    {.name = "content", .type = JSON_ANY, JSON_AT(struct message, content)},
    {.name = "name", .type = JSON_STRING, JSON_AT(struct message, name), .max = MESSAGE_NAME_BYTES_MOST},
    {.name = "tool_call_id",
     .type = JSON_STRING,
     JSON_AT(struct message, tool_call_id),
     .max = MESSAGE_NAME_BYTES_MOST},
    {.name = "reasoning_content", .type = JSON_STRING, JSON_AT(struct message, reasoning)},
    {.name = "tool_calls",
     .type = JSON_ARRAY,
     JSON_AT(struct message, tool_calls),
     .max_items = MESSAGE_CALLS_MOST},
    {.name = "function_call", .type = JSON_REJECT},
    {.name = "audio", .type = JSON_REJECT},
    {.name = "refusal", .type = JSON_REJECT},
    {.name = NULL},
};

const struct json_row *chat_prompt_message_rows(void) { return message_row; }

struct part {
    struct json_str type, text;
};
static const struct json_row part_row[] = {
    {.name = "type", .type = JSON_STRING, JSON_AT(struct part, type), .flags = JSON_REQUIRED},
    {.name = "text", .type = JSON_STRING, JSON_AT(struct part, text)},
    {.name = NULL},
};

/* One rendering: its arena, and where it reads from. */
struct render {
    const struct chat_prompt_env *env;
    const struct params *p;
    struct json_in *in;
    struct arena mem;
    struct json_str last; /* text of the last message */
    const cJSON *calls;   /* of the last message that has some */
    int n_call;           /* of all messages */
    bool args_as_text;    /* arguments go to the template as strings */
    bool tell_tools;      /* in the messages, which is still to be done */
    bool no_text;         /* a message with calls has null as content */
    bool empty_for_none;
    struct chat_values values; /* how values are made of the request */
    bool think_open;
};

static enum err no_memory(const struct render *r)
{
    return err_set(r->in->note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
}

static struct tmpl_value *outside(struct render *r, const struct json_str *s)
{
    return tmpl_str(&r->mem, s->p, s->n, TMPL_OUTSIDE);
}

static bool put(struct render *r, struct tmpl_value *dict, const char *key, const struct tmpl_value *item)
{
    return tmpl_dict_put(&r->mem, dict, tmpl_str(&r->mem, key, strlen(key), TMPL_OURS), item);
}

static enum err wide_number(const struct render *r, const char *name)
{
    return json_in_fail(r->in, ERR_UNSUPPORTED, name,
                        "has an integer of more than 64 bits: send it as a string");
}

/* --- messages --- */

/* A list of text parts is one text with line ends between. */
static enum err read_parts(struct render *r, const cJSON *parts, struct json_str *out)
{
    struct json_in *in = r->in;
    size_t n = 0;
    int i = 0;
    enum err e = OK;
    for (const cJSON *c = parts->child; c; c = c->next)
        n += cJSON_IsObject(c) && cJSON_IsString(json_in_get(c, "text"))
                 ? strlen(json_in_get(c, "text")->valuestring) + 1
                 : 0;
    char *text = arena_alloc(&r->mem, n + 1);
    if (!text) return no_memory(r);
    n = 0;
    for (const cJSON *c = parts->child; c && !e; c = c->next, i++) {
        struct part part = {0};
        const size_t mark = json_in_enter(in, "content[%d]", i);
        e = json_in_read(in, c, part_row, &part);
        if (!e && strcmp(part.type.p, "text"))
            e = json_in_fail(in, ERR_UNSUPPORTED, "type", "must be \"text\": this model reads nothing else");
        if (!e && !part.text.p) e = json_in_fail(in, ERR_MISSING_FIELD, "text", "is required");
        if (!e && i > 0) text[n++] = '\n';
        if (!e) memcpy(text + n, part.text.p, part.text.n);
        n += e ? 0 : part.text.n;
        json_in_leave(in, mark);
    }
    *out = (struct json_str){.p = text, .n = n};
    return e;
}

/* p NULL: no content, which only an assistant that calls tools may have. */
static enum err read_content(struct render *r, const struct message *m, struct json_str *out)
{
    switch (m->content.kind) {
    case JSON_KIND_STRING:
        *out =
            (struct json_str){.p = m->content.node->valuestring, .n = strlen(m->content.node->valuestring)};
        return OK;
    case JSON_KIND_ARRAY:
        if (m->content.node->child == NULL)
            return json_in_fail(r->in, ERR_INVALID_VALUE, "content", "must have at least one part");
        return read_parts(r, m->content.node, out);
    case JSON_KIND_NULL:
        *out = (struct json_str){0};
        r->no_text = true;
        if (m->role == ROLE_ASSISTANT && m->tool_calls && m->tool_calls->child) return OK;
        return json_in_fail(r->in, ERR_MISSING_FIELD, "content", "is required");
    default:
        return json_in_fail(r->in, ERR_INVALID_TYPE, "content", "must be a string or an array of parts");
    }
}

static enum err check_calls(struct render *r, const struct message *m)
{
    if (!m->tool_calls || !m->tool_calls->child) return OK;
    if (m->role != ROLE_ASSISTANT)
        return json_in_fail(r->in, ERR_INVALID_VALUE, "tool_calls", "belongs to messages of the assistant");
    r->calls = m->tool_calls;
    r->n_call += cJSON_GetArraySize(m->tool_calls);
    return chat_calls_check(r->in, m->tool_calls);
}

/* A result belongs to one of the calls made last. */
static enum err check_result(struct render *r, const struct message *m)
{
    if (m->role != ROLE_TOOL) return OK;
    if (!m->tool_call_id.p)
        return json_in_fail(r->in, ERR_MISSING_FIELD, "tool_call_id",
                            "is required in messages of the role \"tool\"");
    if (chat_calls_have(r->calls, m->tool_call_id.p)) return OK;
    return json_in_fail(r->in, ERR_INVALID_VALUE, "tool_call_id",
                        "must be the id of a call in the last message that has tool_calls");
}

/* --- templates that know no tools --- */

static bool own_text(struct render *r, struct strbuf *s, bool ok, struct json_str *out)
{
    char *copy = ok && !strbuf_failed(s) ? arena_strndup(&r->mem, s->data ? s->data : "", s->len) : NULL;
    *out = (struct json_str){.p = copy, .n = s->len};
    strbuf_fini(s);
    return copy != NULL;
}

/* Calls stand behind what was said, as the model writes them; a result is the user's. */
static bool write_out(struct render *r, struct message *m, struct json_str *content)
{
    struct strbuf s;
    bool ok = true;
    if (r->env->knows.calls || (!m->tool_calls && m->role != ROLE_TOOL)) return true;
    strbuf_init(&s);
    if (m->role == ROLE_TOOL) strbuf_puts(&s, "<tool_response>\n");
    strbuf_put(&s, content->p ? content->p : "", content->n);
    if (m->role == ROLE_TOOL) strbuf_puts(&s, "\n</tool_response>");
    if (m->tool_calls && m->tool_calls->child) {
        if (s.len) strbuf_putc(&s, '\n');
        ok = chat_calls_text(r->env->knows.format, m->tool_calls, &s);
    }
    if (m->role == ROLE_TOOL) m->role = ROLE_USER;
    m->tool_calls = NULL;
    m->tool_call_id.p = NULL;
    return own_text(r, &s, ok, content);
}

/* The tools are told in the system message, or in the first of all where there is none. */
static bool tell_tools(struct render *r, const struct message *m, struct json_str *content)
{
    struct strbuf s;
    const bool system = m->role == ROLE_SYSTEM || m->role == ROLE_DEVELOPER;
    if (!r->tell_tools || (!system && r->env->knows.system)) return true;
    r->tell_tools = false;
    strbuf_init(&s);
    if (system && content->n) {
        strbuf_put(&s, content->p, content->n);
        strbuf_puts(&s, "\n\n");
    }
    const bool ok = chat_tools_text(r->env->knows.format, &r->p->calls, &s);
    if (!system && content->n) {
        strbuf_puts(&s, "\n\n");
        strbuf_put(&s, content->p, content->n);
    }
    return own_text(r, &s, ok, content);
}

static bool add_system(struct render *r, struct tmpl_value *list)
{
    struct strbuf s;
    struct json_str text;
    struct tmpl_value *d = tmpl_dict(&r->mem);
    strbuf_init(&s);
    const bool ok = chat_tools_text(r->env->knows.format, &r->p->calls, &s);
    r->tell_tools = false;
    return own_text(r, &s, ok, &text) && d && put(r, d, "role", tmpl_str(&r->mem, "system", 6, TMPL_OURS)) &&
           put(r, d, "content", outside(r, &text)) && tmpl_list_add(&r->mem, list, d);
}

static enum err add_message(struct render *r, struct tmpl_value *list, const cJSON *node)
{
    struct message m = {0};
    struct json_str content;
    enum err e = json_in_read(r->in, node, message_row, &m);
    if (!e) e = check_calls(r, &m);
    if (!e) e = check_result(r, &m);
    if (!e) e = read_content(r, &m, &content);
    if (e) return e;
    const bool system = m.role == ROLE_SYSTEM || m.role == ROLE_DEVELOPER;
    if (r->tell_tools && !system && r->env->knows.system && !add_system(r, list)) return no_memory(r);
    if (!write_out(r, &m, &content) || !tell_tools(r, &m, &content)) return no_memory(r);
    const char *role = role_word[m.role == ROLE_DEVELOPER && !r->env->knows_developer ? ROLE_SYSTEM : m.role];
    struct tmpl_value *d = tmpl_dict(&r->mem);
    bool ok = d && put(r, d, "role", tmpl_str(&r->mem, role, strlen(role), TMPL_OURS));
    ok = ok &&
         put(r, d, "content", content.p || r->empty_for_none ? outside(r, &content) : tmpl_none(&r->mem));
    ok = ok && (!m.name.p || put(r, d, "name", outside(r, &m.name)));
    ok = ok && (!m.tool_call_id.p || put(r, d, "tool_call_id", outside(r, &m.tool_call_id)));
    ok = ok && (!m.reasoning.p || put(r, d, "reasoning_content", outside(r, &m.reasoning)));
    ok = ok && (!m.tool_calls ||
                put(r, d, "tool_calls", chat_calls_value(&r->values, m.tool_calls, r->args_as_text)));
    r->last = content;
    if (r->values.too_wide) return wide_number(r, "tool_calls");
    return ok && tmpl_list_add(&r->mem, list, d) ? OK : no_memory(r);
}

static enum err add_messages(struct render *r, struct tmpl_value *context)
{
    struct tmpl_value *list = tmpl_list(&r->mem);
    enum err e = list ? OK : no_memory(r);
    int i = 0;
    for (const cJSON *c = r->p->messages->child; c && !e; c = c->next, i++) {
        const size_t mark = json_in_enter(r->in, "%s[%d]", r->p->source, i);
        e = i < MESSAGES_MOST ? add_message(r, list, c)
                              : json_in_fail(r->in, ERR_INVALID_VALUE, NULL, "is one message too many");
        json_in_leave(r->in, mark);
    }
    if (!e && !put(r, context, "messages", list)) e = no_memory(r);
    return e;
}

/* --- the rest of the context --- */

/* Names that a template knows and a request may not set. */
static const char *const own_name[] = {
    "messages",  "tools",        "documents", "add_generation_prompt", "continue_final_message", "bos_token",
    "eos_token", "pad_token",    "unk_token", "raise_exception",       "strftime_now",           "namespace",
    "range",     "chat_template"};

static enum err add_kwargs(struct render *r, struct tmpl_value *context)
{
    enum err e = OK;
    const size_t mark = json_in_enter(r->in, "chat_template_kwargs");
    for (const cJSON *c = r->p->template_kwargs ? r->p->template_kwargs->child : NULL; c && !e; c = c->next) {
        for (size_t i = 0; i < sizeof own_name / sizeof *own_name && !e; i++)
            if (!strcmp(own_name[i], c->string))
                e = json_in_fail(r->in, ERR_INVALID_VALUE, c->string, "cannot be set here");
        const bool scalar = cJSON_IsBool(c) || cJSON_IsNumber(c) || cJSON_IsNull(c) ||
                            (cJSON_IsString(c) && strlen(c->valuestring) <= KWARG_BYTES_MOST);
        if (!e && !scalar)
            e = json_in_fail(r->in, ERR_UNSUPPORTED, c->string,
                             "must be a boolean, a number or a short string");
        if (!e && tmpl_mentions(r->env->tmpl, c->string) &&
            !put(r, context, c->string, chat_value(&r->values, c)))
            e = no_memory(r);
        if (!e && r->values.too_wide) e = wide_number(r, c->string);
    }
    json_in_leave(r->in, mark);
    return e;
}

/* A field of the request that a template may know, where the client does not set it by its own name. */
static enum err add_switch(struct render *r, struct tmpl_value *context, const char *name,
                           const struct tmpl_value *v)
{
    const bool given =
        r->p->template_kwargs && cJSON_GetObjectItemCaseSensitive(r->p->template_kwargs, name) != NULL;
    if (given || !tmpl_mentions(r->env->tmpl, name)) return OK;
    return put(r, context, name, v) ? OK : no_memory(r);
}

static enum err add_switches(struct render *r, struct tmpl_value *context)
{
    const struct params *p = r->p;
    const bool off =
        p->think == THINK_ASK_OFF || (p->think == THINK_ASK_NOTHING && p->reasoning_effort >= 0 &&
                                      !strcmp(params_effort[p->reasoning_effort], "none"));
    enum err e = OK;
    if (p->think || off) e = add_switch(r, context, "enable_thinking", tmpl_bool(&r->mem, !off));
    const struct {
        const char *name, *word;
    } word[] = {
        {"reasoning_effort", p->reasoning_effort >= 0 ? params_effort[p->reasoning_effort] : NULL},
        {"verbosity", p->verbosity >= 0 ? params_verbosity[p->verbosity] : NULL},
    };
    for (size_t i = 0; i < sizeof word / sizeof *word && !e; i++)
        if (word[i].word)
            e = add_switch(r, context, word[i].name,
                           tmpl_str(&r->mem, word[i].word, strlen(word[i].word), TMPL_OURS));
    return e;
}

/* Without them they are none, as the format's own renderer has it. */
static enum err add_tools(struct render *r, struct tmpl_value *context)
{
    const cJSON *tools = r->env->knows.tools ? r->p->calls.node : NULL;
    bool ok = put(r, context, "tools", tools ? chat_value(&r->values, tools) : tmpl_none(&r->mem)) &&
              put(r, context, "documents", tmpl_none(&r->mem));
    if (r->values.too_wide) return wide_number(r, "tools");
    return ok ? OK : no_memory(r);
}

static bool add_token(struct render *r, struct tmpl_value *context, const char *name, int32_t id)
{
    size_t n;
    const char *text = tokenizer_bytes(r->env->tokenizer, id, &n);
    return id < 0 || put(r, context, name, tmpl_str(&r->mem, text, n, TMPL_OURS));
}

/* As the format's own renderer has them: whether or not the tokenizer puts them around a text by itself. */
static enum err add_tokens(struct render *r, struct tmpl_value *context)
{
    const bool ok = add_token(r, context, "bos_token", tokenizer_bos(r->env->tokenizer)) &&
                    add_token(r, context, "eos_token", r->env->eos_id);
    return ok ? OK : no_memory(r);
}

/* --- the end of an unfinished answer --- */

static struct json_str trimmed(struct json_str s)
{
    static const char space[] = " \t\n\r\f\v";
    while (s.n > 0 && strchr(space, s.p[s.n - 1])) s.n--;
    while (s.n > 0 && strchr(space, s.p[0])) {
        s.p++;
        s.n--;
    }
    return s;
}

static char *reversed(struct arena *mem, const char *p, size_t n)
{
    char *q = arena_alloc(mem, n + 1);
    for (size_t i = 0; q && i < n; i++) q[i] = p[n - 1 - i];
    return q;
}

/* The text ends with the last message's content, so that the model goes on with it: what the template wrote
 * behind it is cut. White space at its end stays if the template kept it. The last place is looked for
 * backwards, in linear time. */
static enum err cut_after_last(struct render *r, const struct tmpl_rendering *out, size_t *n)
{
    const struct json_str core = trimmed(r->last);
    if (core.n == 0)
        return json_in_fail(r->in, ERR_INVALID_VALUE, "continue_final_message",
                            "needs a last message with text");
    const char *hay = reversed(&r->mem, out->text.data ? out->text.data : "", out->text.len),
               *needle = reversed(&r->mem, core.p, core.n);
    if (!hay || !needle) return no_memory(r);
    const char *at = memmem(hay, out->text.len, needle, core.n);
    if (!at)
        return json_in_fail(r->in, ERR_INVALID_VALUE, "continue_final_message",
                            "cannot be: the template changes the last message");
    const size_t end = out->text.len - (size_t)(at - hay),
                 n_tail = (size_t)(r->last.p + r->last.n - (core.p + core.n));
    const bool kept = n_tail <= out->text.len - end && !memcmp(out->text.data + end, core.p + core.n, n_tail);
    *n = kept ? end + n_tail : end;
    return OK;
}

enum err chat_prompt_may_fit(const struct chat_prompt_env *env, const struct params *p, struct json_in *in,
                             const char *param, size_t n)
{
    if (env->tokenize_bytes_most && n > env->tokenize_bytes_most)
        return json_in_fail(in, ERR_INVALID_VALUE, param,
                            "has %zu bytes of text, above the %zu of --max-tokenize-bytes: send it in parts",
                            n, env->tokenize_bytes_most);
    if (n <= env->text_bytes_most || env->text_bytes_most == 0 || p->truncate != 0) return OK;
    return err_set(
        in->note, ERR_CONTEXT_LENGTH, param,
        "This model's maximum context length is %d tokens. However, there are %zu bytes in the %s, which are more: the prompt is too long.",
        env->max_len, n, param);
}

static size_t rendered_most(const struct chat_prompt_env *env)
{
    return env->rendered_bytes_most ? env->rendered_bytes_most : TMPL_MAX_OUTPUT_BYTES;
}

static enum err render(struct render *r, struct token_vec *out)
{
    const struct params *p = r->p;
    struct tmpl_value *context = tmpl_dict(&r->mem);
    enum err e = context ? add_messages(r, context) : no_memory(r);
    if (!e && !put(r, context, "add_generation_prompt", tmpl_bool(&r->mem, p->add_generation_prompt)))
        e = no_memory(r);
    if (!e) e = add_tools(r, context);
    if (!e) e = add_kwargs(r, context);
    if (!e) e = add_switches(r, context);
    if (!e) e = add_tokens(r, context);
    struct tmpl_rendering text = {.max_bytes = rendered_most(r->env)};
    strbuf_init(&text.text);
    if (!e) e = tmpl_render(r->env->tmpl, &r->mem, context, &text, r->in->note);
    size_t n = text.text.len;
    if (!e && p->continue_final) e = cut_after_last(r, &text, &n);
    r->think_open = !e && n > 0 &&
                    tool_think_is_open(r->env->knows.format, p->continue_final ? r->last.p : text.text.data,
                                       p->continue_final ? r->last.n : n, !p->continue_final);
    if (!e) e = chat_prompt_may_fit(r->env, p, r->in, p->source, n);
    if (!e)
        e = chat_tokens_encode(r->env->tokens, &text, n, p->add_special ? TOKENIZE_ADD : 0, out, r->in->note);
    if (e == ERR_TEMPLATE && r->in->note) strcpy(r->in->note->param, p->source);
    strbuf_fini(&text.text);
    return e;
}

enum err chat_prompt_tokens(const struct chat_prompt_env *env, const struct params *p, struct json_in *in,
                            struct token_vec *out, struct chat_prompt_end *end)
{
    if (!env->tmpl)
        return err_set(in->note, ERR_UNSUPPORTED, p->source,
                       "this model has no chat template: use /v1/completions");
    struct render r = {0};
    enum err e = ERR_TEMPLATE;
    /* Templates that ask whether a content is none and templates that add it to a text are both about, and so
     * are those that write arguments out and those that take them as they are. */
    for (int i = 0; i < 4 && e == ERR_TEMPLATE; i++) {
        if ((i & 1 && !r.no_text) || (i & 2 && !r.n_call)) continue;
        r = (struct render){.env = env,
                            .p = p,
                            .in = in,
                            .empty_for_none = i & 1,
                            .args_as_text = env->knows.args_as_text != ((i & 2) != 0),
                            .tell_tools = p->calls.node && !env->knows.tools};
        arena_init(&r.mem, TMPL_MAX_ARENA_BYTES / TMPL_MAX_OUTPUT_BYTES * rendered_most(env));
        r.values = (struct chat_values){.mem = &r.mem, .in = in};
        e = render(&r, out);
        arena_fini(&r.mem);
    }
    if (end) *end = (struct chat_prompt_end){.think_open = r.think_open, .n_call = r.n_call};
    return e;
}
