/* chat_tools: the tools of a chat and which of them may, or must, be called. Pure; any thread. */
#ifndef FLUXD_SERVER_API_CHAT_TOOLS_H
#define FLUXD_SERVER_API_CHAT_TOOLS_H

#include "server/json/in.h"
#include "server/text/tools/tools.h"

enum { TOOLS_MOST = 1024 };

enum tools_mode {
    TOOLS_NONE,     /* calls are not looked for: they are text */
    TOOLS_AUTO,     /* the model decides */
    TOOLS_REQUIRED, /* one call at least, of an allowed tool */
};

struct chat_tool {
    const char *name;
    const cJSON *parameters; /* its schema; NULL: any object */
    bool strict;             /* its arguments hold to the schema */
    bool allowed;            /* by tool_choice */
};

/* Borrows from the request's body. */
struct chat_tools {
    const cJSON *node;      /* as sent, in the shape of chats; NULL: no tools */
    struct chat_tool *tool; /* [n] */
    int n;
    enum tools_mode mode;
    bool all_allowed;
    bool parallel; /* more than one call in an answer */
};

/* --tool-strict: which calls hold to their schema. */
enum tool_strict { TOOL_STRICT_REQUEST, TOOL_STRICT_ALWAYS, TOOL_STRICT_NEVER };

/* Reads what the fields "tools" and "tool_choice" hold (NULL and zero: absent). Memory is in's. */
enum err chat_tools_read(struct chat_tools *t, struct json_in *in, const cJSON *tools,
                         const struct json_any *choice, bool parallel);
/* What a parser needs, with memory of its own; *out NULL: no calls are looked for. */
enum err chat_tools_set(const struct chat_tools *t, struct arena *mem, const struct tool_set **out);

#endif
