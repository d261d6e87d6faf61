/* gguf_parts: a model in one GGUF file, or in several that were split from one: NAME-00001-of-00003.gguf and
 * so on, of which the first has the metadata. Read-only after open: any thread. */
#ifndef FLUXD_ENGINE_GGUF_PARTS_H
#define FLUXD_ENGINE_GGUF_PARTS_H

#include "base/files/gguf.h"

enum { GGUF_PARTS_MOST = 999 };

struct gguf_part {
    struct gguf *g;
    char *path;
    int first; /* tensors in the parts before */
};

struct gguf_parts {
    struct gguf_part *part; /* [n] */
    int n, n_tensor;
};

/* path: the only file, or the first part. ERR_MODEL_FILE (or ERR_IO, ERR_NOMEM) names the part that is
 * missing, another model's, or out of place. Ends with gguf_parts_close, also after a failure. */
enum err gguf_parts_open(struct gguf_parts *p, const char *path, struct err_note *note);
void gguf_parts_close(struct gguf_parts *p); /* also of a zeroed one */

/* The tensor of that name, and its part; NULL: absent. */
const struct gguf_tensor *gguf_parts_find(const struct gguf_parts *p, const char *name, int *part);

#endif
