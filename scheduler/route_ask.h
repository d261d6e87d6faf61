/* route_ask: from the words of a request or of --route to bits per layer. Pure. */
#ifndef FLUXD_SCHEDULER_ROUTE_ASK_H
#define FLUXD_SCHEDULER_ROUTE_ASK_H

#include "scheduler/request.h"
#include "engine/engine.h"

/* --route: "auto", "full", "sparse", or L characters of 0 and 1. bit is [L]. ERR_CONFIG with param "--route".
 */
enum err route_ask_parse(const char *word, const struct engine_info *m, uint8_t *bit, struct err_note *note);

/* Fills r->use.route from r->route_ask; dflt is the server's route. ERR_INVALID_VALUE with param "route". */
enum err route_ask_resolve(struct request *r, const struct engine_info *m, const uint8_t *dflt,
                           struct err_note *note);

#endif
