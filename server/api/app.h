/* app: what the endpoint code shares. One object, made by main, passed to every handler. Loop thread writes
 * it. */
#ifndef FLUXD_SERVER_API_APP_H
#define FLUXD_SERVER_API_APP_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "scheduler/scheduler.h"
#include "server/api/names.h"
#include "server/config.h"
#include "server/http/http.h"
#include "server/process.h"
#include "server/text/tokenizer.h"

struct api;
struct tmpl;

enum app_state { APP_LOADING, APP_READY, APP_DRAINING };

struct app {
    uv_loop_t *loop;
    const struct config *config;
    enum app_state state;
    struct http *http;
    /* set when the state leaves APP_LOADING, constant after */
    struct scheduler *scheduler;
    const struct engine_info *model;
    struct tokenizer *tokenizer;
    struct tmpl *chat_template; /* NULL: the model has none, chat is refused */
    const char *template_text;  /* its source */
    size_t n_template;
    struct model_names names;
    double gen_temperature, gen_top_p, gen_min_p,
        gen_repetition_penalty; /* of requests that name none; NaN: none */
    int gen_top_k;              /* -1: none */
    int64_t started_wall_s, ready_wall_s;
    struct process_use process; /* as /metrics last read it, at process_ns */
    int64_t process_ns;
    struct api *api; /* of the endpoint code, owned by it */
};

#endif
