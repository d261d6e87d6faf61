/* spec_read: keys of a JSON object, checked. A key that changes the answer and is not understood is refused
 * by its name; null is absent, as the format's own reader has it. */
#ifndef FLUXD_ENGINE_SPEC_READ_H
#define FLUXD_ENGINE_SPEC_READ_H

#include "base/err.h"
#include "base/files/jdoc.h"
#include "engine/spec.h"

struct reader {
    struct jval at; /* object that keys are looked up in */
    const char *path;
    struct err_note *note;
};

static inline enum err key_bad(const struct reader *r, const char *key, const char *what)
{
    return err_set(r->note, ERR_MODEL_FILE, r->path, "%s: key %s: %s", r->path, key, what);
}

/* JKIND_NONE also for null. */
static inline struct jval get(const struct reader *r, const char *key)
{
    struct jval v = jval_get(r->at, key);
    return jval_kind(v) == JKIND_NULL ? (struct jval){0} : v;
}

static inline bool has(const struct reader *r, const char *key)
{
    return jval_kind(get(r, key)) != JKIND_NONE;
}

static inline enum err read_int(const struct reader *r, const char *key, int64_t most, int *out)
{
    int64_t v;
    if (!jval_int(get(r, key), &v)) return key_bad(r, key, "is missing or no integer");
    if (v < 1 || v > most) return key_bad(r, key, "is out of range");
    *out = (int)v;
    return OK;
}

static inline enum err read_int_or(const struct reader *r, const char *key, int64_t most, int absent,
                                   int *out)
{
    *out = absent;
    return has(r, key) ? read_int(r, key, most, out) : OK;
}

static inline enum err read_double_or(const struct reader *r, const char *key, double absent, double *out)
{
    *out = absent;
    return !has(r, key) || jval_double(get(r, key), out) ? OK : key_bad(r, key, "is no finite number");
}

static inline enum err read_bool_or(const struct reader *r, const char *key, bool absent, bool *out)
{
    *out = absent;
    return !has(r, key) || jval_bool(get(r, key), out) ? OK : key_bad(r, key, "is neither true nor false");
}

/* quantization_config: how each matrix is stored (spec_quant.c). After the sizes. */
enum err spec_load_stored(const struct reader *r, struct spec *s);

#endif
