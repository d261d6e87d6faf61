/* names: what clients may call the model. Made once; any thread reads it. */
#ifndef FLUXD_SERVER_API_NAMES_H
#define FLUXD_SERVER_API_NAMES_H

#include <stdbool.h>

#include "base/err.h"
#include "server/config.h"

enum { MODEL_ALIASES_MOST = 3 };

struct model_names {
    char id[MODEL_ID_BYTES]; /* as /v1/models has it */
    char alias[MODEL_ALIASES_MOST][MODEL_ID_BYTES];
    int n_alias;
};

/* served: --served-model-name, which is then the only name; else the file's or directory's own without its
 * endings, and as aliases that without a quantisation at its end, and the name inside the file. */
void model_names_init(struct model_names *n, const char *served, const char *path, const char *inside);
bool model_names_has(const struct model_names *n, const char *name);
/* ERR_MODEL_NOT_FOUND, with the names that there are. */
enum err model_names_refuse(const struct model_names *n, const char *name, struct err_note *note);

#endif
