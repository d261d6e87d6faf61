/* gguf: reads a GGUF v3 file - metadata, tensor table, tensor bytes. Everything in the file is checked
 * against the file's size before it is believed; nothing is mapped, so a file that shrinks later is an error
 * and not a signal. Read-only after gguf_open: any thread may call the rest. */
#ifndef FLUXD_BASE_FILES_GGUF_H
#define FLUXD_BASE_FILES_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/err.h"

struct gguf;

struct gguf_str {
    const char *p; /* not NUL-terminated; lives until gguf_close */
    size_t n;
};

struct gguf_tensor {
    char name[64];
    enum dtype dt;
    int n_dim;
    int64_t dim[4]; /* dim[0] is the length of a row (the format's order); unused ones are 1 */
    int64_t n_elem;
    int64_t offset; /* in the file */
    int64_t n_bytes;
};

/* Refuses (ERR_MODEL_FILE, or ERR_IO / ERR_NOMEM) with one line naming file and key or tensor. */
enum err gguf_open(struct gguf **out, const char *path, struct err_note *note);
void gguf_close(struct gguf *g); /* NULL is fine */

int gguf_n_tensor(const struct gguf *g);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, int i);
const struct gguf_tensor *gguf_find(const struct gguf *g, const char *name); /* NULL: absent */
/* n bytes of the tensor from byte `from` on. */
enum err gguf_read(const struct gguf *g, const struct gguf_tensor *t, int64_t from, int64_t n, void *to,
                   struct err_note *note);

/* Metadata by key. False when the key is absent or of another kind; out is then untouched. Integers of any
 * width and sign read as int64 (a uint64 above its range: false). */
bool gguf_has(const struct gguf *g, const char *key);
bool gguf_get_str(const struct gguf *g, const char *key, struct gguf_str *out);
bool gguf_get_int(const struct gguf *g, const char *key, int64_t *out);
bool gguf_get_float(const struct gguf *g, const char *key, double *out); /* f32 or f64 */
bool gguf_get_bool(const struct gguf *g, const char *key, bool *out);

/* Arrays: length of the array of strings / of integers under key, or -1; the second call fills all of it. */
int64_t gguf_n_strs(const struct gguf *g, const char *key);
void gguf_get_strs(const struct gguf *g, const char *key, struct gguf_str *out);
int64_t gguf_n_floats(const struct gguf *g, const char *key); /* of f32 */
void gguf_get_floats(const struct gguf *g, const char *key, float *out);
int64_t gguf_n_ints(const struct gguf *g, const char *key);
void gguf_get_ints(const struct gguf *g, const char *key, int64_t *out);

#endif
