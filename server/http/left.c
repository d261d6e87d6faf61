/* left: clients that leave, and the handlers that are told of it outside the library's own call stack. Loop
 * thread only. */
#include "server/http/internal.h"

void http_call_resume(struct http_call *c)
{
    if (!c->suspended || !c->mhd) return;
    c->suspended = false;
    MHD_resume_connection(c->mhd);
    http_kick(c->http);
}

void http_call_client_left(struct http_call *c)
{
    if (c->gone) return;
    c->gone = true;
    if (c->with_handler) list_push_back(&c->http->gone, &c->gone_node);
    if (c->conn) http_conn_cut(c->conn);
    http_call_resume(c); /* so that the library comes by and sees it */
    http_kick(c->http);
}

void http_set_gone(struct http_call *c, void (*on_gone)(void *), void *arg)
{
    c->on_gone = on_gone;
    c->gone_arg = arg;
    if (c->gone && !c->gone_told) {
        list_remove(&c->gone_node);
        list_push_back(&c->http->gone, &c->gone_node);
        http_kick(c->http);
    }
}

void http_call_tell(struct http *h)
{
    while (!list_empty(&h->gone)) {
        struct http_call *c = LIST_ITEM(h->gone.next, struct http_call, gone_node);
        list_remove(&c->gone_node);
        if (c->gone_told || !c->on_gone) continue;
        c->gone_told = true;
        c->on_gone(c->gone_arg);
    }
    while (!list_empty(&h->room)) {
        struct http_call *c = LIST_ITEM(h->room.next, struct http_call, room_node);
        list_remove(&c->room_node);
        if (c->with_handler && c->on_room) c->on_room(c->room_arg);
    }
}
