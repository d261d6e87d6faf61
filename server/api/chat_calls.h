/* chat_calls: calls of tools in the messages of a chat: checked, and as a template or a text has them. Pure;
 * any thread. */
#ifndef FLUXD_SERVER_API_CHAT_CALLS_H
#define FLUXD_SERVER_API_CHAT_CALLS_H

#include "server/api/chat_tools.h"
#include "server/api/chat_value.h"

enum { MESSAGE_CALLS_MOST = 128 };

/* The field tool_calls of an assistant's message: every call has an id and a function with a name; arguments
 * are a string or an object. */
enum err chat_calls_check(struct json_in *in, const cJSON *calls);
/* Whether one of the calls has the id. calls may be NULL. */
bool chat_calls_have(const cJSON *calls, const char *id);

/* As a value for templates: arguments that are JSON objects in strings become objects (as_text: they stay
 * strings, and objects become them). NULL: out of memory. */
struct tmpl_value *chat_calls_value(struct chat_values *v, const cJSON *calls, bool as_text);

/* For templates that know no calls. Appends what the model would have written. False: out of memory. */
bool chat_calls_text(const struct tool_format *f, const cJSON *calls, struct strbuf *out);
/* Likewise what tells a model of the tools and how to call one. */
bool chat_tools_text(const struct tool_format *f, const struct chat_tools *t, struct strbuf *out);

#endif
