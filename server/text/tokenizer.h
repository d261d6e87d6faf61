/* tokenizer: text <-> token ids. Byte-level BPE with the model's own pre-tokenizer, normaliser and special
 * tokens. Read-only after tokenizer_new, so any thread may use it (each call brings its own scratch). */
#ifndef FLUXD_SERVER_TEXT_TOKENIZER_H
#define FLUXD_SERVER_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "server/text/token_vec.h"

enum token_kind {
    TOKEN_NORMAL,
    TOKEN_SPECIAL /* control: never text */,
    TOKEN_ADDED /* matched whole, but is text */,
    TOKEN_UNUSED,
    TOKEN_BYTE /* of a sentencepiece vocabulary: "<0x0A>" */
};

/* What else an added or special token does. */
enum token_trait {
    TOKEN_LSTRIP = 1,     /* it swallows the white space before it */
    TOKEN_RSTRIP = 2,     /* ... and behind it */
    TOKEN_NORMALIZED = 4, /* it is looked for in normalised text, after all tokens without this bit */
};

/* One step of a pre-tokenizer. */
enum split_kind {
    SPLIT_REGEX,      /* matches of the pattern, and what lies between them */
    SPLIT_LITERAL,    /* the same for a plain text */
    SPLIT_DIGITS,     /* every digit by itself (needs no pattern) */
    SPLIT_DIGIT_RUNS, /* runs of digits (needs no pattern) */
    SPLIT_WORDS,      /* GPT-2's pattern, which ByteLevel applies (needs no pattern) */
};

/* Whether a space is put before a text, or a part of it between special tokens. */
enum spm_prefix {
    SPM_PREFIX_NONE,
    SPM_PREFIX_ALL,    /* before every part */
    SPM_PREFIX_UNLESS, /* likewise, unless it begins with one */
    SPM_PREFIX_FIRST,  /* likewise, and only where the text begins with that part */
};

/* Vocabularies as sentencepiece makes them: merges of characters, not of bytes; spaces are U+2581. */
struct spm_rules {
    bool on;
    bool fuse_unk;  /* characters without a piece that follow each other are one unknown token */
    bool words;     /* no merge goes over the beginning of a word */
    bool strips;    /* a decoded text loses the space that it begins with */
    uint8_t prefix; /* enum spm_prefix */
    const float
        *score; /* [n_piece] the pieces' own order of merging, the highest first; NULL: merges say it */
};

/* What a model file says about its vocabulary. All memory is borrowed during tokenizer_new only. */
struct tokenizer_src {
    int n_piece;
    const char *const
        *piece; /* [n_piece] pieces in GPT-2's byte alphabet (UTF-8); added and special ones as plain text */
    const size_t *piece_len; /* [n_piece] bytes */
    const uint8_t *kind;     /* [n_piece] enum token_kind */
    const uint8_t *trait;    /* [n_piece] enum token_trait, added; NULL: none has any */
    int n_merge;
    const char *const *merge; /* [n_merge] "left right" in falling priority */
    const size_t *merge_len;
    const uint32_t
        *merge_at;    /* [n_merge] bytes of the left piece; NULL: it ends at the space that makes sense */
    const char *file; /* named in messages; may be NULL */
    const char *pre;  /* pre-tokenizer's name as in GGUF's tokenizer.ggml.pre ("smollm", "llama-bpe", "qwen2",
                         "gpt-2"), or NULL */
    const char *const *pattern; /* or: split patterns applied in turn (tokenizer.json), n_pattern of them */
    const uint8_t *split;       /* [n_pattern] enum split_kind; NULL: all are regular expressions */
    int n_pattern;
    bool nfc;           /* normalise to NFC first; also when the name `pre` says so (qwen2) */
    bool ignore_merges; /* a piece that stands whole in the vocabulary is taken at once; also when `pre` says
                           so (llama-bpe) */
    int32_t bos_id, eos_id, unk_id; /* -1: none. unk stands for bytes without a piece; they are dropped when
                                       it is none or special */
    bool add_bos, add_eos;
    struct spm_rules spm; /* then pieces are text, and there are no pre-tokenizer and no patterns */
};

struct tokenizer;
/* Refuses (ERR_MODEL_FILE, note names the key) merges whose pieces are missing, unknown pre-tokenizers,
 * patterns that do not compile, match empty text for ever or exceed their budget. Free with tokenizer_free
 * (NULL is fine). */
enum err tokenizer_new(struct tokenizer **out, const struct tokenizer_src *src, struct err_note *note);
void tokenizer_free(struct tokenizer *t);

enum tokenize_flags {
    TOKENIZE_SPECIAL = 1, /* special tokens' text in the input becomes the special token (raw prompts);
                             otherwise it stays text */
    TOKENIZE_ADD = 2,     /* adds bos/eos where the model asks for it */
    TOKENIZE_INSIDE = 4,  /* the text is not the first part of its whole */
};
/* Appends to out. text is valid UTF-8 of n bytes and may hold NUL bytes. Linear in n.
 * ERR_NOMEM, ERR_TOO_LARGE, ERR_INVALID_UTF8, or ERR_INVALID_REQUEST when a pattern exceeds its budget; out
 * is then as before. */
enum err tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, int flags,
                          struct token_vec *out, struct err_note *note);

/* The same, but no special token is taken that touches a guarded span (sorted, disjoint): text of a client
 * inside a prompt that a template wrote. */
struct tokenizer_span {
    size_t start, end; /* bytes [start, end) */
};
enum err tokenizer_encode_guarded(const struct tokenizer *t, const char *text, size_t n, int flags,
                                  const struct tokenizer_span *guard, size_t n_guard, struct token_vec *out,
                                  struct err_note *note);

int32_t tokenizer_bos(const struct tokenizer *t); /* -1: none */
int32_t tokenizer_eos(const struct tokenizer *t);
bool tokenizer_strips(const struct tokenizer *t); /* a decoded text loses the space that it begins with */
int tokenizer_n_piece(const struct tokenizer *t);
bool tokenizer_is_special(const struct tokenizer *t, int32_t id);
bool tokenizer_is_whole(const struct tokenizer *t, int32_t id); /* special or added: never made of merges */
int32_t tokenizer_find(const struct tokenizer *t, const char *piece,
                       size_t n); /* exact special/added/byte-alphabet piece; -1 */
/* The raw bytes of one token (not always whole UTF-8 characters). Borrowed. Special tokens give their text.
 * id out of range gives an empty string. */
const char *tokenizer_bytes(const struct tokenizer *t, int32_t id, size_t *n);

#endif
