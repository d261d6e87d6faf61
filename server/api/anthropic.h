/* anthropic: errors as clients of the Messages API know them. Pure. */
#ifndef FLUXD_SERVER_API_ANTHROPIC_H
#define FLUXD_SERVER_API_ANTHROPIC_H

#include "server/http/http.h"

extern const struct http_dialect anthropic_dialect;

#endif
