/* mutate_dir: a Hugging Face directory of tests/goldens/tiny, copied to where its files can be changed, and
 * loaded as the engine does. Each directory is refused by one line that names the file, or loads; no block of
 * memory is larger than twice the directory. Include once, in the test's own file. */
#ifndef FLUXD_TESTS_ENGINE_MUTATE_DIR_H
#define FLUXD_TESTS_ENGINE_MUTATE_DIR_H

#include "tests/engine/mutate.h"

#include <sys/stat.h>

#include "base/log.h"
#include "engine/account.h"
#include "engine/backend.h"
#include "engine/router_load.h"
#include "engine/source.h"
#include "engine/spec.h"
#include "engine/weights.h"

enum { FILE_MOST = 8, TEXT_MOST = 8192, SLACK = 16384 };

struct file {
    char path[96];
    char *data;
    size_t n;
};

static struct backend *backend;
static char root[] = "/tmp/fluxd-mutate-hf-XXXXXX";
static struct file file[FILE_MOST];
static int n_file;
static char dir[64];
static int n_refused, n_loaded;

static inline void write_bytes(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, n, f) != n) fail_msg("the test's file cannot be written");
    fclose(f);
}

static inline void restore(const struct file *f) { write_bytes(f->path, f->data, f->n); }

/* A copy of tests/goldens/tiny/<name>. */
static inline void copy_model(const char *name, const char *const *files)
{
    snprintf(dir, sizeof dir, "%s/%s", root, name);
    assert_int_equal(mkdir(dir, 0700), 0);
    for (n_file = 0; files[n_file]; n_file++) {
        char from[160];
        struct file *f = &file[n_file];
        snprintf(from, sizeof from, "tests/goldens/tiny/%s/%s", name, files[n_file]);
        snprintf(f->path, sizeof f->path, "%s/%s", dir, files[n_file]);
        FILE *in = fopen(from, "rb");
        assert_non_null(in);
        f->data = calloc(1, (1 << 19) + 1);
        assert_non_null(f->data);
        f->n = fread(f->data, 1, 1 << 19, in);
        fclose(in);
        assert_true(f->n > 0);
        restore(f);
    }
}

static inline void drop_model(void)
{
    for (int i = 0; i < n_file; i++) {
        remove(file[i].path);
        free(file[i].data);
    }
    assert_int_equal(rmdir(dir), 0);
}

static inline enum err load_dir(struct err_note *note)
{
    struct source *src = NULL;
    struct spec spec;
    struct weights w = {0};
    struct routers r = {0};
    enum err e = source_open(&src, dir, note);
    if (e == OK) e = spec_load(&spec, src, note);
    struct weights_load l = {.src = src, .spec = &spec, .backend = backend};
    if (e == OK) e = weights_check(&l, note);
    if (e == OK) e = routers_take(&r, src, &spec, note);
    if (e == OK) e = account_check(src, &spec, note);
    if (e == OK) {
        e = weights_load(&w, &l, note);
        weights_free(&w, backend);
    }
    routers_free(&r);
    source_close(src);
    return e;
}

/* True: it loaded. */
static inline bool try_dir(const char *what)
{
    struct err_note note = {0};
    size_t all = 0;
    for (int i = 0; i < n_file; i++) all += file[i].n;
    watch_begin();
    enum err e = load_dir(&note);
    watch_end();
    if (watch.most > 2 * (long long)all + SLACK)
        fail_msg("%s: a block of %lld bytes for files of %zu", what, (long long)watch.most, all);
    if (e != OK) assert_refusal(&note, dir, NULL, what);
    if (e == OK)
        n_loaded++;
    else
        n_refused++;
    return e == OK;
}

/* f with the bytes [at, at + n) replaced. */
static inline bool try_with(const struct file *f, size_t at, size_t n, const char *by, size_t n_by,
                            const char *what)
{
    static char text[1 << 20];
    memcpy(text, f->data, at);
    memcpy(text + at, by, n_by);
    memcpy(text + at + n_by, f->data + at + n, f->n - at - n);
    write_bytes(f->path, text, f->n - n + n_by);
    bool ok = try_dir(what);
    restore(f);
    return ok;
}

/* cmocka's exit code: tests against a CPU backend of one thread. */
static inline int run_mutations(const struct CMUnitTest *tests, size_t n)
{
    struct backend_conf b = {
        .dtype = ENGINE_DTYPE_AUTO, .n_thread = 1, .max_tok = 16, .max_k = 256, .max_n = 256};
    log_set_level(LOG_WARN); /* tensors of no use are told of each time */
    if (!mkdtemp(root) || backend_cpu_open(&backend, &b, NULL) != OK) return 1;
    int failed = _cmocka_run_group_tests("tests", tests, n, NULL, NULL);
    backend->close(backend);
    rmdir(root);
    return failed;
}

#endif
