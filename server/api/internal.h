/* internal: what the endpoint code shares, and nobody else. Loop thread only.
 *
 *   api.c              open, close, events; a body on its way through the worker pool
 *   routes.c, models.c the handlers
 *   gen.c              a generation: from requests to the end of the answer
 *   gen_tell.c         what is said of it: a writer for each dialect
 *   room.c             memory of long answers */
#ifndef FLUXD_SERVER_API_INTERNAL_H
#define FLUXD_SERVER_API_INTERNAL_H

#include "base/list.h"
#include "server/api/api.h"
#include "server/api/lanes.h"
#include "server/api/prep.h"
#include "server/api/room.h"

struct api {
    struct api_stats stats;
    struct app *app;
    struct prep_env env;      /* once the model is there */
    struct engine_info model; /* what env.model says */
    bool has_env;
    struct chat_tokens *chat_tokens;
    struct constraints *constraints; /* NULL until the model is there */
    struct response_store *responses;
    struct list gens; /* struct gen */
    struct list jobs; /* bodies in the worker pool or on their way there */
    struct lanes lanes;
    struct answer_room room; /* long answers that grow or are being read */
    int live;                /* of both lists */
    uint64_t next_request;
};

/* What a handler does with a body: refuse it now, or send it to a worker. The answer comes from there. */
void api_take(struct http_call *c, struct app *a, enum api_endpoint endpoint);

/* Answers with the error and counts it. */
void api_refuse(struct api *api, struct http_call *c, enum api_endpoint endpoint,
                const struct err_note *note);

/* Which key a call has, as requests name it; 0: none is needed. */
static inline uint32_t api_key_id(const struct http_call *c)
{
    const struct http_account *a = http_account(c);
    return a ? a->id : 0;
}

int32_t api_eos_id(const struct app *a); /* the tokenizer's end of a turn, else the model's first; -1: none */

int api_retry_after_s(const struct api *api, enum err e); /* -1: retrying does not help */

#endif
