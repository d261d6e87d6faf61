/* openapi: GET /openapi.json, the description of this API (OpenAPI 3.1), made from the tables by which bodies
 * are read. Loop thread. */
#ifndef FLUXD_SERVER_API_OPENAPI_H
#define FLUXD_SERVER_API_OPENAPI_H

#include <stdbool.h>

#include "base/strbuf.h"

void openapi_write(struct strbuf *out, bool keys); /* keys: paths need one */

#endif
