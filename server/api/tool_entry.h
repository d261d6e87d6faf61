/* tool_entry: one tool of a request, in any of the dialects. Pure; any thread. */
#ifndef FLUXD_SERVER_API_TOOL_ENTRY_H
#define FLUXD_SERVER_API_TOOL_ENTRY_H

#include "server/api/chat_tools.h"

/* index: its place among the tools. Kinds of tools that somebody else runs are refused by their name. Memory
 * is in's, or the body's. */
enum err tool_entry_read(struct chat_tool *out, struct json_in *in, const cJSON *node,
                         enum tool_dialect dialect, int index);
/* The tool in the shape of chats, as templates know it. NULL: out of memory. */
cJSON *tool_entry_for_chat(const struct chat_tool *t);

#endif
