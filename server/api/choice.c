/* choice: see choice.h. */
#include "server/api/choice.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/utf8.h"

void choice_init(struct choice *c, const struct ask *a, const struct tokenizer *t, int index)
{
    *c = (struct choice){.ask = a,
                         .tokenizer = t,
                         .index = index,
                         .prompt_i = index / a->n_per_prompt,
                         .r = a->request[index]};
    strbuf_init(&c->raw);
    strbuf_init(&c->fresh);
    strbuf_init(&c->kept);
    strbuf_init(&c->reason);
    strbuf_init(&c->out);
    think_init(&c->think, a->think_open);
    stopper_init(&c->stopper, &a->stop, a->include_stop);
}

void choice_fini(struct choice *c)
{
    strbuf_fini(&c->raw);
    strbuf_fini(&c->fresh);
    strbuf_fini(&c->kept);
    strbuf_fini(&c->reason);
    strbuf_fini(&c->out);
    free(c->token);
    c->token = NULL;
}

size_t choice_bytes(const struct choice *c)
{
    return (size_t)c->cap_token * sizeof *c->token + c->raw.cap + c->fresh.cap + c->kept.cap + c->reason.cap +
           c->out.cap;
}

static bool keep_token(struct choice *c, const struct sample_out *s)
{
    if (!c->ask->logprobs) {
        c->n_token++;
        return true;
    }
    if (c->n_held == c->cap_token) {
        const int cap = c->cap_token ? 2 * c->cap_token : 16;
        struct sample_out *p = realloc(c->token, (size_t)cap * sizeof *p);
        if (!p) return false;
        c->token = p;
        c->cap_token = cap;
    }
    c->token[c->n_held++] = *s;
    c->n_token++;
    return true;
}

static void tell_apart(struct choice *c)
{
    const char *text = c->kept.data ? c->kept.data : "";
    if (c->ask->thinks)
        think_feed(&c->think, text, c->kept.len, &c->reason, &c->out);
    else
        strbuf_put(&c->out, text, c->kept.len);
    strbuf_clear(&c->kept);
}

/* Moves n bytes of raw on; the first min_tokens tokens cannot end the answer. */
static void pass_on(struct choice *c, size_t n)
{
    strbuf_clear(&c->fresh);
    utf8_sanitize(c->raw.data ? c->raw.data : "", n, &c->fresh);
    strbuf_drop_front(&c->raw, n);
    const char *text = c->fresh.data ? c->fresh.data : "";
    if (c->n_token <= c->ask->min_tokens)
        strbuf_put(&c->kept, text, c->fresh.len);
    else
        c->stopped = stopper_feed(&c->stopper, text, c->fresh.len, &c->kept);
    tell_apart(c);
}

static void take_token(struct choice *c, const struct event *e)
{
    const bool text = !(e->last && !c->ask->include_stop) &&
                      !(c->ask->skip_special && tokenizer_is_special(c->tokenizer, e->token.id));
    if (!keep_token(c, &e->token)) c->failed = ERR_NOMEM;
    if (!text) return;
    size_t n;
    const char *p = tokenizer_bytes(c->tokenizer, e->token.id, &n);
    strbuf_put(&c->raw, p, n);
    pass_on(c, utf8_complete(c->raw.data ? c->raw.data : "", c->raw.len));
}

static void take_done(struct choice *c, const struct event *e)
{
    static const char *const word[] = {
        [FINISH_STOP] = "stop", [FINISH_LENGTH] = "length", [FINISH_ROUTED] = "routed"};
    c->done = true;
    if (!c->stopped) {
        pass_on(c, c->raw.len);
        stopper_end(&c->stopper, &c->kept);
    }
    tell_apart(c);
    think_end(&c->think, &c->reason, &c->out);
    if (c->stopped)
        c->finish = "stop";
    else if (e->finish == FINISH_STOP || e->finish == FINISH_LENGTH || e->finish == FINISH_ROUTED)
        c->finish = word[e->finish];
    else if (e->finish == FINISH_ERROR)
        c->failed = c->r->note.code ? c->r->note.code : ERR_INTERNAL;
    else if (!c->failed)
        c->failed = ERR_CANCELLED;
}

bool choice_take(struct choice *c, const struct event *e)
{
    CHECK(!c->done);
    const bool before = c->stopped;
    if (e->kind == EVENT_DONE)
        take_done(c, e);
    else if (!c->stopped)
        take_token(c, e);
    if (strbuf_failed(&c->raw) || strbuf_failed(&c->fresh) || strbuf_failed(&c->kept) ||
        strbuf_failed(&c->reason) || strbuf_failed(&c->out))
        c->failed = ERR_NOMEM;
    if (c->done) c->end = c->failed == ERR_NOMEM ? FINISH_ERROR : c->stopped ? FINISH_STOP : e->finish;
    return c->stopped && !before && !c->done;
}
