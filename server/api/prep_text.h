/* prep_text: the worker's step of /tokenize and /detokenize: body in, answer out. Pure; any thread. */
#ifndef FLUXD_SERVER_API_PREP_TEXT_H
#define FLUXD_SERVER_API_PREP_TEXT_H

#include "server/api/params.h"
#include "server/api/prep.h"

enum { TEXT_ANSWER_WHOLE_BYTES = 65536 }; /* an answer up to about this length is written at once */

enum err prep_tokenize(const struct prep_env *env, const struct params *p, struct json_in *in, struct ask *a);
/* {"input_tokens": n}, with "object" where one is named. */
enum err prep_count(const struct prep_env *env, const struct params *p, struct json_in *in, struct ask *a,
                    const char *object);
/* The prompt of a chat: its text and its number of tokens. */
enum err prep_render(const struct prep_env *env, const struct params *p, struct json_in *in, struct ask *a);
enum err prep_detokenize(const struct prep_env *env, const struct params *p, struct json_in *in,
                         struct ask *a);

#endif
