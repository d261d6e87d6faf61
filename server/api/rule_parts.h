/* rule_parts: grammar parts that are put together one by one. Memory is the arena's; a failure is sticky. */
#ifndef FLUXD_SERVER_API_RULE_PARTS_H
#define FLUXD_SERVER_API_RULE_PARTS_H

#include "base/arena.h"
#include "server/text/grammar/grammar.h"

struct parts {
    struct arena *mem;
    struct grammar_part *v;
    size_t n, cap;
    bool failed;
};

void parts_add(struct parts *p, struct grammar_part part);
void parts_text(struct parts *p, const char *text);
/* A text of a row of tools: what looks like a special token may be one; \1 is a number and \2 an id. */
void parts_marks(struct parts *p, const char *text);
void parts_body(struct parts *p, enum grammar_kind kind, const char *text, const char *name);
/* One part out of all; p is failed or holds no part that it could be made of: an empty sequence. */
struct grammar_part parts_as(const struct parts *p, enum grammar_part_kind kind);
struct grammar_part part_times(struct arena *mem, struct grammar_part what, uint32_t min, uint32_t max,
                               bool *failed);

#endif
