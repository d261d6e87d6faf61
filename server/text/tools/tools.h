/* tools: how a family of models writes its calls of tools and its thoughts. One row of a table has three
 * uses: reading an answer, rendering past calls into a prompt, and the texts that a constraint is made of.
 * Pure; any thread, one owner per parser; knows nothing of HTTP.
 *
 * Reading. A parser takes an answer's bytes and tells events in their order:
 *
 *     TEXT     n bytes of what is said
 *     THOUGHT  n bytes of what was reasoned
 *     CALL     a call begins: p, n is its name; told once, when it is certain
 *     ARGS     n bytes of the arguments, which are a JSON object as far as the model kept to it
 *     END      the call is complete; a call without it was cut
 *
 * The events are the same for every way of cutting the answer (neighbours of one kind may be told in more
 * or fewer pieces). Until a call's name is certain its text is held back, and may become TEXT; from then on
 * it is a call. What does not parse is text or a part of the arguments, never an error. White space around
 * calls and thoughts is nobody's; all else comes out again in one event or was a marker of the row. */
#ifndef FLUXD_SERVER_TEXT_TOOLS_TOOLS_H
#define FLUXD_SERVER_TEXT_TOOLS_TOOLS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/strbuf.h"
#include "server/text/tools/walk.h"

/* --- the table --- */

enum tool_style {
    TOOL_OBJECT,  /* {"name": NAME, "arguments": {...}} */
    TOOL_NAMED,   /* NAME, then the arguments as one JSON object */
    TOOL_TAGGED,  /* NAME, then each argument between tags; strings stand as they are */
    TOOL_PYTHON,  /* NAME(key=value, ...) with Python's literals */
    TOOL_CHANNEL, /* messages with a header: channels for thoughts, calls and answers */
};

enum tool_id {
    TOOL_ID_LONG,  /* call_ and 24 characters */
    TOOL_ID_NINE,  /* nine characters: what Mistral's templates insist on */
    TOOL_ID_INDEX, /* functions.NAME:INDEX, as Kimi writes them itself */
};

/* All texts are as they are rendered; in an answer white space in and around them may be longer or absent.
 * "" is none. In a text \1 stands for the call's number and \2 for its id. */
struct tool_format {
    const char *name; /* of --tool-format */
    enum tool_style style;
    bool list; /* all calls stand in one pair of brackets */
    bool bare; /* no marker of its own: a call stands at the head of an answer, and its name must be known */
    enum tool_id id;
    const char *section_open, *section_close; /* around all calls of an answer */
    const char *call_open, *call_close, *between;
    const char *name_key, *args_key;                /* OBJECT */
    const char *name_open, *name_close;             /* around the name */
    const char *key_open, *key_close, *value_close; /* TAGGED */
    const char *args_close;                         /* TAGGED: behind the last argument */
    const char *think_open, *think_close;
};

/* Ends with an empty row. The first one is what models without tools in their template are asked to write. */
extern const struct tool_format tool_formats[];
/* Whether a special token's text belongs to a marker of the row, so that a parser must see it; calls: also to
 * those of calls. */
bool tool_format_marks(const struct tool_format *f, bool calls, const char *p, size_t n);

/* --- the tools of a request --- */

enum { TOOL_NAME_BYTES = 128 };

struct tool {
    const char *name;
    size_t n_name;
    const char *const *text_key; /* [n_text_key] arguments that can be nothing but strings */
    int n_text_key;
    bool one_text; /* its arguments are {"input": TEXT}, told as the text; no business of a parser's */
};
struct tool_set {
    const struct tool *tool; /* [n] */
    int n;
};
const struct tool *tool_set_find(const struct tool_set *s, const char *name, size_t n); /* NULL: none */

/* --- reading an answer --- */

enum tool_event_kind { TOOL_TEXT, TOOL_THOUGHT, TOOL_CALL, TOOL_ARGS, TOOL_END };
struct tool_event {
    enum tool_event_kind kind;
    int call; /* CALL, ARGS, END: which, from 0 */
    const char *p;
    size_t n;
};
typedef void tool_sink(void *arg, const struct tool_event *e);

/* Where a parser is, and all that it is at; its own business. */
enum tool_at {
    TOOL_AT_HEAD, /* of the answer: only here may a thought open */
    TOOL_AT_THOUGHT,
    TOOL_AT_TEXT,
    TOOL_AT_AFTER,  /* behind a call, with nothing said since */
    TOOL_AT_BODY,   /* inside a call, behind its name */
    TOOL_AT_HEADER, /* CHANNEL: between messages */
    TOOL_AT_MESSAGE,
};

struct tool_parser {
    const struct tool_format *f;
    const struct tool_set *set;
    tool_sink *sink;
    void *arg;
    int mode, body;      /* parse.c; the style's place inside a call */
    bool blank;          /* white space is skipped until something else comes */
    bool inside;         /* behind a call, where the next one may follow without an opening */
    bool said;           /* some text was told */
    bool fresh;          /* nothing of the arguments was told yet */
    bool text_value;     /* TAGGED: the argument is a string whatever it holds */
    char quote;          /* PYTHON: of the string that is open */
    int n_call, depth;   /* PYTHON: brackets that are open */
    struct strbuf held;  /* may still become several things */
    struct strbuf space; /* white space that is text if text follows */
    struct strbuf again; /* held back once, to be read again from again_at on */
    size_t again_at;
    struct strbuf word; /* a key, a word, a value that is not certain */
    struct strbuf run;  /* of run_kind, to be told as one event */
    enum tool_event_kind run_kind;
    enum tool_event_kind value_kind; /* OBJECT: what the member's value is; TOOL_END: nobody's */
    struct json_walk walk;
    const struct tool *tool; /* whose call it is; NULL: not one of the set */
};

/* set: the tools whose calls are looked for; NULL: calls are text. open: the prompt ends inside a thought.
 * f and set are borrowed. */
void tool_parser_init(struct tool_parser *p, const struct tool_format *f, const struct tool_set *set,
                      bool open, tool_sink *sink, void *arg);
void tool_parser_fini(struct tool_parser *p);
void tool_parser_feed(struct tool_parser *p, const char *s, size_t n);
void tool_parser_end(struct tool_parser *p);          /* the answer is over: what was held back is told */
bool tool_parser_failed(const struct tool_parser *p); /* out of memory: something was lost */

static inline bool tool_parser_thinks(const struct tool_parser *p) /* the next byte is of a thought */
{
    return p->mode == TOOL_AT_THOUGHT || (p->mode == TOOL_AT_MESSAGE && p->value_kind == TOOL_THOUGHT);
}

static inline bool tool_parser_may_think(const struct tool_parser *p) /* now or later */
{
    return p->mode == TOOL_AT_HEAD || p->f->style == TOOL_CHANNEL || tool_parser_thinks(p);
}

/* Whether a text ends behind an open of the thoughts that no close follows; tail: with nothing but white
 * space between. */
bool tool_think_is_open(const struct tool_format *f, const char *p, size_t n, bool tail);

/* --- writing a past answer --- */

struct tool_past {
    const char *name, *args, *id; /* args: JSON */
    size_t n_name, n_args, n_id;
};
/* Appends the calls as the model would have written them. */
void tool_render_calls(const struct tool_format *f, const struct tool_past *call, int n, struct strbuf *out);

#endif
