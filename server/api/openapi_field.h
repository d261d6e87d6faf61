/* openapi_field: tables of fields as JSON Schema. Pure. */
#ifndef FLUXD_SERVER_API_OPENAPI_FIELD_H
#define FLUXD_SERVER_API_OPENAPI_FIELD_H

#include "server/json/in.h"
#include "server/json/out.h"

/* Of an object that these n tables read, into the object that is open: properties and x-unsupported (names
 * that are refused); required. dialect: whose shapes of openapi.json its fields have, or NULL. */
void openapi_fields(struct json_out *o, const struct json_row *const *table, int n, const char *dialect);
void openapi_required(struct json_out *o, const struct json_row *const *table, int n);

#endif
