/* main: the process. Reads the settings, opens the door, loads the model in the engine thread, ends in order.
 *
 * The loop thread owns everything here but what stands under "engine thread", and the two meet in `stage` and
 * one uv_async. The door is open before the model is loaded: /health answers, all else says 503 until the
 * engine thread publishes. */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/engine.h"
#include "server/text/assets.h"
#include "server/text/hf_folder.h"
#include "server/api/api.h"
#include "server/check_health.h"
#include "server/config.h"
#include "server/api/lanes.h"
#include "server/key_file.h"
#include "server/notify.h"
#include "server/pace.h"
#include "server/process.h"
#include "server/loopmemory.h"
#include "server/sampling.h"
#include "server/api/routes.h"
#include "server/http/place.h"
#include "server/jinja/jinja.h"
#include "server/text/tokenizer.h"
#include "server/version.h"
#include "server/watch.h"
#include "server/workers.h"

/* jemalloc: few arenas (none apart for large blocks, which a long body would fault in again for each of its
 * copies) and small thread caches keep resident memory near what is used; freed pages go back to the kernel
 * within a second, by a thread that sleeps while there is nothing to give. */
extern const char *malloc_conf;
const char *malloc_conf =
    "narenas:4,oversize_threshold:0,lg_tcache_max:13,dirty_decay_ms:1000,muzzy_decay_ms:0,background_thread:true,max_background_threads:1";

/* Its messages would go to standard error past the log, and could block there. All are about threads that it
 * does without, or end in an abort. */
static void allocator_says(void *arg, const char *what)
{
    (void)arg;
    log_line(LOG_DEBUG, "allocator", "says=\"%s\"", what);
}
extern void (*malloc_message)(void *, const char *);
void (*malloc_message)(void *, const char *) = allocator_says;

enum { EXIT_OK = 0, EXIT_CONFIG = 2, EXIT_MODEL = 3, EXIT_SOCKET = 4, EXIT_INTERNAL = 70 };

enum {
    TICK_MS = 20,         /* how often the end looks whether the last answers are out */
    LAST_WORDS_MS = 1000, /* for error frames to reach slow clients at the end */
    FILES_LEAST = 24,   /* descriptors: 9 of the loop and the door, the model's, and some for connections and
                           what is opened for a moment */
    LAST_LINE_MS = 500, /* for room on standard error, for the last line */
    PATIENCE_MS = 1400, /* for the engine to come to the end of its step; then clients are told without it */
    END_MS = 1700       /* from "end now" to the end, whatever hangs */
};

enum stage { STAGE_LOADING, STAGE_LOADED, STAGE_FAILED, STAGE_STOPPED };

struct server {
    struct app app;
    struct config config;
    uv_loop_t loop;
    uv_signal_t term, interrupt, hangup;
    uv_async_t wake, staged; /* events are there; stage has changed */
    uv_timer_t tick, pulse;
    struct watch watch;
    struct pace pace;
    struct notify notify;
    int exit_code;
    bool failed; /* note says why, and that is said last */
    bool ending; /* "end now" was said */
    bool closing;
    int64_t draining_ns, ending_ns;

    pthread_t thread;
    _Atomic(enum stage) stage;
    atomic_bool stop; /* loading must end */
    sem_t may_close;  /* the loop has read every event */

    /* engine thread; the loop reads them once the stage says so */
    struct engine *engine;
    struct text_assets *assets;
    struct scheduler *scheduler;
    struct tokenizer *tokenizer;
    struct tmpl *chat_template;
    char *template_text; /* of --chat-template */
    size_t n_template;
    enum err result;
    struct err_note note;
    int64_t told_ns; /* last progress line */
};

/* --- engine thread */

static void on_progress(void *arg, const char *what, double share)
{
    struct server *s = arg;
    if (s->told_ns && clock_ns() - s->told_ns < 500000000 && share < 1) return;
    s->told_ns = clock_ns();
    log_line(LOG_INFO, "loading", "what=\"%s\" done_percent=%.0f", what, share * 100);
}

static void on_wake(void *arg) { uv_async_send(&((struct server *)arg)->wake); }

static enum err check_shape(void *arg, const struct engine_info *shape, struct err_note *note);

static enum err open_engine(struct server *s)
{
    static const enum engine_dtype dtype[] = {[CONFIG_dtype_auto] = ENGINE_DTYPE_AUTO,
                                              [CONFIG_dtype_bf16] = ENGINE_DTYPE_BF16,
                                              [CONFIG_dtype_f32] = ENGINE_DTYPE_F32};
    static const enum engine_kv kv[] = {[CONFIG_kv_cache_dtype_auto] = ENGINE_KV_AUTO,
                                        [CONFIG_kv_cache_dtype_bf16] = ENGINE_KV_BF16,
                                        [CONFIG_kv_cache_dtype_fp8_e4m3] = ENGINE_KV_FP8};
    static const enum engine_device device[] = {[CONFIG_device_auto] = ENGINE_DEVICE_AUTO,
                                                [CONFIG_device_cuda] = ENGINE_DEVICE_CUDA,
                                                [CONFIG_device_cpu] = ENGINE_DEVICE_CPU};
    static const enum engine_quantization quantization[] = {[CONFIG_quantization_none] = ENGINE_AS_STORED,
                                                            [CONFIG_quantization_fp8] = ENGINE_FP8,
                                                            [CONFIG_quantization_int4] = ENGINE_INT4};
    static const int sparse_kind[] = {[CONFIG_sparse_kind_auto] = -1,
                                      [CONFIG_sparse_kind_streaming] = ATTN_STREAMING,
                                      [CONFIG_sparse_kind_triangle] = ATTN_TRIANGLE,
                                      [CONFIG_sparse_kind_xattn] = ATTN_LIST},
                     full_kind[] = {[CONFIG_retrieval_mode_auto] = -1,
                                    [CONFIG_retrieval_mode_full] = ATTN_FULL,
                                    [CONFIG_retrieval_mode_xattn] = ATTN_LIST};
    const struct config *c = &s->config;
    struct engine_conf conf = {
        .model = c->model,
        .router = *c->router ? c->router : NULL,
        .dtype = dtype[c->dtype],
        .kv = kv[c->kv_cache_dtype],
        .device = device[c->device],
        .device_index = (int)c->device_index,
        .quantization = quantization[c->quantization],
        .head_fp8 = c->lm_head_dtype == CONFIG_lm_head_dtype_fp8,
        .dummy = c->load_format == CONFIG_load_format_dummy,
        .n_thread = (int)c->threads,
        .max_model_len = (int)c->max_model_len,
        .max_seqs = (int)c->max_num_seqs,
        .max_prefill_tok = (int)c->max_model_len,
        .chunk_tok = (int)c->prefill_chunk_tokens,
        .kv_pool_bytes = c->kv_pool_bytes,
        .gpu_memory_utilization = c->gpu_memory_utilization,
        .sparse_kind = sparse_kind[c->sparse_kind],
        .retrieval_kind = full_kind[c->retrieval_mode],
        .layer_plan = *c->layer_plan ? c->layer_plan : NULL,
        .sink_size = (int)c->sink_size,
        .local_window_size = (int)c->local_window_size,
        .triangle_n_last = (int)c->triangle_n_last,
        .router_pool_size = (int)c->router_pool_size,
        .check = check_shape,
        .check_arg = s,
        .progress = on_progress,
        .progress_arg = s,
        .stop = &s->stop,
    };
    return engine_open(&s->engine, &conf, &s->note);
}

static enum err open_tokenizer(struct server *s, int n_vocab)
{
    const struct text_assets *t = s->assets;
    if (t->n_piece > n_vocab)
        return err_set(&s->note, ERR_MODEL_FILE, t->file, "%s: %d tokens, but the model has only %d", t->file,
                       t->n_piece, n_vocab);
    const struct tokenizer_src src = text_assets_vocabulary(t);
    return tokenizer_new(&s->tokenizer, &src, &s->note);
}

static enum err template_from_file(struct server *s)
{
    const char *path = s->config.chat_template;
    FILE *f = fopen(path, "re");
    if (!f)
        return err_set(&s->note, ERR_CONFIG, "--chat-template", "cannot open %.150s: %s", path,
                       strerror(errno));
    char *text = malloc(TMPL_MAX_SOURCE_BYTES + 1);
    size_t n = text ? fread(text, 1, TMPL_MAX_SOURCE_BYTES + 1, f) : 0;
    bool bad = !text || ferror(f) != 0 || n > TMPL_MAX_SOURCE_BYTES;
    enum err e = bad ? err_set(&s->note, ERR_CONFIG, "--chat-template",
                               "%.150s is not a file of at most %d bytes", path, TMPL_MAX_SOURCE_BYTES)
                     : tmpl_compile(&s->chat_template, text, n, &s->note);
    fclose(f);
    s->template_text = text;
    s->n_template = n;
    if (!e && !tmpl_mentions(s->chat_template, "messages"))
        return err_set(&s->note, ERR_CONFIG, "--chat-template",
                       "%.150s is no chat template: it never reads messages", path);
    if (e != ERR_MODEL_FILE) return e;
    const struct err_note why = s->note; /* the operator named this file */
    return err_set(&s->note, ERR_CONFIG, "--chat-template", "%.100s: %s", path, why.text);
}

static enum err open_template(struct server *s)
{
    if (*s->config.chat_template) return template_from_file(s);
    if (!s->assets->chat_template) return OK;
    enum err e =
        tmpl_compile(&s->chat_template, s->assets->chat_template, s->assets->chat_template_len, &s->note);
    const struct err_note why = s->note;
    return e == ERR_MODEL_FILE ? err_set(&s->note, e, s->assets->template_file, "%.150s: chat template: %s",
                                         s->assets->template_file, why.text)
                               : e;
}

static struct scheduler_conf scheduler_conf_of(struct server *s)
{
    static const enum route_policy policy[] = {[CONFIG_route_policy_none] = ROUTE_POLICY_NONE,
                                               [CONFIG_route_policy_order] = ROUTE_POLICY_ORDER,
                                               [CONFIG_route_policy_balance] = ROUTE_POLICY_BALANCE};
    const struct config *c = &s->config;
    return (struct scheduler_conf){
        .queue_len = (int)c->queue_len,
        .chunk_tok = (int)c->prefill_chunk_tokens,
        .default_max_tok = (int)c->default_max_tokens,
        .itl_target_ms = c->itl_target_ms,
        .itl_stretch = c->itl_stretch,
        .itl_burst_ms = c->itl_burst_ms,
        .swap_bytes = c->swap_space_bytes,
        .prefix_bytes = c->prefix_cache_bytes,
        .route_pin = c->route_reuse == CONFIG_route_reuse_pin,
        .route_policy = policy[c->route_policy],
        .route_bias_max = c->route_bias_max,
        .priority_aging_ms = c->priority_aging_ms,
        .queue_timeout_ms = c->queue_timeout_ms,
        .first_token_timeout_ms = c->first_token_timeout_ms,
        .progress_timeout_ms = c->progress_timeout_ms,
        .request_timeout_ms = c->request_timeout_ms,
        .route = c->route,
        .wake = on_wake,
        .wake_arg = s,
    };
}

/* All that can be refused is refused before the weights are read, which may take minutes. */
static enum err check_shape(void *arg, const struct engine_info *shape, struct err_note *note)
{
    struct server *s = arg;
    const struct scheduler_conf conf = scheduler_conf_of(s);
    enum err e = scheduler_check(&conf, shape, note);
    if (!e) e = text_assets_open(&s->assets, s->config.model, note);
    if (!e) e = open_tokenizer(s, shape->n_vocab);
    return e ? e : open_template(s);
}

static enum err load(struct server *s)
{
    const struct scheduler_conf conf = scheduler_conf_of(s);
    enum err e = open_engine(s);
    if (!e) e = scheduler_open(&s->scheduler, &conf, s->engine, &s->note);
    if (!e && atomic_load(&s->stop))
        e = err_set(&s->note, ERR_CANCELLED, NULL, "%s", err_text(ERR_CANCELLED));
    return e;
}

static void set_stage(struct server *s, enum stage stage)
{
    atomic_store(&s->stage, stage);
    uv_async_send(&s->staged);
}

/* The scheduler outlives its run until the loop has read the last event from it. */
static void *engine_thread(void *arg)
{
    struct server *s = arg;
    pace_name_thread();
    s->result = load(s);
    if (s->result) {
        set_stage(s, STAGE_FAILED);
    } else {
        set_stage(s, STAGE_LOADED);
        s->result = scheduler_run(s->scheduler);
        set_stage(s, STAGE_STOPPED);
    }
    while (sem_wait(&s->may_close) != 0) continue;
    scheduler_close(s->scheduler);
    engine_close(s->engine);
    return NULL;
}

static int start_engine_thread(struct server *s)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the loop's */
    int failed = pthread_create(&s->thread, NULL, engine_thread, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

/* --- the end */

static void close_handle(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle)) uv_close(handle, NULL);
}

/* The device may hang where it is lost: then the process ends without asking it. */
static void on_http_closed(void *arg)
{
    struct server *s = arg;
    s->app.http = NULL;
    sem_post(&s->may_close);
    if (s->result == ERR_DEVICE && !s->failed) /* what failed to open says so after this */
        _exit(EXIT_INTERNAL);
    pthread_join(s->thread, NULL);
    uv_walk(&s->loop, close_handle, NULL);
}

static void close_http(struct server *s)
{
    if (s->closing) return;
    s->closing = true;
    uv_timer_stop(&s->tick);
    http_close(s->app.http, on_http_closed, s);
}

static void on_tick(uv_timer_t *t);

/* All requests end at once, with an error frame where a stream runs; then what was said is sent, and the door
 * closes.
 */
static void end_now(struct server *s, enum err why)
{
    if (s->ending) return;
    s->ending = true;
    s->ending_ns = clock_ns();
    s->app.state = APP_DRAINING;
    notify_stopping(&s->notify);
    atomic_store(&s->stop, true);
    if (s->app.scheduler && atomic_load(&s->stage) == STAGE_LOADED) scheduler_stop(s->app.scheduler, why);
    uv_timer_start(&s->tick, on_tick, 0, TICK_MS);
}

/* By the clock of the process: while it stands still, nobody's time runs out. */
static void drain(struct server *s, bool quiet)
{
    const bool late = clock_ms_since(s->draining_ns) >= (double)s->config.drain_timeout_ms;
    if (late && !quiet) log_line(LOG_WARN, "drain deadline", "calls=%d", http_calls(s->app.http));
    if (late || quiet) end_now(s, ERR_DRAINING);
}

static void on_tick(uv_timer_t *t)
{
    struct server *s = t->data;
    bool quiet = http_calls(s->app.http) == 0 && api_live(&s->app) == 0;
    if (!s->ending) {
        drain(s, quiet);
        return;
    }
    double ms = clock_ms_since(s->ending_ns);
    bool stopped = atomic_load(&s->stage) == STAGE_STOPPED || atomic_load(&s->stage) == STAGE_FAILED;
    if (stopped && quiet && (http_answering(s->app.http) == 0 || ms > LAST_WORDS_MS)) {
        close_http(s);
        return;
    }
    if (ms > PATIENCE_MS) {
        struct err_note note;
        enum err why = s->exit_code ? ERR_DEVICE : ERR_DRAINING;
        err_set(&note, why, NULL, "%s", err_text(why));
        http_end_calls(s->app.http, &note);
    }
    if (ms < END_MS) return;
    log_wait(STDERR_FILENO, LAST_LINE_MS);
    log_line(LOG_WARN, "ended without waiting", "calls=%d engine_stopped=%s", http_calls(s->app.http),
             stopped ? "yes" : "no");
    _exit(s->exit_code);
}

static double engine_share(void *arg, int64_t now_ns)
{
    return pace_look(&((struct server *)arg)->pace, now_ns);
}

/* A step that never ends: the device hangs, and nothing that waits for it will be answered. */
static void look_at_engine(struct server *s)
{
    if (s->ending || atomic_load(&s->stage) != STAGE_LOADED || !s->app.scheduler ||
        !s->config.step_timeout_ms)
        return;
    const int64_t beat = scheduler_beat_ns(scheduler_stats(s->app.scheduler));
    if (!watch_tick(&s->watch, (int64_t)uv_hrtime(), beat, engine_share, s)) return;
    log_line(LOG_ERROR, "the engine hangs", "step_ms=%.0f limit_ms=%lld", clock_ms_since(beat),
             (long long)s->config.step_timeout_ms);
    s->exit_code = EXIT_INTERNAL;
    end_now(s, ERR_DEVICE);
}

static void on_pulse(uv_timer_t *t)
{
    struct server *s = t->data;
    clock_pulse();
    look_at_engine(s);
    notify_feed(&s->notify,
                s->app.scheduler ? scheduler_beat_ns(scheduler_stats(s->app.scheduler)) : clock_ns(),
                clock_ns());
    log_tell_lost();
}

static void on_stop_signal(uv_signal_t *sig, int number)
{
    struct server *s = sig->data;
    bool second = s->app.state == APP_DRAINING;
    log_line(LOG_INFO, second ? "ending" : "draining", "signal=%d calls=%d", number, http_calls(s->app.http));
    if (second || s->app.state == APP_LOADING) {
        end_now(s, ERR_DRAINING);
        return;
    }
    s->app.state = APP_DRAINING;
    notify_stopping(&s->notify);
    s->draining_ns = clock_ns();
    scheduler_drain(s->app.scheduler);
    uv_timer_start(&s->tick, on_tick, 0, TICK_MS);
}

/* Keys are read again. What is wrong leaves those that there are. */
static void on_hangup(uv_signal_t *sig, int number)
{
    struct server *s = sig->data;
    struct key_list keys;
    struct err_note note;
    if (!*s->config.api_key_file || !s->app.http) {
        log_line(LOG_INFO, "signal ignored", "signal=%d", number);
        return;
    }
    enum err e = key_file_read(&keys, s->config.api_key_file, getenv("FLUXD_API_KEY"), &note);
    if (!e && !http_keys_set(s->app.http, &keys))
        e = err_set(&note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
    if (e)
        log_line(LOG_ERROR, "keys stay as they were", "error=\"%s\"", note.text);
    else
        log_line(LOG_INFO, "keys read again", "keys=%d", keys.n);
    key_list_free(&keys);
}

/* --- what the engine thread says */

static void on_events(uv_async_t *a) { api_poll(&((struct server *)a->data)->app); }

static int exit_code_of(enum err e)
{
    switch (e) {
    case OK:
    case ERR_CANCELLED:
        return EXIT_OK;
    case ERR_CONFIG:
        return EXIT_CONFIG;
    case ERR_IO: /* nothing but the model is read while loading */
    case ERR_MODEL_FILE:
        return EXIT_MODEL;
    default:
        return EXIT_INTERNAL;
    }
}

/* curl's words for the first of the addresses. */
static const char *curl_at(const struct config *c, int port, char out[PLACE_NAME_BYTES + 64])
{
    const char *list = c->host;
    struct place p;
    if (!place_next(&list, &p)) return "";
    const char *to = place_reach(&p);
    if (p.is_path)
        snprintf(out, PLACE_NAME_BYTES + 64, "--unix-socket %s http://localhost", to);
    else
        snprintf(out, PLACE_NAME_BYTES + 64, strchr(to, ':') ? "http://[%s]:%d" : "http://%s:%d", to, port);
    return out;
}

static void say_ready(struct server *s)
{
    char at[PLACE_NAME_BYTES + 64];
    const struct engine_info *m = s->app.model;
    log_line(LOG_INFO, "memory",
             "weights_mib=%.1f workspace_mib=%.1f kv_pool_mib=%.1f kv=%s kv_pages=%d resident_mib=%.1f",
             (double)m->weight_bytes / 1048576, (double)m->workspace_bytes / 1048576,
             (double)m->page_bytes * m->n_page / 1048576, m->kv, m->n_page,
             (double)process_resident_bytes() / 1048576);
    log_line(
        LOG_INFO, "ready",
        "model=\"%s\" family=%s device=\"%s\" weights=%s head=%s layers=%d context_tok=%d router=%s port=%d",
        s->app.names.id, m->family, m->device, m->weights, m->head_type, m->n_layer, m->max_len,
        m->has_router ? "yes" : "no", http_port(s->app.http));
    log_say(
        STDOUT_FILENO, "fluxd is ready: curl %s/v1/%s%s -H 'Content-Type: application/json' -d '%s'",
        curl_at(&s->config, http_port(s->app.http), at),
        s->chat_template ? "chat/completions" : "completions",
        s->config.keys.n ? " -H \"Authorization: Bearer $FLUXD_API_KEY\"" : "",
        s->chat_template
            ? "{\"messages\":[{\"role\":\"user\",\"content\":\"What is the capital of France?\"}],\"temperature\":0}"
            : "{\"prompt\":\"The capital of France is\",\"temperature\":0}");
}

static void publish(struct server *s)
{
    struct app *a = &s->app;
    a->scheduler = s->scheduler;
    a->model = scheduler_model(s->scheduler);
    a->tokenizer = s->tokenizer;
    a->chat_template = s->chat_template;
    a->template_text = s->template_text ? s->template_text : s->assets->chat_template;
    a->n_template = s->template_text ? s->n_template : s->assets->chat_template_len;
    sampling_settle(a, &s->config, s->assets);
    model_names_init(&a->names, s->config.served_model_name, s->config.model, a->model->name);
    s->config.max_model_len = a->model->max_len; /* what clients find in /v1/limits */
    if (!s->config.max_detokenize_ids) s->config.max_detokenize_ids = a->model->max_len;
    a->ready_wall_s = clock_wall_s();
    if (s->ending) {
        scheduler_stop(s->scheduler, ERR_DRAINING);
        return;
    }
    a->state = APP_READY;
    say_ready(s);
    notify_ready(&s->notify);
}

static void say_failure(const struct server *s)
{
    const char *param =
        strncmp(s->note.text, s->note.param, strlen(s->note.param)) ? s->note.param : ""; /* not twice */
    log_wait(STDERR_FILENO, LAST_LINE_MS);
    log_say(STDERR_FILENO, "fluxd: %s%s%s", param, *param ? ": " : "", s->note.text);
}

static void on_staged(uv_async_t *async)
{
    struct server *s = async->data;
    enum stage stage = atomic_load(&s->stage);
    if (stage >= STAGE_LOADED && stage != STAGE_FAILED && !s->app.scheduler) publish(s);
    if (stage == STAGE_LOADED || stage == STAGE_LOADING) return;
    api_poll(&s->app);
    if (!s->exit_code) /* else the watch has found it hanging, though it came back to its end */
        s->exit_code = exit_code_of(s->result);
    s->failed = stage == STAGE_FAILED && s->exit_code != EXIT_OK;
    if (stage == STAGE_STOPPED && s->result)
        log_line(LOG_ERROR, "the engine is lost", "error=%s", err_name(s->result));
    end_now(s, s->result ? s->result : ERR_DRAINING);
}

/* --- the start */

static bool init_handles(struct server *s)
{
    uv_timer_init(&s->loop, &s->tick);
    uv_timer_init(&s->loop, &s->pulse);
    const bool ok = uv_signal_init(&s->loop, &s->term) == 0 && uv_signal_init(&s->loop, &s->interrupt) == 0 &&
                    uv_signal_init(&s->loop, &s->hangup) == 0;
    s->wake.data = s->staged.data = s->tick.data = s->pulse.data = s->term.data = s->interrupt.data =
        s->hangup.data = s;
    return ok;
}

static enum err open_loop(struct server *s)
{
    notify_open(&s->notify, getenv("NOTIFY_SOCKET"), getenv("WATCHDOG_USEC"), getenv("WATCHDOG_PID"));
    if (!process_can_open(FILES_LEAST))
        return err_set(
            &s->note, ERR_INTERNAL, NULL,
            "%d files cannot be opened beside those that are: raise the limit of open files (ulimit -n)",
            FILES_LEAST);
    int failed = uv_loop_init(&s->loop);
    if (!failed) failed = uv_async_init(&s->loop, &s->wake, on_events);
    if (!failed) failed = uv_async_init(&s->loop, &s->staged, on_staged);
    if (failed)
        return err_set(&s->note, ERR_INTERNAL, NULL, "the event loop does not start: %s",
                       uv_strerror(failed));
    const bool has_signals = init_handles(s);
    watch_init(&s->watch, s->config.step_timeout_ms);
    pace_open(&s->pace);
    clock_pulse();
    const uint64_t tick_ms = (uint64_t)(s->watch.tick_ns / 1000000);
    if (!has_signals || uv_timer_start(&s->pulse, on_pulse, tick_ms, tick_ms) != 0 ||
        uv_signal_start(&s->term, on_stop_signal, SIGTERM) != 0 ||
        uv_signal_start(&s->interrupt, on_stop_signal, SIGINT) != 0 ||
        uv_signal_start(&s->hangup, on_hangup, SIGHUP) != 0)
        return err_set(&s->note, ERR_INTERNAL, NULL, "the event loop takes no signals");
    return workers_open(&s->loop, 1, &s->note); /* one more: the engine thread */
}

/* As many sockets as there are descriptors for, less what the rest of the process needs. A quarter at most
 * lingers. */
static void limit_sockets(struct config *c)
{
    enum { RESERVED = 32, FEWEST = 8 };
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 ||
        files.rlim_cur >= (rlim_t)c->max_connections + (rlim_t)c->max_lingering + RESERVED)
        return;
    const int64_t left = files.rlim_cur > RESERVED + FEWEST ? (int64_t)files.rlim_cur - RESERVED : FEWEST;
    const int64_t lingering = c->max_lingering < left / 4 ? c->max_lingering : left / 4;
    const int64_t most = c->max_connections < left - lingering ? c->max_connections : left - lingering;
    log_line(LOG_WARN, "fewer connections",
             "asked=%lld taken=%lld lingering=%lld reason=\"limit of open files\"",
             (long long)c->max_connections, (long long)most, (long long)lingering);
    c->max_connections = most; /* what clients find in /v1/limits */
    c->max_lingering = lingering;
}

static enum err open_http(struct server *s)
{
    const struct config *c = &s->config;
    limit_sockets(&s->config);
    struct http_conf conf = {
        .host = c->host,
        .port = (int)c->port,
        .socket_mode = place_mode(c->socket_mode),
        .max_connections = (int)c->max_connections,
        .max_lingering = (int)c->max_lingering,
        .max_header_fields = (int)c->max_header_fields,
        .max_header_bytes = (size_t)c->max_header_bytes,
        .max_body_bytes = (size_t)c->max_body_bytes,
        .max_bodies_bytes = (size_t)c->max_bodies_bytes,
        .client_bodies_bytes = (size_t)c->client_bodies_bytes,
        .small_body_bytes = (size_t)c->small_body_bytes,
        .header_ms = (int)c->header_timeout_ms,
        .body_ms = (int)c->body_timeout_ms,
        .idle_ms = (int)c->idle_timeout_ms,
        .write_stall_ms = (int)c->write_stall_ms,
        .ping_ms = (int)c->stream_ping_ms,
        .drain_bytes = (size_t)c->refused_body_bytes,
        .stream_buffer_bytes = (size_t)c->stream_buffer_bytes,
        .route = routes,
        .n_route = n_routes,
        .allowed_hosts = c->allowed_hosts,
        .cors_origins = c->cors_origins,
        .trusted_proxies = c->trusted_proxies,
        .keys = &c->keys,
        .scrape_open = c->metrics_open == CONFIG_metrics_open_on,
        .app = &s->app,
    };
    return http_open(&s->app.http, &s->loop, &conf, &s->note);
}

static int fail(struct server *s, int code)
{
    say_failure(s);
    return code;
}

static int serve(struct server *s)
{
    loopmemory_hold(EXIT_INTERNAL);
    process_settle();
    enum err e = lanes_size_pool((int)s->config.prep_threads)
                     ? open_loop(s)
                     : err_set(&s->note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
    s->app.loop = &s->loop;
    s->app.config = &s->config;
    s->app.started_wall_s = clock_wall_s();
    sem_init(&s->may_close, 0, 0);
    if (!e) e = api_open(&s->app);
    if (!e) e = open_http(s);
    if (e) return fail(s, e == ERR_IO ? EXIT_SOCKET : exit_code_of(e));
    log_line(LOG_INFO, "start", "version=%s host=%s port=%d model=\"%s\" keys=%d", FLUXD_VERSION,
             s->config.host, http_port(s->app.http), s->config.model, s->config.keys.n);
    if (!http_is_loopback(s->app.http) && s->config.keys.n == 0)
        log_line(LOG_WARN, "open to everyone",
                 "host=%s reason=\"no API key: every client that reaches this address may use it; "
                 "set FLUXD_API_KEY or --api-key-file\"",
                 s->config.host);
    if (start_engine_thread(s) != 0) {
        err_set(&s->note, ERR_NOMEM, NULL, "the engine thread does not start");
        return fail(s, EXIT_INTERNAL);
    }
    uv_run(&s->loop, UV_RUN_DEFAULT);
    uv_loop_close(&s->loop);
    notify_close(&s->notify);
    pace_close(&s->pace);
    api_close(&s->app);
    tmpl_free(s->chat_template);
    free(s->template_text);
    tokenizer_free(s->tokenizer);
    text_assets_close(s->assets);
    sem_destroy(&s->may_close);
    if (s->failed) return fail(s, s->exit_code);
    log_wait(STDERR_FILENO, LAST_LINE_MS);
    log_line(LOG_INFO, "end", "exit=%d", s->exit_code);
    return s->exit_code;
}

static int print(void (*writer)(struct strbuf *))
{
    struct strbuf b;
    strbuf_init(&b);
    writer(&b);
    bool bad = strbuf_failed(&b) || fwrite(b.data, 1, b.len, stdout) != b.len || fflush(stdout) != 0;
    strbuf_fini(&b);
    return bad ? EXIT_INTERNAL : EXIT_OK;
}

static int write_tokenizer(struct server *s)
{
    enum err e = text_assets_open(&s->assets, s->config.model, &s->note);
    if (!e) e = hf_folder_write(s->assets, s->config.write_tokenizer, &s->note);
    text_assets_close(s->assets);
    if (!e) return EXIT_OK;
    return fail(s, exit_code_of(e));
}

static atomic_bool may_end; /* serving is over */

/* A library that fails (OpenMP without memory or threads) ends the process with an exit code of its own. */
static void on_exit_of_library(void)
{
    if (!atomic_load(&may_end)) _exit(EXIT_INTERNAL);
}

int main(int argc, char **argv)
{
    if (!process_hold_standard_files()) return EXIT_INTERNAL;
    process_spin_less(argv);
    static struct server s; /* zero; it lives as long as the process */
    enum config_ask ask;
    static const enum log_level level[] = {[CONFIG_log_level_error] = LOG_ERROR,
                                           [CONFIG_log_level_warn] = LOG_WARN,
                                           [CONFIG_log_level_info] = LOG_INFO,
                                           [CONFIG_log_level_debug] = LOG_DEBUG};
    if (config_load(&s.config, &ask, argc, argv, environ, &s.note)) return fail(&s, EXIT_CONFIG);
    switch (ask) {
    case CONFIG_HELP:
        return print(config_help);
    case CONFIG_PRINT_DEFAULTS:
        return print(config_defaults);
    case CONFIG_PRINT_SETTINGS:
        return print(config_settings);
    case CONFIG_PRINT_MAN:
        return print(config_man);
    case CONFIG_VERSION:
        printf("fluxd %s\n", FLUXD_VERSION);
        return EXIT_OK;
    case CONFIG_WRITE_TOKENIZER:
        return write_tokenizer(&s);
    case CONFIG_CHECK_HEALTH:
        return check_health(s.config.host, (int)s.config.port);
    case CONFIG_SERVE:
        break;
    }
    log_set_level(level[s.config.log_level]);
    log_set_format(s.config.log_format == CONFIG_log_format_json ? LOG_JSON : LOG_TEXT);
    atexit(on_exit_of_library);
    int code = serve(&s);
    atomic_store(&may_end, true);
    config_fini(&s.config);
    return code;
}
