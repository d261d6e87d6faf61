/* room: the memory that answers hold while they grow or are being read, against max-answers-bytes; of it one
 * client gets a share, so that one who reads slowly never has all. Loop thread. */
#ifndef FLUXD_SERVER_API_ROOM_H
#define FLUXD_SERVER_API_ROOM_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"

struct answer_room {
    size_t most, share; /* of all; of one client */
    size_t held;
    struct list client; /* those that hold something */
};

/* What one answer holds. Zero: nothing. */
struct answer_hold {
    struct answer_client *client;
    size_t bytes;
};

void answer_room_init(struct answer_room *r, size_t most, size_t share); /* share 0: half of most */

/* The answer holds `bytes` from now on; less is always possible. client: as http_body_owner. ERR_OVERLOAD,
 * ERR_NOMEM: it holds what it held. */
enum err answer_room_set(struct answer_room *r, struct answer_hold *hold, uint64_t client, size_t bytes,
                         struct err_note *note);
void answer_room_give(struct answer_room *r, struct answer_hold *hold); /* all of it; twice is harmless */

#endif
