/* http: opens and closes what the other files run: the listening socket (listen.c), the gate (gate.c), the
 * library (library.c). Loop thread only. */
#include "server/http/http.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "server/http/internal.h"
#include "server/http/recv.h"

enum err http_open(struct http **out, uv_loop_t *loop, const struct http_conf *conf, struct err_note *note)
{
    *out = NULL;
    struct http *h = calloc(1, sizeof *h);
    if (!h) return err_set(note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
    h->conf = *conf;
    h->loop = loop;
    list_init(&h->conn);
    list_init(&h->linger);
    list_init(&h->left);
    list_init(&h->gone);
    list_init(&h->room);
    body_room_init(&h->bodies, conf->small_body_bytes, conf->max_bodies_bytes,
                   body_room_share(conf->client_bodies_bytes, conf->max_bodies_bytes, conf->max_body_bytes));
    h->peek = malloc(conf->max_header_bytes + 1);
    enum err e = crowd_init(&h->crowd, conf->max_connections) && h->peek && http_keys_init(h)
                     ? http_recv_prove(note)
                     : err_set(note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
    if (!e) e = peer_nets_read(&h->trusted, conf->trusted_proxies, note);
    if (!e) e = http_listen_bind(h, note);
    if (!e && !http_library_open(h))
        e = err_set(note, ERR_IO, "--port", "the HTTP library does not start: %s", strerror(errno));
    if (e) goto fail;
    h->origin = (struct origin_rules){
        .host = conf->allowed_hosts && *conf->allowed_hosts,
        .origin = h->n_key == 0,
        .hosts = conf->allowed_hosts,
        .pages = conf->cors_origins,
    };
    uint8_t salt[16];
    hash_random_key(salt);
    memcpy(&h->id_salt, salt, sizeof h->id_salt);
    http_due_open(h);
    if (!http_listen_start(h) || !http_library_start(h)) {
        /* What the loop knows of it by now stays: nobody runs a loop whose server did not open. */
        MHD_stop_daemon(h->mhd);
        return err_set(note, ERR_INTERNAL, NULL, "the event loop does not watch the sockets");
    }
    *out = h;
    return OK;
fail:
    for (int i = 0; i < h->bound.n; i++) bind_close(&h->bound.at[i]);
    http_keys_fini(h);
    crowd_fini(&h->crowd);
    free(h->peek);
    free(h);
    return e;
}

int http_port(const struct http *h) { return h->bound.port; }

bool http_is_loopback(const struct http *h)
{
    bool all = true;
    for (int i = 0; i < h->bound.n; i++) all &= h->bound.at[i].loopback || h->bound.at[i].path;
    return all;
}

int http_calls(const struct http *h) { return h->n_call; }

int http_answering(const struct http *h) { return h->n_live_call; }

const struct http_stats *http_stats(struct http *h)
{
    h->stats.body_bytes = h->bodies.small_bytes + h->bodies.big_bytes;
    return &h->stats;
}

void http_end_calls(struct http *h, const struct err_note *note)
{
    LIST_EACH (it, &h->conn) {
        struct http_call *c = LIST_ITEM(it, struct http_conn, all)->call;
        if (c && c->with_handler) http_call_overtake(c, note);
    }
}

void http_close(struct http *h, void (*done)(void *), void *arg)
{
    CHECK(!h->running && !h->closing);
    h->closing = true;
    h->on_closed = done;
    h->on_closed_arg = arg;
    http_listen_close(h);
    http_library_stop(h);
    http_gate_close_all(h);
    http_linger_close_all(h);
    http_due_close(h);
    http_call_tell(h);
}
