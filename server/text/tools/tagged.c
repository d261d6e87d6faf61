/* tagged: inside a call whose arguments stand between tags. They become one JSON object: a string argument is
 * told as it comes, any other when it is whole, as it stands if it is JSON and as a string if not. */
#include "server/text/tools/parse.h"

enum { BETWEEN, KEY, LEAD, VALUE }; /* p->body */

static bool is_text(const struct tool_parser *p)
{
    for (int i = 0; p->tool && i < p->tool->n_text_key; i++)
        if (strlen(p->tool->text_key[i]) == p->word.len &&
            !memcmp(p->tool->text_key[i], p->word.data ? p->word.data : "", p->word.len))
            return true;
    return false;
}

static void close_args(struct tool_parser *p)
{
    if (!p->fresh) tool_tell_text(p, TOOL_ARGS, "}");
    tool_call_end(p);
}

static void drop(struct tool_parser *p, size_t used)
{
    struct strbuf rest = tool_move(&p->held);
    tool_again(p, (rest.data ? rest.data : "") + used, rest.len - used);
    strbuf_fini(&rest);
}

/* The end of the arguments, the next key, or what belongs to no call. */
static void between(struct tool_parser *p, char c)
{
    const struct tool_format *f = p->f;
    const char *const mark[] = {look_core(f->key_open).p, look_core(f->args_close).p,
                                look_core(f->call_close).p};
    enum look best = LOOK_NO;
    if (p->held.len == 0 && json_is_space(c)) return;
    strbuf_putc(&p->held, c);
    if (strbuf_failed(&p->held)) return;
    for (size_t i = 0; i < sizeof mark / sizeof *mark; i++) {
        struct cursor k = {.p = p->held.data, .n = p->held.len};
        if (!*mark[i]) continue;
        const enum look l = look_marker(&k, mark[i]);
        if (l > best) best = l;
        if (l != LOOK_YES) continue;
        drop(p, i == 0 ? k.at : k.n);
        strbuf_clear(&p->word);
        if (i == 0)
            p->body = KEY;
        else
            close_args(p);
        return;
    }
    if (best == LOOK_MORE) return;
    struct strbuf rest = tool_move(&p->held);
    close_args(p);
    tool_again(p, rest.data, rest.len);
    strbuf_fini(&rest);
}

static void begin_value(struct tool_parser *p)
{
    tool_tell_text(p, TOOL_ARGS, p->fresh ? "{\"" : ", \"");
    tool_tell_escaped(p, p->word.data ? p->word.data : "", p->word.len);
    tool_tell_text(p, TOOL_ARGS, "\": ");
    p->text_value = is_text(p);
    if (p->text_value) tool_tell_text(p, TOOL_ARGS, "\"");
    strbuf_clear(&p->word);
    p->body = LEAD;
}

/* A key goes on to its close. One too long is none: the call ends with what it had. */
static void key_byte(struct tool_parser *p, char c)
{
    strbuf_putc(&p->held, c);
    if (strbuf_failed(&p->held)) return;
    const struct core close = look_core(p->f->key_close);
    struct cursor k = {.p = p->held.data, .n = p->held.len};
    struct strbuf marker;
    strbuf_init(&marker);
    strbuf_put(&marker, close.p, close.n); /* without the white space behind it, which is the value's lead */
    const enum look l = strbuf_failed(&marker) ? LOOK_MORE : look_marker(&k, marker.data);
    strbuf_fini(&marker);
    if (l == LOOK_YES) {
        drop(p, k.at);
        begin_value(p);
    } else if (l == LOOK_NO && p->word.len == LOOK_KEY_BYTES) {
        drop(p, 0);
        close_args(p);
    } else if (l == LOOK_NO) {
        strbuf_putc(&p->word, p->held.data[0]);
        drop(p, 1);
    }
}

/* White space that the row has in front of a value is not part of it. */
static void lead_byte(struct tool_parser *p, char c)
{
    const char *lead = look_core(p->f->key_close).p + look_core(p->f->key_close).n;
    p->body = VALUE;
    if (!*lead || c != *lead) tool_again(p, &c, 1);
}

static void value_part(struct tool_parser *p, const char *s, size_t n)
{
    if (p->text_value)
        tool_tell_escaped(p, s, n);
    else
        strbuf_put(&p->word, s, n);
}

static bool is_json(const char *s, size_t n)
{
    struct json_walk w;
    json_walk_init(&w);
    for (size_t i = 0; i < n; i++)
        if (json_walk_step(&w, s[i]) == WALK_OVER || (w.done && i + 1 < n)) return false;
    return json_walk_whole(&w);
}

/* What was held as the value; cut: as far as it came. */
static void tell_value(struct tool_parser *p, bool cut)
{
    const char *s = p->word.data ? p->word.data : "";
    size_t n = p->word.len, from = 0;
    if (p->text_value) {
        if (!cut) tool_tell_text(p, TOOL_ARGS, "\"");
        return;
    }
    while (from < n && json_is_space(s[from])) from++;
    while (n > from && json_is_space(s[n - 1])) n--;
    if (is_json(s + from, n - from)) {
        tool_tell(p, TOOL_ARGS, s + from, n - from);
        return;
    }
    tool_tell_text(p, TOOL_ARGS, "\"");
    tool_tell_escaped(p, s, p->word.len);
    if (!cut) tool_tell_text(p, TOOL_ARGS, "\"");
}

/* -1: s is no beginning of the close; 0: it may be; else the bytes of the whole. Exact is with the white
 * space that the row has in front, so that the value keeps its own. */
static int value_close(const struct tool_format *f, const char *s, size_t n)
{
    const struct core core = look_core(f->value_close);
    const size_t lead = (size_t)(core.p - f->value_close), whole = lead + core.n;
    const char *const from[] = {f->value_close, core.p};
    const size_t len[] = {whole, core.n};
    int best = -1;
    for (int i = 0; i < 2; i++) {
        if (n >= len[i] && !memcmp(s, from[i], len[i])) return (int)len[i];
        if (n < len[i] && !memcmp(s, from[i], n)) best = 0;
    }
    return best;
}

static void value_byte(struct tool_parser *p, char c)
{
    strbuf_putc(&p->held, c);
    if (strbuf_failed(&p->held)) return;
    for (;;) {
        const int n = value_close(p->f, p->held.data, p->held.len);
        if (n == 0 || p->held.len == 0) return;
        if (n > 0) {
            drop(p, (size_t)n);
            tell_value(p, false);
            strbuf_clear(&p->word);
            p->body = BETWEEN;
            return;
        }
        value_part(p, p->held.data, 1);
        strbuf_drop_front(&p->held, 1);
    }
}

void tool_body_tagged(struct tool_parser *p, char c)
{
    static void (*const step[])(struct tool_parser *, char) = {
        [BETWEEN] = between, [KEY] = key_byte, [LEAD] = lead_byte, [VALUE] = value_byte};
    step[p->body](p, c);
}

void tool_cut_tagged(struct tool_parser *p)
{
    const char *held = p->held.data ? p->held.data : "";
    if (p->body == KEY && p->word.len + p->held.len > 0) {
        tool_tell_text(p, TOOL_ARGS, p->fresh ? "{\"" : ", \"");
        tool_tell_escaped(p, p->word.data ? p->word.data : "", p->word.len);
        tool_tell_escaped(p, held, p->held.len);
    }
    if (p->body != VALUE && p->body != LEAD) return; /* a tag that was not complete says nothing yet */
    value_part(p, held, p->held.len);
    tell_value(p, true);
}
