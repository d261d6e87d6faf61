/* response_tools: the tools of a request as POST /v1/responses says them again. Pure; any thread. */
#ifndef FLUXD_SERVER_API_RESPONSE_TOOLS_H
#define FLUXD_SERVER_API_RESPONSE_TOOLS_H

#include "server/api/params.h"
#include "server/api/responses_in.h"

/* Fills out->tools and out->tool_choice: each tool with whether its arguments are held to its schema.
 * ERR_NOMEM. */
enum err response_tools_fill(struct response_ask *out, struct arena *mem, const struct params *p);

#endif
