/* ecma: ECMA-262 patterns (with the u flag's meaning) as regular expressions over bytes. Lookbehind, back
 * references and word boundaries are refused, and so are anchors and lookaheads in places where they are more
 * than the pattern's own ends. */
#ifndef FLUXD_SERVER_TEXT_GRAMMAR_ECMA_H
#define FLUXD_SERVER_TEXT_GRAMMAR_ECMA_H

#include "server/text/grammar/chars.h"

enum ecma_how {
    ECMA_SEARCH, /* the pattern matches somewhere, as JSON Schema's */
    ECMA_WHOLE,  /* it matches the whole text */
};

/* False: *why is a constant text, *at the byte of the pattern it is about. The pool's failure is told by the
 * pool. */
bool ecma_compile(struct rx *x, enum chars_mode mode, enum ecma_how how, const char *pattern, size_t n,
                  uint32_t *out, const char **why, size_t *at);

#endif
