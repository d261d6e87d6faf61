/* choice: one growing answer: tokens in, certain text out. Loop thread; knows nothing of HTTP or JSON.
 * Streamed and whole answers take the same way: token bytes -> whole characters -> stop strings -> parts:
 * what was reasoned, what is said, calls of tools. */
#ifndef FLUXD_SERVER_API_CHOICE_H
#define FLUXD_SERVER_API_CHOICE_H

#include "server/api/answer.h"
#include "server/api/prep.h"
#include "server/text/tools/parts.h"

/* What the parts hold that was not told yet, as an answer has it. */
struct said {
    bool full;
    struct strbuf text, reason;
    struct answer_call *call; /* [n_call] */
    int n_call;
};

struct choice {
    const struct ask *ask;
    const struct tokenizer *tokenizer;
    int index, prompt_i;
    struct request *r;
    struct strbuf raw;       /* bytes of a character that is not whole yet */
    struct strbuf fresh;     /* whole characters on their way through the stopper */
    struct strbuf kept;      /* what the stopper has let through */
    struct tool_parts parts; /* what is certain; its bytes are cleared by the code that sends them */
    struct stopper stopper;
    struct tool_parser parser; /* of a chat's answer */
    struct sample_out *token; /* [n_held] when the call asks for log-probabilities: those that are not told */
    int32_t *offset;          /* [n_held] likewise: code points of the text that end before the token */
    int32_t n_char;           /* of the text so far */
    int n_token, n_held, cap_token; /* n_token: of the answer */
    int n_thought;                  /* of n_token, what was reasoned */
    size_t counted;                 /* bytes, in gen.bytes */
    bool ending;                    /* the last token was read: DONE follows at once */
    bool stopped;                   /* a stop string: what still comes is not part of the answer */
    const char *finish;             /* NULL while it grows */
    enum finish end; /* once done: how it ended for the client, whatever the scheduler made of it meanwhile */
    enum err failed; /* OK, or why there is no answer */
    bool done;       /* DONE was read (or the request was never accepted) */
    bool pending;    /* with the scheduler */
    /* what the stream has told of it */
    bool told_begin, told_finish;
    bool untold;     /* news waits for room */
    int told_prompt; /* tokens of the prompt, where they are scored */
    int told_token;  /* of n_token */
    struct said said;
    uint8_t id_key[16]; /* what the ids of its calls are made from */
};

void choice_init(struct choice *c, const struct ask *a, const struct tokenizer *t, int index);
void choice_fini(struct choice *c);
size_t choice_bytes(const struct choice *c); /* held for its answer */
/* True: a stop string was completed by this very event, the request is to be cancelled. */
bool choice_take(struct choice *c, const struct event *e);

/* Gathers into c->said what the parts hold, unless it is there already; false: out of memory. */
bool choice_say(struct choice *c);
void choice_was_told(struct choice *c);    /* what was gathered: it is not gathered again */
void choice_told(struct choice *c, int n); /* likewise, of the first n parts */
/* The id of a call: the same however the answer is told. */
void choice_call_id(const struct choice *c, const struct tool_part *p, char out[ANSWER_CALL_ID_BYTES]);

#endif
