/* shorten: a conversation that is too long for the model loses its oldest turns (`truncation: auto`). Pure;
 * any thread. */
#ifndef FLUXD_SERVER_API_SHORTEN_H
#define FLUXD_SERVER_API_SHORTEN_H

#include "server/api/chat_prompt.h"

/* As chat_prompt_tokens, of at most `most` ids where leaving turns out can do it: from behind the system
 * messages at the head on, as few as possible, and never the last one of the user. p->messages is what is
 * left. *n_out: messages left out. */
enum err shorten_tokens(const struct chat_prompt_env *env, struct params *p, struct json_in *in, size_t most,
                        struct token_vec *ids, struct chat_prompt_end *end, int *n_out);

#endif
