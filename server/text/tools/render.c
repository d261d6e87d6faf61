/* render: past calls, as the model wrote them. */
#include <string.h>

#include "base/json_escape.h"
#include "base/utf8.h"
#include "server/text/tools/look.h"

/* A row's text, with the call's number and id in their places. */
static void put_text(const char *text, const struct tool_past *call, int i, struct strbuf *out)
{
    for (; *text; text++) {
        if (*text == '\1')
            strbuf_printf(out, "%d", i);
        else if (*text == '\2')
            strbuf_put(out, call->id, call->n_id);
        else
            strbuf_putc(out, *text);
    }
}

static void put_object(const struct tool_format *f, const struct tool_past *c, struct strbuf *out)
{
    strbuf_printf(out, "{\"%s\": \"", f->name_key);
    strbuf_put(out, c->name, c->n_name);
    strbuf_printf(out, "\", \"%s\": ", f->args_key);
    strbuf_put(out, c->args, c->n_args);
    strbuf_putc(out, '}');
}

/* The text of a JSON string with its quotes, which is valid. Half a surrogate pair is no character. */
static void put_plain(const char *s, size_t n, struct strbuf *out)
{
    for (const char *p = s + 1, *end = s + n - 1; p < end;) {
        char c[4];
        if (*p != '\\') {
            strbuf_putc(out, *p++);
            continue;
        }
        const int32_t v = json_escape(&p, end);
        if (v == JSON_ESCAPE_BAD) return;
        strbuf_put(out, c, (size_t)utf8_put(c, v < 0 ? 0xFFFD : (uint32_t)v));
    }
}

static void put_tagged(const struct tool_format *f, const struct tool_past *c, struct strbuf *out)
{
    struct json_member m;
    for (size_t at = 0; json_member_next(c->args, c->n_args, &at, &m);) {
        strbuf_puts(out, f->key_open);
        put_plain(m.key, m.n_key, out);
        strbuf_puts(out, f->key_close);
        if (*m.value == '"')
            put_plain(m.value, m.n_value, out);
        else
            strbuf_put(out, m.value, m.n_value);
        strbuf_puts(out, f->value_close);
    }
    strbuf_puts(out, f->args_close);
}

/* A JSON value as a Python literal: words differ, strings but for one escape do not. */
static void put_literal(const char *s, size_t n, struct strbuf *out)
{
    bool quoted = false;
    for (size_t i = 0; i < n; i++) {
        if (quoted && s[i] == '\\' && i + 1 < n) {
            if (s[i + 1] != '/') strbuf_putc(out, '\\');
            strbuf_putc(out, s[++i]);
            continue;
        }
        if (s[i] == '"') quoted = !quoted;
        const char *word = quoted        ? NULL
                           : s[i] == 't' ? "True"
                           : s[i] == 'f' ? "False"
                           : s[i] == 'n' ? "None"
                                         : NULL;
        if (word) {
            strbuf_puts(out, word);
            i += strlen(word) - 1;
        } else {
            strbuf_putc(out, s[i]);
        }
    }
}

static void put_python(const struct tool_past *c, struct strbuf *out)
{
    struct json_member m;
    bool more = false;
    strbuf_put(out, c->name, c->n_name);
    strbuf_putc(out, '(');
    for (size_t at = 0; json_member_next(c->args, c->n_args, &at, &m); more = true) {
        if (more) strbuf_puts(out, ", ");
        put_plain(m.key, m.n_key, out);
        strbuf_putc(out, '=');
        put_literal(m.value, m.n_value, out);
    }
    strbuf_putc(out, ')');
}

static void put_call(const struct tool_format *f, const struct tool_past *c, int i, struct strbuf *out)
{
    put_text(f->call_open, c, i, out);
    if (f->style == TOOL_OBJECT) {
        put_object(f, c, out);
    } else if (f->style == TOOL_PYTHON) {
        put_python(c, out);
    } else {
        put_text(f->name_open, c, i, out);
        strbuf_put(out, c->name, c->n_name);
        put_text(f->name_close, c, i, out);
        if (f->style == TOOL_TAGGED && json_is_object(c->args, c->n_args))
            put_tagged(f, c, out);
        else
            strbuf_put(out, c->args, c->n_args);
    }
    put_text(f->call_close, c, i, out);
}

void tool_render_calls(const struct tool_format *f, const struct tool_past *call, int n, struct strbuf *out)
{
    if (n == 0) return;
    if (!f->bare) strbuf_puts(out, f->section_open);
    if (f->list) strbuf_putc(out, '[');
    for (int i = 0; i < n; i++) {
        if (i) strbuf_puts(out, f->between);
        put_call(f, &call[i], i, out);
    }
    if (f->list) strbuf_putc(out, ']');
    if (!f->bare) strbuf_puts(out, f->section_close);
}
