/* scan: the strict door in front of the JSON tree. One pass over the raw body, O(n) time, a C stack of fixed
 * size. Any thread; owns what it found (struct json_scan), borrows the body.
 *
 * Accepts exactly RFC 8259 in well-formed UTF-8, and refuses beyond it what would be lost, cut or overrun
 * behind it: ERR_INVALID_JSON   grammar: numbers, escapes, raw control characters, anything after the value,
 * a byte order mark ERR_INVALID_UTF8   ill-formed bytes, \u escapes of half a surrogate pair
 *   ERR_DUPLICATE_KEY  two keys of one object that are equal after unescaping
 *   ERR_INVALID_VALUE  \u0000 anywhere (the tree's strings end at NUL), numbers that overflow to infinity or
 * have more than JSON_NUMBER_CHARS_MAX characters, more depth, values, fields or keys than the limits
 *   ERR_TOO_LARGE      more bytes than the limits
 * Every note says what and at which byte; its param is the top-level key it stands under.
 *
 * Memory beyond the body: 24 bytes per key of the objects open at one time (rounded up to a power of two, 3
 * MiB at most), and the list of top-level fields. */
#ifndef FLUXD_SERVER_JSON_SCAN_H
#define FLUXD_SERVER_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/strbuf.h"

enum {
    JSON_BYTES_MAX = 8 << 20,           /* default of json_limits.bytes */
    JSON_BYTES_WITH_IDS_MAX = 32 << 20, /* default of json_limits.bytes_with_ids */
    JSON_DEPTH_MAX = 64,                /* default of json_limits.depth */
    JSON_NODES_MAX = 1000000,           /* default of json_limits.nodes */
    JSON_DEPTH_CAP = 256, /* json_limits.depth may be set up to this: the size of the scan's own stack */
    JSON_NUMBER_CHARS_MAX = 63, /* cJSON reads no more of a number; a double's longest repr has 24 */
    JSON_FIELDS_MAX = 1024,     /* top-level keys: they are listed, so they are bounded */
    /* and JSON_KEYS_MAX of keys.h: keys of all objects open at one time */
};

struct json_limits {
    size_t bytes;          /* of the body without its top-level arrays of numbers */
    size_t bytes_with_ids; /* of the whole body: prompts of token ids take more room than their text */
    int depth;             /* containers open at one time, <= JSON_DEPTH_CAP */
    size_t nodes;          /* values of all kinds, keys not counted */
};
extern const struct json_limits json_limits_default;

enum json_kind {
    JSON_KIND_NULL,
    JSON_KIND_BOOL,
    JSON_KIND_NUMBER,
    JSON_KIND_STRING,
    JSON_KIND_ARRAY,
    JSON_KIND_OBJECT,
};

/* Top-level arrays of numbers, which are read from the raw text and never become tree nodes. */
enum json_shape {
    JSON_SHAPE_OTHER,
    JSON_SHAPE_NUMBERS,      /* [1, 2]: at least one element, numbers only */
    JSON_SHAPE_NUMBER_LISTS, /* [[1], [], [2, 3]]: at least one element, all arrays of numbers, which may be
                                empty */
};

struct json_span {
    size_t begin, end; /* bytes [begin, end) of the body */
};

struct json_field {
    size_t name_at;         /* see json_field_name */
    struct json_span value; /* the raw value, without white space around it */
    size_t n_item;          /* arrays with a shape: elements ... */
    size_t n_number;        /* ... and numbers in all of them */
    enum json_kind kind;
    enum json_shape shape;
};

struct json_scan {
    struct json_field *field; /* [n_field] the top-level object's fields in the body's order */
    size_t n_field;
    size_t cap_field;
    size_t n_node;
    enum json_kind kind; /* of the whole body; fields exist only under an object */
    struct strbuf names; /* unescaped top-level keys, each NUL-terminated */
};

/* lim NULL: json_limits_default. On failure out is empty and needs no json_scan_fini (which is harmless
 * then). */
enum err json_scan(struct json_scan *out, const char *body, size_t n, const struct json_limits *lim,
                   struct err_note *note);
void json_scan_fini(struct json_scan *s);

/* The field of that name (case matters), or NULL. */
const struct json_field *json_scan_find(const struct json_scan *s, const char *name);
static inline const char *json_field_name(const struct json_scan *s, const struct json_field *f)
{
    return s->names.data + f->name_at;
}

#endif
