/* api: open and close of the endpoint code, the scheduler's events, and bodies on their way through the
 * worker pool. Loop thread only, but for work(), which a worker of the pool runs on the job alone. */
#include "server/api/internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "server/config.h"
#include "server/api/gen.h"
#include "server/api/limits.h"
#include "server/text/ends.h"

enum { POLL_BATCH = 64 };

/* One body in the pool. */
struct job {
    struct list node; /* in api.jobs */
    struct lane_job lane;
    struct api *api;
    struct http_call *call; /* NULL: the client left */
    enum api_endpoint endpoint;
    uint32_t key_id;
    int64_t start_ns;
    char *route; /* of a header; NULL: none */
    struct http_body *body;
    struct ask *ask; /* result */
    enum err failed;
    struct err_note note;
};

enum err api_open(struct app *a)
{
    struct api *api = calloc(1, sizeof *api);
    if (api)
        api->responses =
            response_store_new((size_t)a->config->response_store_bytes, a->config->response_ttl_s);
    if (!api || !api->responses) {
        free(api);
        return ERR_NOMEM;
    }
    api->app = a;
    answer_room_init(&api->room, (size_t)a->config->max_answers_bytes,
                     (size_t)a->config->client_answers_bytes);
    list_init(&api->gens);
    list_init(&api->jobs);
    lanes_init(&api->lanes, a->loop, (int)a->config->prep_threads, (size_t)a->config->small_body_bytes);
    a->api = api;
    return OK;
}

void api_close(struct app *a)
{
    struct api *api = a->api;
    if (!api) return;
    CHECK(api->live == 0);
    chat_tokens_free(api->chat_tokens);
    constraints_free(api->constraints);
    response_store_free(api->responses);
    free(api);
    a->api = NULL;
}

int api_live(const struct app *a) { return a->api ? a->api->live : 0; }

void api_stored(const struct app *a, size_t *bytes, size_t *count)
{
    *bytes = response_store_bytes(a->api->responses);
    *count = response_store_count(a->api->responses);
}

const struct api_stats *api_stats(const struct app *a) { return &a->api->stats; }

void api_poll(struct app *a)
{
    struct request *ready[POLL_BATCH];
    size_t n;
    if (!a->scheduler) return;
    while ((n = scheduler_poll(a->scheduler, ready, POLL_BATCH)) > 0)
        for (size_t i = 0; i < n; i++) gen_events(ready[i]);
}

/* --- what workers may read: all of it is constant once the model is there --- */

/* No token has more bytes than the longest piece. What a tokenizer normalises first may have had three times
 * as many: the composition of Hangul syllables (Unicode 3.12) shortens most. */
static size_t text_bytes_most(const struct app *a)
{
    size_t longest = 0, n;
    for (int32_t i = 0; i < tokenizer_n_piece(a->tokenizer); i++) {
        tokenizer_bytes(a->tokenizer, i, &n);
        longest = n > longest ? n : longest;
    }
    return 3 * longest * (size_t)a->model->max_len;
}

/* The tokenizer's end of a turn ends an answer too, where the model's own lists forgot it (a chat model made
 * of a base model), and so do the ends that are known by their text. */
static struct engine_info with_ends(const struct engine_info *model, const struct tokenizer *t)
{
    struct engine_info m = *model;
    const int most = (int)(sizeof m.eos / sizeof *m.eos);
    const int32_t id = tokenizer_eos(t);
    bool known = id < 0 || m.n_eos == most;
    for (int i = 0; i < m.n_eos; i++) known |= m.eos[i] == id;
    if (!known) m.eos[m.n_eos++] = id;
    m.n_eos = ends_add(t, m.eos, m.n_eos, most);
    return m;
}

int32_t api_eos_id(const struct app *a)
{
    const int32_t eos = tokenizer_eos(a->tokenizer);
    return eos >= 0 || a->model->n_eos == 0 ? eos : a->model->eos[0];
}

/* The model's own template says how calls are written, unless --tool-format does. */
static enum err probe_template(struct api *api, struct err_note *note)
{
    struct chat_prompt_env *chat = &api->env.chat;
    const enum config_tool_format format = api->app->config->tool_format;
    if (tool_probe(&chat->knows, chat->tmpl))
        return err_set(note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
    if (format != CONFIG_tool_format_auto) /* the other words are the table's, in its order */
        chat->knows.format = &tool_formats[format - CONFIG_tool_format_auto - 1];
    return OK;
}

static enum err open_constraints(struct api *api, struct err_note *note)
{
    static const enum grammar_space space[] = {[CONFIG_schema_whitespace_spaced] = GRAMMAR_SPACED,
                                               [CONFIG_schema_whitespace_compact] = GRAMMAR_COMPACT,
                                               [CONFIG_schema_whitespace_any] = GRAMMAR_ANY};
    const struct config *f = api->app->config;
    const struct constraint_conf conf = {
        .tokenizer = api->app->tokenizer,
        .eos = api->model.eos,
        .n_eos = api->model.n_eos,
        .n_vocab = api->model.n_vocab,
        .opts = {.space = space[f->schema_whitespace],
                 .format =
                     f->schema_format == CONFIG_schema_format_annotate ? GRAMMAR_ANNOTATE : GRAMMAR_ENFORCE},
        .lim = {.text_bytes = (size_t)f->schema_bytes,
                .compile_bytes = (size_t)f->schema_compile_bytes,
                .compile_steps = (uint64_t)f->schema_compile_steps,
                .states = (uint32_t)f->schema_states,
                .alternatives = (uint32_t)f->schema_alternatives,
                .threads = (uint32_t)f->schema_readings,
                .run_bytes = (size_t)f->schema_run_bytes,
                .mask_bytes = (size_t)f->schema_mask_bytes,
                .mask_steps = (uint64_t)f->schema_mask_steps},
        .bytes_most = (size_t)f->schema_cache_bytes,
    };
    if (!api->constraints) api->constraints = constraints_new(&conf);
    return api->constraints ? OK : err_set(note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
}

/* White space around a mark is not always written. */
static size_t core(const char **p)
{
    size_t n = strlen(*p);
    while (n > 0 && isspace((unsigned char)**p)) ++*p, n--;
    while (n > 0 && isspace((unsigned char)(*p)[n - 1])) n--;
    return n;
}

/* Models that think have the close in their template, for the thoughts of earlier turns. */
static struct constraint_thought thought_of(const struct app *a, const struct tool_format *f)
{
    struct constraint_thought t = {.open = f->think_open, .close = f->think_close};
    t.n_open = core(&t.open);
    t.n_close = core(&t.close);
    if (!a->template_text || t.n_open == 0 || !memmem(a->template_text, a->n_template, t.close, t.n_close))
        t.n_close = 0;
    return t;
}

static const enum tool_strict tool_strict[] = {[CONFIG_tool_strict_request] = TOOL_STRICT_REQUEST,
                                               [CONFIG_tool_strict_always] = TOOL_STRICT_ALWAYS,
                                               [CONFIG_tool_strict_never] = TOOL_STRICT_NEVER};

static enum err open_env(struct api *api, struct err_note *note)
{
    const struct app *a = api->app;
    if (api->has_env) return OK;
    enum err e = chat_tokens_new(&api->chat_tokens, a->tokenizer, note);
    if (e) return e;
    api->model = with_ends(a->model, a->tokenizer);
    e = open_constraints(api, note);
    if (e) return e;
    api->env = (struct prep_env){
        .chat = {.tmpl = a->chat_template,
                 .tokenizer = a->tokenizer,
                 .tokens = api->chat_tokens,
                 .max_len = api->model.max_len,
                 .knows_developer =
                     a->template_text && memmem(a->template_text, a->n_template, "developer", 9),
                 .eos_id = api_eos_id(a),
                 .text_bytes_most = text_bytes_most(a)},
        .model = &api->model,
        .model_id = a->names.id,
        .gen_temperature = a->gen_temperature,
        .names = &a->names,
        .gen_top_p = a->gen_top_p,
        .gen_min_p = a->gen_min_p,
        .gen_repetition = a->gen_repetition_penalty,
        .gen_top_k = a->gen_top_k,
        .seed = a->config->seed,
        .choices_most = (int)a->config->queue_len,
        .limits = json_limits_default,
        .constraints = api->constraints,
        .tool_strict = tool_strict[a->config->tool_strict],
    };
    api->env.responses = api->responses;
    api->env.drop_system_lines = a->config->drop_system_lines;
    api->env.clamp_max_tokens = a->config->clamp_max_tokens == CONFIG_clamp_max_tokens_on;
    api->env.tokenize_bytes_most = (size_t)a->config->max_tokenize_bytes;
    api->env.detokenize_ids_most = (size_t)a->config->max_detokenize_ids;
    api->env.limits.bytes = (size_t)a->config->max_text_bytes;
    api->env.limits.bytes_with_ids = (size_t)a->config->max_body_bytes;
    api->env.limits.nodes = (size_t)limits_json_values(a->config);
    api->env.chat.rendered_bytes_most = (size_t)limits_chat_prompt_bytes(a->config);
    e = probe_template(api, note);
    if (!e) api->env.thought = thought_of(a, api->env.chat.knows.format);
    api->has_env = !e;
    return e;
}

/* --- jobs --- */

static struct job *job_of(struct lane_job *l) { return LIST_ITEM(l, struct job, lane); }

static void work(struct lane_job *l)
{
    struct job *j = job_of(l);
    struct prep_call call = {.endpoint = j->endpoint, .key_id = j->key_id, .route = j->route};
    call.body = http_body_text(j->body, &call.n);
    j->failed = prep_run_for(&j->ask, &j->api->env, &call, &j->note);
}

static void job_free(struct job *j)
{
    ask_free(j->ask);
    http_body_free(j->body);
    list_remove(&j->node);
    j->api->stats.preps_open--;
    j->api->live--;
    free(j->route);
    free(j);
}

/* --- long answers of /tokenize and /detokenize, which hold their ids while a client reads --- */

struct long_answer {
    struct api *api;
    struct text_answer *text;
    struct answer_hold hold;
};

static bool long_answer_next(void *arg, struct strbuf *out)
{
    return text_answer_next(((struct long_answer *)arg)->text, out);
}

static void long_answer_free(void *arg)
{
    struct long_answer *a = arg;
    answer_room_give(&a->api->room, &a->hold);
    text_answer_free(a->text);
    free(a);
}

static void answer_long(struct job *j)
{
    struct api *api = j->api;
    struct long_answer *a = calloc(1, sizeof *a);
    enum err e =
        a ? answer_room_set(&api->room, &a->hold, j->lane.client, text_answer_bytes(j->ask->rest), &j->note)
          : err_set(&j->note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
    if (e) {
        free(a);
        api_refuse(api, j->call, j->endpoint, &j->note);
        return;
    }
    a->api = api;
    a->text = j->ask->rest;
    j->ask->rest = NULL;
    const struct http_source source = {.begin = j->ask->answer.data,
                                       .n_begin = j->ask->answer.len,
                                       .next = long_answer_next,
                                       .free = long_answer_free,
                                       .arg = a};
    api_count(&api->stats, j->endpoint, 200);
    http_reply_source(j->call, "application/json", &source);
}

static void answer_job(struct job *j)
{
    struct api *api = j->api;
    struct http_call *call = j->call;
    if (j->failed) {
        api_refuse(api, call, j->endpoint, &j->note);
    } else if (j->ask->rest) {
        answer_long(j);
    } else if (j->ask->answer.len > 0) {
        api_count(&api->stats, j->endpoint, 200);
        http_reply(call, 200, "application/json", j->ask->answer.data, j->ask->answer.len, NULL);
    } else {
        struct ask *ask = j->ask;
        j->ask = NULL;
        gen_start(api, call, ask, j->lane.client, j->start_ns);
    }
}

static void after_work(struct lane_job *l, bool ran)
{
    struct job *j = job_of(l);
    if (!ran) /* taken back before a worker saw it */
        j->failed = err_set(&j->note, ERR_CANCELLED, NULL, "%s", err_text(ERR_CANCELLED));
    if (j->call) answer_job(j);
    job_free(j);
}

static void on_gone(void *arg)
{
    struct job *j = arg;
    api_count(&j->api->stats, j->endpoint, 499);
    http_finish_gone(j->call);
    j->call = NULL;
    lanes_drop(&j->lane); /* when a worker has it already, its result is dropped */
}

static struct job *job_new(struct api *api, struct http_call *c, enum api_endpoint endpoint)
{
    struct job *j = calloc(1, sizeof *j);
    if (!j) return NULL;
    const char *route = http_header(c, PARAMS_ROUTE_HEADER);
    j->route = route ? strdup(route) : NULL;
    j->body = route && !j->route ? NULL : http_body_take(c);
    if (!j->body) {
        free(j->route);
        free(j);
        return NULL;
    }
    j->api = api;
    j->call = c;
    j->endpoint = endpoint;
    j->key_id = api_key_id(c);
    j->start_ns = clock_ns();
    size_t n_body;
    http_body_text(j->body, &n_body);
    j->lane = (struct lane_job){
        .bytes = n_body, .client = http_body_owner(j->body), .run = work, .done = after_work};
    list_push_back(&api->jobs, &j->node);
    api->live++;
    api->stats.preps_open++;
    return j;
}

void api_take(struct http_call *c, struct app *a, enum api_endpoint endpoint)
{
    struct api *api = a->api;
    struct err_note note = {0};
    enum err e = a->state == APP_LOADING ? ERR_LOADING : a->state == APP_DRAINING ? ERR_DRAINING : OK;
    if (e)
        err_set(&note, e, NULL, "%s", err_text(e));
    else
        e = open_env(api, &note);
    struct job *j = e ? NULL : job_new(api, c, endpoint);
    if (!e && !j) e = err_set(&note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
    if (e) {
        api_refuse(api, c, endpoint, &note);
        return;
    }
    http_set_gone(c, on_gone, j);
    lanes_add(&api->lanes, &j->lane);
}
