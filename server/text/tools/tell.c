/* tell: the events of a parser. Neighbours of one kind are told together. */
#include "server/text/tools/parse.h"

void tool_flush(struct tool_parser *p)
{
    if (p->run.len == 0) return;
    const struct tool_event e = {
        .kind = p->run_kind, .call = p->n_call - 1, .p = p->run.data, .n = p->run.len};
    p->sink(p->arg, &e);
    strbuf_clear(&p->run);
}

void tool_tell(struct tool_parser *p, enum tool_event_kind kind, const char *s, size_t n)
{
    if (n == 0) return;
    if (kind != p->run_kind) tool_flush(p);
    p->run_kind = kind;
    if (kind == TOOL_ARGS) p->fresh = false;
    if (kind == TOOL_TEXT) p->said = true;
    strbuf_put(&p->run, s, n);
}

void tool_tell_escaped(struct tool_parser *p, const char *s, size_t n)
{
    static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";
    char u[8] = "\\u0000";
    for (size_t i = 0; i < n; i++) {
        const char *at = s[i] ? strchr(from, s[i]) : NULL;
        if (at) {
            u[1] = to[at - from];
            tool_tell(p, TOOL_ARGS, u, 2);
            u[1] = 'u';
        } else if ((unsigned char)s[i] < 0x20) {
            u[4] = (char)('0' + (s[i] >> 4));
            u[5] = "0123456789abcdef"[s[i] & 15];
            tool_tell(p, TOOL_ARGS, u, 6);
        } else {
            tool_tell(p, TOOL_ARGS, s + i, 1);
        }
    }
}

struct strbuf tool_move(struct strbuf *from)
{
    const struct strbuf moved = *from;
    *from = (struct strbuf){.failed = moved.failed};
    return moved;
}

void tool_again(struct tool_parser *p, const char *s, size_t n)
{
    struct strbuf rest;
    strbuf_init(&rest);
    strbuf_put(&rest, s, n);
    if (p->again_at < p->again.len)
        strbuf_put(&rest, p->again.data + p->again_at, p->again.len - p->again_at);
    rest.failed |= strbuf_failed(&p->again);
    strbuf_fini(&p->again);
    p->again = rest;
    p->again_at = 0;
}

void tool_call_begin(struct tool_parser *p, const char *name, size_t n)
{
    tool_flush(p);
    strbuf_clear(&p->space);
    const struct tool_event e = {.kind = TOOL_CALL, .call = p->n_call++, .p = name, .n = n};
    p->tool = tool_set_find(p->set, name, n);
    p->fresh = true;
    p->value_kind = TOOL_ARGS;
    p->mode = TOOL_AT_BODY;
    p->body = 0;
    p->depth = 0;
    p->inside = true;
    json_walk_init(&p->walk);
    strbuf_clear(&p->word);
    p->sink(p->arg, &e);
}

void tool_call_end(struct tool_parser *p)
{
    if (p->fresh) tool_tell_text(p, TOOL_ARGS, "{}"); /* a call without arguments */
    tool_flush(p);
    const struct tool_event e = {.kind = TOOL_END, .call = p->n_call - 1, .p = "", .n = 0};
    p->sink(p->arg, &e);
    strbuf_clear(&p->held);
    strbuf_clear(&p->word);
    p->mode = TOOL_AT_AFTER;
}
