/* body_room: see the header. Clients with big bodies stand in a list: each holds more than small_most bytes
 * of big_most, so there are few, and a body looks its client up once, when it outgrows the small ones. */
#include "server/http/body_room.h"

#include <stdlib.h>

#include "base/check.h"

struct body_client {
    struct list node; /* in body_room.client */
    struct body_owner owner;
    size_t bytes;
    int n_body;
};

size_t body_room_share(size_t asked, size_t big_most, size_t body_most)
{
    size_t share = asked ? asked : big_most / 2;
    if (share < body_most) share = body_most;
    return share < big_most ? share : big_most;
}

void body_room_init(struct body_room *r, size_t small_most, size_t big_most, size_t client_most)
{
    *r = (struct body_room){.small_most = small_most, .big_most = big_most, .client_most = client_most};
    list_init(&r->client);
}

static struct body_client *find(struct body_room *r, struct body_owner owner)
{
    LIST_EACH (it, &r->client) {
        struct body_client *c = LIST_ITEM(it, struct body_client, node);
        if (c->owner.hi == owner.hi && c->owner.lo == owner.lo) return c;
    }
    return NULL;
}

static enum err check_big(const struct body_room *r, size_t of_client, size_t more, struct err_note *note)
{
    if (more > r->client_most - of_client)
        return err_set(
            note, ERR_OVERLOAD, NULL,
            "the bodies of this client's requests in flight exceed %zu bytes (client-bodies-bytes)",
            r->client_most);
    if (more > r->big_most - r->big_bytes)
        return err_set(note, ERR_OVERLOAD, NULL,
                       "the bodies of all requests in flight exceed %zu bytes (max-bodies-bytes)",
                       r->big_most);
    return OK;
}

static void add(struct body_room *r, struct body_hold *hold, size_t more)
{
    hold->bytes += more;
    hold->client->bytes += more;
    r->big_bytes += more;
}

/* Its first bytes beyond the small ones: from now on all of them are the client's. */
static enum err move(struct body_room *r, struct body_hold *hold, struct body_owner owner, size_t bytes,
                     struct err_note *note)
{
    struct body_client *c = find(r, owner);
    enum err e = check_big(r, c ? c->bytes : 0, bytes, note);
    if (e) return e;
    if (!c) {
        c = calloc(1, sizeof *c);
        if (!c) return err_set(note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
        c->owner = owner;
        list_push_back(&r->client, &c->node);
    }
    r->small_bytes -= hold->bytes;
    r->n_hold += hold->bytes == 0;
    c->n_body++;
    *hold = (struct body_hold){.client = c};
    add(r, hold, bytes);
    return OK;
}

enum err body_room_grow(struct body_room *r, struct body_hold *hold, struct body_owner owner, size_t bytes,
                        struct err_note *note)
{
    if (bytes <= hold->bytes) return OK;
    const size_t more = bytes - hold->bytes;
    if (hold->client) {
        enum err e = check_big(r, hold->client->bytes, more, note);
        if (!e) add(r, hold, more);
        return e;
    }
    if (bytes > r->small_most) return move(r, hold, owner, bytes, note);
    r->n_hold += hold->bytes == 0;
    hold->bytes = bytes;
    r->small_bytes += more;
    return OK;
}

void body_room_give(struct body_room *r, struct body_hold *hold)
{
    struct body_client *c = hold->client;
    if (hold->bytes == 0) return;
    r->n_hold--;
    if (!c) {
        r->small_bytes -= hold->bytes;
    } else {
        CHECK(c->bytes >= hold->bytes && r->big_bytes >= hold->bytes);
        c->bytes -= hold->bytes;
        r->big_bytes -= hold->bytes;
        if (--c->n_body == 0) {
            CHECK(c->bytes == 0);
            list_remove(&c->node);
            free(c);
        }
    }
    *hold = (struct body_hold){.bytes = 0};
}
