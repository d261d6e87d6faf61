/* walk: where one JSON value ends, a byte at a time. A strict reader (RFC 8259, as far as bytes tell) that
 * goes on behind a byte that does not fit, by brackets and quotes alone. Knows bytes only. */
#ifndef FLUXD_SERVER_TEXT_TOOLS_WALK_H
#define FLUXD_SERVER_TEXT_TOOLS_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { JSON_WALK_DEPTH = 256 }; /* more containers inside each other do not fit */

struct json_walk {
    uint8_t state, left; /* left: digits of \u, letters of a word */
    bool broken;         /* a byte did not fit */
    bool done;
    bool quoted, escaped; /* while broken: in a string, behind a backslash */
    const char *word;
    int depth;
    uint64_t is_object[JSON_WALK_DEPTH / 64];
};

enum walk_step {
    WALK_TAKEN, /* the byte belongs to the value */
    WALK_LAST,  /* and ends it */
    WALK_OVER,  /* the value ended before it */
};

void json_walk_init(struct json_walk *w);
enum walk_step json_walk_step(struct json_walk *w, char c);
bool json_walk_fits(const struct json_walk *w, char c); /* may c come next? w stays as it is */
bool json_walk_in_string(const struct json_walk *w);
bool json_walk_whole(const struct json_walk *w); /* what came is one whole value */

/* The members of an object that is one valid JSON text: at starts at 0; false: no more. key and value are the
 * bytes as they stand, key with its quotes. */
struct json_member {
    const char *key, *value;
    size_t n_key, n_value;
};
bool json_member_next(const char *p, size_t n, size_t *at, struct json_member *m);
bool json_is_object(const char *p, size_t n); /* one whole valid object, and nothing behind it */

static inline bool json_is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

#endif
