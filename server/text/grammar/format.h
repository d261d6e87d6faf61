/* format: JSON Schema's `format` as regular expressions over the inside of a JSON string. */
#ifndef FLUXD_SERVER_TEXT_GRAMMAR_FORMAT_H
#define FLUXD_SERVER_TEXT_GRAMMAR_FORMAT_H

#include "base/files/jdoc.h"
#include "server/text/grammar/rx.h"

enum format_what {
    FORMAT_UNKNOWN,
    FORMAT_KNOWN,
    FORMAT_SAYS_NOTHING /* a hint for readers: int32, password and their like */
};
enum format_what format_find(struct rx *x, struct jval name, uint32_t *out);

#endif
