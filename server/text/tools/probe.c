/* probe: see probe.h. */
#include "server/text/tools/probe.h"

#include <string.h>

#include "server/text/tools/walk.h"

static const char NAME[] = "probe_name", KEY[] = "probe_key", VALUE[] = "probe_value",
                  ARGS[] = "{\"probe_key\": \"probe_value\"}", SYSTEM[] = "probe_system";
enum { ARENA_BYTES = 8 << 20, TEXT_BYTES = 1 << 20 };

/* A conversation: a system message, the user's, and an answer with so many calls. */
struct talk {
    bool system, args_as_text, answer;
    int n_call;
    const char *id; /* of the calls */
};

static struct tmpl_value *text_of(struct arena *a, const char *s)
{
    return tmpl_str(a, s, strlen(s), TMPL_OURS);
}

static bool put(struct arena *a, struct tmpl_value *d, const char *key, const struct tmpl_value *v)
{
    return d && tmpl_dict_put(a, d, text_of(a, key), v);
}

static struct tmpl_value *message(struct arena *a, const char *role, const char *content)
{
    struct tmpl_value *d = tmpl_dict(a);
    return put(a, d, "role", text_of(a, role)) && put(a, d, "content", text_of(a, content)) ? d : NULL;
}

static struct tmpl_value *call(struct arena *a, const struct talk *talk)
{
    struct tmpl_value *d = tmpl_dict(a), *f = tmpl_dict(a), *args = tmpl_dict(a);
    if (!put(a, args, KEY, text_of(a, VALUE))) return NULL;
    const bool ok = put(a, f, "name", text_of(a, NAME)) &&
                    put(a, f, "arguments", talk->args_as_text ? text_of(a, ARGS) : args) &&
                    put(a, d, "id", text_of(a, talk->id)) && put(a, d, "type", text_of(a, "function")) &&
                    put(a, d, "function", f);
    return ok ? d : NULL;
}

static bool add_answer(struct arena *a, struct tmpl_value *list, const struct talk *talk)
{
    struct tmpl_value *m = message(a, "assistant", talk->n_call ? "" : "probe_text"), *calls = tmpl_list(a);
    for (int i = 0; i < talk->n_call; i++)
        if (!calls || !tmpl_list_add(a, calls, call(a, talk))) return false;
    return (talk->n_call == 0 || put(a, m, "tool_calls", calls)) && m && tmpl_list_add(a, list, m);
}

/* One tool, so that templates that ask for some have it. */
static struct tmpl_value *tools(struct arena *a)
{
    struct tmpl_value *list = tmpl_list(a), *d = tmpl_dict(a), *f = tmpl_dict(a), *schema = tmpl_dict(a);
    const bool ok = put(a, schema, "type", text_of(a, "object")) &&
                    put(a, schema, "properties", tmpl_dict(a)) &&
                    put(a, f, "name", text_of(a, "probe_tool")) &&
                    put(a, f, "description", text_of(a, "a tool")) && put(a, f, "parameters", schema) &&
                    put(a, d, "type", text_of(a, "function")) && put(a, d, "function", f);
    return ok && list && tmpl_list_add(a, list, d) ? list : NULL;
}

/* Appends the rendering without white space. False: it failed (*nomem: for lack of memory). */
static bool render(const struct tmpl *t, const struct talk *talk, struct strbuf *out, bool *nomem)
{
    struct arena a;
    struct err_note note;
    struct tmpl_rendering text = {.max_bytes = TEXT_BYTES};
    strbuf_init(&text.text);
    strbuf_clear(out);
    arena_init(&a, ARENA_BYTES);
    struct tmpl_value *context = tmpl_dict(&a), *list = tmpl_list(&a);
    const bool made = list && (!talk->system || tmpl_list_add(&a, list, message(&a, "system", SYSTEM))) &&
                      tmpl_list_add(&a, list, message(&a, "user", "probe_user")) &&
                      (!talk->answer || add_answer(&a, list, talk)) && put(&a, context, "messages", list) &&
                      put(&a, context, "tools", talk->n_call ? tools(&a) : tmpl_none(&a)) &&
                      put(&a, context, "documents", tmpl_none(&a)) &&
                      put(&a, context, "bos_token", text_of(&a, "<s>")) &&
                      put(&a, context, "eos_token", text_of(&a, "</s>")) &&
                      put(&a, context, "add_generation_prompt", tmpl_bool(&a, false));
    const enum err e = made ? tmpl_render(t, &a, context, &text, &note) : ERR_NOMEM;
    for (size_t i = 0; !e && i < text.text.len; i++)
        if (!json_is_space(text.text.data[i])) strbuf_putc(out, text.text.data[i]);
    strbuf_putc(out, '\0');
    *nomem = *nomem || e == ERR_NOMEM || strbuf_failed(out);
    arena_fini(&a);
    strbuf_fini(&text.text);
    return !e && !strbuf_failed(out);
}

/* What a row writes up to the argument's value, without white space: behind it templates may add an id. */
static void candidate(const struct tool_format *f, const char *id, struct strbuf *out)
{
    const struct tool_past past = {.name = NAME,
                                   .n_name = sizeof NAME - 1,
                                   .args = ARGS,
                                   .n_args = sizeof ARGS - 1,
                                   .id = id,
                                   .n_id = strlen(id)};
    struct strbuf text;
    strbuf_init(&text);
    tool_render_calls(f, &past, 1, &text);
    strbuf_putc(&text, '\0');
    const char *end = strbuf_failed(&text) ? NULL : strstr(text.data, VALUE);
    for (const char *p = text.data; end && p < end + sizeof VALUE - 1; p++)
        if (!json_is_space(*p)) strbuf_putc(out, *p);
    strbuf_putc(out, '\0');
    if (!end) out->failed = true;
    strbuf_fini(&text);
}

/* The row that writes most of what stands there. */
static const struct tool_format *find_row(const char *text, const char *id, bool *nomem)
{
    const struct tool_format *best = NULL;
    size_t most = 0;
    for (const struct tool_format *f = tool_formats; f->name; f++) {
        struct strbuf want;
        strbuf_init(&want);
        candidate(f, id, &want);
        *nomem = *nomem || strbuf_failed(&want);
        if (!strbuf_failed(&want) && want.len > most && strstr(text, want.data)) {
            best = f;
            most = want.len;
        }
        strbuf_fini(&want);
    }
    return best;
}

static void probe_calls(struct tool_template *out, const struct tmpl *t, bool *nomem)
{
    static const char *const id[] = {"abcdefghi", "functions.probe_name:0"};
    struct strbuf text;
    strbuf_init(&text);
    const struct tool_format *found = NULL;
    for (int i = 0; i < 4 && !found; i++) {
        const struct talk talk = {.answer = true, .n_call = 1, .args_as_text = i & 1, .id = id[i / 2]};
        if (!render(t, &talk, &text, nomem) || !strstr(text.data, NAME) || !strstr(text.data, VALUE))
            continue;
        found = find_row(text.data, talk.id, nomem);
        /* a dictionary that Python printed is not what the model wrote */
        const bool printed = strstr(text.data, "{'probe_key'") != NULL;
        if (printed && !found) continue;
        if (!out->calls || found) out->args_as_text = talk.args_as_text;
        out->calls = true;
    }
    if (found) out->format = found;
    strbuf_fini(&text);
}

enum err tool_probe(struct tool_template *out, const struct tmpl *t)
{
    bool nomem = false;
    *out = (struct tool_template){.format = tool_formats};
    if (!t) return OK;
    struct strbuf text;
    strbuf_init(&text);
    const struct talk with_system = {.system = true};
    out->system = render(t, &with_system, &text, &nomem) && strstr(text.data, SYSTEM);
    out->tools = tmpl_mentions(t, "tools");
    probe_calls(out, t, &nomem);
    strbuf_fini(&text);
    return nomem ? ERR_NOMEM : OK;
}
