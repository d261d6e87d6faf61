/* spm: text -> ids as sentencepiece does it: spaces become U+2581, one is put before the text, characters are
 * merged by the order that the vocabulary gives, and one without a piece becomes its bytes. Read-only once
 * built; scratch is the caller's. */
#ifndef FLUXD_SERVER_TEXT_SPM_H
#define FLUXD_SERVER_TEXT_SPM_H

#include "base/err.h"
#include "base/hash.h"
#include "base/strbuf.h"
#include "server/text/bpe.h"
#include "server/text/tokenizer.h"

enum { SPM_PIECE_BYTES_MAX = 4096 };

/* The vocabulary, borrowed for the life of the spm. */
struct spm_vocab {
    int n_piece;
    const char *const *piece;
    const size_t *piece_len;
    const uint8_t *kind;           /* enum token_kind */
    const struct strmap *by_piece; /* text -> id */
    int32_t unk_id;                /* -1: none, such characters are dropped */
};

struct spm;
/* rules.score is used here only. ERR_MODEL_FILE: a score that is no number, a piece that is too long (note:
 * which); ERR_NOMEM. Free with spm_free (NULL is fine). */
enum err spm_new(struct spm **out, const struct spm_vocab *v, const struct spm_rules *rules,
                 struct err_note *note);
void spm_free(struct spm *s);

/* The merges that the scores give; NULL where there are none. Owned by s. */
const struct bpe *spm_bpe(const struct spm *s);

struct spm_scratch { /* zeroed memory is a fresh one, but for text, which is strbuf_init'ed */
    struct strbuf text;
    struct token_vec symbol;
};
void spm_scratch_fini(struct spm_scratch *s);

/* Appends the ids of text[0, n), valid UTF-8. first: it is the whole text's first part. False: out of memory.
 */
bool spm_encode(const struct spm *s, const struct bpe *bpe, struct spm_scratch *scratch,
                struct bpe_scratch *bpe_scratch, const char *text, size_t n, bool first,
                struct token_vec *out);

#endif
