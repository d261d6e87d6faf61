/* constrain: what a request's answers must be, made ready: the grammar, and a guide for each answer. A worker
 * runs it. */
#ifndef FLUXD_SERVER_API_CONSTRAIN_H
#define FLUXD_SERVER_API_CONSTRAIN_H

#include "server/api/prep.h"

/* Of p->format, for the requests of a, whose prompts are there. Nothing where nothing is asked for or
 * generated. */
enum err constrain_ask(const struct prep_env *env, const struct params *p, struct ask *a,
                       struct err_note *note);
/* What p->format says, as a part. */
struct grammar_part constrain_part(const struct params *p);
/* The same for any text made of parts, as calls of tools are; name: the field that note names. */
enum err constrain_parts(const struct prep_env *env, enum constraint_kind kind,
                         const struct grammar_part *body, const struct grammar_opts *opts, const char *name,
                         struct ask *a, struct err_note *note);

#endif
