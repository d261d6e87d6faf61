/* gen: one generation, all choices of one call, as a state machine on the loop thread.
 *
 * Its requests are with the scheduler until their DONE was read; its call is with the network until it was
 * answered or its client left. It lives as long as either, so a call that is gone waits for its cancelled
 * requests before the memory goes. Back pressure: while the client's stream is full no events are read, their
 * rings fill, and the scheduler lets the sequences rest. */
#ifndef FLUXD_SERVER_API_GEN_H
#define FLUXD_SERVER_API_GEN_H

#include "server/api/internal.h"

/* Takes the ask and the call: submits the requests and answers, now or later. client: as http_body_owner. */
void gen_start(struct api *api, struct http_call *call, struct ask *ask, uint64_t client, int64_t start_ns);
/* Of the generations that are not over, the one of that key and id; NULL: there is none. */
struct gen *gen_find(struct api *api, uint32_t key_id, const char *id);
bool gen_stored(const struct gen *g);            /* its answer may be asked for by id */
bool gen_now(struct gen *g, struct strbuf *out); /* the answer as it stands; false: out of memory */
void gen_forget(struct gen *g);                  /* the same, and its answer is not stored */
void gen_cancel(struct gen *g);                  /* it ends soon, as cancelled; its client is told so */
void gen_events(struct request *r);              /* the scheduler announced r, which a generation submitted */

#endif
