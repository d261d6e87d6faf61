/* metrics_vllm: see metrics_vllm.h. */
#include "server/api/metrics_vllm.h"

#include <string.h>

#include "base/clock.h"
#include "server/api/api.h"

static void vllm_single(const struct expo *p, const struct app *app, const char *name, const char *type,
                        const char *help, double v)
{
    expo_family(p, "vllm:", name, type, help);
    strbuf_printf(p->out, "vllm:%s%s{", name, !strcmp(type, "counter") ? "_total" : "");
    expo_label(p->out, "model_name", app->names.id);
    strbuf_puts(p->out, "} ");
    expo_number(p->out, v);
}

static void vllm_finished(const struct expo *p, const struct app *app, const struct scheduler_stats *s)
{
    const struct {
        const char *reason;
        double v;
    } row[] = {{"stop", LOAD(s->finished[FINISH_STOP])},
               {"length", LOAD(s->finished[FINISH_LENGTH])},
               {"abort", LOAD(s->finished[FINISH_CANCELLED])},
               {"error", LOAD(s->finished[FINISH_ERROR])}};
    expo_family(p, "vllm:", "request_success", "counter", "Requests that ended, by reason.");
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        strbuf_printf(p->out, "vllm:request_success_total{finished_reason=\"%s\",", row[i].reason);
        expo_label(p->out, "model_name", app->names.id);
        strbuf_puts(p->out, "} ");
        expo_number(p->out, row[i].v);
    }
}

/* Older dashboards read the second name of a gauge. */
static void gauges(const struct expo *p, const struct app *app, const struct scheduler_stats *s,
                   struct open_requests open)
{
    const double total = LOAD(s->pages_total), used = total > 0 ? LOAD(s->pages_used) / total : 0;
    vllm_single(p, app, "num_requests_running", "gauge", "Requests running.", open.running);
    vllm_single(p, app, "num_requests_waiting", "gauge", "Requests waiting.", open.waiting);
    vllm_single(p, app, "num_requests_swapped", "gauge", "Requests whose KV pages are in host memory.",
                LOAD(s->swapped));
    vllm_single(p, app, "kv_cache_usage_perc", "gauge", "Share of the KV pool in use, 1 is all.", used);
    vllm_single(p, app, "gpu_cache_usage_perc", "gauge", "The same.", used);
}

static void counters(const struct expo *p, const struct app *app, const struct scheduler_stats *s)
{
    vllm_single(p, app, "prompt_tokens", "counter", "Prompt tokens.", LOAD(s->prompt_tok));
    vllm_single(p, app, "generation_tokens", "counter", "Generated tokens.", LOAD(s->answer_tok));
    vllm_single(p, app, "num_preemptions", "counter", "Preemptions.", LOAD(s->preemptions));
    vllm_single(p, app, "prefix_cache_queries", "counter", "Prompt tokens looked up in the prefix cache.",
                LOAD(s->prefix_query_tok));
    vllm_single(p, app, "prefix_cache_hits", "counter", "Prompt tokens found in the prefix cache.",
                LOAD(s->cached_tok));
    vllm_single(p, app, "prompt_tokens_cached", "counter", "The same.", LOAD(s->cached_tok));
    vllm_finished(p, app, s);
}

static void infos(const struct expo *p, const struct app *app)
{
    expo_family(p, "vllm:", "cache_config_info", "gauge", "The KV cache; always 1.");
    /* A block there holds a token's K and V of all layers; a page here is one layer's. */
    strbuf_printf(p->out, "vllm:cache_config_info{block_size=\"%d\",num_gpu_blocks=\"%d\"} 1\n", PAGE_TOK,
                  app->model->n_page / app->model->n_layer);
    expo_family(p, "vllm:", "lora_requests_info", "gauge",
                "Adapters: there are none. The time since the Unix epoch.");
    strbuf_printf(
        p->out,
        "vllm:lora_requests_info{max_lora=\"0\",running_lora_adapters=\"\",waiting_lora_adapters=\"\"} %lld\n",
        (long long)clock_wall_s());
}

static void histograms(const struct expo *p, const struct scheduler_stats *s, const struct api_stats *a)
{
#define TIMES(name, help, field)  expo_histogram(p, "vllm:", #name, help, &s->field);
#define COUNTS(name, help, field) expo_counts(p, "vllm:", #name, help, &s->field);
    TIMES(time_to_first_token_seconds, "Time to the first token.", ttft)
    TIMES(inter_token_latency_seconds, "Time between tokens.", itl)
    TIMES(time_per_output_token_seconds, "The same.", itl)
    TIMES(request_time_per_output_token_seconds, "Mean time between the tokens of a request.", per_tok)
    TIMES(e2e_request_latency_seconds, "Time from acceptance to the end.", e2e)
    TIMES(request_queue_time_seconds, "Time from acceptance to the first work on a request.", queue)
    TIMES(request_prefill_time_seconds, "Time a prompt took to compute.", prefill)
    TIMES(request_decode_time_seconds, "Time from the first token to the last.", decode)
    TIMES(request_inference_time_seconds, "Time a request was worked on.", inference)
    COUNTS(request_prompt_tokens, "Prompt tokens of a request.", prompt_len)
    COUNTS(request_generation_tokens, "Tokens that a request generated.", answer_len)
    COUNTS(request_max_num_generation_tokens, "Most tokens that a request might generate.", max_len)
    COUNTS(request_params_max_tokens, "The same.", max_len)
    COUNTS(iteration_tokens_total, "Tokens of one engine step.", step_tok)
#undef TIMES
#undef COUNTS
    expo_counts(p, "vllm:", "request_params_n", "Answers asked for to each prompt.", &a->n_choice);
}

void metrics_vllm(const struct expo *p, const struct app *app, const struct scheduler_stats *s,
                  struct open_requests open)
{
    gauges(p, app, s, open);
    counters(p, app, s);
    infos(p, app);
    struct strbuf model;
    strbuf_init(&model);
    expo_label(&model, "model_name", app->names.id);
    const struct expo q = {
        .out = p->out, .format = p->format, .also = strbuf_failed(&model) ? NULL : model.data};
    histograms(&q, s, api_stats(app));
    strbuf_fini(&model);
}
