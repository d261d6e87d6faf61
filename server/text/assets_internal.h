/* assets_internal: what the readers of one text_assets share. For assets*.c alone. */
#ifndef FLUXD_SERVER_TEXT_ASSETS_INTERNAL_H
#define FLUXD_SERVER_TEXT_ASSETS_INTERNAL_H

#include "base/arena.h"
#include "base/hash.h"
#include "base/files/jdoc.h"
#include "server/text/assets.h"
#include "server/text/tokenizer.h"

struct gguf;

struct text_owner {
    struct text_assets t;
    struct gguf *g; /* NULL for a directory */
    struct arena arena;
};

/* Fills o->t from dir; what it half made goes with the owner. */
enum err text_assets_read_dir(struct text_owner *o, const char *dir, struct err_note *note);

/* tokenizer.json: everything but the names of bos and eos; *ids (text -> id; its keys lie in the arena) is
 * the caller's to free, also after a failure. */
enum err text_assets_read_tokenizer(struct text_owner *o, const struct jdoc *d, struct strmap **ids,
                                    struct err_note *note);

#endif
