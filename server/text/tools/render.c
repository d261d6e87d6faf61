/* render: past calls, as the model wrote them. */
#include <string.h>

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

/* One \uXXXX of a JSON string. */
static unsigned code_at(const char *p)
{
    unsigned v = 0;
    for (int i = 2; i < 6; i++) {
        const char c = p[i];
        v = v * 16 + (unsigned)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    return v;
}

static void put_utf8(unsigned v, struct strbuf *out)
{
    const char b[4] = {(char)(0xF0 | v >> 18), (char)(0x80 | (v >> 12 & 63)), (char)(0x80 | (v >> 6 & 63)),
                       (char)(0x80 | (v & 63))};
    if (v < 0x80)
        strbuf_putc(out, (char)v);
    else if (v < 0x800)
        strbuf_put(out, (char[]){(char)(0xC0 | v >> 6), b[3]}, 2);
    else if (v < 0x10000)
        strbuf_put(out, (char[]){(char)(0xE0 | v >> 12), b[2], b[3]}, 3);
    else
        strbuf_put(out, b, 4);
}

/* The text of a JSON string with its quotes, which is valid. */
static void put_plain(const char *s, size_t n, struct strbuf *out)
{
    static const char from[] = "nrtfb", to[] = "\n\r\t\f\b";
    for (size_t i = 1; i + 1 < n; i++) {
        if (s[i] != '\\') {
            strbuf_putc(out, s[i]);
            continue;
        }
        if (s[i + 1] == 'u') {
            unsigned v = code_at(s + i);
            const bool pair = v >= 0xD800 && v < 0xDC00 && i + 12 < n && s[i + 6] == '\\' && s[i + 7] == 'u';
            const unsigned low = pair ? code_at(s + i + 6) : 0;
            if (pair && low >= 0xDC00 && low < 0xE000) {
                v = 0x10000 + ((v - 0xD800) << 10) + (low - 0xDC00);
                i += 6;
            }
            put_utf8(v >= 0xD800 && v < 0xE000 ? 0xFFFD : v, out);
            i += 5;
            continue;
        }
        const char *at = strchr(from, s[++i]);
        strbuf_putc(out, at ? to[at - from] : s[i]);
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
