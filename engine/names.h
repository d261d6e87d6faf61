/* names: lists of modules in a quantised checkpoint's configuration, by name or by regular expression. Each
 * writer of such files has a rule of its own. Loading thread; one owner. */
#ifndef FLUXD_ENGINE_NAMES_H
#define FLUXD_ENGINE_NAMES_H

#include <stdbool.h>

#include "base/err.h"
#include "base/files/jdoc.h"

enum names_rule {
    NAMES_TARGETS, /* compressed-tensors: the name itself, "re:" and what matches from its start, "Linear" */
    NAMES_MODULES, /* transformers: an expression that ends at a dot or the end, or the name's end */
    NAMES_PART,    /* AWQ: any part of the name */
};

/* How a name was found, the closest first. */
enum names_fit { NAMES_EXACT, NAMES_PATTERN, NAMES_CLASS, NAMES_NOT };

struct names;
/* list: an array of strings, or no value: nothing. key and path stand in refusals. Free with names_free. */
enum err names_new(struct names **out, struct jval list, enum names_rule rule, const char *key,
                   const char *path, struct err_note *note);
void names_free(struct names *n); /* NULL is fine */
/* The closest entry that module fits, ties to the first in the order of bytes. *text (may be NULL): the
 * entry.
 */
enum err names_find(const struct names *n, const char *module, enum names_fit *fit, const char **text,
                    struct err_note *note);
/* An entry that is neither an expression, nor "Linear", nor a name with a dot or lm_head: a class; NULL:
 * none. */
const char *names_other_class(const struct names *n);

#endif
