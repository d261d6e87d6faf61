/* parts: an answer as a list of its parts, in the order in which they came: texts, thoughts and calls. One
 * owner. The writer that tells parts to a client clears their bytes and sets `told`; parts themselves stay,
 * so their indexes are stable. An answer that is not streamed is a list of which nothing was told yet. */
#ifndef FLUXD_SERVER_TEXT_TOOLS_PARTS_H
#define FLUXD_SERVER_TEXT_TOOLS_PARTS_H

#include "server/text/tools/tools.h"

struct tool_part {
    enum tool_event_kind kind; /* TOOL_TEXT, TOOL_THOUGHT or TOOL_CALL */
    int call;                  /* of a call: which, from 0 */
    struct strbuf text;        /* bytes not told yet; of a call: of its arguments */
    struct strbuf name;        /* of a call */
    bool ended;                /* of a call: it is complete */
    bool told;                 /* its beginning was told */
};

struct tool_parts {
    struct tool_part *v; /* [n] */
    int n, cap, n_call;
    bool failed; /* out of memory: something is missing */
};

void tool_parts_init(struct tool_parts *t);
void tool_parts_fini(struct tool_parts *t);
size_t tool_parts_bytes(const struct tool_parts *t);           /* held */
void tool_parts_take(void *parts, const struct tool_event *e); /* a tool_sink */
/* Whether there are calls, and all of them are complete. */
bool tool_parts_called(const struct tool_parts *t);

#endif
