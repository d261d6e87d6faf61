/* tool_rule: the texts that a chat's tools leave the model to say, as parts of a grammar: calls in the way of
 * the family, with arguments that hold to their schemas. Pure; any thread. */
#ifndef FLUXD_SERVER_API_TOOL_RULE_H
#define FLUXD_SERVER_API_TOOL_RULE_H

#include "server/api/chat_tools.h"
#include "server/text/grammar/grammar.h"

/* What stands behind the thought; *out NULL: whatever the model says. said: what an answer without calls must
 * be, NULL: anything. Memory is mem's. A schema that the family's way of writing cannot hold is refused by
 * its JSON pointer. */
enum err tool_rule(const struct grammar_part **out, struct arena *mem, const struct tool_format *f,
                   const struct chat_tools *t, enum tool_strict strict, const struct grammar_part *said,
                   struct json_in *in);

#endif
