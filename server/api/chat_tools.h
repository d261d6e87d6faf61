/* chat_tools: the tools of a chat and which of them may, or must, be called. Pure; any thread. */
#ifndef FLUXD_SERVER_API_CHAT_TOOLS_H
#define FLUXD_SERVER_API_CHAT_TOOLS_H

#include "server/json/in.h"
#include "server/text/tools/tools.h"

enum {
    TOOLS_MOST = 1024,
    TOOLS_RELENT_MOST = 8, /* one by one; then all that may be */
};

enum tools_mode {
    TOOLS_NONE,     /* calls are not looked for: they are text */
    TOOLS_AUTO,     /* the model decides */
    TOOLS_REQUIRED, /* one call at least, of an allowed tool */
};

/* Which way of writing them the fields are in. */
enum tool_dialect { TOOLS_CHAT, TOOLS_MESSAGES, TOOLS_RESPONSES };

struct chat_tool {
    const char *name, *description; /* NULL: none */
    const cJSON *parameters;        /* its schema; NULL: any object */
    const char *place;              /* of the schema in the request, for errors */
    const cJSON *format;            /* of a custom tool, as sent; NULL: none */
    bool custom;                    /* its input is one text: the argument "input" */
    bool strict;                    /* its arguments hold to the schema */
    bool strict_said;               /* by the request, not by its dialect's default */
    bool allowed;                   /* by tool_choice */
};

/* Borrows from the request's body. */
struct chat_tools {
    const cJSON *node;      /* in the shape of chats; NULL: no tools */
    struct chat_tool *tool; /* [n] */
    int n;
    enum tools_mode mode;
    bool all_allowed;
    bool parallel; /* more than one call in an answer */
    enum tool_dialect dialect;
    int n_relented;
};

/* --tool-strict: which calls hold to their schema. */
enum tool_strict { TOOL_STRICT_REQUEST, TOOL_STRICT_ALWAYS, TOOL_STRICT_NEVER };

/* Reads what the fields "tools" and "tool_choice" hold (NULL and zero: absent). Memory is in's. */
enum err chat_tools_read(struct chat_tools *t, struct json_in *in, const cJSON *tools,
                         const struct json_any *choice, bool parallel, enum tool_dialect dialect);
/* A schema could not be held, for what note says. Where a tool is strict by its dialect's default alone it is
 * so no more, and true comes back: it may be tried again. */
bool chat_tools_relent(struct chat_tools *t, const struct err_note *note);
/* What a parser needs, with memory of its own; *out NULL: no calls are looked for. */
enum err chat_tools_set(const struct chat_tools *t, struct arena *mem, const struct tool_set **out);

#endif
