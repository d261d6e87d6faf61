/* hf: a Hugging Face directory - config.json, generation_config.json where there is one, and tensors from
 * model.safetensors or from the files that model.safetensors.index.json names. Read-only after open: any
 * thread may call the rest. */
#ifndef FLUXD_BASE_FILES_HF_H
#define FLUXD_BASE_FILES_HF_H

#include "base/err.h"
#include "base/files/jdoc.h"
#include "base/files/safetensors.h"

struct hf;

struct hf_tensor {
    const struct safetensors_tensor *t;
    const char *path; /* of the file it stands in */
    const struct safetensors *file;
};

/* Refuses what is malformed with one line naming the file. Free with hf_close. */
enum err hf_open(struct hf **out, const char *dir, struct err_note *note);
/* One safetensors file without a configuration: a router file. */
enum err hf_open_file(struct hf **out, const char *path, struct err_note *note);
/* The configuration alone, of a directory or a .json file; no tensors. */
enum err hf_open_config(struct hf **out, const char *path, struct err_note *note);
void hf_close(struct hf *h); /* NULL is fine */

struct jval hf_config(const struct hf *h);      /* an object, or no value where there is no configuration */
struct jval hf_generation(const struct hf *h);  /* likewise */
const char *hf_config_path(const struct hf *h); /* for messages */
const char *hf_generation_path(const struct hf *h);

int hf_n_tensor(const struct hf *h);
const struct hf_tensor *hf_at(const struct hf *h, int i);              /* in the order of names */
const struct hf_tensor *hf_find(const struct hf *h, const char *name); /* NULL: absent */
const char *hf_metadata(const struct hf *h, const char *key);          /* of the first file; NULL: absent */

#endif
