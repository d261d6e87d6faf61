/* bad_words: words that an answer must not have, by their tokens, as vLLM reads the field of that name: each
 * word as it is and behind a space. The last token of one may not come behind the others of it. A guide, over
 * the one that the answer may have already. The words are read-only; a guide is the scheduler's to call. */
#ifndef FLUXD_SERVER_API_BAD_WORDS_H
#define FLUXD_SERVER_API_BAD_WORDS_H

#include "base/arena.h"
#include "scheduler/request.h"
#include "server/json/in.h"
#include "server/text/tokenizer.h"

enum { BAD_WORDS_MOST = 1024, BAD_WORD_BYTES_MOST = 256 };

struct bad_words;
/* All memory is the arena's. ERR_NOMEM. */
enum err bad_words_new(struct bad_words **out, struct arena *mem, const struct tokenizer *t, int n_vocab,
                       const struct json_strs *words, struct err_note *note);
/* For one answer; inner: what else it is held to, or NULL. NULL: no memory. */
struct guide *bad_words_guide(const struct bad_words *w, struct guide *inner, struct arena *mem);

#endif
