/* source: a model's tensors by name, whatever file they come from. Rows are outputs, as the engine's weights
 * want them. Lookups and reads may come from several threads; every tensor that was looked up counts as used.
 */
#ifndef FLUXD_ENGINE_SOURCE_H
#define FLUXD_ENGINE_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/families.h"
#include "kernels/ops.h"

struct gguf;
struct hf;
struct source;

struct source_tensor {
    enum dtype dt; /* DT_COUNT: a type that is no weight's */
    int n_dim;     /* 1, 2 */
    int64_t n, k;  /* rows, columns; a vector is one row of k */
    int64_t n_bytes;
    const char *type; /* as a safetensors file names it; NULL in others */
    const char *path; /* of its file, for messages */
    int part;         /* which of a split GGUF's files */
    const void *impl;
};

/* path: a .gguf file (of a split model the first) or a Hugging Face directory. Free with source_close. */
enum err source_open(struct source **out, const char *path, struct err_note *note);
/* One safetensors file without a configuration. */
enum err source_open_file(struct source **out, const char *path, struct err_note *note);
/* Placeholder weights: a directory with config.json, or a .json file like it. Tensors come from source_invent
 * alone. */
enum err source_open_dummy(struct source **out, const char *path, struct err_note *note);
void source_close(struct source *s); /* NULL is fine */

enum naming source_naming(const struct source *s);
const struct gguf *source_gguf(const struct source *s); /* metadata; NULL when the source is none */
const struct hf *source_hf(const struct source *s);     /* configuration; NULL when the source is none */
const char *source_path(const struct source *s);

bool source_find(struct source *s, const char *name, struct source_tensor *out);
/* Of a dummy source: the tensor of this name and shape (n == 1: a vector), random numbers of the same kind
 * each time. False: no dummy. */
bool source_invent(const struct source *s, const char *name, int64_t n, int64_t k, struct source_tensor *out);
enum err source_read(const struct source *s, const struct source_tensor *t, int64_t from, int64_t n_bytes,
                     void *to, struct err_note *note);

struct source_name {
    const char *name, *path; /* path: of its file */
};
/* The next tensor from index *at on that nobody looked up; false: there is none. */
bool source_unused(const struct source *s, int *at, struct source_name *out);

#endif
