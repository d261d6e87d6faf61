/* room: the memory that answers hold while they grow or are being read, against max-answers-bytes. Loop
 * thread. */
#ifndef FLUXD_SERVER_API_ROOM_H
#define FLUXD_SERVER_API_ROOM_H

#include <stddef.h>

#include "base/err.h"

struct answer_room {
    size_t most, held;
};

/* An answer that is counted with *mine holds `bytes` from now on; less is always possible. ERR_OVERLOAD:
 * there is no room, and *mine stays as it was. */
enum err answer_room_set(struct answer_room *r, size_t *mine, size_t bytes, struct err_note *note);

#endif
