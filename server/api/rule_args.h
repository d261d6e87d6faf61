/* rule_args: the arguments of one tool's calls as parts of a grammar. Pure; any thread. */
#ifndef FLUXD_SERVER_API_RULE_ARGS_H
#define FLUXD_SERVER_API_RULE_ARGS_H

#include "server/api/chat_tools.h"
#include "server/api/rule_parts.h"

/* Appends what stands between the name and the end of the call. schema: JSON, of an object; place: of the
 * schema in the request, for errors. */
enum err rule_args(struct parts *p, const struct tool_format *f, const cJSON *schema, const char *place,
                   struct json_in *in);

#endif
