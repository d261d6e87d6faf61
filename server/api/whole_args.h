/* whole_args: arguments of a call that may be cut or wrong, as the JSON object that a client can read. Pure.
 */
#ifndef FLUXD_SERVER_API_WHOLE_ARGS_H
#define FLUXD_SERVER_API_WHOLE_ARGS_H

#include "base/strbuf.h"
#include "server/text/tools/walk.h"

/* How much of what came begins a JSON object, a piece at a time. */
struct args_walk {
    struct json_walk walk;
    bool begun, over; /* over: nothing more belongs to it */
};
void args_walk_init(struct args_walk *w);
size_t args_walk_feed(struct args_walk *w, const char *p, size_t n); /* of p, from its beginning on */
/* Of the n bytes that belong to it so far, those of a number at the end, which may go on. */
size_t args_walk_number(const struct args_walk *w, const char *p, size_t n);

/* The object of p: as it is where it is whole, else the members and items in it that are whole. */
void whole_args(const char *p, size_t n, struct strbuf *out);

#endif
