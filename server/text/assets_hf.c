/* assets_hf: a Hugging Face directory. tokenizer.json must be there; the files beside it are read where they
 * are. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/text/assets_internal.h"

enum { TOKENIZER_BYTES_MOST = 256 << 20, CONFIG_BYTES_MOST = 16 << 20, TEMPLATE_BYTES_MOST = 1 << 20 };

/* One of the directory's JSON files. *d stays zeroed where an optional one is not there. */
static enum err open_json(struct jdoc *d, char **path, const char *dir, const char *name,
                          struct err_note *note)
{
    *d = (struct jdoc){0};
    if (asprintf(path, "%s/%s", dir, name) < 0) {
        *path = NULL;
        return err_set(note, ERR_NOMEM, dir, "out of memory");
    }
    bool needed = strcmp(name, "tokenizer.json") == 0;
    if (!needed && access(*path, F_OK) != 0 && errno == ENOENT) return OK;
    enum err e = jdoc_open(d, *path, needed ? TOKENIZER_BYTES_MOST : CONFIG_BYTES_MOST, note);
    if (e == OK && jval_kind(d->root) != JKIND_OBJECT)
        e = err_set(note, ERR_MODEL_FILE, *path, "%s: not a JSON object", *path);
    return e;
}

static enum err bad(struct err_note *note, const char *path, const char *key, const char *what)
{
    return err_set(note, ERR_MODEL_FILE, path, "%s: %s: %s", path, key, what);
}

/* --- tokenizer_config.json */

/* A token's name: a string, or an object with the text in it. */
static enum err read_token(struct text_owner *o, struct jval config, const char *path, const char *key,
                           const struct strmap *ids, int32_t *id, struct err_note *note)
{
    struct jval v = jval_get(config, key);
    const char *text;
    size_t n;
    *id = -1;
    if (jval_kind(v) == JKIND_NONE || jval_kind(v) == JKIND_NULL) return OK;
    if (jval_kind(v) == JKIND_OBJECT) v = jval_get(v, "content");
    if (!jval_string(v, &o->arena, &text, &n))
        return bad(note, path, key, "is neither a string nor an object with content");
    if (!text) return err_set(note, ERR_NOMEM, path, "out of memory");
    *id = strmap_get(ids, text, n);
    return *id >= 0 ? OK : bad(note, path, key, "is no token of the vocabulary");
}

/* What tokenizer.json's post_processor adds is what is added; its tokens must be the ones named here. Where
 * it has none, the flags here count. */
static enum err read_frame(struct text_owner *o, struct jval config, const char *path,
                           const struct strmap *ids, struct err_note *note)
{
    const struct {
        const char *token, *flag;
        int32_t *id;
        bool *add;
    } end[] = {{"bos_token", "add_bos_token", &o->t.bos_id, &o->t.add_bos},
               {"eos_token", "add_eos_token", &o->t.eos_id, &o->t.add_eos}};
    bool has_template = o->t.add_bos || o->t.add_eos;
    for (size_t i = 0; i < 2; i++) {
        int32_t id;
        bool flag = false;
        enum err e = read_token(o, config, path, end[i].token, ids, &id, note);
        if (e != OK) return e;
        if (*end[i].add && id >= 0 && id != *end[i].id)
            return bad(note, path, end[i].token, "is not the token that tokenizer.json adds");
        if (id >= 0) *end[i].id = id;
        struct jval v = jval_get(config, end[i].flag);
        if (jval_kind(v) != JKIND_NONE && jval_kind(v) != JKIND_NULL && !jval_bool(v, &flag))
            return bad(note, path, end[i].flag, "is neither true nor false");
        if (has_template || !flag) continue;
        if (*end[i].id < 0) return bad(note, path, end[i].flag, "there is no such token to add");
        *end[i].add = true;
    }
    return OK;
}

static enum err name_template_file(struct text_owner *o, const char *path, struct err_note *note)
{
    o->t.template_file = arena_strndup(&o->arena, path, strlen(path));
    return o->t.template_file ? OK : err_set(note, ERR_NOMEM, path, "out of memory");
}

/* A string, or a list of {name, template}, of which the one named default counts. */
static enum err read_config_template(struct text_owner *o, struct jval config, const char *path,
                                     struct err_note *note)
{
    struct jval v = jval_get(config, "chat_template");
    if (jval_kind(v) == JKIND_NONE || jval_kind(v) == JKIND_NULL) return OK;
    if (jval_kind(v) == JKIND_ARRAY) {
        struct jval list = v;
        v = (struct jval){0};
        for (struct jiter it = jval_iter(list); jiter_next(&it);) {
            if (jval_kind(jval_get(it.value, "name")) != JKIND_STRING)
                return bad(note, path, "chat_template", "is neither a string nor a list of named ones");
            if (jval_is(jval_get(it.value, "name"), "default")) v = jval_get(it.value, "template");
        }
        if (jval_kind(v) == JKIND_NONE) return OK; /* only templates for special ends */
    }
    if (!jval_string(v, &o->arena, &o->t.chat_template, &o->t.chat_template_len))
        return bad(note, path, "chat_template", "is neither a string nor a list of named ones");
    return o->t.chat_template ? name_template_file(o, path, note)
                              : err_set(note, ERR_NOMEM, path, "out of memory");
}

/* --- chat_template.jinja, which goes before the one in tokenizer_config.json */

/* The file's bytes in the arena. A pipe or a device is refused, not read. */
static enum err take_file(struct text_owner *o, int fd, const char *path, struct err_note *note)
{
    struct stat st;
    if (fstat(fd, &st) != 0) return err_set(note, ERR_IO, path, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode)) return err_set(note, ERR_MODEL_FILE, path, "%s: not a regular file", path);
    if (st.st_size > TEMPLATE_BYTES_MOST)
        return err_set(note, ERR_MODEL_FILE, path, "%s: larger than %d bytes", path, TEMPLATE_BYTES_MOST);
    size_t n = (size_t)st.st_size, at = 0;
    char *text = arena_alloc(&o->arena, n + 1);
    if (!text) return err_set(note, ERR_NOMEM, path, "out of memory");
    while (at < n) {
        ssize_t got = read(fd, text + at, n - at);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return err_set(note, ERR_IO, path, "%s: cannot be read", path);
        at += (size_t)got;
    }
    text[n] = 0;
    o->t.chat_template = text;
    o->t.chat_template_len = n;
    return name_template_file(o, path, note);
}

static enum err read_template_file(struct text_owner *o, const char *dir, struct err_note *note)
{
    char *path;
    enum err e = OK;
    if (asprintf(&path, "%s/chat_template.jinja", dir) < 0)
        return err_set(note, ERR_NOMEM, dir, "out of memory");
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0) {
        e = take_file(o, fd, path, note);
        close(fd);
    } else if (errno != ENOENT)
        e = err_set(note, ERR_IO, path, "%s: %s", path, strerror(errno));
    free(path);
    return e;
}

/* --- generation_config.json */

/* A default for requests: absent and null say nothing; what no request could ask for is refused. */
static enum err read_number(struct jval config, const char *path, const char *key, double least, double most,
                            double *out, struct err_note *note)
{
    struct jval v = jval_get(config, key);
    double x;
    if (jval_kind(v) == JKIND_NONE || jval_kind(v) == JKIND_NULL) return OK;
    if (!jval_double(v, &x) || x < least || x > most)
        return bad(note, path, key, "is no number in its range");
    *out = x;
    return OK;
}

/* eos where tokenizer_config.json names none: a number, or the first of a list. */
static enum err read_eos(struct text_owner *o, struct jval config, const char *path, struct err_note *note)
{
    struct jval v = jval_get(config, "eos_token_id");
    int64_t id;
    bool first = true, list = jval_kind(v) == JKIND_ARRAY;
    if (jval_kind(v) == JKIND_NONE || jval_kind(v) == JKIND_NULL) return OK;
    struct jiter it = jval_iter(v);
    if (list && !jiter_next(&it)) return bad(note, path, "eos_token_id", "is an empty list");
    do {
        if (!jval_int(list ? it.value : v, &id) || id < 0 || id >= o->t.n_piece)
            return bad(note, path, "eos_token_id", "is no token of the vocabulary");
        if (first && o->t.eos_id < 0) o->t.eos_id = (int32_t)id;
        first = false;
    } while (list && jiter_next(&it));
    return OK;
}

static enum err read_generation(struct text_owner *o, const struct jdoc *d, const char *path,
                                struct err_note *note)
{
    struct text_assets *t = &o->t;
    double top_k = -1;
    enum err e = read_number(d->root, path, "temperature", 0, 100, &t->temperature, note);
    if (e == OK) e = read_number(d->root, path, "top_p", 1e-6, 1, &t->top_p, note);
    if (e == OK)
        e = read_number(d->root, path, "repetition_penalty", 1e-3, 1e3, &t->repetition_penalty, note);
    if (e == OK) e = read_number(d->root, path, "top_k", -1, INT32_MAX, &top_k, note);
    if (e == OK && floor(top_k) < top_k) e = bad(note, path, "top_k", "is no whole number");
    t->top_k = (int)top_k;
    return e == OK ? read_eos(o, d->root, path, note) : e;
}

/* --- the directory */

enum err text_assets_read_dir(struct text_owner *o, const char *dir, struct err_note *note)
{
    struct jdoc tokenizer = {0}, config = {0}, generation = {0};
    char *path[3] = {NULL};
    struct strmap *ids = NULL;
    enum err e = open_json(&tokenizer, &path[0], dir, "tokenizer.json", note);
    if (e == OK && !(o->t.file = arena_strndup(&o->arena, path[0], strlen(path[0]))))
        e = err_set(note, ERR_NOMEM, dir, "out of memory");
    if (e == OK) e = text_assets_read_tokenizer(o, &tokenizer, &ids, note);
    jdoc_close(&tokenizer); /* tens of megabytes that nobody needs any more */
    if (e == OK) e = open_json(&config, &path[1], dir, "tokenizer_config.json", note);
    if (e == OK) e = read_frame(o, config.root, path[1], ids, note);
    if (e == OK) e = read_config_template(o, config.root, path[1], note);
    if (e == OK) e = read_template_file(o, dir, note);
    if (e == OK) e = open_json(&generation, &path[2], dir, "generation_config.json", note);
    if (e == OK) e = read_generation(o, &generation, path[2], note);
    jdoc_close(&config);
    jdoc_close(&generation);
    strmap_free(ids);
    for (size_t i = 0; i < 3; i++) free(path[i]);
    return e;
}
