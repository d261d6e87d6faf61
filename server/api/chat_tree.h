/* chat_tree: builds messages in the chat's shape, for dialects that have another one. Pure; strings are
 * referred to. Every function is false when memory is out; what was begun is freed with the list, or by the
 * caller. */
#ifndef FLUXD_SERVER_API_CHAT_TREE_H
#define FLUXD_SERVER_API_CHAT_TREE_H

#include "base/strbuf.h"
#include "server/json/in.h"

bool chat_tree_message(cJSON *list, const char *role, cJSON **out); /* appended; out is the list's */
bool chat_tree_string(cJSON *m, const char *key, const char *text);

/* Parts are gathered in a list that the first one makes. */
bool chat_tree_part(cJSON **parts, const char *text);
/* One call: arguments as an object, or as the text that the client sent. */
bool chat_tree_call(cJSON **calls, const char *id, const char *name, const cJSON *arguments,
                    const char *text);

/* What was gathered becomes a field of the message; *parts is NULL after. */
bool chat_tree_content(cJSON *m, cJSON **parts, bool may_lack); /* may_lack: null without parts, else "" */
bool chat_tree_thought(cJSON *m, cJSON **parts);
bool chat_tree_calls(cJSON *m, cJSON **calls);

#endif
