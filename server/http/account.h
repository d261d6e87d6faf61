/* account: whose an API key is: one named line of the key file, several of one name, or a key without a name.
 * Loop thread. It lives while the key file has it or somebody holds it, so an answer outlives its key. */
#ifndef FLUXD_SERVER_HTTP_ACCOUNT_H
#define FLUXD_SERVER_HTTP_ACCOUNT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/list.h"

enum { ACCOUNT_NAME_BYTES = 64 };

/* A line of the key file. */
struct key_row {
    char *key;
    char name[ACCOUNT_NAME_BYTES]; /* "": none */
    int64_t running_most;          /* requests at the same time, 0: no limit */
    int64_t tok_per_minute;        /* of prompts and answers, 0: no limit */
};

struct key_list {
    struct key_row *row; /* [n] */
    int n;
};

struct http_account {
    uint32_t id; /* from 1; never another's, for cached prompts are told apart by it */
    char name[ACCOUNT_NAME_BYTES];
    int64_t running_most, tok_per_minute;
    /* the endpoint code's */
    int running;
    double tok_left; /* of this minute; below 0: owed */
    int64_t at_ns;   /* when tok_left was right */
    uint64_t n_request, n_refused, n_prompt_tok, n_answer_tok;
    /* the key ring's */
    struct list all;
    struct hash128 key; /* of one without a name, which is found again by it */
    int n_key, n_hold;
};

static inline const char *account_name(const struct http_account *a)
{
    return a->name[0] ? a->name : "unnamed";
}

#endif
