/* source: over a GGUF file. */
#include "engine/source.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "engine/gguf.h"

struct source {
    char          *path;
    struct gguf   *g;
    atomic_uchar  *used; /* by tensor index */
};

enum err source_open(struct source **out, const char *path, struct err_note *note)
{
    struct source *s = calloc(1, sizeof *s);
    if (!s) return err_set(note, ERR_NOMEM, path, "out of memory");
    enum err e = gguf_open(&s->g, path, note);
    if (e != OK) goto fail;
    s->path = strdup(path);
    s->used = calloc((size_t)gguf_n_tensor(s->g) + 1, sizeof *s->used);
    if (!s->path || !s->used) {
        e = err_set(note, ERR_NOMEM, path, "out of memory");
        goto fail;
    }
    *out = s;
    return OK;
fail:
    source_close(s);
    return e;
}

void source_close(struct source *s)
{
    if (!s) return;
    gguf_close(s->g);
    free(s->used);
    free(s->path);
    free(s);
}

enum naming        source_naming(const struct source *s) { return s->g ? NAMING_GGUF : NAMING_HF; }
const struct gguf *source_gguf(const struct source *s) { return s->g; }
const char        *source_path(const struct source *s) { return s->path; }

bool source_find(struct source *s, const char *name, struct source_tensor *out)
{
    const struct gguf_tensor *t = gguf_find(s->g, name);
    if (!t || t->n_dim > 2) return false;
    atomic_store(&s->used[t - gguf_tensor_at(s->g, 0)], 1);
    *out = (struct source_tensor){.dt = t->dt, .n = t->dim[1], .k = t->dim[0], .n_bytes = t->n_bytes, .impl = t};
    return true;
}

enum err source_read(const struct source *s, const struct source_tensor *t, int64_t from, int64_t n_bytes, void *to,
                     struct err_note *note)
{
    return gguf_read(s->g, t->impl, from, n_bytes, to, note);
}

int source_n_unused(const struct source *s, const char **first)
{
    int n = 0;
    *first = NULL;
    for (int i = 0; i < gguf_n_tensor(s->g); i++) {
        if (s->used[i]) continue;
        if (n++ == 0) *first = gguf_tensor_at(s->g, i)->name;
    }
    return n;
}
