/* body: inside a call whose arguments are JSON, behind its name (OBJECT, NAMED, CHANNEL). The arguments go
 * through as they stand. Where they are broken, the call's close ends them all the same. */
#include "server/text/tools/parse.h"

enum { NEXT, KEY, NAME, COLON, VALUE }; /* p->body of OBJECT, in the order of an object behind a member */

/* c does not belong to the call: it ends here, and c is read as what follows, behind the key that it stands
 * in. */
static void leave(struct tool_parser *p, char c)
{
    struct strbuf rest;
    strbuf_init(&rest);
    if (p->body == NAME || p->body == COLON) {
        strbuf_putc(&rest, '"');
        strbuf_put(&rest, p->word.data ? p->word.data : "", p->word.len);
        if (p->body == COLON) strbuf_putc(&rest, '"');
    }
    strbuf_putc(&rest, c);
    tool_call_end(p);
    tool_again(p, rest.data ? rest.data : "", rest.len);
    p->again.failed |= strbuf_failed(&rest);
    strbuf_fini(&rest);
}

/* The value is whole: it was the call, or a member of it. */
static void value_over(struct tool_parser *p)
{
    if (p->f->style == TOOL_OBJECT)
        p->body = NEXT;
    else
        tool_call_end(p);
}

/* One byte of a JSON value; true: the value ended, and the byte was taken or is to be read again (*again). */
static bool value_byte(struct tool_parser *p, char c, bool *again)
{
    const bool begun = p->walk.state != 0 || p->walk.broken || p->walk.depth > 0;
    *again = false;
    if (!begun && json_is_space(c)) return false;
    const enum walk_step s = json_walk_step(&p->walk, c);
    *again = s == WALK_OVER;
    if (!*again && p->value_kind != TOOL_END) tool_tell(p, p->value_kind, &c, 1);
    return s != WALK_TAKEN;
}

/* Outside of strings a close ends a call wherever it stands, unless JSON may go on with its first byte. True:
 * c was dealt with. */
static bool close_byte(struct tool_parser *p, char c)
{
    const struct core close = look_core(p->f->call_close);
    if (close.n == 0 || json_walk_in_string(&p->walk)) return false;
    if (p->held.len == 0 && (c != close.p[0] || json_walk_fits(&p->walk, c))) return false;
    strbuf_putc(&p->held, c);
    struct cursor k = {.p = p->held.data, .n = p->held.len};
    if (strbuf_failed(&p->held)) return true;
    switch (look_marker(&k, close.p)) {
    case LOOK_YES:
        tool_call_end(p);
        return true;
    case LOOK_MORE:
        return true;
    default:
        break;
    }
    /* the first one is the value's, the rest is read again */
    bool again;
    struct strbuf rest = tool_move(&p->held);
    if (value_byte(p, rest.data[0], &again)) value_over(p);
    tool_again(p, rest.data + (again ? 0 : 1), rest.len - (again ? 0 : 1));
    strbuf_fini(&rest);
    return true;
}

void tool_body_named(struct tool_parser *p, char c)
{
    bool again;
    if (close_byte(p, c)) return;
    if (!value_byte(p, c, &again)) return;
    value_over(p);
    if (again) tool_again(p, &c, 1);
}

static bool is(const struct strbuf *s, const char *word)
{
    return s->len == strlen(word) && !memcmp(s->data ? s->data : "", word, s->len);
}

/* What a member says, by its key. What says something that no call has is text. */
static enum tool_event_kind kind_of(const struct tool_parser *p)
{
    static const char *const silent[] = {"id", "type", "index"};
    if (is(&p->word, p->f->args_key) || is(&p->word, "arguments") || is(&p->word, "parameters"))
        return p->fresh ? TOOL_ARGS : TOOL_TEXT;
    for (size_t i = 0; i < sizeof silent / sizeof *silent; i++)
        if (is(&p->word, silent[i])) return TOOL_END;
    return TOOL_TEXT;
}

/* Between two members; false: c does not belong there. */
static bool between(struct tool_parser *p, char c)
{
    if (json_is_space(c)) return true;
    const char want[] = {[NEXT] = ',', [KEY] = '"', [COLON] = ':'};
    if ((p->body == NEXT || p->body == KEY) && c == '}') {
        tool_call_end(p);
        return true;
    }
    if (c != want[p->body]) return false;
    if (p->body == COLON) {
        p->value_kind = kind_of(p);
        json_walk_init(&p->walk);
        if (p->value_kind == TOOL_TEXT) {
            tool_tell_text(p, TOOL_TEXT, "\"");
            tool_tell(p, TOOL_TEXT, p->word.data ? p->word.data : "", p->word.len);
            tool_tell_text(p, TOOL_TEXT, "\": ");
        }
    }
    p->body = p->body == NEXT ? KEY : p->body == KEY ? NAME : VALUE;
    strbuf_clear(p->body == NAME ? &p->word : &p->held);
    return true;
}

void tool_body_object(struct tool_parser *p, char c)
{
    switch (p->body) {
    case NAME:
        if (c == '"')
            p->body = COLON;
        else if (p->word.len == LOOK_KEY_BYTES || c == '\\')
            leave(p, c);
        else
            strbuf_putc(&p->word, c);
        return;
    case VALUE:
        tool_body_named(p, c);
        return;
    default:
        if (!between(p, c)) leave(p, c);
    }
}
