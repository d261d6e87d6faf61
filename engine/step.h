/* step: one engine step on any device: cuts a batch into calls of the transformer. Engine thread only. */
#ifndef FLUXD_ENGINE_STEP_H
#define FLUXD_ENGINE_STEP_H

#include "engine/state.h"

/* As engine_step. */
enum err step_run(struct engine *e, const struct batch *b, struct step_out *out, struct err_note *note);

#endif
