/* assets: what a model's files say about text - vocabulary, merges, chat template, generation defaults. Read
 * once at start, handed by main to the server's tokenizer and template. */
#ifndef FLUXD_SERVER_TEXT_ASSETS_H
#define FLUXD_SERVER_TEXT_ASSETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "server/text/tokenizer.h"

/* Kinds, traits and splits are those of tokenizer.h: enum token_kind, token_trait, split_kind. */
struct text_assets {
    const char *file; /* where the vocabulary stands, for messages */
    int n_piece, n_merge, n_pattern;
    const char **piece; /* [n_piece] bytes, not always valid UTF-8 text; see piece_len */
    size_t *piece_len;
    uint8_t *kind, *trait; /* [n_piece]; trait may be NULL */
    const char **merge;
    size_t *merge_len;
    uint32_t *merge_at;   /* [n_merge] bytes of the left piece; NULL: it ends at a space */
    const char *pre;      /* GGUF's tokenizer.ggml.pre; NULL when the patterns below are all there is */
    const char **pattern; /* [n_pattern] split patterns of tokenizer.json */
    uint8_t *split;       /* [n_pattern] */
    bool nfc, ignore_merges, add_bos,
        add_eos; /* the first two as tokenizer.json says; `pre` may say them too */
    int32_t bos_id, eos_id, unk_id;
    struct spm_rules spm;
    const char *chat_template; /* Jinja source, or NULL */
    size_t chat_template_len;
    const char *template_file; /* where it stands, for messages */
    double temperature, top_p; /* generation_config.json; NaN: not given */
    int top_k;                 /* -1: not given */
    double repetition_penalty; /* NaN: not given */
    void *owner;
};

/* path: a .gguf file, or a directory with tokenizer.json and, where they are, tokenizer_config.json,
 * generation_config.json and chat_template.jinja. Strings live until text_assets_close. */
enum err text_assets_open(struct text_assets **out, const char *path, struct err_note *note);
void text_assets_close(struct text_assets *t);

/* The vocabulary as tokenizer_new takes it; borrowed. */
struct tokenizer_src text_assets_vocabulary(const struct text_assets *t);

#endif
