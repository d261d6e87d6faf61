/* api: open and close of the endpoint code, the scheduler's events, and bodies on their way through the worker pool.
 * Loop thread only, but for work(), which a worker of the pool runs on the job alone. */
#include "server/api_own.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "server/config.h"
#include "server/gen.h"

enum { POLL_BATCH = 64, RETRY_AFTER_S = 1 };

/* One body in the pool. */
struct job {
    struct list       node; /* in api.jobs */
    uv_work_t         work;
    struct api       *api;
    struct http_call *call; /* NULL: the client left */
    enum api_endpoint endpoint;
    int64_t           start_ns;
    struct http_body *body;
    struct ask       *ask;  /* result */
    enum err          failed;
    struct err_note   note;
};

enum err api_open(struct app *a)
{
    struct api *api = calloc(1, sizeof *api);
    if (!api)
        return ERR_NOMEM;
    api->app = a;
    list_init(&api->gens);
    list_init(&api->jobs);
    a->api = &api->stats;
    return OK;
}

void api_close(struct app *a)
{
    struct api *api = api_of(a);
    if (!api)
        return;
    CHECK(api->live == 0);
    chat_tokens_free(api->chat_tokens);
    free(api);
    a->api = NULL;
}

int api_live(const struct app *a) { return a->api ? api_of(a)->live : 0; }

void api_poll(struct app *a)
{
    struct request *ready[POLL_BATCH];
    size_t          n;
    if (!a->scheduler)
        return;
    while ((n = scheduler_poll(a->scheduler, ready, POLL_BATCH)) > 0)
        for (size_t i = 0; i < n; i++)
            gen_events(ready[i]);
}

int api_retry_after_s(const struct api *api, enum err e)
{
    const int status = err_status(e);
    if (e == ERR_QUEUE_FULL && api->app->scheduler)
        return scheduler_retry_after_s(api->app->scheduler);
    return status == 429 || status == 503 ? RETRY_AFTER_S : -1;
}

void api_refuse(struct api *api, struct http_call *c, enum api_endpoint endpoint, const struct err_note *note)
{
    api_count(&api->stats, endpoint, err_status(note->code));
    http_reply_error(c, note, api_retry_after_s(api, note->code));
}

/* --- what workers may read: all of it is constant once the model is there --- */

/* No token has more bytes than the longest piece. What a tokenizer normalises first may have had three times as many: the
 * composition of Hangul syllables (Unicode 3.12) shortens most. */
static size_t text_bytes_most(const struct app *a)
{
    size_t longest = 0, n;
    for (int32_t i = 0; i < tokenizer_n_piece(a->tokenizer); i++) {
        tokenizer_bytes(a->tokenizer, i, &n);
        longest = n > longest ? n : longest;
    }
    return 3 * longest * (size_t)a->model->max_len;
}

/* The tokenizer's end of a turn ends an answer too, where the model's own lists forgot it (a chat model made of a base model). */
static struct engine_info with_tokenizer_eos(const struct engine_info *model, int32_t id)
{
    struct engine_info m = *model;
    bool               known = id < 0 || m.n_eos == (int)(sizeof m.eos / sizeof *m.eos);
    for (int i = 0; i < m.n_eos; i++)
        known |= m.eos[i] == id;
    if (!known)
        m.eos[m.n_eos++] = id;
    return m;
}

int32_t api_eos_id(const struct app *a)
{
    const int32_t eos = tokenizer_eos(a->tokenizer);
    return eos >= 0 || a->model->n_eos == 0 ? eos : a->model->eos[0];
}

static enum err open_env(struct api *api, struct err_note *note)
{
    const struct app *a = api->app;
    if (api->has_env)
        return OK;
    enum err e = chat_tokens_new(&api->chat_tokens, a->tokenizer, note);
    if (e)
        return e;
    api->model = with_tokenizer_eos(a->model, tokenizer_eos(a->tokenizer));
    api->env = (struct prep_env){
        .chat = {.tmpl = a->chat_template,
                 .tokenizer = a->tokenizer,
                 .tokens = api->chat_tokens,
                 .max_len = api->model.max_len,
                 .eos_id = api_eos_id(a),
                 .text_bytes_most = text_bytes_most(a)},
        .model = &api->model,
        .model_id = a->model_id,
        .gen_temperature = a->gen_temperature,
        .gen_top_p = a->gen_top_p,
        .gen_repetition = a->gen_repetition_penalty,
        .gen_top_k = a->gen_top_k,
        .seed = a->config->seed,
        .choices_most = (int)a->config->queue_len,
        .limits = json_limits_default,
    };
    api->env.limits.bytes = (size_t)a->config->max_text_bytes;
    api->env.limits.bytes_with_ids = (size_t)a->config->max_body_bytes;
    api->has_env = true;
    return OK;
}

/* --- jobs --- */

static void work(uv_work_t *w)
{
    struct job *j = w->data;
    size_t n;
    const char *body = http_body_text(j->body, &n);
    j->failed = prep_run(&j->ask, &j->api->env, j->endpoint, body, n, &j->note);
}

static void job_free(struct job *j)
{
    ask_free(j->ask);
    http_body_free(j->body);
    list_remove(&j->node);
    j->api->stats.preps_open--;
    j->api->live--;
    free(j);
}

static void answer_job(struct job *j)
{
    struct api       *api = j->api;
    struct http_call *call = j->call;
    if (j->failed) {
        api_refuse(api, call, j->endpoint, &j->note);
    } else if (j->ask->answer.len > 0) {
        api_count(&api->stats, j->endpoint, 200);
        http_reply(call, 200, "application/json", j->ask->answer.data, j->ask->answer.len, NULL);
    } else {
        struct ask *ask = j->ask;
        j->ask = NULL;
        gen_start(api, call, ask, j->start_ns);
    }
}

static void after_work(uv_work_t *w, int status)
{
    struct job *j = w->data;
    if (status != 0 && !j->failed && !j->ask) /* taken back before a worker saw it */
        j->failed = err_set(&j->note, ERR_CANCELLED, NULL, "%s", err_text(ERR_CANCELLED));
    if (j->call)
        answer_job(j);
    job_free(j);
}

static void on_gone(void *arg)
{
    struct job *j = arg;
    api_count(&j->api->stats, j->endpoint, 499);
    http_finish_gone(j->call);
    j->call = NULL;
    uv_cancel((uv_req_t *)&j->work); /* when a worker has it already, its result is dropped */
}

static struct job *job_new(struct api *api, struct http_call *c, enum api_endpoint endpoint)
{
    struct job *j = calloc(1, sizeof *j);
    if (!j)
        return NULL;
    j->body = http_body_take(c);
    if (!j->body) {
        free(j);
        return NULL;
    }
    j->api = api;
    j->call = c;
    j->endpoint = endpoint;
    j->start_ns = clock_ns();
    j->work.data = j;
    list_push_back(&api->jobs, &j->node);
    api->live++;
    api->stats.preps_open++;
    return j;
}

void api_take(struct http_call *c, struct app *a, enum api_endpoint endpoint)
{
    struct api     *api = api_of(a);
    struct err_note note = {0};
    enum err        e = a->state == APP_LOADING ? ERR_LOADING : a->state == APP_DRAINING ? ERR_DRAINING : OK;
    if (e)
        err_set(&note, e, NULL, "%s", err_text(e));
    else
        e = open_env(api, &note);
    struct job *j = e ? NULL : job_new(api, c, endpoint);
    if (!e && !j)
        e = err_set(&note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
    if (e) {
        api_refuse(api, c, endpoint, &note);
        return;
    }
    http_set_gone(c, on_gone, j);
    CHECK(uv_queue_work(a->loop, &j->work, work, after_work) == 0); /* fails on a NULL callback only */
}
