/* room: see room.h. Only long answers are counted, so the clients are few. */
#include "server/api/room.h"

#include <stdlib.h>

#include "base/check.h"

struct answer_client {
    struct list node; /* in answer_room.client */
    uint64_t id;
    size_t bytes;
    int n_answer;
};

void answer_room_init(struct answer_room *r, size_t most, size_t share)
{
    *r = (struct answer_room){.most = most, .share = share && share < most ? share : share ? most : most / 2};
    list_init(&r->client);
}

static struct answer_client *find(struct answer_room *r, uint64_t id)
{
    LIST_EACH (it, &r->client) {
        struct answer_client *c = LIST_ITEM(it, struct answer_client, node);
        if (c->id == id) return c;
    }
    return NULL;
}

static enum err check_more(const struct answer_room *r, size_t of_client, size_t more, struct err_note *note)
{
    if (more > r->most - r->held)
        return err_set(
            note, ERR_OVERLOAD, NULL,
            "this answer and those that grow or are being read exceed %zu bytes (--max-answers-bytes)",
            r->most);
    if (more > r->share - of_client)
        return err_set(
            note, ERR_OVERLOAD, NULL,
            "this answer and those of this client that grow or are being read exceed %zu bytes (--client-answers-bytes)",
            r->share);
    return OK;
}

/* Its first bytes. */
static enum err join(struct answer_room *r, struct answer_hold *hold, uint64_t id, struct err_note *note)
{
    struct answer_client *c = find(r, id);
    if (!c) {
        c = calloc(1, sizeof *c);
        if (!c) return err_set(note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
        c->id = id;
        list_push_back(&r->client, &c->node);
    }
    c->n_answer++;
    hold->client = c;
    return OK;
}

enum err answer_room_set(struct answer_room *r, struct answer_hold *hold, uint64_t client, size_t bytes,
                         struct err_note *note)
{
    if (bytes == 0) {
        answer_room_give(r, hold);
        return OK;
    }
    const struct answer_client *c = hold->client ? hold->client : find(r, client);
    enum err e = bytes > hold->bytes ? check_more(r, c ? c->bytes : 0, bytes - hold->bytes, note) : OK;
    if (!e && !hold->client) e = join(r, hold, client, note);
    if (e) return e;
    r->held = r->held - hold->bytes + bytes;
    hold->client->bytes = hold->client->bytes - hold->bytes + bytes;
    hold->bytes = bytes;
    return OK;
}

void answer_room_give(struct answer_room *r, struct answer_hold *hold)
{
    struct answer_client *c = hold->client;
    if (!c) return;
    CHECK(c->bytes >= hold->bytes && r->held >= hold->bytes);
    c->bytes -= hold->bytes;
    r->held -= hold->bytes;
    if (--c->n_answer == 0) {
        CHECK(c->bytes == 0);
        list_remove(&c->node);
        free(c);
    }
    *hold = (struct answer_hold){.bytes = 0};
}
