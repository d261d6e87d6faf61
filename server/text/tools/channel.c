/* channel: answers of messages that have a header (gpt-oss): <|channel|>analysis<|message|>a thought<|end|>
 * <|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>. A message to
 * somebody is a call, one in the channel analysis a thought, all others are what is said. */
#include "server/text/tools/parse.h"

static const char MESSAGE[] = "<|message|>", CHANNEL[] = "<|channel|>", START[] = "<|start|>";
static const char *const close_mark[] = {"<|end|>", "<|return|>", "<|call|>"};

static bool begins(const struct strbuf *s, const char *word) /* one with the other */
{
    const size_t n = strlen(word) < s->len ? strlen(word) : s->len;
    return !memcmp(s->data ? s->data : "", word, n);
}

static bool equals(const struct strbuf *s, const char *word)
{
    return s->len == strlen(word) && begins(s, word);
}

/* The word behind a mark of the header; NULL: it is not there. */
static const char *word_behind(const struct strbuf *header, const char *mark, size_t *n)
{
    const char *at = memmem(header->data, header->len, mark, strlen(mark));
    if (!at) return NULL;
    at += strlen(mark);
    const char *end = header->data + header->len;
    for (*n = 0; at + *n < end && !json_is_space(at[*n]) && at[*n] != '<'; ++*n) continue;
    return at;
}

static void begin_message(struct tool_parser *p)
{
    static const char prefix[] = "functions.";
    size_t n_to = 0, n_channel = 0;
    const char *to = word_behind(&p->held, "to=", &n_to),
               *channel = word_behind(&p->held, CHANNEL, &n_channel);
    struct strbuf header = tool_move(&p->held);
    p->inside = true; /* an answer's first message is there */
    if (to && n_to > sizeof prefix - 1 && !memcmp(to, prefix, sizeof prefix - 1)) {
        to += sizeof prefix - 1;
        n_to -= sizeof prefix - 1;
    }
    if (p->set && to && n_to > 0 && n_to <= TOOL_NAME_BYTES) {
        tool_call_begin(p, to, n_to);
    } else {
        p->mode = TOOL_AT_MESSAGE;
        p->value_kind =
            channel && n_channel == 8 && !memcmp(channel, "analysis", 8) ? TOOL_THOUGHT : TOOL_TEXT;
    }
    strbuf_fini(&header);
}

/* What stands where a header should, and is none, is text. */
static void no_header(struct tool_parser *p)
{
    struct strbuf rest = tool_move(&p->held);
    p->mode = TOOL_AT_MESSAGE;
    p->value_kind = TOOL_TEXT;
    if (rest.len > 0) tool_tell(p, TOOL_TEXT, rest.data, 1);
    if (rest.len > 1) tool_again(p, rest.data + 1, rest.len - 1);
    strbuf_fini(&rest);
}

static void header_byte(struct tool_parser *p, char c)
{
    static const char *const head[] = {CHANNEL, START, MESSAGE, "to=", " to=", "assistant"};
    bool may = false;
    if (p->held.len == 0 && json_is_space(c) && p->mode == TOOL_AT_AFTER) return;
    strbuf_putc(&p->held, c);
    if (strbuf_failed(&p->held)) return;
    for (size_t i = 0; i < sizeof close_mark / sizeof *close_mark; i++) {
        may = may || (p->held.len <= strlen(close_mark[i]) && begins(&p->held, close_mark[i]));
        if (!equals(&p->held, close_mark[i])) continue;
        strbuf_clear(&p->held);
        return;
    }
    for (size_t i = 0; i < sizeof head / sizeof *head && !may; i++) may = begins(&p->held, head[i]);
    const size_t n = sizeof MESSAGE - 1;
    if (!may || p->held.len > LOOK_HELD_MOST)
        no_header(p);
    else if (p->held.len >= n && !memcmp(p->held.data + p->held.len - n, MESSAGE, n))
        begin_message(p);
}

static void message_byte(struct tool_parser *p, char c)
{
    const char *const mark[] = {close_mark[0], close_mark[1], close_mark[2], CHANNEL, START};
    strbuf_putc(&p->held, c);
    while (p->held.len > 0 && !strbuf_failed(&p->held)) {
        bool may = false;
        for (size_t i = 0; i < sizeof mark / sizeof *mark; i++) {
            if (equals(&p->held, mark[i])) {
                p->mode = TOOL_AT_HEADER;
                if (i < 3) strbuf_clear(&p->held); /* the others begin the next header */
                return;
            }
            may = may || (p->held.len < strlen(mark[i]) && begins(&p->held, mark[i]));
        }
        if (may) return;
        tool_tell(p, p->value_kind, p->held.data, 1);
        strbuf_drop_front(&p->held, 1);
    }
}

void tool_step_channel(struct tool_parser *p, char c)
{
    if (p->mode == TOOL_AT_MESSAGE)
        message_byte(p, c);
    else
        header_byte(p, c);
}

void tool_end_channel(struct tool_parser *p)
{
    if (p->held.len == 0) return;
    const bool marked = p->held.data[0] == '<' && (p->held.len > 1 ? p->held.data[1] == '|' : p->inside);
    if (p->mode == TOOL_AT_MESSAGE)
        tool_tell(p, p->value_kind, p->held.data, p->held.len);
    else if (!marked) /* a header that was not complete says nothing */
        tool_tell(p, TOOL_TEXT, p->held.data, p->held.len);
}
