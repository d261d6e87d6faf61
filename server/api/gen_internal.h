/* gen_internal: what gen.c (life) and the writers (what is said) share. Loop thread only. */
#ifndef FLUXD_SERVER_API_GEN_INTERNAL_H
#define FLUXD_SERVER_API_GEN_INTERNAL_H

#include "server/api/answer.h"
#include "server/api/choice.h"
#include "server/api/gen.h"

struct gen;

/* How a dialect says an answer. False of all but the last: out of memory. A writer of whole answers alone has
 * `next` alone. NULL: nothing to say there. */
struct gen_writer {
    bool (*open)(struct gen *g);                               /* makes g->said; before anything is said */
    void (*close)(struct gen *g);                              /* frees it */
    bool (*begin)(struct gen *g);                              /* stream: at once */
    bool (*news)(struct gen *g, struct choice *c);             /* stream: what is new of c */
    bool (*end)(struct gen *g);                                /* stream: what comes after all choices */
    bool (*error)(struct gen *g, const struct err_note *note); /* stream: the error's frame */
    /* The whole answer goes on, until out holds `most` bytes or a little more: true, or to its end: false.
     * Where memory is short, out fails. */
    bool (*next)(struct gen *g, struct strbuf *out, size_t most);
    bool (*now)(struct gen *g, struct strbuf *out); /* the answer as it stands; NULL: nobody may ask */
    bool chat;                                      /* gen_tell.c: which of its two shapes */
};
extern const struct gen_writer gen_writer_completion, gen_writer_chat, gen_writer_route, gen_writer_messages,
    gen_writer_responses, gen_writer_none;

struct gen {
    struct list node; /* in api.gens */
    struct api *api;
    struct http_account *account; /* held; NULL: no key was needed */
    bool entered;                 /* it counts among the account's */
    struct http_call *call;       /* NULL: answered, or the client left */
    struct ask *ask;
    const struct gen_writer *writer;
    void *said;            /* the writer's own */
    struct choice *choice; /* [n_choice] */
    int n_choice;
    int n_pending;  /* requests with the scheduler */
    int n_growing;  /* choices without an end */
    bool streaming; /* the 200 was sent */
    bool paused;    /* the client reads too slowly */
    bool over;      /* nothing more will be said */
    bool cancelled; /* by gen_cancel: it ends well */
    bool ended;     /* it counts no more */
    bool read;      /* the whole answer is being read, piece by piece */
    size_t bytes;   /* held for the answer */
    uint64_t client;
    struct answer_hold hold; /* of these, in api.room */
    struct {
        struct json_out o;
        struct answer_cursor cursor;
        int choice_i;
        bool begun, told_choices;
    } at; /* where the whole answer stands */
    int status;
    int64_t start_ns, first_ns; /* of the call; of the first token, 0: none yet */
    int64_t created;
    char id[112], request_id[32];
};

/* gen_usage.c: for the writers. */
struct answer_usage gen_count_usage(const struct gen *g);
bool gen_write_usage(const struct gen *g, struct json_out *o,
                     void (*write)(struct json_out *, const struct engine_info *,
                                   const struct answer_usage *)); /* false: out of memory */

#endif
