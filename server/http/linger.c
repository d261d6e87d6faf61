/* linger: refusals that the library cannot send, and the close that lets a client read them. Loop thread
 * only.
 *
 * A socket closed with unread bytes is reset, and a reset can overtake the answer. So after a refusal the
 * sending side is closed, and what the client still sends is read and dropped until it closes too, a second
 * has passed, or too much came. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "server/http/internal.h"

struct http_linger {
    struct list all; /* in http.linger */
    struct due_node due;
    struct http *http;
    uv_poll_t poll;
    int fd;
    size_t dropped;
};

static void on_closed(uv_handle_t *handle)
{
    struct http_linger *l = handle->data;
    struct http *h = l->http;
    h->n_linger--;
    free(l);
    http_maybe_done(h);
}

static void finish(struct http_linger *l)
{
    list_remove(&l->all);
    l->http->n_linger_fd--;
    http_due_clear(&l->due);
    uv_close((uv_handle_t *)&l->poll, on_closed);
    close(l->fd);
}

static void on_readable(uv_poll_t *p, int status, int events)
{
    struct http_linger *l = p->data;
    (void)events;
    char junk[16384];
    for (int i = 0; status >= 0 && i < 16; i++) {
        ssize_t n = recv(l->fd, junk, sizeof junk, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n <= 0) {
            finish(l);
            return;
        }
        l->dropped += (size_t)n;
        if (l->dropped > l->http->conf.drain_bytes) {
            finish(l);
            return;
        }
    }
    if (status < 0) finish(l);
}

static void on_due(struct due_node *n, enum due which)
{
    (void)which;
    finish(LIST_ITEM(n, struct http_linger, due));
}

bool http_linger_close_oldest(struct http *h)
{
    if (list_empty(&h->linger)) return false;
    finish(LIST_ITEM(h->linger.next, struct http_linger, all));
    return true;
}

/* All have the same time to go, so the oldest has had most of it. */
void http_linger(struct http *h, int fd)
{
    if (h->n_linger_fd >= h->conf.max_lingering) http_linger_close_oldest(h);
    struct http_linger *l = calloc(1, sizeof *l);
    if (!l || uv_poll_init(h->loop, &l->poll, fd) != 0) {
        free(l);
        close(fd);
        return;
    }
    l->http = h;
    l->fd = fd;
    l->poll.data = l;
    list_init(&l->due.node);
    l->due.expire = on_due;
    list_push_back(&h->linger, &l->all);
    h->n_linger++;
    h->n_linger_fd++;
    http_due_set(h, &l->due, DUE_LINGER);
    uv_poll_start(&l->poll, UV_READABLE, on_readable);
}

void http_linger_close_all(struct http *h)
{
    LIST_EACH_SAFE (it, &h->linger) finish(LIST_ITEM(it, struct http_linger, all));
}

/* The access log has calls alone; this is what never became one, or its end. */
static void log_refusal(int fd, const struct http_call *c, int status, const struct err_note *note)
{
    struct sockaddr_storage addr = {.ss_family = AF_UNSPEC};
    struct peer peer;
    char text[PEER_TEXT_BYTES];
    getpeername(fd, (struct sockaddr *)&addr, &(socklen_t){sizeof addr});
    peer_of_socket(&peer, &addr);
    log_line(LOG_DEBUG, "request refused", "id=%s client=%s status=%d code=%s why=\"%s\"", c ? c->id : "-",
             peer_text(&peer, text), status, err_code(note->code), note->text);
}

void http_refuse_raw(struct http *h, int fd, const struct http_call *c, const struct err_note *note)
{
    int status = err_status(note->code);
    struct strbuf body, b;
    strbuf_init(&body);
    strbuf_init(&b);
    http_call_error(c, note, &body);
    strbuf_printf(
        &b,
        "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\nConnection: close\r\n%s",
        status, MHD_get_reason_phrase_for((unsigned)status), body.len,
        status == 503 ? "Retry-After: 1\r\n" : "");
    http_put_own_lines(c, &b);
    strbuf_puts(&b, "\r\n");
    strbuf_put(&b, body.data, body.len);
    h->stats.by_status[status / 100]++;
    log_refusal(fd, c, status, note);
    /* An empty send buffer takes these few hundred bytes whole, or the client is lost anyway. */
    if (!strbuf_failed(&b) && !strbuf_failed(&body)) {
        ssize_t sent = send(fd, b.data, b.len, MSG_DONTWAIT | MSG_NOSIGNAL);
        (void)sent;
    }
    strbuf_fini(&b);
    strbuf_fini(&body);
}
