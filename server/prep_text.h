/* prep_text: the worker's step of /tokenize and /detokenize: body in, whole answer out. Pure; any thread. */
#ifndef FLUXD_SERVER_PREP_TEXT_H
#define FLUXD_SERVER_PREP_TEXT_H

#include "base/strbuf.h"
#include "server/params.h"
#include "server/prep.h"

enum err prep_tokenize(const struct prep_env *env, const struct params *p, struct json_in *in, struct strbuf *answer);
enum err prep_detokenize(const struct prep_env *env, const struct params *p, struct json_in *in, struct strbuf *answer);

#endif
