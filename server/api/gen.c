/* gen: the life of a generation. See gen.h; what is said to the client is gen_tell.c's. */
#include "server/api/account.h"
#include "server/api/gen.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "server/api/gen_internal.h"

enum {
    NEW_LEAST_TOK = 16, /* an answer of unnamed length is not made shorter than this to fit the pool */
    PIECE_BYTES = 16384 /* of a long answer */
};

/* What each endpoint is called in the log, how its ids begin, and who writes its answers. */
static const struct {
    const char *name, *prefix;
    const struct gen_writer *writer;
} row_of[API_N_ENDPOINT] = {
#define ENDPOINT(id, path, name, prefix, fields, work, writer, ...)                                          \
    [API_##id] = {name, prefix, &gen_writer_##writer},
#define VIEW(...)
#include "server/api/endpoints.def"
#undef ENDPOINT
#undef VIEW
};

static void settle(struct gen *g);

static struct scheduler *scheduler_of(const struct gen *g) { return g->api->app->scheduler; }

/* What an answer may hold uncounted: as much as a stream, so the connections are the bound. */
static size_t small_bytes(const struct gen *g) { return (size_t)g->api->app->config->stream_buffer_bytes; }

/* --- the end */

static void log_gen(const struct gen *g)
{
    int64_t n_prompt = 0, n_answer = 0, full = 0;
    const char *finish = "none";
    for (int i = 0; i < g->n_choice; i++) {
        const struct choice *c = &g->choice[i];
        n_prompt += i % g->ask->n_per_prompt ? 0 : c->r->ask.n_prompt;
        n_answer += c->n_token;
        full += c->r->shared.use.full_layers;
        finish = c->finish ? c->finish : c->failed ? err_code(c->failed) : finish;
    }
    log_line(
        LOG_INFO, "generation",
        "id=%s request=%s endpoint=%s status=%d prompt_tok=%lld answer_tok=%lld choices=%d ttft_ms=%.1f total_ms=%.1f "
        "full_layers=%.1f finish=%s%s%s%s",
        g->id, g->request_id, row_of[g->ask->endpoint].name, g->status, (long long)n_prompt,
        (long long)n_answer, g->n_choice, g->first_ns ? (double)(g->first_ns - g->start_ns) * 1e-6 : -1.0,
        clock_ms_since(g->start_ns), (double)full / g->n_choice, finish, g->account ? " key=\"" : "",
        g->account ? account_name(g->account) : "", g->account ? "\"" : "");
}

static void gen_free(struct gen *g)
{
    answer_room_give(&g->api->room, &g->hold);
    if (g->writer->close) g->writer->close(g);
    for (int i = 0; i < g->n_choice; i++) choice_fini(&g->choice[i]);
    free(g->choice);
    ask_free(g->ask);
    http_account_drop(g->account);
    free(g);
}

/* All is said and the scheduler has nothing of it: what is left is an answer that a client reads, or nothing.
 */
static void gen_end(struct gen *g)
{
    log_gen(g);
    if (g->entered) account_leave(g->account);
    list_remove(&g->node);
    g->api->live--;
    g->ended = true;
    if (!g->read) gen_free(g);
}

static void cancel_all(struct gen *g)
{
    for (int i = 0; i < g->n_choice; i++)
        if (g->choice[i].pending) scheduler_cancel(scheduler_of(g), g->choice[i].r);
}

/* The answer is complete, or will never be: the call is let go, once. */
static void call_over(struct gen *g, int status)
{
    CHECK(!g->over);
    g->over = true;
    g->call = NULL;
    g->status = status;
    if (g->streaming) g->api->stats.streams_open--;
    api_count(&g->api->stats, g->ask->endpoint, status);
}

static void fail(struct gen *g, const struct err_note *note)
{
    struct http_call *call = g->call;
    if (g->streaming) {
        const bool told = g->writer->error(g, note);
        g->api->stats.stream_errors++;
        call_over(g, 200);
        if (told)
            http_stream_end(call);
        else
            http_stream_cut(call);
    } else {
        call_over(g, err_status(note->code));
        http_reply_error(call, note,
                         note->code == ERR_KEY_LIMIT ? account_retry_s(g->account)
                                                     : api_retry_after_s(g->api, note->code));
    }
    cancel_all(g);
}

static void fail_code(struct gen *g, enum err e)
{
    struct err_note note;
    err_set(&note, e, NULL, "%s", err_text(e));
    fail(g, &note);
}

/* --- the head of a stream: sent with the first news, or where these are late, in place of the first ping.
 * Until then a refusal has its own status, which clients retry. */

static void begin_stream(struct gen *g)
{
    g->streaming = true;
    g->api->stats.streams_open++;
    http_stream_begin(g->call);
    if (g->writer->begin && !g->writer->begin(g)) fail_code(g, ERR_NOMEM);
}

static void on_late(void *arg)
{
    struct gen *g = arg;
    begin_stream(g);
    settle(g);
}

static void begin_if_due(struct gen *g)
{
    if (g->ask->stream && !g->streaming) begin_stream(g);
}

/* --- a long answer is written while its client reads it */

static bool next_piece(void *arg, struct strbuf *out)
{
    struct gen *g = arg;
    return g->writer->next(g, out, out->len + PIECE_BYTES);
}

static void after_reading(void *arg)
{
    struct gen *g = arg;
    g->read = false;
    if (g->ended) gen_free(g);
}

static void succeed(struct gen *g)
{
    struct http_call *call = g->call;
    begin_if_due(g);
    if (g->over) return;
    if (g->streaming) {
        if (!g->writer->end(g)) {
            fail_code(g, ERR_NOMEM);
            return;
        }
        call_over(g, 200);
        http_stream_end(call);
        return;
    }
    struct strbuf body;
    strbuf_init(&body);
    const bool more = g->writer->next(g, &body, small_bytes(g));
    if (strbuf_failed(&body)) {
        fail_code(g, ERR_NOMEM);
    } else if (!more) {
        call_over(g, 200);
        http_reply(call, 200, "application/json", body.data, body.len, NULL);
    } else {
        const struct http_source rest = {
            .begin = body.data, .n_begin = body.len, .next = next_piece, .free = after_reading, .arg = g};
        g->read = true;
        call_over(g, 200);
        http_reply_source(call, "application/json", &rest);
    }
    strbuf_fini(&body);
}

/* After anything happened: ends what can be ended. g may be freed by it. */
static void settle(struct gen *g)
{
    if (!g->over && g->n_growing == 0 && !g->paused) succeed(g);
    if (g->over && g->n_pending == 0) gen_end(g);
}

/* --- events */

static void take_event(struct gen *g, struct choice *c, const struct event *e)
{
    if (e->kind == EVENT_DONE) {
        c->pending = false;
        g->n_pending--;
    } else if (!g->first_ns) {
        g->first_ns = clock_ns();
    }
    const int before = c->n_token;
    if (choice_take(c, e)) scheduler_cancel(scheduler_of(g), c->r);
    account_answered(g->account, c->n_token - before);
    if (e->kind != EVENT_DONE) return;
    scheduler_count_end(scheduler_of(g), c->end);
    g->n_growing--;
}

/* What c holds by now. Its events are few, so it can be counted once it is there. */
static enum err count_bytes(struct gen *g, struct choice *c, struct err_note *note)
{
    const size_t n = choice_bytes(c);
    g->bytes += n - c->counted;
    c->counted = n;
    return answer_room_set(&g->api->room, &g->hold, g->client, g->bytes > small_bytes(g) ? g->bytes : 0,
                           note);
}

/* The scores of its prompts, which are there from the beginning. */
static enum err count_scores(struct gen *g, struct err_note *note)
{
    for (int i = 0; i < g->n_choice; i++)
        if (g->choice[i].r->ask.prompt_out)
            g->bytes += (size_t)g->choice[i].r->ask.n_prompt * sizeof *g->choice[i].r->ask.prompt_out;
    return answer_room_set(&g->api->room, &g->hold, g->client, g->bytes > small_bytes(g) ? g->bytes : 0,
                           note);
}

/* Reads what there is of one choice, and tells it. */
static void pump(struct gen *g, struct choice *c)
{
    struct event e;
    int n = 0;
    if (!g->over && g->streaming && http_stream_full(g->call)) g->paused = true;
    if (g->paused || (!c->pending && !c->untold)) return;
    for (; c->pending && request_next_event(c->r, &e); n++) take_event(g, c, &e);
    if (n >= EVENT_RING - 1) scheduler_resume(scheduler_of(g)); /* the ring was full */
    if (g->over) return;
    struct err_note full;
    if (g->cancelled && c->failed == ERR_CANCELLED) {
        c->failed = OK;
        c->finish = "cancelled";
    }
    const bool tells = !c->failed && (n > 0 || c->untold) && (!c->ending || !c->pending);
    if (tells) begin_if_due(g);
    if (g->over) return;
    if (c->failed)
        fail_code(g, c->failed);
    else if (g->streaming && tells && !g->writer->news(g, c))
        fail_code(g, ERR_NOMEM);
    else if (count_bytes(g, c, &full))
        fail(g, &full);
}

static void pump_all(struct gen *g)
{
    for (int i = 0; i < g->n_choice; i++) pump(g, &g->choice[i]);
}

void gen_events(struct request *r)
{
    struct gen *g = r->ask.owner;
    int i = 0;
    while (g->choice[i].r != r) i++;
    pump(g, &g->choice[i]);
    settle(g);
}

static void on_room(void *arg)
{
    struct gen *g = arg;
    if (g->over) return;
    g->paused = false;
    pump_all(g);
    scheduler_resume(scheduler_of(g));
    settle(g);
}

static void on_gone(void *arg)
{
    struct gen *g = arg;
    struct http_call *call = g->call;
    CHECK(!g->over);
    call_over(g, 499);
    http_finish_gone(call);
    cancel_all(g);
    g->paused = false;
    pump_all(g);
    settle(g);
}

/* --- by id */

struct gen *gen_find(struct api *api, uint32_t key_id, const char *id)
{
    LIST_EACH (it, &api->gens) {
        struct gen *g = LIST_ITEM(it, struct gen, node);
        if (!g->over && g->writer->now && g->ask->key_id == key_id && !strcmp(g->id, id)) return g;
    }
    return NULL;
}

bool gen_stored(const struct gen *g) { return g->ask->response->store; }

bool gen_now(struct gen *g, struct strbuf *out) { return g->writer->now(g, out); }

void gen_forget(struct gen *g)
{
    g->ask->response->store = false;
    gen_cancel(g);
}

void gen_cancel(struct gen *g)
{
    g->cancelled = true;
    cancel_all(g);
}

/* --- the start */

/* An answer of unnamed length may be as long as the context. Where the pool is smaller than that, it gets
 * what fits. */
static enum err submit(struct gen *g, struct request *r, struct err_note *note)
{
    enum err e = scheduler_submit(scheduler_of(g), r, note);
    while (e == ERR_KV_CAPACITY && !r->ask.max_new_given && r->ask.max_new / 2 >= NEW_LEAST_TOK &&
           r->ask.max_new / 2 >= r->ask.min_new) {
        r->ask.max_new /= 2;
        e = scheduler_submit(scheduler_of(g), r, note);
    }
    return e;
}

static enum err submit_all(struct gen *g, struct err_note *note)
{
    for (int i = 0; i < g->n_choice; i++) {
        struct choice *c = &g->choice[i];
        c->r->ask.id = ++g->api->next_request;
        c->r->ask.owner = g;
        c->r->ask.key_id = g->ask->key_id;
        const enum err e = submit(g, c->r, note);
        if (e) return e;
        c->pending = true;
        g->n_pending++;
    }
    for (int i = 0; i < g->ask->n_prompt; i++)
        sched_hist_count(&g->api->stats.n_choice, g->ask->n_per_prompt);
    return OK;
}

static struct gen *gen_new(struct api *api, struct http_call *call, struct ask *ask, int64_t start_ns)
{
    struct gen *g = calloc(1, sizeof *g);
    if (!g) return NULL;
    g->n_choice = g->n_growing = ask_n_choice(ask);
    g->choice = calloc((size_t)g->n_choice, sizeof *g->choice);
    if (!g->choice) {
        free(g);
        return NULL;
    }
    g->api = api;
    g->call = call;
    g->ask = ask;
    g->writer = row_of[ask->endpoint].writer;
    g->start_ns = start_ns;
    g->created = clock_wall_s();
    g->account = http_account_hold(http_account(call));
    for (int i = 0; i < g->n_choice; i++) choice_init(&g->choice[i], ask, api->env.chat.tokenizer, i);
    const char *own = http_request_id(call), *dash = strchr(own, '_');
    snprintf(g->request_id, sizeof g->request_id, "%s", own);
    snprintf(g->id, sizeof g->id, "%s%s", row_of[ask->endpoint].prefix,
             *ask->id ? ask->id
             : dash   ? dash + 1
                      : own);
    list_push_back(&api->gens, &g->node);
    api->live++;
    return g;
}

static enum err enter(struct gen *g, struct err_note *note)
{
    int64_t n_prompt = 0;
    for (int i = 0; i < g->ask->n_prompt; i++) n_prompt += g->ask->prompt[i].n;
    const enum err e = account_enter(g->account, clock_ns(), n_prompt, note);
    g->entered = !e;
    return e;
}

static enum err ask_opened(struct gen *g, struct err_note *note)
{
    g->api->stats.system_lines_dropped += (uint64_t)g->ask->n_dropped_lines;
    if (!g->writer->open || g->writer->open(g)) return OK;
    return err_set(note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
}

void gen_start(struct api *api, struct http_call *call, struct ask *ask, uint64_t client, int64_t start_ns)
{
    struct err_note note;
    struct gen *g = gen_new(api, call, ask, start_ns);
    if (!g) {
        err_set(&note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
        api_refuse(api, call, ask->endpoint, &note);
        ask_free(ask);
        return;
    }
    g->client = client;
    enum err e = enter(g, &note);
    if (!e) e = count_scores(g, &note);
    if (!e) e = ask_opened(g, &note);
    if (!e) e = submit_all(g, &note);
    if (e) {
        fail(g, &note);
        settle(g);
        return;
    }
    http_set_gone(call, on_gone, g);
    if (!ask->stream) return;
    http_stream_on_room(call, on_room, g);
    http_stream_await(call, on_late, g);
}
