/* fields_dialects: the fields of POST /v1/messages and POST /v1/responses. Pure. */
#include "server/api/fields.h"

/* What the dialects do not know, and this server has. */
const struct json_row extension_fields[] = {
    F("min_tokens", JSON_INT32, min_tokens, .max = INT32_MAX),
    F("min_p", JSON_DOUBLE, min_p, .fmax = 1),
    F("repetition_penalty", JSON_DOUBLE, repetition, .fmax = 10, .flags = JSON_ABOVE_MIN),
    F("presence_penalty", JSON_DOUBLE, presence, .fmin = -2, .fmax = 2),
    F("frequency_penalty", JSON_DOUBLE, frequency, .fmin = -2, .fmax = 2),
    F("logit_bias", JSON_PAIRS, bias, .max = INT32_MAX, .fmin = -100, .fmax = 100,
      .max_items = LOGIT_BIAS_MOST),
    F("bad_words", JSON_STRINGS, bad_words, .min = 1, .max = BAD_WORD_BYTES_MOST,
      .max_items = BAD_WORDS_MOST),
    F("seed", JSON_INT, seed, .min = INT64_MIN, .max = INT64_MAX),
    F("ignore_eos", JSON_BOOL, ignore_eos),
    F("priority", JSON_INT32, priority, .min = INT32_MIN, .max = INT32_MAX),
    F("route", JSON_ANY, route, .max = 1, .max_items = 4096),
    F("cache_salt", JSON_STRING, cache_salt, .max = NAME_BYTES_MOST),
    F("thinking_token_budget", JSON_INT32, think_budget, .max = INT32_MAX),
    F("chat_template_kwargs", JSON_OBJECT, template_kwargs, .max_items = KWARGS_MOST),
    IGNORED("service_tier"),
    IGNORED("speed"),
    REJECTED_BUT("n", 1),
    REJECTED("stop"),
    REJECTED("response_format"),
    REJECTED("max_completion_tokens"),
    REJECTED("chat_template"),
    REJECTED("logprobs"),
    REJECTED("structured_outputs"),
    {.name = NULL},
};

static const char *const truncation_word[] = {"disabled", "auto", NULL};

const struct json_row responses_fields[] = {
    F("model", JSON_STRING, model, .max = NAME_BYTES_MOST),
    F("input", JSON_ANY, input),
    F("instructions", JSON_STRING, instructions),
    F("previous_response_id", JSON_STRING, previous_response_id, .min = 1, .max = RESPONSE_ID_BYTES_MOST),
    F("max_output_tokens", JSON_INT32, max_tokens, .min = 1, .max = INT32_MAX),
    F("max_tool_calls", JSON_INT32, max_tool_calls, .min = 1, .max = INT32_MAX),
    F("temperature", JSON_DOUBLE, temperature, .fmax = 2),
    F("top_p", JSON_DOUBLE, top_p, .fmax = 1, .flags = JSON_ABOVE_MIN),
    F("top_k", JSON_INT32, top_k, .min = -1, .max = INT32_MAX),
    F("top_logprobs", JSON_INT32, n_top, .max = SAMPLE_TOP_MAX),
    F("stream", JSON_BOOL, stream),
    F("stream_options", JSON_OBJECT, stream_options),
    F("store", JSON_BOOL, store),
    F("parallel_tool_calls", JSON_BOOL, parallel_calls),
    F("truncation", JSON_WORD, truncation, .words = truncation_word),
    F("include", JSON_STRINGS, include, .min = 1, .max = 256, .max_items = INCLUDE_MOST),
    F("reasoning", JSON_OBJECT, reasoning),
    F("text", JSON_OBJECT, text),
    F("metadata", JSON_OBJECT, metadata, .max_items = METADATA_MOST),
    F("user", JSON_STRING, user, .max = NAME_BYTES_MOST),
    F("safety_identifier", JSON_STRING, safety_identifier, .max = NAME_BYTES_MOST),
    F("prompt_cache_key", JSON_STRING, prompt_cache_key, .max = NAME_BYTES_MOST),
    IGNORED("prompt_cache_retention"),
    IGNORED("prompt_cache_options"),
    IGNORED("client_metadata"),
    F("tools", JSON_ARRAY, tools, .max_items = TOOLS_MOST),
    F("tool_choice", JSON_ANY, tool_choice),
    REJECTED("background"),
    REJECTED("conversation"),
    REJECTED("prompt"),
    REJECTED("messages"),
    REJECTED("moderation"),
    REJECTED("context_management"),
    REJECTED("max_tokens"),
    {.name = NULL},
};

const struct json_row max_tokens_field[] = {
    F("max_tokens", JSON_INT32, max_tokens, .min = 1, .max = INT32_MAX, .flags = JSON_REQUIRED),
    {.name = NULL},
};

const struct json_row max_tokens_option[] = {
    F("max_tokens", JSON_INT32, max_tokens, .min = 1, .max = INT32_MAX),
    {.name = NULL},
};

const struct json_row messages_fields[] = {
    F("model", JSON_STRING, model, .max = NAME_BYTES_MOST),
    F("messages", JSON_ARRAY, messages, .min_items = 1, .flags = JSON_REQUIRED),
    F("system", JSON_ANY, system),
    F("stop_sequences", JSON_STRINGS, stop, .min = 1, .max = STOP_BYTES_MOST, .max_items = STOP_MOST),
    F("stream", JSON_BOOL, stream),
    F("temperature", JSON_DOUBLE, temperature, .fmax = 2),
    F("top_p", JSON_DOUBLE, top_p, .fmax = 1, .flags = JSON_ABOVE_MIN),
    F("top_k", JSON_INT32, top_k, .min = -1, .max = INT32_MAX),
    F("thinking", JSON_OBJECT, thinking),
    F("context_management", JSON_OBJECT, context_management),
    F("output_config", JSON_OBJECT, output_config),
    CHECKED("metadata", JSON_OBJECT, .max_items = METADATA_MOST),
    IGNORED("cache_control"), /* the prefix cache needs no marks */
    IGNORED("inference_geo"),
    IGNORED("user_profile_id"),
    F("tools", JSON_ARRAY, tools, .max_items = TOOLS_MOST),
    F("tool_choice", JSON_ANY, tool_choice),
    REJECTED("container"),
    REJECTED("mcp_servers"),
    REJECTED("max_output_tokens"),
    {.name = NULL},
};
