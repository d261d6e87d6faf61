/* parse: see tools.h. A byte at a time, so that how an answer is cut cannot matter. What may become several
 * things is held; when it turns out to be text, its first byte is told and the rest is read again. */
#include "server/text/tools/parse.h"

enum { SPACE_HELD_MOST = 4096 };

/* --- thoughts --- */

/* Skips white space in front. */
static void pass(struct tool_parser *p, const char *s, size_t n, enum tool_event_kind kind)
{
    size_t i = 0;
    while (p->blank && i < n && json_is_space(s[i])) i++;
    p->blank = p->blank && i == n;
    if (kind == TOOL_TEXT && p->set)
        tool_again(p, s + i, n - i);
    else
        tool_tell(p, kind, s + i, n - i);
}

/* Neither tag has its first byte twice, so a byte that does not go on with one can only begin it anew. */
static void step_thought(struct tool_parser *p, char c)
{
    const bool head = p->mode == TOOL_AT_HEAD;
    const char *tag = head ? p->f->think_open : p->f->think_close;
    const enum tool_event_kind kind = head ? TOOL_TEXT : TOOL_THOUGHT;
    const size_t n = p->held.len;
    if (c == tag[n]) {
        strbuf_putc(&p->held, c);
        if (tag[n + 1]) return;
        strbuf_clear(&p->held);
        p->mode = head ? TOOL_AT_THOUGHT : TOOL_AT_TEXT;
        p->blank = true;
        return;
    }
    strbuf_clear(&p->held);
    if (head) {
        p->mode = TOOL_AT_TEXT; /* only an answer's head may open it */
        if (p->set) tool_again(p, &c, 1);
        pass(p, tag, n, kind);
        if (!p->set) pass(p, &c, 1, kind);
        return;
    }
    pass(p, tag, n, kind);
    if (c == tag[0])
        strbuf_putc(&p->held, c);
    else
        pass(p, &c, 1, kind);
}

/* --- text --- */

/* White space is told when text follows it; behind a call it parts two texts. */
static void tell_space(struct tool_parser *p)
{
    if (p->mode != TOOL_AT_AFTER || p->said)
        tool_tell(p, TOOL_TEXT, p->space.data ? p->space.data : "", p->space.len);
    strbuf_clear(&p->space);
}

static void tell_byte(struct tool_parser *p, char c)
{
    tell_space(p);
    tool_tell(p, TOOL_TEXT, &c, 1);
    p->mode = TOOL_AT_TEXT;
    p->inside = false;
}

/* The held bytes begin no call: the first one is text, the rest is read again. */
static void let_go(struct tool_parser *p)
{
    if (p->held.len <= 1) { /* nearly always */
        if (p->held.len == 1) tell_byte(p, p->held.data[0]);
        strbuf_clear(&p->held);
        return;
    }
    struct strbuf rest = tool_move(&p->held);
    tell_byte(p, rest.data[0]);
    tool_again(p, rest.data + 1, rest.len - 1);
    strbuf_fini(&rest);
}

static void open_call(struct tool_parser *p, const struct opening *o)
{
    struct strbuf rest = tool_move(&p->held);
    tool_call_begin(p, o->name, o->n_name);
    tool_again(p, rest.data + o->used, rest.len - o->used);
    strbuf_fini(&rest);
}

static void step_text(struct tool_parser *p, char c)
{
    struct opening o;
    size_t used;
    bool closes;
    if (p->blank && json_is_space(c)) return;
    p->blank = false;
    if (p->held.len == 0 && json_is_space(c)) {
        strbuf_putc(&p->space, c);
        if (p->space.len > SPACE_HELD_MOST) tell_space(p);
        return;
    }
    strbuf_putc(&p->held, c);
    if (strbuf_failed(&p->held)) return;
    const enum look open = look_open(p, p->held.data, p->held.len, &o);
    if (open == LOOK_YES) {
        open_call(p, &o);
        return;
    }
    const enum look after =
        p->mode == TOOL_AT_AFTER ? look_after(p, p->held.data, p->held.len, &used, &closes) : LOOK_NO;
    if (after == LOOK_YES) {
        strbuf_clear(&p->space);
        strbuf_drop_front(&p->held, used);
        if (closes) p->inside = false;
        struct strbuf rest = tool_move(&p->held);
        tool_again(p, rest.data ? rest.data : "", rest.len);
        strbuf_fini(&rest);
    } else if (open == LOOK_NO && after == LOOK_NO) {
        let_go(p);
    }
}

/* --- the whole --- */

static void step(struct tool_parser *p, char c)
{
    static void (*const body[])(struct tool_parser *, char) = {[TOOL_OBJECT] = tool_body_object,
                                                               [TOOL_NAMED] = tool_body_named,
                                                               [TOOL_TAGGED] = tool_body_tagged,
                                                               [TOOL_PYTHON] = tool_body_python,
                                                               [TOOL_CHANNEL] = tool_body_named};
    if (p->mode == TOOL_AT_BODY)
        body[p->f->style](p, c);
    else if (p->f->style == TOOL_CHANNEL)
        tool_step_channel(p, c);
    else if (p->mode <= TOOL_AT_THOUGHT)
        step_thought(p, c);
    else if (p->set)
        step_text(p, c);
    else
        pass(p, &c, 1, TOOL_TEXT);
}

static void drain(struct tool_parser *p)
{
    while (p->again_at < p->again.len) step(p, p->again.data[p->again_at++]);
    strbuf_clear(&p->again);
    p->again_at = 0;
}

void tool_parser_init(struct tool_parser *p, const struct tool_format *f, const struct tool_set *set,
                      bool open, tool_sink *sink, void *arg)
{
    *p = (struct tool_parser){.f = f, .set = set && set->n ? set : NULL, .sink = sink, .arg = arg};
    p->mode = open ? TOOL_AT_THOUGHT : f->style == TOOL_CHANNEL ? TOOL_AT_HEADER : TOOL_AT_HEAD;
    p->blank = open;
    strbuf_init(&p->held);
    strbuf_init(&p->space);
    strbuf_init(&p->again);
    strbuf_init(&p->word);
    strbuf_init(&p->run);
}

void tool_parser_fini(struct tool_parser *p)
{
    strbuf_fini(&p->held);
    strbuf_fini(&p->space);
    strbuf_fini(&p->again);
    strbuf_fini(&p->word);
    strbuf_fini(&p->run);
}

bool tool_parser_failed(const struct tool_parser *p)
{
    return strbuf_failed(&p->held) || strbuf_failed(&p->space) || strbuf_failed(&p->again) ||
           strbuf_failed(&p->word) || strbuf_failed(&p->run);
}

void tool_parser_feed(struct tool_parser *p, const char *s, size_t n)
{
    for (size_t i = 0; i < n && !tool_parser_failed(p); i++) {
        if (!p->set && p->mode == TOOL_AT_TEXT && !p->blank && p->f->style != TOOL_CHANNEL) {
            tool_tell(p, TOOL_TEXT, s + i, n - i);
            break;
        }
        step(p, s[i]);
        drain(p);
    }
    tool_flush(p);
}

static void cut_body(struct tool_parser *p)
{
    if (p->f->style == TOOL_TAGGED)
        tool_cut_tagged(p);
    else if (p->f->style == TOOL_PYTHON)
        tool_cut_python(p);
    else if (p->held.len > 0)
        tool_tell(p, TOOL_ARGS, p->held.data, p->held.len); /* of a close that did not come */
}

void tool_parser_end(struct tool_parser *p)
{
    if (p->mode == TOOL_AT_HEAD || p->mode == TOOL_AT_THOUGHT) {
        pass(p, p->held.data ? p->held.data : "", p->held.len,
             p->mode == TOOL_AT_HEAD ? TOOL_TEXT : TOOL_THOUGHT);
        if (p->mode == TOOL_AT_HEAD) p->mode = TOOL_AT_TEXT;
        strbuf_clear(&p->held);
        drain(p);
    }
    /* each turn tells a byte at least */
    while ((p->mode == TOOL_AT_TEXT || p->mode == TOOL_AT_AFTER) && p->held.len > 0 &&
           !tool_parser_failed(p)) {
        let_go(p);
        drain(p);
    }
    if (p->mode == TOOL_AT_TEXT) tell_space(p);
    if (p->mode == TOOL_AT_BODY)
        cut_body(p);
    else if (p->f->style == TOOL_CHANNEL)
        tool_end_channel(p);
    strbuf_clear(&p->held);
    tool_flush(p);
}

bool tool_think_is_open(const struct tool_format *f, const char *s, size_t n, bool tail)
{
    const char *open = f->think_open, *close = f->think_close;
    const size_t n_open = strlen(open), n_close = strlen(close);
    size_t end = n;
    while (tail && end > 0 && json_is_space(s[end - 1])) end--;
    if (tail) return end >= n_open && !memcmp(s + end - n_open, open, n_open);
    bool is_open = false;
    for (const char *at = s; (at = memchr(at, open[0], (size_t)(s + n - at))) != NULL; at++) {
        const size_t left = (size_t)(s + n - at);
        if (left >= n_open && !memcmp(at, open, n_open)) is_open = true;
        if (left >= n_close && !memcmp(at, close, n_close)) is_open = false;
    }
    return is_open;
}
