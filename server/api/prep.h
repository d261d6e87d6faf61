/* prep: the worker's step. A raw body becomes struct ask: checked fields, token ids, requests ready to be
 * submitted. Pure: it reads only what struct prep_env lists, all of it constant after the model was loaded. A
 * worker of the pool runs it; the loop thread owns the result afterwards. */
#ifndef FLUXD_SERVER_API_PREP_H
#define FLUXD_SERVER_API_PREP_H

#include "scheduler/request.h"
#include "server/api/api.h"
#include "server/api/chat_prompt.h"
#include "server/api/names.h"
#include "server/api/responses_in.h"
#include "server/api/text_answer.h"
#include "server/text/tools/tools.h"

struct prep_env {
    struct chat_prompt_env chat;
    const struct engine_info *model;
    const char *model_id;
    const struct model_names *names;                              /* NULL: model_id alone */
    double gen_temperature, gen_top_p, gen_min_p, gen_repetition; /* the model's defaults; NaN: none */
    int gen_top_k;                                                /* -1: none */
    int64_t seed;     /* --seed; -1: a fresh one for each request */
    int choices_most; /* of one call: what the queue could ever take */
    size_t tokenize_bytes_most, detokenize_ids_most;
    const char *drop_system_lines; /* --drop-system-lines */
    bool clamp_max_tokens;         /* --clamp-max-tokens */
    struct response_store *responses;
    struct json_limits limits;
    struct constraints *constraints;
    enum tool_strict tool_strict;      /* --tool-strict */
    struct constraint_thought thought; /* how this model writes them; is_open says nothing */
};

struct ask_prompt {
    int32_t *id; /* [n], in front of the room for the first choice's answer */
    int n;
    const char
        *text; /* echo: what the client sent, or the ids' text where that is not what the model reads */
    size_t n_text;
    int32_t n_char;  /* code points of text */
    int32_t *offset; /* [n] echo with log-probabilities: those that end before each token */
};

/* Everything that a generation needs to know. One memory (mem) holds it all. */
struct ask {
    struct arena mem;
    enum api_endpoint endpoint;
    uint32_t key_id; /* of the API key that asks; 0: none */
    char id[80];     /* the client's request_id, made harmless; "" when it sent none */
    bool stream, include_usage, continuous_usage;
    bool echo, logprobs, skip_special, include_stop, return_token_ids;
    bool ids_for_names;
    int n_top, min_tokens;
    int prompt_logprobs;              /* how many alternatives; -1: not asked for */
    bool thinks;                      /* what is reasoned is told apart */
    bool think_open;                  /* the prompt ends inside a thought */
    const struct tool_format *format; /* how calls and thoughts are written */
    const struct tool_set *tools;     /* whose calls are looked for; NULL: nobody's */
    int n_past_call;                  /* calls in the messages */
    int n_left_out;                   /* messages, by truncation */
    bool scores;                      /* max_tokens 0: the prompt is read, nothing is generated */
    int n_prompt, n_per_prompt;
    struct ask_prompt *prompt; /* [n_prompt] */
    struct request **request; /* [n_prompt * n_per_prompt] index = prompt * n_per_prompt + i; owner is NULL */
    struct stop_set stop;
    struct response_ask *response; /* POST /v1/responses; else NULL */
    struct response_store *responses;
    struct constraint *constraint; /* what the guides of the requests hold to; NULL: none */
    int n_dropped_lines;           /* of the system text */
    int32_t max_asked;             /* tokens of an answer that the client asked for; -1: it did not say */
    struct strbuf answer;          /* endpoints that make no generation: the answer, or its begin */
    struct text_answer *rest;      /* what comes behind it; NULL: nothing */
};

/* On failure note says why and nothing is left behind. Free with ask_free once no request is with the
 * scheduler. */
struct prep_call {
    enum api_endpoint endpoint;
    uint32_t key_id;   /* of the API key; 0: none */
    const char *route; /* PARAMS_ROUTE_HEADER; NULL: none */
    const char *body;
    size_t n;
};
enum err prep_run_for(struct ask **out, const struct prep_env *env, const struct prep_call *call,
                      struct err_note *note);
static inline enum err prep_run(struct ask **out, const struct prep_env *env, enum api_endpoint endpoint,
                                const char *body, size_t n, struct err_note *note)
{
    const struct prep_call call = {.endpoint = endpoint, .body = body, .n = n};
    return prep_run_for(out, env, &call, note);
}
void ask_free(struct ask *a); /* NULL is fine */

static inline int ask_n_choice(const struct ask *a) { return a->n_prompt * a->n_per_prompt; }

#endif
