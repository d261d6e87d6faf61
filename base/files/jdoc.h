/* jdoc: a JSON file that is checked whole and then read in place. There is no tree: a value is its span of
 * the text, and is looked through where it is asked for, so a vocabulary costs no memory but what the caller
 * keeps. Read-only once open. */
#ifndef FLUXD_BASE_FILES_JDOC_H
#define FLUXD_BASE_FILES_JDOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"

enum jkind { JKIND_NONE, JKIND_NULL, JKIND_BOOL, JKIND_NUMBER, JKIND_STRING, JKIND_ARRAY, JKIND_OBJECT };

struct jval {
    const char *p; /* raw text of a checked value; NULL: there is none */
    size_t n;
};

struct jdoc {
    char *text; /* NUL-terminated */
    size_t n;
    struct jval root;
};

/* Strict RFC 8259 in well-formed UTF-8, no byte order mark, depth <= 64, no key twice in an object, no half
 * surrogates; anything else is ERR_MODEL_FILE with the path and the byte. ERR_IO: cannot be read. */
enum err jdoc_open(struct jdoc *d, const char *path, size_t max_bytes, struct err_note *note);
void jdoc_close(struct jdoc *d); /* zeroed memory is fine */
/* The same check on text that is already there. path stands in messages. */
enum err jdoc_check(struct jval *root, const char *text, size_t n, const char *path, struct err_note *note);

enum jkind jval_kind(struct jval v); /* JKIND_NONE where there is no value */

/* Members of an object or elements of an array, in order; no others have any. key has no span in an array. */
struct jiter {
    const char *p, *end;
    bool object;
    struct jval key, value;
};
struct jiter jval_iter(struct jval v);
bool jiter_next(struct jiter *it);

struct jval jval_get(struct jval object, const char *name); /* JKIND_NONE: not there, or v is no object */
bool jval_is(struct jval v, const char *text);              /* a string with exactly this text */
bool jval_int(struct jval v, int64_t *out);                 /* digits with a sign at most, that fit */
bool jval_double(struct jval v, double *out);               /* finite */
bool jval_bool(struct jval v, bool *out);
/* The text of a string, NUL-terminated (and it may hold NUL bytes), in the arena. False: no string. *out
 * NULL: no memory. */
bool jval_string(struct jval v, struct arena *mem, const char **out, size_t *len);

#endif
