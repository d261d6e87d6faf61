/* responses_in: the items of POST /v1/responses as the messages of a chat, so that one way leads from
 * messages to a prompt. Pure, but for the store's lock; any thread. */
#ifndef FLUXD_SERVER_API_RESPONSES_IN_H
#define FLUXD_SERVER_API_RESPONSES_IN_H

#include "server/api/params.h"
#include "server/api/response_store.h"

/* What a request says that its response says again, and what is stored with it. In the ask's memory. */
struct response_ask {
    const char *previous_id, *instructions, *user, *safety_identifier, *prompt_cache_key; /* NULL: none */
    const char *tools, *tool_choice, *text, *reasoning, *metadata;                        /* as JSON */
    int32_t max_output_tokens, max_tool_calls;                                            /* -1: none */
    bool store, parallel_calls, truncates;
    const char *items; /* its own input as JSON objects with commas between */
    size_t n_items;
    struct response_entry *previous; /* held: release it */
};

/* Makes p->messages of the instructions, the items of `previous` and those before it, and p->input. Refusals
 * name the client's own field. */
enum err responses_in(struct params *p, struct json_in *in, const struct response_entry *previous);

/* All of out but `previous`. */
enum err response_ask_fill(struct response_ask *out, struct arena *mem, const struct params *p,
                           struct json_in *in);

#endif
