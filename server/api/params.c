/* params: see params.h. */
#include "server/api/params.h"

#include <math.h>
#include <string.h>

#include "server/api/fields.h"

/* Values of fields that are not supported which ask for nothing: they are accepted. */
static const char *const words_neutral[] = {"text", "none", "auto", "default", "medium", NULL};

enum { EFFORT_LOW = 2 }; /* where Messages' words begin */
const char *const params_effort[] = {"none", "minimal", "low", "medium", "high", "xhigh", "max", NULL};
const char *const params_verbosity[] = {"low", "medium", "high", NULL};

static const struct json_row shared_row[] = {
    F("model", JSON_STRING, model, .max = NAME_BYTES_MOST),
    F("request_id", JSON_STRING, request_id, .max = 1024),
    CHECKED("user", JSON_STRING, .max = NAME_BYTES_MOST),
    CHECKED("metadata", JSON_OBJECT, .max_items = METADATA_MOST),
    IGNORED("store"),
    IGNORED("service_tier"),
    {.name = NULL},
};

static const struct json_row sampling_row[] = {
    F("n", JSON_INT32, n, .min = 1, .max = CHOICES_MOST),
    F("max_tokens", JSON_INT32, max_tokens, .max = INT32_MAX),
    F("max_completion_tokens", JSON_INT32, max_completion_tokens,
      .max = INT32_MAX), /* load generators send both to either endpoint */
    F("min_tokens", JSON_INT32, min_tokens, .max = INT32_MAX),
    F("temperature", JSON_DOUBLE, temperature, .fmax = 2),
    F("top_p", JSON_DOUBLE, top_p, .fmax = 1, .flags = JSON_ABOVE_MIN),
    F("top_k", JSON_INT32, top_k, .min = -1, .max = INT32_MAX),
    F("min_p", JSON_DOUBLE, min_p, .fmax = 1),
    F("presence_penalty", JSON_DOUBLE, presence, .fmin = -2, .fmax = 2),
    F("frequency_penalty", JSON_DOUBLE, frequency, .fmin = -2, .fmax = 2),
    F("repetition_penalty", JSON_DOUBLE, repetition, .fmax = 10, .flags = JSON_ABOVE_MIN),
    F("logit_bias", JSON_PAIRS, bias, .max = INT32_MAX, .fmin = -100, .fmax = 100,
      .max_items = LOGIT_BIAS_MOST),
    F("seed", JSON_INT, seed, .min = INT64_MIN, .max = INT64_MAX),
    F("stop", JSON_STRINGS, stop, .min = 1, .max = STOP_BYTES_MOST, .min_items = 1, .max_items = STOP_MOST),
    F("bad_words", JSON_STRINGS, bad_words, .min = 1, .max = BAD_WORD_BYTES_MOST,
      .max_items = BAD_WORDS_MOST),
    F("stop_token_ids", JSON_INTS, stop_ids, .max = INT32_MAX, .max_items = STOP_IDS_MOST),
    F("allowed_token_ids", JSON_INTS, allow_ids, .max = INT32_MAX, .min_items = 1,
      .max_items = ALLOWED_IDS_MOST),
    F("ignore_eos", JSON_BOOL, ignore_eos),
    F("include_stop_str_in_output", JSON_BOOL, include_stop),
    F("skip_special_tokens", JSON_BOOL, skip_special),
    F("add_special_tokens", JSON_BOOL, add_special),
    F("truncate_prompt_tokens", JSON_INT32, truncate, .min = -1, .max = INT32_MAX),
    F("return_token_ids", JSON_BOOL, return_token_ids),
    F("return_tokens_as_token_ids", JSON_BOOL, ids_for_names),
    F("prompt_logprobs", JSON_INT32, prompt_logprobs, .max = SAMPLE_TOP_MAX),
    F("priority", JSON_INT32, priority, .min = INT32_MIN, .max = INT32_MAX),
    F("stream", JSON_BOOL, stream),
    F("stream_options", JSON_OBJECT, stream_options),
    F("continuous_usage_stats", JSON_BOOL, continuous_usage), /* stream_options' own says it as well */
    F("response_format", JSON_OBJECT, format_from.response_format),
    F("structured_outputs", JSON_OBJECT, format_from.structured),
    F("guided_json", JSON_ANY, format_from.json), /* vLLM's names before structured_outputs */
    F("guided_regex", JSON_STRING, format_from.regex, .min = 1),
    F("guided_choice", JSON_ARRAY, format_from.choice, .min_items = 1),
    F("guided_grammar", JSON_STRING, format_from.grammar, .min = 1),
    F("route", JSON_ANY, route, .max = 1, .max_items = 4096),
    F("cache_salt", JSON_STRING, cache_salt, .max = NAME_BYTES_MOST),
    IGNORED("spaces_between_special_tokens"), /* byte-level models have none to add */
    REJECTED("suffix"),
    REJECTED("use_beam_search"),
    REJECTED_BUT("length_penalty", 1),
    REJECTED("logits_processors"),
    REJECTED("prompt_embeds"),
    REJECTED("kv_transfer_params"),
    REJECTED("vllm_xargs"),
    {.name = NULL},
};

/* Fields by which other servers let an answer be changed. Who sends one must not believe that it was heeded.
 */
static const struct json_row foreign_row[] = {
    REJECTED_BUT("n_predict", -1),
    REJECTED("max_new_tokens"),
    REJECTED_BUT("repeat_penalty", 1),
    REJECTED_BUT("typical_p", 1),
    REJECTED_BUT("tfs_z", 1),
    REJECTED_BUT("top_a", 0),
    REJECTED_BUT("mirostat", 0),
    REJECTED_BUT("dynatemp_range", 0),
    REJECTED_BUT("dry_multiplier", 0),
    REJECTED_BUT("xtc_probability", 0),
    REJECTED("samplers"),
    REJECTED("grammar"),
    REJECTED("ebnf"),
    REJECTED("regex"),
    REJECTED("json_schema", .flags = JSON_EMPTY_ASKS),
    REJECTED("structural_tag"),
    REJECTED("guided_whitespace_pattern"),
    REJECTED("stop_regex"),
    REJECTED("no_stop_trim"),
    REJECTED("custom_logit_processor"),
    REJECTED("lora_path"),
    REJECTED("input_ids"),
    REJECTED("stop_sequences"),
    REJECTED("max_length"),
    REJECTED("max_output_tokens"),
    REJECTED_BUT("num_predict", -1),
    REJECTED("options"),
    REJECTED("format"),
    REJECTED("return_full_text"),
    REJECTED("negative_prompt"),
    REJECTED_BUT("guidance_scale", 1),
    REJECTED_BUT("num_beams", 1),
    REJECTED_BUT("no_repeat_ngram_size", 0),
    REJECTED_BUT("penalty_alpha", 0),
    REJECTED_BUT("top_n_sigma", -1),
    REJECTED("do_sample", .flags = JSON_TRUE_NEUTRAL), /* false is greedy: temperature 0 here */
    REJECTED("include_reasoning", .flags = JSON_TRUE_NEUTRAL),
    REJECTED("separate_reasoning", .flags = JSON_TRUE_NEUTRAL),
    {.name = NULL},
};

static const struct json_row stream_options_row[] = {
    F("include_usage", JSON_BOOL, include_usage),
    F("continuous_usage_stats", JSON_BOOL, continuous_usage),
    {.name = NULL},
};

static const struct json_row completion_row[] = {
    F("prompt", JSON_PROMPTS, prompt, .max = INT32_MAX, .min_items = 1, .max_items = PROMPTS_MOST,
      .flags = JSON_REQUIRED),
    F("best_of", JSON_INT32, best_of, .min = 1, .max = CHOICES_MOST),
    F("echo", JSON_BOOL, echo),
    F("logprobs", JSON_INT32, n_top, .max = SAMPLE_TOP_MAX),
    REJECTED_BUT("top_logprobs", 0), /* a chat's */
    REJECTED("messages"),
    REJECTED("tools"),
    REJECTED("functions"),
    REJECTED("chat_template"),
    REJECTED("thinking_token_budget"),
    {.name = NULL},
};

/* What makes a prompt of messages. */
static const struct json_row messages_row[] = {
    F("messages", JSON_ARRAY, messages, .min_items = 1, .flags = JSON_REQUIRED),
    F("chat_template_kwargs", JSON_OBJECT, template_kwargs, .max_items = KWARGS_MOST),
    F("add_generation_prompt", JSON_BOOL, add_generation_prompt),
    F("continue_final_message", JSON_BOOL, continue_final),
    REJECTED("chat_template"), /* no template is taken from a request */
    REJECTED("documents"),
    REJECTED("mm_processor_kwargs"),
    F("tools", JSON_ARRAY, tools, .max_items = TOOLS_MOST),
    F("tool_choice", JSON_ANY, tool_choice),
    F("parallel_tool_calls", JSON_BOOL, parallel_calls),
    F("reasoning_effort", JSON_WORD, reasoning_effort, .words = params_effort),
    F("verbosity", JSON_WORD, verbosity, .words = params_verbosity),
    F("thinking_token_budget", JSON_INT32, think_budget, .max = INT32_MAX),
    REJECTED("functions"),
    REJECTED("function_call", .words = words_neutral),
    {.name = NULL},
};

static const struct json_row chat_row[] = {
    F("logprobs", JSON_BOOL, logprobs),
    F("top_logprobs", JSON_INT32, n_top, .max = SAMPLE_TOP_MAX),
    IGNORED("prediction"), /* a hint for speed */
    REJECTED("prompt"),    /* a completion's */
    REJECTED("echo"),
    REJECTED_BUT("best_of", 1),
    REJECTED("audio"),
    REJECTED("modalities", .words = words_neutral),
    REJECTED("web_search_options", .flags = JSON_EMPTY_ASKS), /* {} turns it on */
    {.name = NULL},
};

static const struct json_row tokenize_row[] = {
    F("prompt", JSON_PROMPTS, prompt, .max = INT32_MAX, .min_items = 1, .max_items = 1),
    F("add_special_tokens", JSON_BOOL, add_special),
    F("return_token_strs", JSON_BOOL, return_token_strs),
    {.name = NULL},
};

/* What decides a prompt's route and its price. Sampling fields say nothing about either and may stay in the
 * body; what would make more than one prompt or request of it is refused. */
static const struct json_row route_row[] = {
    F("prompt", JSON_PROMPTS, prompt, .max = INT32_MAX, .min_items = 1, .max_items = 1),
    F("max_tokens", JSON_INT32, max_tokens, .max = INT32_MAX),
    F("max_completion_tokens", JSON_INT32, max_completion_tokens, .max = INT32_MAX),
    F("add_special_tokens", JSON_BOOL, add_special),
    F("truncate_prompt_tokens", JSON_INT32, truncate, .min = -1, .max = INT32_MAX),
    F("priority", JSON_INT32, priority, .min = INT32_MIN, .max = INT32_MAX),
    F("route", JSON_ANY, route, .max = 1, .max_items = 4096),
    F("cache_salt", JSON_STRING, cache_salt, .max = NAME_BYTES_MOST),
    REJECTED("stream"),
    REJECTED("suffix"),
    REJECTED("prompt_embeds"),
    REJECTED_BUT("n", 1),
    REJECTED_BUT("best_of", 1),
    {.name = NULL},
};

static const struct json_row detokenize_row[] = {
    F("tokens", JSON_INTS, tokens, .max = INT32_MAX, .flags = JSON_REQUIRED),
    {.name = NULL},
};

/* Which fields a body may have, what absent ones mean, and which checks they go through. */
struct form {
    const struct json_row *own, *more[2]; /* besides shared_row */
    bool foreign;                         /* another dialect: nothing but these */
    bool generates;                       /* has the fields of sampling */
    bool by_messages, either; /* its prompt is messages; or messages where they stand, else a prompt */
    bool add_special;         /* to a prompt that is text */
    bool echoes;              /* the prompt can be a part of the answer */
    bool count_logprobs;      /* logprobs is their number */
    enum tool_dialect tools;
    int32_t max_tokens_otherwise;
    const char *source; /* the field with the prompt, where that is not messages or prompt */
    enum err (*check)(struct params *p, struct json_in *in, const struct form *f,
                      const struct engine_info *model); /* the last one; NULL: none */
};

static void params_init(struct params *p, const struct form *f)
{
    *p = (struct params){
        .n = 1,
        .max_tokens = -1,
        .max_completion_tokens = -1,
        .max_tokens_otherwise = f->max_tokens_otherwise,
        .top_k = -2,
        .prompt_logprobs = -1,
        .n_top = f->count_logprobs ? -1 : 0,
        .temperature = NAN,
        .top_p = NAN,
        .min_p = NAN,
        .presence = NAN,
        .frequency = NAN,
        .repetition = NAN,
        .skip_special = true,
        .add_special = f->add_special,
        .add_generation_prompt = true,
        .parallel_calls = true,
        .reasoning_effort = -1,
        .verbosity = -1,
        .route_name = "route",
        .max_tool_calls = -1,
        .think_budget = -1,
        .store = true,
    };
}

/* --- checks of values against the model and against each other --- */

static enum err check_ids(struct json_in *in, const char *name, const struct json_ints *id, int n_vocab)
{
    for (size_t i = 0; i < id->n; i++)
        if (id->v[i] >= n_vocab)
            return json_in_fail(in, ERR_INVALID_VALUE, name, "names token %d, but the vocabulary ends at %d",
                                (int)id->v[i], n_vocab - 1);
    return OK;
}

static enum err check_vocabulary(const struct params *p, struct json_in *in, int n_vocab)
{
    enum err e = check_ids(in, "stop_token_ids", &p->stop_ids, n_vocab);
    if (!e) e = check_ids(in, "allowed_token_ids", &p->allow_ids, n_vocab);
    if (!e) e = check_ids(in, "tokens", &p->tokens, n_vocab);
    for (size_t i = 0; !e && i < p->prompt.n; i++) e = check_ids(in, "prompt", &p->prompt.v[i].ids, n_vocab);
    for (size_t i = 0; !e && i < p->bias.n; i++)
        if (p->bias.v[i].key >= n_vocab)
            e = json_in_fail(in, ERR_INVALID_VALUE, "logit_bias",
                             "names token %d, but the vocabulary ends at %d", (int)p->bias.v[i].key,
                             n_vocab - 1);
    return e;
}

/* {"min_full_layers": n}: so many layers as can be full at most. What else the object says would change the
 * answer, so nothing else may. */
static enum err check_route_object(struct params *p, struct json_in *in, const struct engine_info *model)
{
    const cJSON *only = p->route.node->child;
    int most = 0;
    if (!only || only->next || strcmp(only->string, "min_full_layers"))
        return json_in_fail(in, ERR_UNSUPPORTED, p->route_name,
                            "is supported as an object with the field min_full_layers alone");
    for (int l = 0; l < model->n_layer; l++)
        most += !model->fixed_route || model->fixed_route[l] != ROUTE_SPARSE;
    if (!cJSON_IsNumber(only) || only->valuedouble != floor(only->valuedouble))
        return json_in_fail(in, ERR_INVALID_TYPE, p->route_name, "must have an integer as min_full_layers");
    if (only->valuedouble < 0 || only->valuedouble > most)
        return json_in_fail(in, ERR_INVALID_VALUE, p->route_name,
                            "must have a min_full_layers in 0..%d, the layers that may be full", most);
    p->min_full_layers = (int32_t)only->valuedouble;
    return OK;
}

static enum err check_route_text(struct json_in *in, const char *name, const char *s, int n_layer)
{
    if (!strcmp(s, "auto") || !strcmp(s, "full") || !strcmp(s, "sparse")) return OK;
    if (strlen(s) == (size_t)n_layer && strspn(s, "01") == strlen(s)) return OK;
    return json_in_fail(in, ERR_INVALID_VALUE, name,
                        "must be \"auto\", \"full\", \"sparse\" or %d characters of 0 and 1, layer 0 first",
                        n_layer);
}

/* A word, a string of 0 and 1, or a list of them: exactly one per layer; or an object. A header that the body
 * overrules must be right too. */
static enum err check_route(struct params *p, struct json_in *in, const struct engine_info *model)
{
    const struct json_any *r = &p->route;
    const int n_layer = model->n_layer;
    const enum err e =
        p->route_header ? check_route_text(in, PARAMS_ROUTE_HEADER, p->route_header, n_layer) : OK;
    if (e || r->kind == JSON_KIND_NULL) return e;
    if (r->kind == JSON_KIND_OBJECT) return check_route_object(p, in, model);
    if (r->kind == JSON_KIND_ARRAY) {
        if (r->ints.n == (size_t)n_layer) return OK;
        return json_in_fail(in, ERR_INVALID_VALUE, p->route_name,
                            "must have a 0 or 1 for each of the %d layers", n_layer);
    }
    if (r->kind != JSON_KIND_STRING)
        return json_in_fail(in, ERR_INVALID_TYPE, p->route_name,
                            "must be a word, a string or an array of 0 and 1, or an object");
    return check_route_text(in, p->route_name, r->node->valuestring, n_layer);
}

static enum err check_stream(struct params *p, struct json_in *in)
{
    if (p->continuous_usage && !p->stream)
        return json_in_fail(in, ERR_INVALID_VALUE, "continuous_usage_stats",
                            "is allowed only with \"stream\": true");
    if (!p->stream_options) return OK;
    if (!p->stream)
        return json_in_fail(in, ERR_INVALID_VALUE, "stream_options", "is allowed only with \"stream\": true");
    const size_t mark = json_in_enter(in, "stream_options");
    enum err e = json_in_read(in, p->stream_options, stream_options_row, p);
    json_in_leave(in, mark);
    return e;
}

static bool contains(const struct json_ints *set, int32_t id)
{
    for (size_t i = 0; i < set->n; i++)
        if (set->v[i] == id) return true;
    return false;
}

/* While min_tokens bans all that ends an answer, something else must be left to sample. */
static enum err check_drawable(const struct params *p, struct json_in *in, const struct engine_info *model)
{
    const struct json_ints eos = {.v = model->eos, .n = p->ignore_eos ? 0 : (size_t)model->n_eos};
    if (p->allow_ids.n == 0 || p->min_tokens == 0) return OK;
    for (size_t i = 0; i < p->allow_ids.n; i++)
        if (!contains(&p->stop_ids, p->allow_ids.v[i]) && !contains(&eos, p->allow_ids.v[i])) return OK;
    return json_in_fail(in, ERR_INVALID_VALUE, "allowed_token_ids",
                        "must allow a token that does not end the answer while min_tokens is set");
}

static enum err settle_max_tokens(struct params *p, struct json_in *in)
{
    if (p->max_tokens >= 0 && p->max_completion_tokens >= 0 && p->max_tokens != p->max_completion_tokens)
        return json_in_fail(in, ERR_INVALID_VALUE, "max_tokens",
                            "must equal max_completion_tokens when both are given");
    if (p->max_tokens < 0) p->max_tokens = p->max_completion_tokens;
    return OK;
}

static enum err check_truncate(const struct params *p, struct json_in *in)
{
    if (p->truncate == 0 && json_in_get(in->root, "truncate_prompt_tokens"))
        return json_in_fail(in, ERR_INVALID_VALUE, "truncate_prompt_tokens", "must be -1 or at least 1");
    return OK;
}

static enum err check_counts(struct params *p, struct json_in *in, const struct form *f)
{
    enum err e = settle_max_tokens(p, in);
    if (e) return e;
    const char *name = p->max_completion_tokens >= 0 ? "max_completion_tokens" : "max_tokens";
    if (p->max_tokens == 0 && !p->echo)
        return json_in_fail(in, ERR_INVALID_VALUE, name, "must be at least 1%s",
                            f->echoes ? ", but for \"echo\": true" : "");
    if (p->max_tokens >= 0 && p->min_tokens > p->max_tokens)
        return json_in_fail(in, ERR_INVALID_VALUE, "min_tokens", "must not exceed max_tokens");
    if (p->best_of > 1 && p->stream) /* load generators send 1 with every stream */
        return json_in_fail(in, ERR_INVALID_VALUE, "best_of", "is not allowed with \"stream\": true");
    if (p->best_of && p->best_of < p->n)
        return json_in_fail(in, ERR_INVALID_VALUE, "best_of", "must not be less than n");
    if (p->best_of > p->n)
        return json_in_fail(in, ERR_UNSUPPORTED, "best_of", "is supported only when it equals n");
    return OK;
}

static enum err check_logprobs(struct params *p, struct json_in *in, const struct form *f)
{
    if (p->prompt_logprobs >= 0 && p->stream)
        return json_in_fail(in, ERR_INVALID_VALUE, "prompt_logprobs", "is not allowed with \"stream\": true");
    if (f->count_logprobs) {
        p->logprobs = p->n_top >= 0;
        p->n_top = p->logprobs ? p->n_top : 0;
        if (p->logprobs && p->echo && p->stream && p->n > 1)
            return json_in_fail(in, ERR_UNSUPPORTED, "n",
                                "is supported with echo, logprobs and stream together only as 1");
    } else if (p->n_top > 0 && !p->logprobs) {
        return json_in_fail(in, ERR_INVALID_VALUE, "top_logprobs", "is allowed only with \"logprobs\": true");
    }
    return OK;
}

static enum err check_messages(struct params *p, struct json_in *in, const struct form *f)
{
    if (p->continue_final && p->add_generation_prompt) {
        if (json_in_get(in->root, "add_generation_prompt"))
            return json_in_fail(in, ERR_INVALID_VALUE, "continue_final_message",
                                "excludes add_generation_prompt");
        p->add_generation_prompt = false;
    }
    return chat_tools_read(&p->calls, in, p->tools, &p->tool_choice, p->parallel_calls, f->tools);
}

static enum err check_sampling(struct params *p, struct json_in *in, const struct form *f,
                               const struct engine_info *model)
{
    p->has_seed = json_in_get(in->root, "seed") != NULL;
    enum err e = check_truncate(p, in);
    if (!e) e = check_counts(p, in, f);
    if (!e) e = check_logprobs(p, in, f);
    if (!e) e = check_stream(p, in);
    if (!e) e = format_read(&p->format, &p->format_from, in);
    if (!e) e = check_route(p, in, model);
    if (!e) e = check_drawable(p, in, model);
    return e;
}

/* POST /v1/route: without max_tokens it is the prompt alone whose price is told. */
static enum err check_route_call(struct params *p, struct json_in *in, const struct form *f,
                                 const struct engine_info *model)
{
    (void)f;
    enum err e = check_truncate(p, in);
    if (!e) e = settle_max_tokens(p, in);
    if (!e && p->messages && p->prompt.n > 0)
        e = json_in_fail(in, ERR_INVALID_VALUE, "prompt", "excludes messages");
    if (p->max_tokens < 0) p->max_tokens = 0;
    return e ? e : check_route(p, in, model);
}

static const char *const thinking_word[] = {"enabled", "disabled", "adaptive", NULL};
struct thinking {
    int type;
    int32_t budget;
};
static const struct json_row thinking_row[] = {
    {.name = "type",
     .type = JSON_WORD,
     JSON_AT(struct thinking, type),
     .words = thinking_word,
     .flags = JSON_REQUIRED},
    {.name = "budget_tokens",
     .type = JSON_INT32,
     JSON_AT(struct thinking, budget),
     .min = 1,
     .max = INT32_MAX},
    {.name = NULL},
};

static enum err check_thinking(struct params *p, struct json_in *in)
{
    struct thinking t = {0};
    if (!p->thinking) return OK;
    const size_t mark = json_in_enter(in, "thinking");
    enum err e = json_in_read(in, p->thinking, thinking_row, &t);
    if (!e && t.budget && p->max_tokens > 0 && t.budget >= p->max_tokens)
        e = json_in_fail(in, ERR_INVALID_VALUE, "budget_tokens", "must be less than max_tokens");
    json_in_leave(in, mark);
    p->think = t.type == 1 ? THINK_ASK_OFF : THINK_ASK_ON;
    if (t.type == 0 && t.budget) p->think_budget = t.budget;
    return e;
}

/* Edits that keep all are what clients send who want none; others would change the prompt. */
static enum err check_context_management(const struct params *p, struct json_in *in)
{
    const cJSON *edits = p->context_management ? json_in_get(p->context_management, "edits") : NULL;
    if (edits && !cJSON_IsArray(edits))
        return json_in_fail(in, ERR_INVALID_TYPE, "context_management.edits", "must be an array");
    for (const cJSON *c = edits ? edits->child : NULL; c; c = c->next) {
        const cJSON *keep = json_in_get(c, "keep");
        if (!cJSON_IsString(keep) || strcmp(keep->valuestring, "all"))
            return json_in_fail(in, ERR_UNSUPPORTED, "context_management",
                                "is supported with edits that keep \"all\" only");
    }
    return OK;
}

static enum err check_output_config(struct params *p, struct json_in *in)
{
    struct asked {
        int effort;
    } asked = {.effort = -1};
    static const struct json_row row[] = {
        {.name = "effort",
         .type = JSON_WORD,
         JSON_AT(struct asked, effort),
         .words = params_effort + EFFORT_LOW},
        {.name = NULL},
    };
    if (!p->output_config) return OK;
    const size_t mark = json_in_enter(in, "output_config");
    const enum err e = json_in_read(in, p->output_config, row, &asked);
    json_in_leave(in, mark);
    if (asked.effort >= 0) p->reasoning_effort = EFFORT_LOW + asked.effort;
    p->format_from.output = p->output_config;
    return e;
}

static enum err check_messages_call(struct params *p, struct json_in *in, const struct form *f,
                                    const struct engine_info *model)
{
    enum err e = check_thinking(p, in);
    p->too_long_first = true;
    if (!e) e = check_context_management(p, in);
    if (!e) e = check_output_config(p, in);
    return e ? e : check_sampling(p, in, f, model);
}

static enum err check_reasoning(struct params *p, struct json_in *in)
{
    static const char *const summary[] = {"auto", "concise", "detailed", NULL};
    struct asked {
        int effort;
    } asked = {.effort = -1};
    static const struct json_row row[] = {
        {.name = "effort", .type = JSON_WORD, JSON_AT(struct asked, effort), .words = params_effort},
        {.name = "summary", .type = JSON_WORD, .words = summary, .flags = JSON_NO_TARGET},
        {.name = "generate_summary", .type = JSON_WORD, .words = summary, .flags = JSON_NO_TARGET},
        {.name = NULL},
    };
    if (!p->reasoning) return OK;
    const size_t mark = json_in_enter(in, "reasoning");
    const enum err e = json_in_read(in, p->reasoning, row, &asked);
    json_in_leave(in, mark);
    p->reasoning_effort = asked.effort;
    if (asked.effort == 0) p->think = THINK_ASK_OFF;
    return e;
}

static enum err check_text(struct params *p, struct json_in *in)
{
    struct asked {
        int verbosity;
    } asked = {.verbosity = -1};
    static const struct json_row row[] = {
        {.name = "verbosity", .type = JSON_WORD, JSON_AT(struct asked, verbosity), .words = params_verbosity},
        {.name = NULL},
    };
    if (!p->text) return OK;
    const size_t mark = json_in_enter(in, "text");
    const enum err e = json_in_read(in, p->text, row, &asked);
    json_in_leave(in, mark);
    p->verbosity = asked.verbosity;
    p->format_from.text = p->text;
    return e;
}

/* What can be included, and whether it is: of the rest there is nothing here that could be. */
static enum err check_include(struct params *p, struct json_in *in)
{
    static const char *const known[] = {
        "message.output_text.logprobs",   "reasoning.encrypted_content",
        "file_search_call.results",       "web_search_call.results",
        "web_search_call.action.sources", "message.input_image.image_url",
        "code_interpreter_call.outputs",  "computer_call_output.output.image_url"};
    p->logprobs = p->n_top > 0;
    for (size_t i = 0; i < p->include.n; i++) {
        bool found = false;
        for (size_t k = 0; k < sizeof known / sizeof *known; k++)
            found |= !strcmp(known[k], p->include.v[i].p);
        if (!found)
            return json_in_fail(in, ERR_INVALID_VALUE, "include", "names \"%.64s\", which is not known",
                                p->include.v[i].p);
        p->logprobs |= !strcmp(known[0], p->include.v[i].p);
    }
    return OK;
}

/* POST /v1/responses */
static enum err check_responses_call(struct params *p, struct json_in *in, const struct form *f,
                                     const struct engine_info *model)
{
    enum err e = check_reasoning(p, in);
    if (!e) e = check_text(p, in);
    if (!e) e = check_include(p, in);
    return e ? e : check_sampling(p, in, f, model);
}

static const struct form
    form_completion = {.own = completion_row,
                       .generates = true,
                       .add_special = true,
                       .echoes = true,
                       .count_logprobs = true,
                       .max_tokens_otherwise = 16, /* OpenAI's */
                       .check = check_sampling},
    form_chat = {.own = chat_row, .generates = true, .by_messages = true, .check = check_sampling},
    form_route = {.own = route_row, .either = true, .add_special = true, .check = check_route_call},
    form_tokenize = {.own = tokenize_row, .either = true, .add_special = true},
    form_detokenize = {.own = detokenize_row},
    form_messages = {.own = max_tokens_field,
                     .more = {messages_fields, extension_fields},
                     .foreign = true,
                     .by_messages = true,
                     .tools = TOOLS_MESSAGES,
                     .check = check_messages_call},
    form_responses = {.own = responses_fields,
                      .more = {extension_fields},
                      .foreign = true,
                      .by_messages = true,
                      .tools = TOOLS_RESPONSES,
                      .source = "input",
                      .check = check_responses_call},
    form_count_messages = {.own = max_tokens_option,
                           .more = {messages_fields, extension_fields},
                           .foreign = true,
                           .by_messages = true,
                           .tools = TOOLS_MESSAGES,
                           .check = check_messages_call};

static const struct form *const form_of[API_N_ENDPOINT] = {
#define ENDPOINT(id, path, name, prefix, fields, ...) [API_##id] = &form_##fields,
#define VIEW(...)
#include "server/api/endpoints.def"
#undef ENDPOINT
#undef VIEW
};

static void put_tables(struct params_tables *t, const struct form *f, bool by_messages)
{
    const struct json_row *const table[] = {
        f->foreign ? NULL : shared_row,
        f->generates ? sampling_row : NULL,
        f->generates ? foreign_row : NULL,
        by_messages && !f->foreign ? messages_row : NULL,
        f->own,
        f->more[0],
        f->more[1],
    };
    t->n = 0;
    t->either = f->either;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i]) t->table[t->n++] = table[i];
}

void params_tables(enum api_endpoint endpoint, struct params_tables *out)
{
    put_tables(out, form_of[endpoint], form_of[endpoint]->by_messages || form_of[endpoint]->either);
}

const struct json_row *params_rows_inside(const char *field)
{
    static const struct {
        const char *field;
        const struct json_row *rows;
    } inside[] = {{"stream_options", stream_options_row},
                  {"response_format", format_response_rows},
                  {"structured_outputs", format_structured_rows}};
    for (size_t i = 0; i < sizeof inside / sizeof *inside; i++)
        if (!strcmp(field, inside[i].field)) return inside[i].rows;
    return NULL;
}

/* Only words and strings of bits fit a header. */
static void take_route_header(struct params *p, const char *route)
{
    p->route_said = (cJSON){.type = cJSON_String, .valuestring = (char *)(uintptr_t)route};
    p->route = (struct json_any){.kind = JSON_KIND_STRING, .node = &p->route_said};
    p->route_name = PARAMS_ROUTE_HEADER;
}

enum err params_read(struct params *p, struct json_in *in, enum api_endpoint endpoint,
                     const struct engine_info *model, const char *route)
{
    const struct form *f = form_of[endpoint];
    params_init(p, f);
    const bool by_messages = f->by_messages || (f->either && json_in_get(in->root, "messages"));
    if (by_messages) p->add_special = false; /* the template writes them */
    p->source = f->source ? f->source : by_messages ? "messages" : "prompt";
    struct params_tables t;
    put_tables(&t, f, by_messages);
    enum err e = OK;
    for (int i = 0; !e && i < t.n; i++) e = json_in_read(in, in->root, t.table[i], p);
    p->route_header = route;
    if (route && p->route.kind == JSON_KIND_NULL) take_route_header(p, route);
    if (!e) e = check_vocabulary(p, in, model->n_vocab);
    if (!e && by_messages) e = check_messages(p, in, f);
    if (!e && f->either && !by_messages && p->prompt.n == 0)
        e = json_in_fail(in, ERR_MISSING_FIELD, "prompt", "or messages is required");
    return e || !f->check ? e : f->check(p, in, f, model);
}
