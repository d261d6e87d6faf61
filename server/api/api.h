/* api: the endpoint code as main, routes and metrics see it. Loop thread only.
 * Handlers are rows of server/api/routes.c; each gets the call and the struct app that http_open was given.
 */
#ifndef FLUXD_SERVER_API_API_H
#define FLUXD_SERVER_API_API_H

#include <stdint.h>

#include "scheduler/scheduler.h"
#include "base/err.h"
#include "server/api/app.h"
#include "server/api/endpoint.h"

/* X(status): answers are counted under their own status where it stands here, else under 0 (other). */
#define API_STATUS_LIST(X) X(0) X(200) X(400) X(404) X(408) X(413) X(429) X(499) X(500) X(503)
enum api_status_i {
#define API_STATUS_ENUM(s) API_STATUS_##s,
    API_STATUS_LIST(API_STATUS_ENUM)
#undef API_STATUS_ENUM
        API_N_STATUS
};

/* What /metrics tells of the endpoints. The endpoint code writes it, metrics reads it, both on the loop
 * thread. */
struct api_stats {
    uint64_t answered[API_N_ENDPOINT]
                     [API_N_STATUS]; /* by the status of the answer; 499: the client left before it */
    uint64_t stream_errors;          /* error frames sent after a 200 */
    uint64_t system_lines_dropped;   /* --drop-system-lines */
    uint64_t responses_not_stored;   /* for lack of room */
    uint64_t streams_open;           /* gauge */
    uint64_t preps_open;             /* gauge: bodies in the worker pool */
    struct sched_hist n_choice;      /* answers asked for to each prompt */
};

static inline void api_count(struct api_stats *s, enum api_endpoint e, int status)
{
    static const int known[API_N_STATUS] = {
#define API_STATUS_VALUE(v) v,
        API_STATUS_LIST(API_STATUS_VALUE)
#undef API_STATUS_VALUE
    };
    int i = API_N_STATUS - 1;
    while (i > 0 && known[i] != status) i--;
    s->answered[e][i]++;
}

enum err api_open(struct app *a); /* makes a->api; ERR_NOMEM. Called once, before http_open. */
void api_close(struct app *a);    /* after api_live came to 0; NULL a->api is fine */
int api_live(const struct app
                 *a); /* generations and worker steps that are not yet home, whatever became of their calls */

/* The scheduler has events (its wake arrived): delivers all of them. Main also calls it after scheduler_run
 * returned, so that every DONE is read. Does nothing while a->scheduler is NULL. */
void api_poll(struct app *a);

const struct api_stats *api_stats(const struct app *a);
void api_stored(const struct app *a, size_t *bytes, size_t *count); /* of responses that can be asked for */

/* Endpoints with a body are rows of endpoints.def; routes.c makes their handlers. While a->state is not
 * APP_READY they answer ERR_LOADING or ERR_DRAINING with Retry-After.
 *
 * GET /v1/models; GET /v1/models/{id} (http_path_rest); GET /tokenizer_info. */
void api_models(struct http_call *c, void *app);
void api_model(struct http_call *c, void *app);
void api_tokenizer_info(struct http_call *c, void *app);

/* server/api/responses.c: GET and DELETE /v1/responses/{id}; POST /v1/responses/{id}/cancel. */
void api_response(struct http_call *c, void *app);
void api_response_delete(struct http_call *c, void *app);
void api_response_cancel(struct http_call *c, void *app);

/* server/api/admin.c: GET /health, /ready, /version, /v1/limits, /metrics, /openapi.json and the page at /.
 */
void api_health(struct http_call *c, void *app);
void api_ready(struct http_call *c, void *app);
void api_version(struct http_call *c, void *app);
void api_limits(struct http_call *c, void *app);
void api_metrics(struct http_call *c, void *app);
void api_openapi(struct http_call *c, void *app);
void api_page(struct http_call *c, void *app);

#endif
