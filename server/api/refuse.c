/* refuse: how the endpoints refuse a request: counted, with the time after which another try may help. */
#include "server/api/internal.h"

enum { RETRY_AFTER_S = 1 };

int api_retry_after_s(const struct api *api, enum err e)
{
    const int status = err_status(e);
    if (e == ERR_QUEUE_FULL && api->app->scheduler) return scheduler_retry_after_s(api->app->scheduler);
    return status == 429 || status == 503 ? RETRY_AFTER_S : -1;
}

void api_refuse(struct api *api, struct http_call *c, enum api_endpoint endpoint, const struct err_note *note)
{
    api_count(&api->stats, endpoint, err_status(note->code));
    http_reply_error(c, note, api_retry_after_s(api, note->code));
}
