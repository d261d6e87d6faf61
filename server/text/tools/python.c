/* python: inside a call with Python's literals, which become one JSON object. */
#include "server/text/tools/parse.h"

#include <stdio.h>
#include <stdlib.h>

enum { KEY, VALUE, STRING, ESCAPE, CODE, WORD, BEHIND }; /* p->body */

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '+' || c == '-' || (unsigned char)c >= 0x80;
}

static void end_call(struct tool_parser *p)
{
    if (!p->fresh) tool_tell_text(p, TOOL_ARGS, "}");
    tool_call_end(p);
}

static void leave(struct tool_parser *p, char c)
{
    end_call(p);
    tool_again(p, &c, 1);
}

/* An argument's name, up to its sign. */
static void key_byte(struct tool_parser *p, char c)
{
    if (json_is_space(c) || (c == ',' && p->word.len == 0)) return;
    if (c == ')' && p->word.len == 0) {
        end_call(p);
    } else if (c == '=' && p->word.len > 0) {
        tool_tell_text(p, TOOL_ARGS, p->fresh ? "{\"" : ", \"");
        tool_tell_escaped(p, p->word.data, p->word.len);
        tool_tell_text(p, TOOL_ARGS, "\": ");
        strbuf_clear(&p->word);
        p->body = VALUE;
    } else if (is_word(c) && p->word.len < LOOK_KEY_BYTES) {
        strbuf_putc(&p->word, c);
    } else { /* no argument of a call: it is read again as what it may be */
        struct strbuf rest = tool_move(&p->word);
        strbuf_putc(&rest, c);
        end_call(p);
        tool_again(p, rest.data ? rest.data : "", rest.len);
        strbuf_fini(&rest);
    }
}

static void close_bracket(struct tool_parser *p, char c)
{
    p->depth--;
    tool_tell_text(p, TOOL_ARGS, c == '}' ? "}" : "]");
    p->body = BEHIND;
}

static void value_byte(struct tool_parser *p, char c)
{
    if (json_is_space(c)) return;
    strbuf_clear(&p->word);
    if (c == '"' || c == '\'') {
        p->quote = c;
        p->body = STRING;
        tool_tell_text(p, TOOL_ARGS, "\"");
    } else if (c == '[' || c == '(' || c == '{') {
        p->depth++;
        tool_tell_text(p, TOOL_ARGS, c == '{' ? "{" : "[");
    } else if ((c == ']' || c == ')' || c == '}') && p->depth > 0) {
        close_bracket(p, c);
    } else if (is_word(c)) {
        p->body = WORD;
        strbuf_putc(&p->word, c);
    } else {
        leave(p, c);
    }
}

/* Behind a value. */
static void behind_byte(struct tool_parser *p, char c)
{
    if (json_is_space(c)) return;
    if (p->depth == 0 && (c == ',' || c == ')')) {
        p->body = KEY;
        strbuf_clear(&p->word);
        if (c == ')') end_call(p);
    } else if (c == ',' || (c == ':' && p->depth > 0)) {
        p->body = VALUE;
        tool_tell_text(p, TOOL_ARGS, c == ',' ? ", " : ": ");
    } else if ((c == ']' || c == ')' || c == '}') && p->depth > 0) {
        close_bracket(p, c);
    } else {
        leave(p, c);
    }
}

static bool is_number(const char *s, size_t n)
{
    struct json_walk w;
    json_walk_init(&w);
    for (size_t i = 0; i < n; i++)
        if (json_walk_step(&w, s[i]) != WALK_TAKEN) return false;
    return json_walk_whole(&w) && w.depth == 0 && s[0] != '"';
}

static void tell_word(struct tool_parser *p)
{
    static const struct {
        const char *python, *json;
    } word[] = {{"True", "true"}, {"False", "false"}, {"None", "null"},
                {"true", "true"}, {"false", "false"}, {"null", "null"}};
    const char *s = p->word.data ? p->word.data : "";
    const size_t n = p->word.len;
    for (size_t i = 0; i < sizeof word / sizeof *word; i++)
        if (strlen(word[i].python) == n && !memcmp(word[i].python, s, n)) {
            tool_tell_text(p, TOOL_ARGS, word[i].json);
            return;
        }
    if (is_number(s, n)) {
        tool_tell(p, TOOL_ARGS, s, n);
        return;
    }
    tool_tell_text(p, TOOL_ARGS, "\"");
    tool_tell_escaped(p, s, n);
    tool_tell_text(p, TOOL_ARGS, "\"");
}

static void word_byte(struct tool_parser *p, char c)
{
    if (is_word(c)) {
        strbuf_putc(&p->word, c);
        return;
    }
    tell_word(p);
    strbuf_clear(&p->word);
    p->body = BEHIND;
    behind_byte(p, c);
}

static void string_byte(struct tool_parser *p, char c)
{
    if (c == '\\') {
        p->body = ESCAPE;
        strbuf_clear(&p->word);
    } else if (c == p->quote) {
        p->body = BEHIND;
        tool_tell_text(p, TOOL_ARGS, "\"");
    } else {
        tool_tell_escaped(p, &c, 1);
    }
}

/* Digits that an escape takes: \xHH, \uHHHH, \UHHHHHHHH. */
static size_t n_digit(char kind) { return kind == 'x' ? 2 : kind == 'u' ? 4 : 8; }

static void escape_byte(struct tool_parser *p, char c)
{
    static const char from[] = "ntrbfav0\\'\"", to[] = "\n\t\r\b\f\a\v\0\\'\"";
    const char *at = c ? strchr(from, c) : NULL;
    p->body = STRING;
    if (c == 'x' || c == 'u' || c == 'U') {
        strbuf_putc(&p->word, c);
        p->body = CODE;
    } else if (at) {
        tool_tell_escaped(p, &to[at - from], 1);
    } else if (c != '\n') { /* a line that goes on says nothing */
        tool_tell_escaped(p, "\\", 1);
        tool_tell_escaped(p, &c, 1);
    }
}

static void tell_code(struct tool_parser *p)
{
    char hex[16] = "", u[16];
    unsigned long v;
    memcpy(hex, p->word.data + 1, p->word.len - 1);
    v = strtoul(hex, NULL, 16);
    if (v > 0x10FFFF) v = 0xFFFD;
    if (v >= 0x10000)
        snprintf(u, sizeof u, "\\u%04lx\\u%04lx", 0xD800 + ((v - 0x10000) >> 10),
                 0xDC00 + ((v - 0x10000) & 0x3FF));
    else
        snprintf(u, sizeof u, "\\u%04lx", v);
    tool_tell_text(p, TOOL_ARGS, u);
}

static void code_byte(struct tool_parser *p, char c)
{
    const bool hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
    if (hex) strbuf_putc(&p->word, c);
    if (strbuf_failed(&p->word)) return;
    if (hex && p->word.len <= n_digit(p->word.data[0])) return;
    p->body = STRING;
    if (hex) {
        tell_code(p);
        return;
    }
    tool_tell_escaped(p, "\\", 1); /* not an escape: as it stands */
    tool_tell_escaped(p, p->word.data, p->word.len);
    string_byte(p, c);
}

void tool_body_python(struct tool_parser *p, char c)
{
    static void (*const step[])(struct tool_parser *, char) = {
        [KEY] = key_byte,   [VALUE] = value_byte, [STRING] = string_byte, [ESCAPE] = escape_byte,
        [CODE] = code_byte, [WORD] = word_byte,   [BEHIND] = behind_byte};
    step[p->body](p, c);
}

void tool_cut_python(struct tool_parser *p)
{
    if (p->body == KEY && p->word.len > 0) {
        tool_tell_text(p, TOOL_ARGS, p->fresh ? "{\"" : ", \"");
        tool_tell_escaped(p, p->word.data, p->word.len);
    }
    if (p->body == WORD) tell_word(p);
    if (p->body == ESCAPE || p->body == CODE) {
        tool_tell_escaped(p, "\\", 1);
        tool_tell_escaped(p, p->word.data ? p->word.data : "", p->word.len);
    }
}
