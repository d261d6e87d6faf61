/* gguf_parts: see gguf_parts.h. */
#include "engine/gguf_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum err part_bad(struct err_note *note, const char *path, const char *what)
{
    return err_set(note, ERR_MODEL_FILE, path, "%s: %s", path, what);
}

static enum err no_memory(struct err_note *note, const char *path)
{
    return err_set(note, ERR_NOMEM, path, "out of memory");
}

/* The number under key; absent where there is none. */
static enum err read_number(const struct gguf_part *p, const char *key, int64_t absent, int64_t *out,
                            struct err_note *note)
{
    *out = absent;
    if (!gguf_has(p->g, key) || (gguf_get_int(p->g, key, out) && *out >= 0)) return OK;
    return err_set(note, ERR_MODEL_FILE, p->path, "%s: key %s: is no number of parts or tensors", p->path,
                   key);
}

static enum err open_part(struct gguf_parts *p, int i, const char *path, struct err_note *note)
{
    struct gguf_part *part = &p->part[i];
    p->n = i + 1; /* half made ones too: they are closed as the others */
    if (!(part->path = strdup(path))) return no_memory(note, path);
    enum err e = gguf_open(&part->g, path, note);
    if (e != OK) return e;
    part->first = p->n_tensor;
    p->n_tensor += gguf_n_tensor(part->g);
    return OK;
}

/* It says that it is part i of n, and holds no tensor that stands in one before. */
static enum err check_part(const struct gguf_parts *p, int i, int64_t n, struct err_note *note)
{
    const struct gguf_part *part = &p->part[i];
    int64_t no, count;
    enum err e = read_number(part, "split.no", 0, &no, note);
    if (e == OK) e = read_number(part, "split.count", 1, &count, note);
    if (e != OK) return e;
    if (no != i || count != n)
        return err_set(note, ERR_MODEL_FILE, part->path,
                       "%s: is part %lld of %lld, where part %d of %lld belongs%s", part->path,
                       (long long)no + 1, (long long)count, i + 1, (long long)n,
                       i == 0 ? ": the model is named by its first part" : "");
    for (int t = 0; t < gguf_n_tensor(part->g); t++)
        for (int before = 0; before < i; before++)
            if (gguf_find(p->part[before].g, gguf_tensor_at(part->g, t)->name))
                return err_set(note, ERR_MODEL_FILE, part->path, "%s: tensor %s: stands in %s too",
                               part->path, gguf_tensor_at(part->g, t)->name, p->part[before].path);
    return OK;
}

/* path without "-00001-of-00003.gguf", whose numbers are 1 and n. */
static bool stem_of(const char *path, int64_t n, char *stem, size_t size)
{
    char end[40];
    const int m = snprintf(end, sizeof end, "-%05d-of-%05lld.gguf", 1, (long long)n);
    const size_t len = strlen(path);
    if (len <= (size_t)m || len - (size_t)m >= size || strcmp(path + len - (size_t)m, end) != 0) return false;
    snprintf(stem, size, "%.*s", (int)(len - (size_t)m), path);
    return true;
}

static enum err open_others(struct gguf_parts *p, const char *path, int64_t n, struct err_note *note)
{
    char stem[4096], name[4160];
    if (!stem_of(path, n, stem, sizeof stem))
        return err_set(note, ERR_MODEL_FILE, path,
                       "%s: is the first of %lld parts, so its name must end in -00001-of-%05lld.gguf", path,
                       (long long)n, (long long)n);
    enum err e = OK;
    for (int i = 1; i < n && e == OK; i++) {
        snprintf(name, sizeof name, "%s-%05d-of-%05lld.gguf", stem, i + 1, (long long)n);
        e = open_part(p, i, name, note);
        if (e == OK) e = check_part(p, i, n, note);
    }
    return e;
}

enum err gguf_parts_open(struct gguf_parts *p, const char *path, struct err_note *note)
{
    int64_t n, n_tensor;
    *p = (struct gguf_parts){0};
    if (!(p->part = calloc(1, sizeof *p->part))) return no_memory(note, path);
    enum err e = open_part(p, 0, path, note);
    if (e == OK) e = read_number(&p->part[0], "split.count", 1, &n, note);
    if (e == OK && (n < 1 || n > GGUF_PARTS_MOST))
        e = part_bad(note, path, "key split.count: is out of range");
    if (e == OK) e = check_part(p, 0, n, note);
    if (e != OK || n == 1) return e;
    struct gguf_part *all = realloc(p->part, (size_t)n * sizeof *all);
    if (!all) return no_memory(note, path);
    memset(all + 1, 0, (size_t)(n - 1) * sizeof *all);
    p->part = all;
    e = open_others(p, path, n, note);
    if (e == OK) e = read_number(&p->part[0], "split.tensors.count", p->n_tensor, &n_tensor, note);
    if (e == OK && n_tensor != p->n_tensor)
        e = err_set(note, ERR_MODEL_FILE, path,
                    "%s: its parts hold %d tensors, but key split.tensors.count says %lld", path, p->n_tensor,
                    (long long)n_tensor);
    return e;
}

void gguf_parts_close(struct gguf_parts *p)
{
    for (int i = 0; i < p->n; i++) {
        gguf_close(p->part[i].g);
        free(p->part[i].path);
    }
    free(p->part);
    *p = (struct gguf_parts){0};
}

const struct gguf_tensor *gguf_parts_find(const struct gguf_parts *p, const char *name, int *part)
{
    for (int i = 0; i < p->n; i++) {
        const struct gguf_tensor *t = gguf_find(p->part[i].g, name);
        if (!t) continue;
        *part = i;
        return t;
    }
    return NULL;
}
