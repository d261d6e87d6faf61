/* gen_own: what gen.c (life) and gen_tell.c (what is said) share. Loop thread only. */
#ifndef FLUXD_SERVER_API_GEN_OWN_H
#define FLUXD_SERVER_API_GEN_OWN_H

#include "server/api/answer.h"
#include "server/api/choice.h"
#include "server/api/gen.h"

struct gen {
    struct list node; /* in api.gens */
    struct api *api;
    struct http_call *call; /* NULL: answered, or the client left */
    struct ask *ask;
    struct choice *choice; /* [n_choice] */
    int n_choice;
    int n_pending;  /* requests with the scheduler */
    int n_growing;  /* choices without an end */
    bool streaming; /* the 200 was sent */
    bool paused;    /* the client reads too slowly */
    bool over;      /* nothing more will be said */
    int status;
    int64_t start_ns, first_ns; /* of the call; of the first token, 0: none yet */
    int64_t created;
    char id[112], request_id[32];
};

bool gen_tell(struct gen *g, struct choice *c);         /* stream: what is new of c; false: out of memory */
bool gen_tell_end(struct gen *g);                       /* stream: usage and [DONE] */
bool gen_tell_whole(struct gen *g, struct strbuf *out); /* the whole answer; false: out of memory */
bool gen_tell_error(struct gen *g,
                    const struct err_note *note); /* stream: the error's frame; false: out of memory */

#endif
