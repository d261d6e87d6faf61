/* response_out: the JSON of a response and of its items. Writes, decides nothing. Loop thread only. */
#ifndef FLUXD_SERVER_API_RESPONSE_OUT_H
#define FLUXD_SERVER_API_RESPONSE_OUT_H

#include "server/api/gen_internal.h"
#include "server/api/turn.h"

enum { RESPONSE_ITEM_ID_BYTES = 160 };
/* The id of a block's item: the same wherever it is told. */
void response_item_id(const struct gen *g, const struct turn_block *b, char out[RESPONSE_ITEM_ID_BYTES]);

/* The part of a thought or a text, with its text and scores or as it begins. */
void response_part(struct json_out *o, const char *key, const struct gen *g, const struct turn_block *b,
                   bool empty);
void response_item(struct json_out *o, const char *key, const struct gen *g, const struct turn_block *b,
                   bool empty, const char *status);
/* What the scores of a text are: those of tokens behind the thought. */
void response_scores(struct json_out *o, const struct gen *g, int from);

/* How it stands: "in_progress", "completed", "incomplete", "cancelled" or "failed", the latter with a note.
 */
struct response_state {
    const char *status;
    const struct err_note *note;
};
/* false: out of memory */
bool response_write(struct json_out *o, const char *key, const struct gen *g, const struct turn *t,
                    const struct response_state *s);
/* As it is stored: what was asked, then what was answered. */
void response_items(struct strbuf *out, const struct gen *g, const struct turn *t);
const char *response_item_status(const struct gen *g, const struct turn *t, const struct turn_block *b);

#endif
