/* chat_prompt: messages -> the model's template -> token ids. Pure; any thread. No template, no URL and no
 * file is ever taken from a request. */
#ifndef FLUXD_SERVER_API_CHAT_PROMPT_H
#define FLUXD_SERVER_API_CHAT_PROMPT_H

#include "server/text/chat_tokens.h"
#include "server/text/tools/probe.h"
#include "server/api/params.h"

enum {
    MESSAGES_MOST = 16384,
    MESSAGE_NAME_BYTES_MOST = 256, /* name and tool_call_id */
    KWARG_BYTES_MOST = 1024,
};

struct chat_prompt_env {
    const struct tmpl *tmpl; /* NULL: the model has none, and chat is refused */
    const struct tokenizer *tokenizer;
    const struct chat_tokens *tokens;
    struct tool_template knows; /* how the model writes calls and thoughts, and what tmpl does of it */
    bool knows_developer;       /* tmpl has words for that role; else it is the system's */
    int32_t eos_id;             /* -1: none */
    int max_len;                /* tokens that the model takes */
    size_t text_bytes_most;     /* a longer text has more tokens than the model takes; 0: no bound */
    size_t tokenize_bytes_most; /* --max-tokenize-bytes, where tokens are only counted; 0: no bound */
    size_t rendered_bytes_most; /* of the template's text; 0: TMPL_MAX_OUTPUT_BYTES */
};

/* Refuses a text of n bytes that cannot fit, so that nobody has to count its tokens. */
enum err chat_prompt_may_fit(const struct chat_prompt_env *env, const struct params *p, struct json_in *in,
                             const char *param, size_t n);

const struct json_row *chat_prompt_message_rows(void); /* the fields of a message */

struct chat_prompt_end {
    bool think_open; /* the answer begins inside a thought */
    int n_call;      /* calls in the messages */
};

/* Appends the ids of p's messages to out. Refusals name the message ("messages[2].content"); ERR_TEMPLATE
 * with the text that the template raised. end may be NULL. */
enum err chat_prompt_tokens(const struct chat_prompt_env *env, const struct params *p, struct json_in *in,
                            struct token_vec *out, struct chat_prompt_end *end);

#endif
