/* unicode: one Unicode for every machine. The regular expression and normalisation libraries of a
 * distribution know the Unicode of their year; the tokenizers that models were trained with know another.
 * Where the two differ, this file says what the tokenizers take a character for, so that the same text gives
 * the same tokens everywhere. Any thread. */
#ifndef FLUXD_SERVER_TEXT_UNICODE_H
#define FLUXD_SERVER_TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/strbuf.h"

/* Splitting knows Unicode 16. If text holds characters that PCRE2 takes for something else, a copy in which a
 * character of the same class and length stands for each of them is written to out, and the result is true.
 * Otherwise out is untouched. text is valid UTF-8. Check strbuf_failed(out). */
bool unicode_alias(const char *text, size_t n, struct strbuf *out);

/* NFC of Unicode 9 (the normaliser's), O(n log n) on any input. True: the result is in out; false: text is
 * NFC already. text is valid UTF-8. Check strbuf_failed(out). */
bool unicode_nfc(const char *text, size_t n, struct strbuf *out);

#endif
