/* params: the fields of a request, as tables, with every check that needs no text. Pure; any thread.
 * What a field may hold and what happens to fields we do not serve is decided here and nowhere else. */
#ifndef FLUXD_SERVER_API_PARAMS_H
#define FLUXD_SERVER_API_PARAMS_H

#include <stdbool.h>
#include <stdint.h>

#include "scheduler/scheduler.h"
#include "server/api/bad_words.h"
#include "server/api/chat_tools.h"
#include "server/api/endpoint.h"
#include "server/api/format.h"
#include "server/json/in.h"
#include "server/text/stopper.h"

enum {
    CHOICES_MOST = 128,
    STOP_IDS_MOST = 128,
    ALLOWED_IDS_MOST = 1 << 20,
    LOGIT_BIAS_MOST = 1024,
    PROMPTS_MOST = 4096,
    NAME_BYTES_MOST = 4096, /* model, user, cache_salt */
    METADATA_MOST = 16,
    RESPONSE_ID_BYTES_MOST = 128,
    INCLUDE_MOST = 16,
    KWARGS_MOST = 64,
};

/* What a request says of the template's own switch for thoughts. */
enum think_ask { THINK_ASK_NOTHING, THINK_ASK_ON, THINK_ASK_OFF };

/* Absent numbers keep the value that params_init gave them. Memory of strings and lists is the json_in's. */
struct params {
    struct json_str model, request_id, cache_salt;
    struct json_prompts prompt;
    struct json_ints tokens; /* detokenize */
    const cJSON *messages, *template_kwargs, *stream_options, *metadata;
    struct format_fields format_from;
    struct format format;
    int32_t n, best_of;                        /* best_of 0: absent */
    int32_t max_tokens, max_completion_tokens; /* -1: absent */
    int32_t max_tokens_otherwise;              /* where max_tokens is absent; 0: what fits */
    int32_t min_tokens, priority, truncate;    /* truncate 0: absent, -1: to what fits */
    double temperature, top_p, min_p, presence, frequency, repetition; /* NaN: absent */
    int32_t top_k;                                                     /* -2: absent */
    int64_t seed;
    bool has_seed;
    struct json_strs stop, bad_words;
    struct json_ints stop_ids, allow_ids;
    struct json_pairs bias;
    struct json_any route;
    cJSON route_said;         /* what route is, where a header says it */
    const char *route_name;   /* where it was said, for errors */
    const char *route_header; /* what the header says, heard or not */
    int32_t min_full_layers;  /* of a route that is an object */
    bool stream, include_usage, continuous_usage;
    bool echo, ignore_eos, include_stop, return_token_ids, return_token_strs;
    bool skip_special, add_special;
    bool add_generation_prompt, continue_final;
    /* of other dialects */
    const char *source; /* the field that the prompt comes from, for errors */
    struct json_any system, input;
    const cJSON *thinking, *context_management, *output_config;
    const cJSON *tools; /* as sent; what they say is in calls */
    struct json_any tool_choice;
    bool parallel_calls;
    struct chat_tools calls;
    int reasoning_effort, verbosity; /* indexes of params_effort, params_verbosity; -1: not said */
    struct json_str instructions, previous_response_id, user, safety_identifier, prompt_cache_key;
    struct json_strs include;
    const cJSON *reasoning, *text;
    int truncation;         /* 0: none, 1: the oldest messages go */
    int32_t max_tool_calls; /* -1: absent */
    bool store;
    enum think_ask think;
    int32_t think_budget;    /* tokens; -1: none named */
    bool too_long_first;     /* how clients of the Messages API know an overflow */
    bool logprobs;           /* asked for */
    int32_t n_top;           /* with so many alternatives */
    int32_t prompt_logprobs; /* likewise of the prompt; -1: not asked for */
    bool ids_for_names;
};

extern const char *const params_effort[], *const params_verbosity[]; /* NULL at the end */

#define PARAMS_ROUTE_HEADER "X-Fluxd-Route"
/* Reads body (root of in) into p; every refusal is told to in's note. The model bounds token ids and the
 * route's length. route: what PARAMS_ROUTE_HEADER says, for a body that says nothing of it; NULL: nothing.
 * Borrowed by p. */
enum err params_read(struct params *p, struct json_in *in, enum api_endpoint endpoint,
                     const struct engine_info *model, const char *route);

/* For a description: the n tables by which a body of this endpoint is read (those of messages too where it
 * may have messages or a prompt, then one of both is needed), and the table of an object that is a field;
 * NULL: it has none. */
struct params_tables {
    const struct json_row *table[7];
    int n;
    bool either;
};
void params_tables(enum api_endpoint endpoint, struct params_tables *out);
const struct json_row *params_rows_inside(const char *field);

#endif
