/* source: an answer that is made while the client reads it. The library asks for bytes when the socket takes
 * some, so a client that reads nothing costs one piece and what its source holds. Loop thread only. */
#include <stdlib.h>
#include <string.h>

#include "server/http/internal.h"

enum { BLOCK_BYTES = 16384 }; /* what the library asks for at once, at most */

struct reader {
    struct http_source source;
    struct strbuf piece;
    size_t off; /* bytes of it that the library has */
    bool ended;
};

static struct reader *reader_new(const struct http_source *s)
{
    struct reader *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    r->source = *s;
    strbuf_init(&r->piece);
    strbuf_put(&r->piece, s->begin, s->n_begin);
    return r;
}

static ssize_t read_piece(void *arg, uint64_t pos, char *to, size_t max)
{
    struct reader *r = arg;
    (void)pos;
    while (r->off == r->piece.len && !r->ended) {
        strbuf_clear(&r->piece);
        r->off = 0;
        r->ended = !r->source.next(r->source.arg, &r->piece);
    }
    if (strbuf_failed(&r->piece))
        return MHD_CONTENT_READER_END_WITH_ERROR; /* the connection is cut, so the client sees that it has not
                                                     all */
    if (r->off == r->piece.len) return MHD_CONTENT_READER_END_OF_STREAM;
    const size_t left = r->piece.len - r->off, n = left < max ? left : max;
    memcpy(to, r->piece.data + r->off, n);
    r->off += n;
    return (ssize_t)n;
}

static void reader_free(void *arg)
{
    struct reader *r = arg;
    r->source.free(r->source.arg);
    strbuf_fini(&r->piece);
    free(r);
}

void http_reply_source(struct http_call *c, const char *content_type, const struct http_source *s)
{
    struct reader *r = c->gone || c->overtaken ? NULL : reader_new(s);
    struct MHD_Response *answer =
        r && !strbuf_failed(&r->piece)
            ? MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES, read_piece, r, reader_free)
            : NULL;
    if (answer)
        MHD_add_response_header(answer, "Content-Type", content_type);
    else if (r)
        reader_free(r);
    else
        s->free(s->arg);
    if (!c->overtaken) http_call_set_response(c, 200, answer);
    http_call_finish(c);
}
