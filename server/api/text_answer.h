/* text_answer: the answer of /tokenize or /detokenize, from token ids, written piece by piece: nobody holds
 * more than its ids, 4 bytes each, while a client reads a text of many times their size. One thread at a
 * time. */
#ifndef FLUXD_SERVER_API_TEXT_ANSWER_H
#define FLUXD_SERVER_API_TEXT_ANSWER_H

#include "base/strbuf.h"
#include "server/text/tokenizer.h"

struct text_answer;

enum { TEXT_ANSWER_PIECE_BYTES = 16384 }; /* one piece; the token that ends it may reach beyond */

enum text_answer_kind { TEXT_ANSWER_IDS, TEXT_ANSWER_IDS_AND_TEXTS, TEXT_ANSWER_TEXT };

/* ids: taken over, also where it fails. NULL: out of memory. Free with text_answer_free (NULL is fine). */
struct text_answer *text_answer_new(enum text_answer_kind kind, const struct tokenizer *t, int max_model_len,
                                    struct token_vec *ids);
void text_answer_free(struct text_answer *a);
size_t text_answer_bytes(const struct text_answer *a); /* of memory that it holds */

/* Appends the next piece. False: that was the last. */
bool text_answer_next(struct text_answer *a, struct strbuf *out);

#endif
