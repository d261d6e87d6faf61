/* jinja: chat templates. A bounded interpreter of the Jinja2 subset that model files use, with the settings
 * of the reference (sandboxed and immutable, trim_blocks, lstrip_blocks, loop controls, a plain tojson).
 *
 * Compile once, render on any thread. Both the template and the values are taken as hostile: source, nesting,
 * steps, memory and output are bounded, and going over a bound is an error with a text, never a crash.
 *
 * Output knows its origin. Text of the template itself may spell special tokens; text of a client must not.
 * Strings that come from outside are built as TMPL_OUTSIDE, the mark follows their bytes through every
 * operation, and the rendering names the byte ranges of the output that carry it. */
#ifndef FLUXD_SERVER_JINJA_JINJA_H
#define FLUXD_SERVER_JINJA_JINJA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/strbuf.h"

enum {
    TMPL_MAX_SOURCE_BYTES = 256 * 1024,
    TMPL_MAX_NAMES = 1024,      /* different variable names in one template */
    TMPL_MAX_NESTING = 64,      /* brackets and blocks inside each other in the source */
    TMPL_MAX_CALLS = 64,        /* macro calls inside each other */
    TMPL_MAX_EVAL_DEPTH = 1000, /* interpreter recursion; under 500 bytes of stack a level */
    TMPL_MAX_VALUE_DEPTH = 320, /* more than json_scan lets through: lists and dicts inside each other */
    TMPL_MAX_STEPS = 5000000,   /* node evaluations; long scans and copies count one per KiB */
    TMPL_MAX_RANGE = 100000,    /* items of range(), as in the reference's sandbox */
    TMPL_MAX_OUTPUT_BYTES = 16 << 20,  /* what a caller should allow when it knows nothing better */
    TMPL_MAX_ARENA_BYTES = 64 << 20,   /* limit to give to the arena of one rendering */
    TMPL_MAX_COMPILE_BYTES = 64 << 20, /* memory of one compiled template */
};

struct tmpl;

/* Parses src (UTF-8, n bytes, copied). ERR_MODEL_FILE with "line N: ..." for anything it cannot run,
 * ERR_NOMEM. The result is read-only. As in the reference, a filter or test that does not exist fails here,
 * or only when it is reached if it stands inside an if. Free with tmpl_free (NULL is fine). */
enum err tmpl_compile(struct tmpl **out, const char *src, size_t n, struct err_note *note);
void tmpl_free(struct tmpl *t);
bool tmpl_mentions(const struct tmpl *t, const char *name); /* is there a variable of this name in it? */

/* --- values: what the template sees. They live in the arena of one rendering and belong to one thread. ---
 */

struct tmpl_value;
enum tmpl_origin { TMPL_OURS, TMPL_OUTSIDE /* from a client: must never become a special token */ };

/* All return NULL when the arena is exhausted. */
struct tmpl_value *tmpl_none(struct arena *a);
struct tmpl_value *tmpl_bool(struct arena *a, bool b);
struct tmpl_value *tmpl_int(struct arena *a, int64_t i);
struct tmpl_value *tmpl_float(struct arena *a, double f);
/* Valid UTF-8; the bytes are borrowed and must live as long as the arena. */
struct tmpl_value *tmpl_str(struct arena *a, const char *p, size_t n, enum tmpl_origin origin);
struct tmpl_value *tmpl_list(struct arena *a);
struct tmpl_value *tmpl_dict(struct arena *a); /* keeps insertion order */

/* Take a copy of the item, so fill a container before it is added to another. False when item (or key) is
 * NULL or the arena is exhausted, so that a failed inner value ends the whole construction. */
bool tmpl_list_add(struct arena *a, struct tmpl_value *list, const struct tmpl_value *item);
/* key is a str that is not in the dict yet (of two equal keys, one is found). */
bool tmpl_dict_put(struct arena *a, struct tmpl_value *dict, const struct tmpl_value *key,
                   const struct tmpl_value *item);

/* --- rendering --- */

struct tmpl_span {
    size_t start, end; /* bytes [start, end) of the output */
};

struct tmpl_rendering {
    struct strbuf text; /* init'ed by the caller, who frees it; the output is appended to an empty buffer */
    size_t max_bytes;   /* set by the caller */
    struct tmpl_span
        *span; /* what came from TMPL_OUTSIDE strings: sorted, disjoint, not touching; in the arena */
    size_t n_span;
    size_t cap_span;
};

/* context is a dict: messages, tools, add_generation_prompt, bos_token, ... ERR_TEMPLATE with the text that
 * raise_exception was given, or "template line N: ..." for a failed operation or an exceeded bound;
 * ERR_NOMEM. */
enum err tmpl_render(const struct tmpl *t, struct arena *a, const struct tmpl_value *context,
                     struct tmpl_rendering *out, struct err_note *note);

#endif
