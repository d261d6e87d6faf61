/* chars: sets of characters as regular expressions over the bytes that spell them, in plain UTF-8 or inside a
 * JSON string. In a JSON string every character has the spelling that most writers give it: itself, \" and
 * \\, \b \f \n \r \t, and \u00XX for other control characters. Only a string with no constraint at all may
 * use the other escapes (chars_free). */
#ifndef FLUXD_SERVER_TEXT_GRAMMAR_CHARS_H
#define FLUXD_SERVER_TEXT_GRAMMAR_CHARS_H

#include "server/text/grammar/rx.h"

enum chars_mode { CHARS_RAW, CHARS_JSON };
enum { CHARS_LAST = 0x10ffff };

struct chars_range {
    uint32_t lo, hi;
};

/* Ranges sorted and disjoint. Surrogates are left out. */
uint32_t chars_class(struct rx *x, enum chars_mode mode, const struct chars_range *r, size_t n);
uint32_t chars_any(struct rx *x, enum chars_mode mode);  /* one character */
uint32_t chars_many(struct rx *x, enum chars_mode mode); /* any number of them */
uint32_t chars_free(struct rx *x); /* the inside of any JSON string, whatever its escapes */
uint32_t chars_text(struct rx *x, enum chars_mode mode, const char *utf8, size_t n);
/* The spelling of well-formed UTF-8 inside a JSON string. out holds 6 * n bytes. */
size_t chars_spell(const char *utf8, size_t n, char *out);

#endif
