/* account: every tensor of a model's files is used, known to be of no use to answers, or refused by its name:
 * what a file holds and nobody reads makes wrong answers without a word. */
#ifndef FLUXD_ENGINE_ACCOUNT_H
#define FLUXD_ENGINE_ACCOUNT_H

#include "engine/source.h"
#include "engine/spec.h"

/* After everything that the model needs was looked up in src (weights_check, routers_take). */
enum err account_check(const struct source *src, const struct spec *s, struct err_note *note);

#endif
