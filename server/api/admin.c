/* admin: what operators, supervisors and scrapers ask. Loop thread; nothing here waits for the engine. */
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "server/api/api.h"
#include "server/config.h"
#include "server/api/limits.h"
#include "server/api/metrics.h"
#include "server/api/openapi.h"
#include "server/version.h"

/* The page and the headers that it is sent with (a string), as server/page/page.sh has made them. */
extern const char _binary_page_html_start[], _binary_page_html_end[], _binary_page_head_start[];

enum { RETRY_LOADING_S = 1, RETRY_DRAINING_S = 5 };

static void reply_buffer(struct http_call *c, struct strbuf *b, const char *type)
{
    if (strbuf_failed(b)) {
        struct err_note note;
        err_set(&note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
        http_reply_error(c, &note, 1);
    } else {
        http_reply(c, 200, type, b->data, b->len, NULL);
    }
    strbuf_fini(b);
}

/* Alive: the process answers, and an engine that has begun to live still does. While the model loads there is
 * none yet.
 */
void api_health(struct http_call *c, void *arg)
{
    const struct app *app = arg;
    double age_ms = 0;
    if (app->scheduler) age_ms = clock_ms_since(scheduler_beat_ns(scheduler_stats(app->scheduler)));
    if (age_ms > (double)app->config->health_timeout_ms) {
        struct err_note note;
        err_set(&note, ERR_OVERLOAD, NULL, "the engine has given no sign of life for %.1f s", age_ms / 1000);
        http_reply_error(c, &note, RETRY_DRAINING_S);
        return;
    }
    http_reply(c, 200, "application/json", "{\"status\":\"ok\"}", 15, NULL);
}

void api_ready(struct http_call *c, void *arg)
{
    const struct app *app = arg;
    struct err_note note;
    switch (app->state) {
    case APP_READY:
        api_health(c, arg);
        return;
    case APP_LOADING:
        err_set(&note, ERR_LOADING, NULL, "%s", err_text(ERR_LOADING));
        http_reply_error(c, &note, RETRY_LOADING_S);
        return;
    case APP_DRAINING:
        err_set(&note, ERR_DRAINING, NULL, "%s", err_text(ERR_DRAINING));
        http_reply_error(c, &note, RETRY_DRAINING_S);
        return;
    }
}

void api_version(struct http_call *c, void *arg)
{
    static const char text[] = "{\"version\":\"" FLUXD_VERSION "\"}";
    (void)arg;
    http_reply(c, 200, "application/json", text, sizeof text - 1, NULL);
}

void api_limits(struct http_call *c, void *arg)
{
    const struct app *app = arg;
    struct strbuf b;
    strbuf_init(&b);
    limits_write(app->config, &b);
    reply_buffer(c, &b, "application/json");
}

void api_metrics(struct http_call *c, void *arg)
{
    enum metrics_format f = metrics_choose(http_header(c, "Accept"));
    struct strbuf b;
    strbuf_init(&b);
    metrics_write(&b, arg, f);
    reply_buffer(c, &b, metrics_content_type(f));
}

void api_openapi(struct http_call *c, void *arg)
{
    const struct app *app = arg;
    struct strbuf b;
    strbuf_init(&b);
    openapi_write(&b, app->config->keys.n > 0);
    reply_buffer(c, &b, "application/json");
}

void api_page(struct http_call *c, void *arg)
{
    (void)arg;
    http_reply(c, 200, "text/html; charset=utf-8", _binary_page_html_start,
               (size_t)(_binary_page_html_end - _binary_page_html_start), _binary_page_head_start);
}
