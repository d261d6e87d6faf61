/* safetensors: reads one .safetensors file strictly - header, tensor table, bytes by pread. Nothing is
 * believed before it is checked against the file's size: tensors fill the file without hole or overlap, or
 * the file is refused. Read-only after open: any thread may call the rest. */
#ifndef FLUXD_BASE_FILES_SAFETENSORS_H
#define FLUXD_BASE_FILES_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/err.h"

enum { SAFETENSORS_DIM_MOST = 6 };

struct safetensors;
struct safetensors_tensor {
    const char *name;      /* UTF-8, NUL-terminated */
    const char *type_name; /* "BF16" */
    enum dtype dt;         /* DT_COUNT: a type that is no weight's (I64, BOOL, ...) */
    int n_dim;
    int64_t shape[SAFETENSORS_DIM_MOST]; /* outermost first */
    int64_t n_elem;
    int64_t offset, n_bytes; /* in the file */
};

/* Refuses (ERR_MODEL_FILE, or ERR_IO / ERR_NOMEM) with one line naming file and tensor. */
enum err safetensors_open(struct safetensors **out, const char *path, struct err_note *note);
void safetensors_close(struct safetensors *s); /* NULL is fine */

int safetensors_n_tensor(const struct safetensors *s);
const struct safetensors_tensor *safetensors_at(const struct safetensors *s, int i);
const struct safetensors_tensor *safetensors_find(const struct safetensors *s,
                                                  const char *name);            /* NULL: absent */
const char *safetensors_metadata(const struct safetensors *s, const char *key); /* NULL: absent */
/* n bytes of the tensor from byte `from` on. */
enum err safetensors_read(const struct safetensors *s, const struct safetensors_tensor *t, int64_t from,
                          int64_t n, void *to, struct err_note *note);

#endif
