/* room: see room.h. */
#include "server/api/room.h"

#include "base/check.h"

enum err answer_room_set(struct answer_room *r, size_t *mine, size_t bytes, struct err_note *note)
{
    CHECK(r->held >= *mine);
    const size_t others = r->held - *mine;
    if (bytes > *mine && (others > r->most || bytes > r->most - others))
        return err_set(
            note, ERR_OVERLOAD, NULL,
            "this answer and those that grow or are being read exceed the %zu bytes of --max-answers-bytes",
            r->most);
    r->held = others + bytes;
    *mine = bytes;
    return OK;
}
