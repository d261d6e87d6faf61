/* chat_tokens: rendered chat text -> token ids, so that the template's special tokens count and a client's
 * never do. Read-only after chat_tokens_new; any thread.
 *
 * The rendering says which bytes came from outside. A special token's text is one only where none of its
 * bytes did. The text between is encoded without special tokens, so that the ids equal those of the whole
 * text wherever no client wrote the text of a special token. */
#ifndef FLUXD_SERVER_TEXT_CHAT_TOKENS_H
#define FLUXD_SERVER_TEXT_CHAT_TOKENS_H

#include "server/jinja/jinja.h"
#include "server/text/tokenizer.h"

struct chat_tokens;
/* The tokenizer is borrowed. Free with chat_tokens_free (NULL is fine). */
enum err chat_tokens_new(struct chat_tokens **out, const struct tokenizer *t, struct err_note *note);
void chat_tokens_free(struct chat_tokens *c);

/* Appends to out. n bytes of the rendering's text count (it may be cut). flags: TOKENIZE_ADD or 0. */
enum err chat_tokens_encode(const struct chat_tokens *c, const struct tmpl_rendering *r, size_t n, int flags,
                            struct token_vec *out, struct err_note *note);

#endif
