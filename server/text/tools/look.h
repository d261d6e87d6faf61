/* look: what the beginning of a text may be. Pure functions of the bytes: an answer NO or YES stays the same
 * whatever bytes follow, so a parser may ask after every byte. */
#ifndef FLUXD_SERVER_TEXT_TOOLS_LOOK_H
#define FLUXD_SERVER_TEXT_TOOLS_LOOK_H

#include "server/text/tools/tools.h"

enum look { LOOK_NO, LOOK_MORE, LOOK_YES }; /* MORE: it depends on the bytes to come */

enum {
    LOOK_SPACE_MOST = 64,  /* white space in one place of a marker */
    LOOK_HELD_MOST = 1024, /* an opening that is longer is none */
    LOOK_KEY_BYTES = 256,
};

struct cursor {
    const char *p;
    size_t n, at;
};

/* A marker, with white space in it as it comes. */
enum look look_marker(struct cursor *c, const char *marker);
enum look look_space(struct cursor *c);

/* A call's opening up to its name, certain. */
struct opening {
    const char *name;
    size_t n_name, used;
};
enum look look_open(const struct tool_parser *p, const char *s, size_t n, struct opening *o);
/* What may stand behind a call without meaning anything: its close, a separator, the section's close. */
enum look look_after(const struct tool_parser *p, const char *s, size_t n, size_t *used, bool *closes);

/* The marker without the white space at its ends. */
struct core {
    const char *p;
    size_t n;
};
struct core look_core(const char *marker);

#endif
