/* frame: where each request of a connection begins and ends. Pure: bytes in, how many of them may pass out.
 *
 * Every byte of a connection goes through here on its way to the HTTP library. A header block passes when it
 * is whole and obeys the rules of http_guard, then exactly its body, chunk by chunk where it is chunked, then
 * the next block is looked at. So the library and these rules can never disagree about where a request
 * begins. */
#ifndef FLUXD_SERVER_HTTP_FRAME_H
#define FLUXD_SERVER_HTTP_FRAME_H

#include "server/http/guard.h"

enum frame_at {
    FRAME_HEAD,
    FRAME_BODY, /* with a Content-Length */
    FRAME_CHUNK_SIZE,
    FRAME_CHUNK_DATA,
    FRAME_CHUNK_END,
    FRAME_TRAILER,
    FRAME_REFUSED
};

/* Starts as zeros for each connection. */
struct frame {
    enum frame_at at;
    struct guard head; /* the block that is being read */
    uint64_t left;     /* bytes of the body, or of the chunk */
    size_t n_head; /* bytes of the header block and of what is behind the last chunk: one bound for both */
    int n_field;   /* and one for their fields */
    uint64_t n_request; /* header blocks passed; once something is refused, the number of the request it is
                           part of */
    const char
        *stub; /* once refused: what makes a whole request of what has passed, for the library to answer */
};

/* p: the n bytes that follow those passed so far. Returns how many of them may pass; the others come again,
 * with more behind them. *e: OK, or why nothing will pass any more (the codes of guard_block and
 * guard_verdict). */
size_t frame_pass(struct frame *f, const char *p, size_t n, const struct guard_bound *max, enum err *e,
                  struct err_note *note);

/* What may not pass yet is never longer than this. */
static inline size_t frame_held_max(const struct guard_bound *max) { return max->n_byte + 1; }

#endif
