/* hf: opening. What an index claims and what the files hold must be the same: every name in the file that the
 * index gives, none twice. */
#include "base/files/hf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"

enum { CONFIG_MOST = 1 << 20, INDEX_MOST = 64 << 20, FILE_MOST = 1024, NAME_MOST = 255 };

struct shard {
    const char *name, *path;
    struct safetensors *s;
};

struct hf {
    struct arena mem;
    const char *dir, *config_path, *generation_path;
    struct jdoc config, generation;
    struct shard *shard;
    int n_shard, n_tensor;
    struct hf_tensor *tensor; /* by name */
};

static enum err bad(struct err_note *note, const char *path, const char *what)
{
    return err_set(note, ERR_MODEL_FILE, path, "%s: %s", path, what);
}

static enum err nomem(const struct hf *h, struct err_note *note)
{
    return err_set(note, ERR_NOMEM, h->dir, "%s: out of memory", h->dir);
}

/* dir/name in the arena; NULL: no memory. */
static const char *join(struct hf *h, const char *name)
{
    size_t n = strlen(h->dir) + strlen(name) + 2;
    char *p = arena_alloc(&h->mem, n);
    if (p) snprintf(p, n, "%s/%s", h->dir, name);
    return p;
}

static enum err read_object(struct jdoc *d, const char *path, size_t most, struct err_note *note)
{
    enum err e = jdoc_open(d, path, most, note);
    if (e != OK) return e;
    return jval_kind(d->root) == JKIND_OBJECT ? OK : bad(note, path, "is no JSON object");
}

static enum err read_config(struct hf *h, struct err_note *note)
{
    enum err e = read_object(&h->config, h->config_path, CONFIG_MOST, note);
    if (e != OK || !h->generation_path || access(h->generation_path, F_OK) != 0) return e;
    return read_object(&h->generation, h->generation_path, CONFIG_MOST, note);
}

/* --- tensors */

static int cmp_tensor(const void *a, const void *b)
{
    const struct hf_tensor *x = a, *y = b;
    return strcmp(x->t->name, y->t->name);
}

static enum err gather_tensors(struct hf *h, struct err_note *note)
{
    size_t n = 0;
    for (int i = 0; i < h->n_shard; i++) n += (size_t)safetensors_n_tensor(h->shard[i].s);
    if (n > INT32_MAX / 2) return bad(note, h->dir, "too many tensors");
    h->tensor = malloc((n + 1) * sizeof *h->tensor);
    if (!h->tensor) return nomem(h, note);
    for (int i = 0; i < h->n_shard; i++)
        for (int j = 0; j < safetensors_n_tensor(h->shard[i].s); j++)
            h->tensor[h->n_tensor++] =
                (struct hf_tensor){safetensors_at(h->shard[i].s, j), h->shard[i].path, h->shard[i].s};
    qsort(h->tensor, n, sizeof *h->tensor, cmp_tensor);
    for (size_t i = 1; i < n; i++)
        if (cmp_tensor(&h->tensor[i - 1], &h->tensor[i]) == 0)
            return err_set(note, ERR_MODEL_FILE, h->tensor[i].path, "%s: tensor %s: stands in %s too",
                           h->tensor[i].path, h->tensor[i].t->name, h->tensor[i - 1].path);
    return OK;
}

static enum err open_shards(struct hf *h, struct err_note *note)
{
    enum err e = OK;
    for (int i = 0; i < h->n_shard && e == OK; i++)
        e = safetensors_open(&h->shard[i].s, h->shard[i].path, note);
    return e == OK ? gather_tensors(h, note) : e;
}

static enum err one_file(struct hf *h, const char *path, struct err_note *note)
{
    h->shard = calloc(1, sizeof *h->shard);
    if (!h->shard || !path) return nomem(h, note);
    h->shard[0] = (struct shard){.name = path, .path = path};
    h->n_shard = 1;
    return open_shards(h, note);
}

/* A name inside the directory: no path leads out of it. */
static bool is_plain(const char *name, size_t n)
{
    return n > 0 && n <= NAME_MOST && strlen(name) == n && !strchr(name, '/') && name[0] != '.';
}

static enum err list_shards(struct hf *h, struct jval map, const char *path, struct err_note *note)
{
    for (struct jiter it = jval_iter(map); jiter_next(&it);) {
        const char *name;
        size_t n;
        bool known = false;
        for (int i = h->n_shard - 1; i >= 0 && !known; i--) known = jval_is(it.value, h->shard[i].name);
        if (known) continue;
        if (!jval_string(it.value, &h->mem, &name, &n))
            return bad(note, path, "weight_map: has a file that is no string");
        if (!name) return nomem(h, note);
        if (!is_plain(name, n))
            return bad(note, path, "weight_map: has a file outside the model's directory");
        if (h->n_shard == FILE_MOST) return bad(note, path, "weight_map: names too many files");
        const char *at = join(h, name);
        struct shard *grown = at ? realloc(h->shard, ((size_t)h->n_shard + 1) * sizeof *grown) : NULL;
        if (!grown) return nomem(h, note);
        h->shard = grown;
        h->shard[h->n_shard++] = (struct shard){.name = name, .path = at};
    }
    return h->n_shard ? OK : bad(note, path, "weight_map: is missing or empty");
}

/* Every entry of the map, against the files. */
static enum err check_map(struct hf *h, struct jval map, const char *path, struct err_note *note)
{
    struct arena a;
    enum err e = OK;
    int n_named = 0;
    arena_init(&a, 0);
    for (struct jiter it = jval_iter(map); e == OK && jiter_next(&it); n_named++) {
        const char *name;
        size_t n;
        if (!jval_string(it.key, &a, &name, &n) || !name) {
            e = nomem(h, note);
            break;
        }
        const struct hf_tensor *t = strlen(name) == n ? hf_find(h, name) : NULL;
        if (!t || !jval_is(it.value, strrchr(t->path, '/') + 1))
            e = err_set(note, ERR_MODEL_FILE, path,
                        "%s: tensor %.96s: is not in the file that the index gives", path, name);
    }
    arena_fini(&a);
    if (e == OK && n_named != h->n_tensor)
        e = bad(note, path, "weight_map: its files hold tensors that it does not name");
    return e;
}

static enum err read_index(struct hf *h, const char *path, struct err_note *note)
{
    struct jdoc d = {0};
    enum err e = read_object(&d, path, INDEX_MOST, note);
    struct jval map = e == OK ? jval_get(d.root, "weight_map") : (struct jval){0};
    if (e == OK && jval_kind(map) != JKIND_OBJECT) e = bad(note, path, "weight_map: is missing or no object");
    if (e == OK) e = list_shards(h, map, path, note);
    if (e == OK) e = open_shards(h, note);
    if (e == OK) e = check_map(h, map, path, note);
    jdoc_close(&d);
    return e;
}

/* --- open */

static enum err make(struct hf **out, const char *dir, struct err_note *note)
{
    struct hf *h = calloc(1, sizeof *h);
    if (!h) return err_set(note, ERR_NOMEM, dir, "out of memory");
    arena_init(&h->mem, 0);
    h->dir = arena_strndup(&h->mem, dir, strlen(dir));
    if (h->dir) {
        *out = h;
        return OK;
    }
    hf_close(h);
    return err_set(note, ERR_NOMEM, dir, "out of memory");
}

static enum err finish(struct hf **out, struct hf *h, enum err e)
{
    if (e == OK)
        *out = h;
    else
        hf_close(h);
    return e;
}

static enum err find_config(struct hf *h, struct err_note *note)
{
    h->config_path = join(h, "config.json");
    h->generation_path = join(h, "generation_config.json");
    return h->config_path && h->generation_path ? read_config(h, note) : nomem(h, note);
}

enum err hf_open(struct hf **out, const char *dir, struct err_note *note)
{
    struct hf *h;
    enum err e = make(&h, dir, note);
    if (e != OK) return e;
    if ((e = find_config(h, note)) != OK) return finish(out, h, e);
    const char *one = join(h, "model.safetensors"), *index = join(h, "model.safetensors.index.json");
    if (!one || !index)
        e = nomem(h, note);
    else if (access(one, F_OK) == 0)
        e = one_file(h, one, note);
    else if (access(index, F_OK) == 0)
        e = read_index(h, index, note);
    else
        e = err_set(note, ERR_MODEL_FILE, dir,
                    "%s: has neither model.safetensors nor model.safetensors.index.json", dir);
    return finish(out, h, e);
}

enum err hf_open_file(struct hf **out, const char *path, struct err_note *note)
{
    struct hf *h;
    enum err e = make(&h, path, note);
    return e == OK ? finish(out, h, one_file(h, h->dir, note)) : e;
}

enum err hf_open_config(struct hf **out, const char *path, struct err_note *note)
{
    struct hf *h;
    struct stat st;
    enum err e = make(&h, path, note);
    if (e != OK) return e;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) return finish(out, h, find_config(h, note));
    h->config_path = h->dir;
    return finish(out, h, read_config(h, note));
}

void hf_close(struct hf *h)
{
    if (!h) return;
    for (int i = 0; i < h->n_shard; i++) safetensors_close(h->shard[i].s);
    free(h->shard);
    free(h->tensor);
    jdoc_close(&h->config);
    jdoc_close(&h->generation);
    arena_fini(&h->mem);
    free(h);
}

struct jval hf_config(const struct hf *h) { return h->config.root; }
struct jval hf_generation(const struct hf *h) { return h->generation.root; }
const char *hf_config_path(const struct hf *h) { return h->config_path; }
const char *hf_generation_path(const struct hf *h) { return h->generation_path; }

int hf_n_tensor(const struct hf *h) { return h->n_tensor; }
const struct hf_tensor *hf_at(const struct hf *h, int i) { return &h->tensor[i]; }

const struct hf_tensor *hf_find(const struct hf *h, const char *name)
{
    int lo = 0, hi = h->n_tensor;
    while (lo < hi) {
        int mid = lo + (hi - lo) / 2, c = strcmp(h->tensor[mid].t->name, name);
        if (c == 0) return &h->tensor[mid];
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

const char *hf_metadata(const struct hf *h, const char *key)
{
    return h->n_shard ? safetensors_metadata(h->shard[0].s, key) : NULL;
}
