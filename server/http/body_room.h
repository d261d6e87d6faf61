/* body_room: which bytes of request bodies may be held at once, and by whom. Counts only; the memory is
 * http_body's.
 *
 * Two pools. A small body takes no bytes of the big ones': it always has room, since connections are counted
 * and each brings one body at a time. A body that outgrows `small_most` moves to the big pool with all its
 * bytes. There the sum is bounded, and so is each client's part, so that one client never takes all of it.
 * Bytes count when they have come, not when they are announced. One thread. */
#ifndef FLUXD_SERVER_HTTP_BODY_ROOM_H
#define FLUXD_SERVER_HTTP_BODY_ROOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"

/* An API key, or an address: what counts as one client. */
struct body_owner {
    uint64_t hi, lo;
};

struct body_room {
    size_t small_most;             /* bytes of one small body */
    size_t big_most;               /* bytes of all bodies that are not small */
    size_t client_most;            /* of these, bytes of one client's */
    size_t small_bytes, big_bytes; /* held now */
    int n_hold;                    /* bodies that hold bytes now */
    struct list client;            /* those with a big body */
};

/* What one body holds. Zero: nothing. */
struct body_hold {
    struct body_client *client; /* of a big body */
    size_t bytes;
};

/* What one client may hold. asked 0: half of all; at least one body of the greatest length, at most all. */
size_t body_room_share(size_t asked, size_t big_most, size_t body_most);

void body_room_init(struct body_room *r, size_t small_most, size_t big_most, size_t client_most);

/* Makes a body hold `bytes`, which never become fewer. ERR_OVERLOAD, ERR_NOMEM: it holds what it held. */
enum err body_room_grow(struct body_room *r, struct body_hold *hold, struct body_owner owner, size_t bytes,
                        struct err_note *note);
void body_room_give(struct body_room *r, struct body_hold *hold); /* all that it holds; twice is harmless */

#endif
