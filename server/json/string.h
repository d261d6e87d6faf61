/* string: the string token of RFC 8259, in well-formed UTF-8 and without U+0000. Pure. */
#ifndef FLUXD_SERVER_JSON_STRING_H
#define FLUXD_SERVER_JSON_STRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/strbuf.h"

/* s[*i] is the opening quote; *i goes behind the closing one. On failure *i is the byte at fault and *why a
 * text: ERR_INVALID_JSON (control character, malformed escape, end of s), ERR_INVALID_UTF8 (also half a
 * surrogate pair), ERR_INVALID_VALUE (U+0000). */
enum err json_string_skip(const uint8_t *s, size_t n, size_t *i, bool *has_escapes, const char **why);

/* Appends the text between the quotes of a string that json_string_skip accepted. */
void json_string_unescape(struct strbuf *out, const uint8_t *s, size_t n);

#endif
