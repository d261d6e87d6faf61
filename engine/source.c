/* source: over a GGUF file, safetensors files, or nothing (placeholder weights). */
#include "engine/source.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/files/hf.h"
#include "engine/gguf_parts.h"
#include "kernels/quant.h"

enum source_form { FORM_GGUF, FORM_HF, FORM_DUMMY };

struct source {
    enum source_form form;
    char *path;
    struct gguf_parts parts; /* of FORM_GGUF */
    struct hf *hf;
    atomic_uchar *used; /* by tensor index */
};

static enum err make(struct source **out, enum source_form form, const char *path, struct err_note *note)
{
    struct source *s = calloc(1, sizeof *s);
    if (!s || !(s->path = strdup(path))) {
        source_close(s);
        return err_set(note, ERR_NOMEM, path, "out of memory");
    }
    s->form = form;
    *out = s;
    return OK;
}

/* e: how opening the file went. */
static enum err finish(struct source **out, struct source *s, enum err e, struct err_note *note)
{
    int n = e != OK ? 0 : s->form == FORM_GGUF ? s->parts.n_tensor : hf_n_tensor(s->hf);
    if (e == OK && !(s->used = calloc((size_t)n + 1, sizeof *s->used)))
        e = err_set(note, ERR_NOMEM, s->path, "out of memory");
    if (e == OK)
        *out = s;
    else
        source_close(s);
    return e;
}

enum err source_open(struct source **out, const char *path, struct err_note *note)
{
    struct stat st;
    struct source *s;
    bool dir = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
    enum err e = make(&s, dir ? FORM_HF : FORM_GGUF, path, note);
    if (e != OK) return e;
    return finish(out, s, dir ? hf_open(&s->hf, path, note) : gguf_parts_open(&s->parts, path, note), note);
}

enum err source_open_file(struct source **out, const char *path, struct err_note *note)
{
    struct source *s;
    enum err e = make(&s, FORM_HF, path, note);
    return e == OK ? finish(out, s, hf_open_file(&s->hf, path, note), note) : e;
}

enum err source_open_dummy(struct source **out, const char *path, struct err_note *note)
{
    struct source *s;
    enum err e = make(&s, FORM_DUMMY, path, note);
    return e == OK ? finish(out, s, hf_open_config(&s->hf, path, note), note) : e;
}

void source_close(struct source *s)
{
    if (!s) return;
    gguf_parts_close(&s->parts);
    hf_close(s->hf);
    free(s->used);
    free(s->path);
    free(s);
}

enum naming source_naming(const struct source *s) { return s->form == FORM_GGUF ? NAMING_GGUF : NAMING_HF; }
const struct gguf *source_gguf(const struct source *s) { return s->parts.n ? s->parts.part[0].g : NULL; }
const struct hf *source_hf(const struct source *s) { return s->hf; }
const char *source_path(const struct source *s) { return s->path; }

static bool find_hf(struct source *s, const char *name, struct source_tensor *out)
{
    const struct hf_tensor *h = hf_find(s->hf, name);
    if (!h) return false;
    const struct safetensors_tensor *t = h->t;
    atomic_store(&s->used[h - hf_at(s->hf, 0)], 1);
    *out = (struct source_tensor){.dt = t->dt,
                                  .n_dim = t->n_dim,
                                  .n = t->n_dim == 2 ? t->shape[0] : 1,
                                  .k = t->n_dim ? t->shape[t->n_dim - 1] : 1,
                                  .n_bytes = t->n_bytes,
                                  .type = t->type_name,
                                  .path = h->path,
                                  .impl = h};
    return true;
}

bool source_find(struct source *s, const char *name, struct source_tensor *out)
{
    if (s->form != FORM_GGUF) return find_hf(s, name, out);
    int i;
    const struct gguf_tensor *t = gguf_parts_find(&s->parts, name, &i);
    if (!t || t->n_dim > 2) return false;
    const struct gguf_part *part = &s->parts.part[i];
    atomic_store(&s->used[part->first + (t - gguf_tensor_at(part->g, 0))], 1);
    *out = (struct source_tensor){.dt = t->dt,
                                  .n_dim = t->n_dim,
                                  .n = t->dim[1],
                                  .k = t->dim[0],
                                  .n_bytes = t->n_bytes,
                                  .path = part->path,
                                  .part = i,
                                  .impl = t};
    return true;
}

/* --- placeholders: bf16 */

static uint64_t mix(uint64_t x) /* splitmix64 (Steele, Lea, Flood 2014) */
{
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

/* A tensor's numbers follow from its name alone, so a model is the same each time. */
static uintptr_t seed_of(const char *name)
{
    uint64_t h = 1;
    for (; *name; name++) h = mix(h ^ (unsigned char)*name);
    return (uintptr_t)(h | 1);
}

bool source_invent(const struct source *s, const char *name, int64_t n, int64_t k, struct source_tensor *out)
{
    if (s->form != FORM_DUMMY) return false;
    /* norms are 1 (impl NULL), so that activations keep their size through any number of layers */
    void *seed = n == 1 && strstr(name, "norm") ? NULL : (void *)seed_of(name);
    *out = (struct source_tensor){.dt = DT_BF16,
                                  .n_dim = n == 1 ? 1 : 2,
                                  .n = n,
                                  .k = k,
                                  .n_bytes = n * k * 2,
                                  .path = s->path,
                                  .impl = seed};
    return true;
}

/* Even in [-r, r) with the deviation 1/sqrt(k): products keep their size. Four numbers a hash; a batch of
 * hashes, then their numbers, which the compiler vectorises. */
enum { BATCH = 64 };

static void fill_batch(const struct source_tensor *t, int64_t group, float scale, uint16_t *to)
{
    uint16_t draw[4 * BATCH];
    for (int i = 0; i < BATCH; i++) {
        const uint64_t h = mix((uint64_t)(uintptr_t)t->impl + (uint64_t)(group + i));
        for (int j = 0; j < 4; j++) draw[4 * i + j] = (uint16_t)(h >> 16 * j);
    }
    for (int i = 0; i < 4 * BATCH; i++) {
        const uint32_t u = f32_bits((float)((int)draw[i] - 32768) * scale); /* finite */
        to[i] = (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
    }
}

static void fill_random(const struct source_tensor *t, int64_t first, int64_t n, uint16_t *to)
{
    const float scale = (float)(sqrt(3.0 / (double)t->k) / 32768);
    for (int64_t i = 0; i < n;) {
        const int64_t at = first + i;
        if (at % 4 == 0 && n - i >= 4 * BATCH) {
            fill_batch(t, at / 4, scale, to + i);
            i += 4 * BATCH;
        } else {
            const uint64_t h = mix((uint64_t)(uintptr_t)t->impl + (uint64_t)(at / 4)) >> at % 4 * 16;
            to[i++] = f32_to_bf16((float)((int)(h & 0xffff) - 32768) * scale);
        }
    }
}

enum err source_read(const struct source *s, const struct source_tensor *t, int64_t from, int64_t n_bytes,
                     void *to, struct err_note *note)
{
    if (s->form == FORM_GGUF) return gguf_read(s->parts.part[t->part].g, t->impl, from, n_bytes, to, note);
    if (s->form == FORM_DUMMY) {
        const int64_t n = n_bytes / 2;
        uint16_t *v = to;
        if (t->impl)
            fill_random(t, from / 2, n, v);
        else
            for (int64_t i = 0; i < n; i++) v[i] = f32_to_bf16(1);
        return OK;
    }
    const struct hf_tensor *h = t->impl;
    return safetensors_read(h->file, h->t, from, n_bytes, to, note);
}

static struct source_name name_at(const struct source *s, int i)
{
    if (s->form != FORM_GGUF) return (struct source_name){hf_at(s->hf, i)->t->name, hf_at(s->hf, i)->path};
    int k = s->parts.n - 1;
    while (s->parts.part[k].first > i) k--;
    const struct gguf_part *part = &s->parts.part[k];
    return (struct source_name){gguf_tensor_at(part->g, i - part->first)->name, part->path};
}

bool source_unused(const struct source *s, int *at, struct source_name *out)
{
    const int n = s->form == FORM_GGUF ? s->parts.n_tensor : hf_n_tensor(s->hf);
    while (*at < n && s->used[*at]) ++*at;
    if (*at >= n) return false;
    *out = name_at(s, (*at)++);
    return true;
}
