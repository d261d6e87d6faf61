/* in: request bodies read by tables of fields. Strict scan first (scan.h), then cJSON's tree, then one row
 * per field: type, bounds, target. One thread at a time (a worker of the pool); borrows nothing but the body.
 *
 *     struct ask { bool stream; double temperature; int64_t seed; struct json_strs stop; const cJSON
 * *messages; }; static const struct json_row ask_row[] = {
 *         {.name = "messages", .type = JSON_ARRAY, JSON_AT(struct ask, messages), .flags = JSON_REQUIRED},
 *         {.name = "stream", .type = JSON_BOOL, JSON_AT(struct ask, stream)},
 *         {.name = "temperature", .type = JSON_DOUBLE, JSON_AT(struct ask, temperature), .fmin = 0, .fmax =
 * 2},
 *         {.name = "seed", .type = JSON_INT, JSON_AT(struct ask, seed), .min = INT64_MIN, .max = INT64_MAX},
 *         {.name = "stop", .type = JSON_STRINGS, JSON_AT(struct ask, stop), .min = 1, .max = 256, .min_items
 * = 1, .max_items = 4},
 *         {.name = "user", .type = JSON_IGNORE},
 *         {.name = "suffix", .type = JSON_REJECT},
 *         {.name = NULL},
 *     };
 *     struct json_in in;
 *     struct ask a = {.temperature = 1};              // absent fields leave their targets as they are
 *     enum err e = json_in_open(&in, body, n, NULL, note);
 *     if (e == OK) e = json_in_read(&in, in.root, ask_row, &a);
 *     int i = 0;
 *     for (const cJSON *m = e == OK ? a.messages->child : NULL; m != NULL && e == OK; m = m->next, i++) {
 *         const size_t mark = json_in_enter(&in, "messages[%d]", i);
 *         e = json_in_read(&in, m, message_row, &message[i]);      // errors name "messages[1].content"
 *         if (e == OK && !role_known) e = json_in_fail(&in, ERR_INVALID_VALUE, "role", "must be ...");
 *         json_in_leave(&in, mark);
 *     }
 *     ...
 *     json_in_close(&in);                             // also after a failure; ends the life of all that was
 * read
 *
 * Rules. null is absence, for every field that is not JSON_REQUIRED or JSON_NOT_NULL. Names are matched with
 * case. Fields that no row names are accepted: clients add them. Every note's param is the path of the value
 * at fault: "stop[2]", "messages[1].content", "stream_options.include_usage".
 *
 * Arrays of numbers at the top level ([int], [[int]]: token ids, route masks, stop ids) are read from the raw
 * text in O(n) and never become tree nodes: in the tree they stand as [0] or [[0]]. JSON_INTS, JSON_PROMPTS
 * and JSON_ANY hand out the real ones; a cJSON pointer to such a field shows only its shape. Top-level
 * integers are exact in 64 bits, others by json_in_number: valueint of the tree is not a value. */
#ifndef FLUXD_SERVER_JSON_IN_H
#define FLUXD_SERVER_JSON_IN_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "server/json/scan.h"

struct json_in {
    struct err_note *note; /* where failures are told; may be NULL */
    const char *body;      /* borrowed */
    size_t n_body;
    struct json_scan scan;
    cJSON *root;        /* an object */
    struct strbuf slim; /* what root was made of, where that is not the body: without arrays of numbers */
    struct arena mem;   /* the lists handed out */
    cJSON *made;        /* an array of trees that readers made of it, freed with it; NULL: none */
    char path[96];      /* of the object being read: see json_in_enter */
};

struct json_str {
    const char *p; /* NUL-terminated, valid UTF-8, no NUL inside; NULL: the field was absent */
    size_t n;
};
struct json_strs {
    const struct json_str *v;
    size_t n;
};
struct json_ints {
    const int32_t *v;
    size_t n;
};
struct json_pair {
    int32_t key;
    float value;
};
struct json_pairs {
    const struct json_pair *v;
    size_t n;
};
/* One prompt: text, or ids when text.p is NULL (ids.n may be 0). */
struct json_prompt {
    struct json_str text;
    struct json_ints ids;
};
struct json_prompts {
    const struct json_prompt *v;
    size_t n;
};
/* A value whose type is the caller's business. An array of integers comes as ints (node NULL), all else as
 * node. */
struct json_any {
    enum json_kind kind; /* JSON_KIND_NULL while absent, when zeroed before */
    const cJSON *node;
    struct json_ints ints;
};

/* X(type, C type of the target, reader: json_value_<reader> of value.h). What the row's other members mean:
 *   INT INT32      min, max: its bounds. 16.0 is an integer, 1.5 is not
 *   FLOAT DOUBLE   fmin, fmax: its bounds, inclusive but for JSON_ABOVE_MIN
 *   STRING         min, max: its bytes (max 0: no bound)
 *   WORD           words: those allowed, NULL at the end; the target is the index
 *   STRINGS        a string or an array of them. min, max: bytes of each; min_items, max_items: of the array
 *   INTS           an array of integers. min, max: bounds of each; *_items
 *   PAIRS          {"123": 1.5}. min, max: bounds of the keys; fmin, fmax: of the values; *_items
 *   PROMPTS        string | [string] | [int] | [[int]], top level only. min, max: bounds of the ids; *_items:
 * prompts OBJECT ARRAY   *_items: members or elements ANY            with min < max arrays of integers are
 * welcome, with these bounds and *_items; else they are not IGNORE         accepted whatever it holds: it
 * means nothing here REJECT         ERR_UNSUPPORTED unless it asks for nothing: null, false, "", [], {},
 * `neutral`, or only `words`; JSON_TRUE_NEUTRAL: true and not false; JSON_EMPTY_ASKS: {} asks for something
 */
#define JSON_TYPE_LIST(X)                                                                                    \
    X(JSON_BOOL, bool, bool)                                                                                 \
    X(JSON_INT, int64_t, int)                                                                                \
    X(JSON_INT32, int32_t, int32)                                                                            \
    X(JSON_FLOAT, float, float)                                                                              \
    X(JSON_DOUBLE, double, double)                                                                           \
    X(JSON_STRING, struct json_str, string)                                                                  \
    X(JSON_WORD, int, word)                                                                                  \
    X(JSON_STRINGS, struct json_strs, strings)                                                               \
    X(JSON_INTS, struct json_ints, ints)                                                                     \
    X(JSON_PAIRS, struct json_pairs, pairs)                                                                  \
    X(JSON_PROMPTS, struct json_prompts, prompts)                                                            \
    X(JSON_OBJECT, const cJSON *, object)                                                                    \
    X(JSON_ARRAY, const cJSON *, array)                                                                      \
    X(JSON_ANY, struct json_any, any)                                                                        \
    X(JSON_IGNORE, char, ignore) /* no target */                                                             \
    X(JSON_REJECT, char, reject) /* no target */

enum json_type {
#define JSON_TYPE_ENUM(type, target, reader) type,
    JSON_TYPE_LIST(JSON_TYPE_ENUM)
#undef JSON_TYPE_ENUM
        JSON_N_TYPE
};

enum json_row_flags {
    JSON_REQUIRED = 1,  /* absent: ERR_MISSING_FIELD; null: ERR_INVALID_TYPE */
    JSON_NOT_NULL = 2,  /* null: ERR_INVALID_TYPE */
    JSON_ABOVE_MIN = 4, /* fmin itself is out of range: (fmin, fmax] */
    JSON_NO_TARGET = 8, /* checked, not stored */
    JSON_TRUE_NEUTRAL = 16,
    JSON_EMPTY_ASKS = 32, /* of JSON_REJECT */
};

struct json_row {
    const char *name; /* NULL ends the table */
    enum json_type type;
    size_t at, size; /* JSON_AT */
    unsigned flags;
    int64_t min, max;
    double fmin, fmax;
    size_t min_items, max_items; /* max_items 0: no bound */
    const char *const *words;
    double neutral; /* JSON_REJECT: the number that asks for nothing; NAN: none does */
};
/* The size lets json_in_read CHECK that the member is of the type's C type. */
#define JSON_AT(T, member) .at = offsetof(T, member), .size = sizeof(((T *)0)->member)

/* Scans and parses. ERR_* of json_scan, ERR_INVALID_TYPE when the body is no object, ERR_NOMEM. lim may be
 * NULL. body must stay until json_in_close. After a failure `in` is empty. */
enum err json_in_open(struct json_in *in, const char *body, size_t n, const struct json_limits *lim,
                      struct err_note *note);
void json_in_close(struct json_in *in);

/* Reads the fields of obj (in->root, or any object in its tree) into target. Stops at the first that is
 * wrong: ERR_MISSING_FIELD, ERR_INVALID_TYPE (also when obj is no object), ERR_INVALID_VALUE,
 * ERR_UNSUPPORTED, ERR_NOMEM. */
enum err json_in_read(struct json_in *in, const cJSON *obj, const struct json_row *row, void *target);

/* What a number of the tree is by its text: an integer of 64 bits, put into *out; a wider one; or one with a
 * fraction or an exponent, whose value is node->valuedouble. */
enum json_number { JSON_NUMBER_INT, JSON_NUMBER_WIDE, JSON_NUMBER_FLOAT };
enum json_number json_in_number(struct json_in *in, const cJSON *node, int64_t *out);

/* The member of that name (case matters) unless it is absent or null. */
const cJSON *json_in_get(const cJSON *obj, const char *name);

/* Keeps a tree that was made of this one, which may hold references to it. False: out of memory (the tree is
 * freed), or tree is NULL. */
bool json_in_keep(struct json_in *in, cJSON *tree);

/* What fails between enter and leave is told under this path: "messages[1]", then "function" (a dot is put
 * between). */
size_t json_in_enter(struct json_in *in, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void json_in_leave(struct json_in *in, size_t mark);

/* Fills the note with param = path.name and the text "<param> <fmt...>"; returns e. name may carry an index
 * ("stop[1]"); NULL: the path itself. */
enum err json_in_fail(struct json_in *in, enum err e, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
