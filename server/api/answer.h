/* answer: the JSON shapes of what a generation gives: choices, log-probabilities, usage. Writes, decides
 * nothing. Any thread. */
#ifndef FLUXD_SERVER_API_ANSWER_H
#define FLUXD_SERVER_API_ANSWER_H

#include "scheduler/scheduler.h"
#include "scheduler/request.h"
#include "server/json/out.h"
#include "server/text/tokenizer.h"

/* What every answer and every chunk begins with. */
struct answer_head {
    const char *id, *model;
    int64_t created;
};

enum answer_form {
    ANSWER_COMPLETION,
    ANSWER_COMPLETION_CHUNK,
    ANSWER_CHAT,
    ANSWER_CHAT_CHUNK,
    ANSWER_N_FORM
};

/* A call of a tool, or the news of one. */
enum { ANSWER_CALL_ID_BYTES = 160 };
struct answer_call {
    int index;
    bool begins; /* its id and name belong to it */
    char id[ANSWER_CALL_ID_BYTES];
    const char *name, *args;
    size_t n_name, n_args;
};

/* One choice, or the news of one choice in a chunk. */
struct answer_choice {
    int index;
    const char *text;
    size_t n_text;
    const char *echo; /* completions: what stands before the text */
    size_t n_echo;
    const char *reason; /* chat: what was reasoned */
    size_t n_reason;
    const struct answer_call *call; /* [n_call] chat */
    int n_call;
    bool role;          /* chat chunk: the first one, which names the speaker */
    const char *finish; /* NULL: not yet */
    bool scored;        /* log-probabilities are asked for: of the tokens in `before`, then in `token` */
    const struct sample_out *before, *token;
    size_t n_before, n_token;
    bool first_null;    /* completions: the first of them is the prompt's first and has none */
    bool ids_for_names; /* tokens are called "token_id:7" */
    const int32_t *before_offset, *offset; /* completions: code points that end before each token in the echo,
                                              and behind it */
    int32_t n_echo_char;                   /* code points of the echo */
    int most_top;                          /* alternatives of tokens in `before`, which may know more */
    const struct sample_out
        *prompt; /* [n_prompt] prompt_logprobs, each with prompt_top; NULL: not asked for */
    size_t n_prompt;
    int prompt_top;
    const int32_t *id; /* n_id ids of the answer; NULL: not asked for */
    size_t n_id;
    const int32_t *prompt_id; /* likewise, of the prompt */
    size_t n_prompt_id;
};

/* Opens the answer's object with id, object, created, model (and the prompt's ids, where chat has them). */
void answer_begin(struct json_out *o, const struct answer_head *h, enum answer_form form,
                  const struct answer_choice *c);
void answer_choice(struct json_out *o, const struct tokenizer *t, enum answer_form form,
                   const struct answer_choice *c);

/* Where the writing of a choice stands; zero: at its beginning. */
struct answer_cursor {
    int part;
    size_t item;
    bool in_list;
};

/* Writes on, until o's buffer holds `most` bytes or a little more: false, or to the choice's end. The text is
 * one piece. c says the same every time, but for its text and finish once they are written. */
bool answer_choice_next(struct json_out *o, const struct tokenizer *t, enum answer_form form,
                        const struct answer_choice *c, struct answer_cursor *at, size_t most);

/* "prompt_logprobs" of c, as a member of the answer's object. */
bool answer_prompt_next(struct json_out *o, const struct tokenizer *t, const struct answer_choice *c,
                        struct answer_cursor *at, size_t most);

/* Log-probabilities of n tokens, as chats and responses have them. */
void answer_scores(struct json_out *o, const char *key, const struct tokenizer *t, const struct sample_out *s,
                   size_t n);

struct answer_usage {
    int64_t n_prompt, n_answer, n_cached;
    int64_t n_thought; /* of n_answer */
    int clamped; /* max_tokens as granted, where the client asked for more; 0: it got what it asked for */
    const struct request *const
        *routed; /* one finished request of each prompt; NULL: no attention_route (running counts) */
    int n_routed;
};
void answer_usage(struct json_out *o, const struct engine_info *model,
                  const struct answer_usage *u); /* "usage": {...} */

/* "attention_route" of the prompts, where they are routed; "clamped_max_tokens", where they are. */
void answer_extras(struct json_out *o, const struct engine_info *model, const struct answer_usage *u);

/* The whole answer to POST /v1/route, about a request that ended with FINISH_ROUTED. */
void answer_route(struct json_out *o, const struct answer_head *h, const struct engine_info *model,
                  const struct request *r);

#endif
