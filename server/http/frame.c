/* frame: see the header. RFC 9112, 6.3 (length of a body) and 7.1 (chunks), read strictly: CR LF and nothing
 * else ends a line, a chunk size is 1 to 16 hexadecimal digits, and no white space stands beside it. */
#include "server/http/frame.h"

#include <string.h>

enum { SIZE_DIGITS = 16 };

/* A step looks at what stands at p. *used: bytes that may pass, 0: more are needed. */

static enum err pass_head(struct frame *f, const char *p, size_t n, const struct guard_bound *max,
                          size_t *used, struct err_note *note)
{
    enum err e = guard_block(&f->head, p, n, max, note);
    if (e == ERR_IO) return OK;
    f->n_request++;
    if (!e)
        e = guard_verdict(&f->head, (size_t)INT64_MAX, note); /* the body's limit comes after path and key */
    if (e) return e;
    *used = f->n_head = f->head.at;
    f->n_field = f->head.n_field;
    f->left = f->head.length;
    f->at = f->head.n_coding > 0 ? FRAME_CHUNK_SIZE : f->left > 0 ? FRAME_BODY : FRAME_HEAD;
    f->head = (struct guard){.at = 0};
    return OK;
}

static void pass_bytes(struct frame *f, size_t n, size_t *used)
{
    *used = f->left < n ? (size_t)f->left : n;
    f->left -= *used;
    if (f->left == 0) f->at = f->at == FRAME_BODY ? FRAME_HEAD : FRAME_CHUNK_END;
}

static enum err bad_chunk(struct err_note *note, const char *why)
{
    return err_set(note, ERR_INVALID_REQUEST, NULL, "%s", why);
}

static enum err pass_chunk_size(struct frame *f, const char *p, size_t n, const struct guard_bound *max,
                                size_t *used, struct err_note *note)
{
    uint64_t size = 0;
    size_t i = 0;
    for (; i < n && guard_hex(p[i]) >= 0; i++) {
        if (i == SIZE_DIGITS)
            return err_set(note, ERR_TOO_LARGE, NULL, "a chunk size has more than %d digits", SIZE_DIGITS);
        size = size << 4 | (unsigned)guard_hex(p[i]);
    }
    if (i == n) return OK;
    if (i == 0 || (p[i] != ';' && p[i] != '\r'))
        return bad_chunk(note, "a chunk size must be hexadecimal digits");
    const char *lf = memchr(p + i, '\n', n - i);
    if (lf ? lf[-1] != '\r' || !guard_is_value(p + i, (size_t)(lf - 1 - p) - i) : p[i] == '\r' && i + 1 < n)
        return bad_chunk(note, "the line of a chunk size must end in CR LF");
    if ((lf ? (size_t)(lf - p) : n) > max->n_byte)
        return bad_chunk(note, "the line of a chunk size is too long");
    if (size > (uint64_t)INT64_MAX)
        return err_set(note, ERR_TOO_LARGE, NULL, "the request body is too large");
    if (!lf) return OK;
    *used = (size_t)(lf + 1 - p);
    f->left = size;
    f->at = size > 0 ? FRAME_CHUNK_DATA : FRAME_TRAILER;
    return OK;
}

static enum err pass_chunk_end(struct frame *f, const char *p, size_t n, size_t *used, struct err_note *note)
{
    if (memcmp(p, "\r\n", n < 2 ? n : 2) != 0) return bad_chunk(note, "a chunk is longer than its size says");
    if (n < 2) return OK;
    *used = 2;
    f->at = FRAME_CHUNK_SIZE;
    return OK;
}

static enum err pass_trailer(struct frame *f, const char *p, size_t n, const struct guard_bound *max,
                             size_t *used, struct err_note *note)
{
    const char *lf = memchr(p, '\n', n);
    size_t len = lf ? (size_t)(lf + 1 - p) : n;
    if (lf && (len < 2 || lf[-1] != '\r'))
        return err_set(note, ERR_INVALID_REQUEST, NULL, "lines must end in CR LF");
    if (f->n_head + len > max->n_byte)
        return err_set(note, ERR_HEADER_SIZE, NULL, "the headers and the trailer exceed %zu bytes",
                       max->n_byte);
    if (!lf) return OK;
    enum err e = len > 2 ? guard_trailer(p, len - 2, &f->n_field, max, note) : OK;
    if (e) return e;
    *used = len;
    f->n_head += len;
    if (len == 2) f->at = FRAME_HEAD;
    return OK;
}

static enum err pass_step(struct frame *f, const char *p, size_t n, const struct guard_bound *max,
                          size_t *used, struct err_note *note)
{
    switch (f->at) {
    case FRAME_HEAD:
        return pass_head(f, p, n, max, used, note);
    case FRAME_BODY:
    case FRAME_CHUNK_DATA:
        pass_bytes(f, n, used);
        return OK;
    case FRAME_CHUNK_SIZE:
        return pass_chunk_size(f, p, n, max, used, note);
    case FRAME_CHUNK_END:
        return pass_chunk_end(f, p, n, used, note);
    case FRAME_TRAILER:
        return pass_trailer(f, p, n, max, used, note);
    case FRAME_REFUSED:
        return OK;
    }
    return OK;
}

size_t frame_pass(struct frame *f, const char *p, size_t n, const struct guard_bound *max, enum err *e,
                  struct err_note *note)
{
    static const char *const stub[] = {
        [FRAME_HEAD] = "REFUSED / HTTP/1.1\r\n\r\n",
        [FRAME_CHUNK_SIZE] = "0\r\n\r\n",
        [FRAME_CHUNK_END] = "\r\n0\r\n\r\n",
        [FRAME_TRAILER] = "\r\n",
    };
    size_t at = 0, used = 1;
    *e = OK;
    while (at < n && used > 0) {
        used = 0;
        *e = pass_step(f, p + at, n - at, max, &used, note);
        if (*e) {
            f->stub = stub[f->at];
            f->at = FRAME_REFUSED;
            break;
        }
        at += used;
    }
    return at;
}
