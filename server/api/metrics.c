/* metrics: the Prometheus page from the counters of scheduler, http and api. Loop thread.
 * The rows without labels stand in metrics.def. */
#include "server/api/metrics.h"
#include "server/api/account.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/api/internal.h"
#include "server/api/metrics_vllm.h"
#include "server/config.h"
#include "server/process.h"
#include "server/version.h"

/* --- families with labels */

static void by_label(const struct expo *p, const char *name, const char *key, const char *value, double v)
{
    strbuf_printf(p->out, "fluxd_%s{", name);
    expo_label(p->out, key, value);
    strbuf_puts(p->out, "} ");
    expo_number(p->out, v);
}

/* Of one moment, so that accepted is finished, running and waiting together. */
static struct open_requests open_now(const struct scheduler_stats *s)
{
    struct open_requests o = {
        .waiting =
            LOAD(s->waiting)}; /* before the others: only the loop thread, which is ours, moves those */
    o.running = LOAD(s->accepted) - o.waiting;
    for (int f = 0; f < FINISH_KINDS; f++) o.running -= LOAD(s->finished[f]);
    return o;
}

static void finished(const struct expo *p, const struct scheduler_stats *s)
{
    expo_family(p, "fluxd_", "requests_finished", "counter", "Requests that ended, by reason.");
    by_label(p, "requests_finished_total", "reason", "stop", LOAD(s->finished[FINISH_STOP]));
    by_label(p, "requests_finished_total", "reason", "length", LOAD(s->finished[FINISH_LENGTH]));
    by_label(p, "requests_finished_total", "reason", "routed", LOAD(s->finished[FINISH_ROUTED]));
    by_label(p, "requests_finished_total", "reason", "cancelled", LOAD(s->finished[FINISH_CANCELLED]));
    by_label(p, "requests_finished_total", "reason", "error", LOAD(s->finished[FINISH_ERROR]));
    expo_family(p, "fluxd_", "requests_rejected", "counter", "Requests not taken into the queue, by reason.");
    by_label(p, "requests_rejected_total", "reason", "queue_full", LOAD(s->rejected_full));
    by_label(p, "requests_rejected_total", "reason", "size", LOAD(s->rejected_size));
}

static void pages(const struct expo *p, const struct engine_info *m, const struct scheduler_stats *s)
{
    const double page = (double)m->page_bytes;
    expo_family(p, "fluxd_", "kv_pages_used", "gauge",
                "Pages in use, by the kind of attention of the layer that holds them.");
    by_label(p, "kv_pages_used", "kind", "full", LOAD(s->pages_full));
    by_label(p, "kv_pages_used", "kind", "sparse", LOAD(s->pages_sparse));
    expo_family(p, "fluxd_", "kv_used_bytes", "gauge",
                "Memory of those pages, by how they keep keys and values.");
    if (m->kv_codes) by_label(p, "kv_used_bytes", "dtype", m->kv, LOAD(s->pages_full) * page);
    by_label(p, "kv_used_bytes", "dtype", m->kv_codes ? "bf16" : m->kv,
             (LOAD(s->pages_sparse) + (m->kv_codes ? 0 : LOAD(s->pages_full))) * page);
}

static void routes_taken(const struct expo *p, const struct scheduler_stats *s, int n_layer)
{
    expo_family(p, "fluxd_", "route_layer_full", "counter",
                "Routed requests for which this layer used full attention.");
    for (int l = 0; l < n_layer; l++) {
        strbuf_printf(p->out, "fluxd_route_layer_full_total{layer=\"%d\"} ", l);
        expo_number(p->out, LOAD(s->full_layer_requests[l]));
    }
    expo_family(p, "fluxd_", "route_full_layers", "histogram", "Full layers of a routed request.");
    double n = 0, sum = 0;
    for (int l = 0; l <= n_layer; l++) {
        double here = LOAD(s->full_layers_hist[l]);
        n += here;
        sum += here * l;
        expo_bucket(p, "fluxd_", "route_full_layers", l, n);
    }
    expo_bucket(p, "fluxd_", "route_full_layers", INFINITY, n);
    strbuf_printf(p->out, "fluxd_route_full_layers_sum %.0f\nfluxd_route_full_layers_count %.0f\n", sum, n);
}

/* Zeroes until the model is there. */
static void constraints(const struct expo *p, const struct app *app)
{
    static const struct constraint_stats none;
    static const char *const word[] = {
#define CONSTRAINT_WORD(name, word) [CONSTRAINT_##name] = word,
        CONSTRAINT_LIST(CONSTRAINT_WORD)
#undef CONSTRAINT_WORD
    };
    const struct constraints *c = app->api->constraints;
    const struct constraint_stats *s = c ? constraints_stats(c) : &none;
    expo_family(p, "fluxd_", "constrained_calls", "counter", "Calls whose answers are constrained, by what.");
    for (int k = CONSTRAINT_NONE + 1; k < CONSTRAINT_KINDS; k++)
        by_label(p, "constrained_calls_total", "kind", word[k], LOAD(s->asked[k]));
    expo_single(p, "fluxd_", "schema_cache_hits", "counter", "Calls whose grammar was in memory.",
                LOAD(s->hits));
    expo_single(p, "fluxd_", "schemas_compiled", "counter", "Grammars compiled.", LOAD(s->compiled));
    expo_single(p, "fluxd_", "schemas_refused", "counter", "Calls whose schema or grammar was refused.",
                LOAD(s->refused));
    expo_single(p, "fluxd_", "schemas_evicted", "counter", "Grammars evicted from memory.", LOAD(s->evicted));
    expo_single(p, "fluxd_", "schema_cache_bytes", "gauge", "Memory of grammars, in use or kept.",
                LOAD(s->bytes));
    expo_single(p, "fluxd_", "schema_cache_entries", "gauge", "Grammars in memory.", LOAD(s->n));
    expo_histogram(p, "fluxd_", "schema_compile_time_seconds", "Time to compile a grammar.", &s->compile);
}

static void responses(const struct expo *p, const struct http_stats *h, const struct api_stats *a)
{
    static const char *const endpoint[API_N_ENDPOINT] = {
#define ENDPOINT(id, path, ...) [API_##id] = path,
#define VIEW(id, path)          [API_##id] = path,
#include "server/api/endpoints.def"
#undef ENDPOINT
#undef VIEW
    };
    static const char *const status[API_N_STATUS] = {
#define STATUS_WORD(v) (v) ? #v : "other",
        API_STATUS_LIST(STATUS_WORD)
#undef STATUS_WORD
    };
    expo_family(p, "fluxd_", "http_responses", "counter", "Answers begun, by class of status.");
    for (int i = 2; i < 6; i++)
        by_label(p, "http_responses_total", "class", (const char *[]){"2xx", "3xx", "4xx", "5xx"}[i - 2],
                 (double)h->by_status[i]);
    expo_family(p, "fluxd_", "api_requests", "counter", "Requests answered by an endpoint, by status.");
    for (int e = 0; e < API_N_ENDPOINT; e++)
        for (int i = 0; i < API_N_STATUS; i++) {
            if (a->answered[e][i] == 0) continue;
            strbuf_printf(p->out, "fluxd_api_requests_total{endpoint=\"%s\",status=\"%s\"} %llu\n",
                          endpoint[e], status[i], (unsigned long long)a->answered[e][i]);
        }
}

static void infos(const struct expo *p, const struct app *app)
{
    expo_family(p, "fluxd_", "build_info", "gauge", "The program; always 1.");
    strbuf_puts(p->out, "fluxd_build_info{version=\"" FLUXD_VERSION "\"} 1\n");
    const struct engine_info *m = app->model;
    if (!m) return;
    expo_family(p, "fluxd_", "model_info", "gauge", "The model and the device it runs on; always 1.");
    strbuf_puts(p->out, "fluxd_model_info{");
    const char *const pair[][2] = {
        {"model", app->names.id}, {"name", m->name},      {"family", m->family}, {"device", m->device},
        {"weights", m->weights},  {"head", m->head_type}, {"kv", m->kv}};
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++) {
        expo_label(p->out, pair[i][0], pair[i][1]);
        strbuf_putc(p->out, ',');
    }
    strbuf_printf(p->out, "layers=\"%d\"} 1\n", m->n_layer);
    expo_single(p, "fluxd_", "model_weights_bytes", "gauge", "Memory of the weights as held.",
                (double)m->weight_bytes);
    expo_single(p, "fluxd_", "kv_page_bytes", "gauge", "Memory of one KV page.", (double)m->page_bytes);
    expo_single(p, "fluxd_", "model_max_tokens", "gauge", "Tokens a sequence may have.", m->max_len);
}

/* Reading /proc costs more than all the rest, and some scrape every 50 ms: it is read at most once a second.
 */
static void process(const struct expo *p, struct app *app)
{
    if (app->process_ns == 0 || clock_ns() - app->process_ns > 1000000000) {
        process_look(&app->process);
        app->process_ns = clock_ns();
    }
    struct process_use u = app->process;
    expo_single(p, "process_", "cpu_seconds", "counter", "User and system CPU time.", u.cpu_s);
    expo_single(p, "process_", "resident_memory_bytes", "gauge", "Resident memory.",
                (double)u.resident_bytes);
    expo_single(p, "process_", "virtual_memory_bytes", "gauge", "Virtual memory.", (double)u.virtual_bytes);
    expo_single(p, "process_", "open_fds", "gauge", "Open file descriptors.", (double)u.open_fds);
    expo_single(p, "process_", "max_fds", "gauge", "Most file descriptors there may be.", (double)u.max_fds);
    expo_single(p, "process_", "start_time_seconds", "gauge", "Start of the process since the Unix epoch.",
                u.start_s);
}

/* --- the page */

static double oldest_age_s(const struct scheduler_stats *s)
{
    int64_t since = atomic_load_explicit(&s->oldest_waiting_ns, memory_order_relaxed);
    return since ? (double)(clock_ns() - since) * 1e-9 : 0;
}

static void table(const struct expo *page, const struct app *app, const struct scheduler_stats *s,
                  struct open_requests open)
{
    const struct http_stats *h = http_stats(app->http);
    const struct api_stats *a = api_stats(app);
    size_t response_bytes, response_count;
    api_stored(app, &response_bytes, &response_count);
#define ONE(name, type, help, value) expo_single(page, "fluxd_", #name, type, help, (double)(value));
#define GAUGE(name, help, value)     ONE(name, "gauge", help, value)
#define COUNTER(name, help, value)   ONE(name, "counter", help, value)
#define SCHED_GAUGE(name, help, value)                                                                       \
    if (s) ONE(name, "gauge", help, value)
#define SCHED_COUNTER(name, help, value)                                                                     \
    if (s) ONE(name, "counter", help, value)
#define SCHED_HISTOGRAM(name, help, hist)                                                                    \
    if (s) expo_histogram(page, "fluxd_", #name, help, hist);
#define SCHED_COUNTS(name, help, hist)                                                                       \
    if (s) expo_counts(page, "fluxd_", #name, help, hist);
#define SCHED_MICROS(name, help, hist)                                                                       \
    if (s) expo_micros(page, "fluxd_", #name, help, hist);
#include "server/api/metrics.def"
}

void metrics_write(struct strbuf *out, struct app *app, enum metrics_format f)
{
    const struct expo p = {.out = out, .format = f};
    const struct scheduler_stats *s = app->scheduler ? scheduler_stats(app->scheduler) : NULL;
    const struct open_requests open = s ? open_now(s) : (struct open_requests){0};
    table(&p, app, s, open);
    if (s) {
        finished(&p, s);
        pages(&p, app->model, s);
        routes_taken(&p, s, app->model->n_layer < 256 ? app->model->n_layer : 256);
    }
    constraints(&p, app);
    responses(&p, http_stats(app->http), api_stats(app));
    account_metrics(&p, app->http);
    infos(&p, app);
    process(&p, app);
    if (s && app->config->vllm_metrics == CONFIG_vllm_metrics_on) metrics_vllm(&p, app, s, open);
    if (f == METRICS_OPEN) strbuf_puts(out, "# EOF\n");
}

enum metrics_format metrics_choose(const char *accept)
{
    return accept && strstr(accept, "application/openmetrics-text") ? METRICS_OPEN : METRICS_TEXT;
}

const char *metrics_content_type(enum metrics_format f)
{
    return f == METRICS_OPEN ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                             : "text/plain; version=0.0.4; charset=utf-8";
}
