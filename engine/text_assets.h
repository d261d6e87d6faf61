/* text_assets: what a model file says about text - vocabulary, merges, chat template, generation defaults. Read once at
 * start, handed by main to the server's tokenizer and template. */
#ifndef FLUXD_ENGINE_TEXT_ASSETS_H
#define FLUXD_ENGINE_TEXT_ASSETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Piece kinds as the server's tokenizer numbers them (server/tokenizer.h, enum token_kind): 0 normal, 1 special, 2 added, 3 unused. */
struct text_assets {
    int          n_piece, n_merge, n_pattern;
    const char **piece;     /* [n_piece] bytes, not always valid UTF-8 text; see piece_len */
    size_t      *piece_len;
    uint8_t     *kind;
    const char **merge;
    size_t      *merge_len;
    const char  *pre;       /* GGUF's tokenizer.ggml.pre, or NULL */
    const char **pattern;   /* split patterns of tokenizer.json, or NULL */
    bool         nfc, ignore_merges, add_bos, add_eos;
    int32_t      bos_id, eos_id, unk_id;
    const char  *chat_template; /* Jinja source, or NULL */
    size_t       chat_template_len;
    double       temperature, top_p; /* generation_config.json; NaN: not given */
    int          top_k;              /* -1: not given */
    double       repetition_penalty; /* NaN: not given */
    void        *owner;
};

/* path: directory or .gguf. Strings live until text_assets_close. */
enum err text_assets_open(struct text_assets **out, const char *path, struct err_note *note);
void     text_assets_close(struct text_assets *t);

#endif
