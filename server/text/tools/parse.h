/* parse: what the files of a parser share. tell.c has the events, body.c, tagged.c, python.c and channel.c
 * one style each; parse.c is above them all. */
#ifndef FLUXD_SERVER_TEXT_TOOLS_PARSE_H
#define FLUXD_SERVER_TEXT_TOOLS_PARSE_H

#include <string.h>

#include "server/text/tools/look.h"

void tool_flush(struct tool_parser *p); /* tells what was gathered */
void tool_tell(struct tool_parser *p, enum tool_event_kind kind, const char *s, size_t n);
static inline void tool_tell_text(struct tool_parser *p, enum tool_event_kind kind, const char *s)
{
    tool_tell(p, kind, s, strlen(s));
}
void tool_tell_escaped(struct tool_parser *p, const char *s, size_t n); /* ARGS: inside a JSON string */
void tool_call_begin(struct tool_parser *p, const char *name, size_t n);
void tool_call_end(struct tool_parser *p);
/* What a buffer holds, which is empty then. That something of it was lost stays known there. */
struct strbuf tool_move(struct strbuf *from);
/* Bytes that were taken are to be read again, before all others. */
void tool_again(struct tool_parser *p, const char *s, size_t n);

/* One byte inside a call. */
void tool_body_object(struct tool_parser *p, char c);
void tool_body_named(struct tool_parser *p, char c);
void tool_body_tagged(struct tool_parser *p, char c);
void tool_body_python(struct tool_parser *p, char c);
/* The answer ends inside one. */
void tool_cut_tagged(struct tool_parser *p);
void tool_cut_python(struct tool_parser *p);
/* Outside of calls, for rows of messages. */
void tool_step_channel(struct tool_parser *p, char c);
void tool_end_channel(struct tool_parser *p);

#endif
