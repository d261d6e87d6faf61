/* limits: every bound on what a client may send, with its value: those that are settings, and those that are
 * fixed. Pure; any thread. */
#ifndef FLUXD_SERVER_API_LIMITS_H
#define FLUXD_SERVER_API_LIMITS_H

#include "base/strbuf.h"
#include "server/config.h"

/* Fixed bounds that make way for settings above them, so that a client meets the setting's own error. */
int64_t limits_json_values(const struct config *c);
int64_t limits_chat_prompt_bytes(const struct config *c);

/* JSON for /v1/limits. key is the setting's, or null where the value is fixed. */
void limits_write(const struct config *c, struct strbuf *out);

#endif
