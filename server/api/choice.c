/* choice: see choice.h. */
#include "server/api/choice.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
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
    tool_parts_init(&c->parts);
    strbuf_init(&c->said.text);
    strbuf_init(&c->said.reason);
    if (a->thinks)
        tool_parser_init(&c->parser, a->format, a->tools, a->think_open, tool_parts_take, &c->parts);
    hash_random_key(c->id_key);
    stopper_init(&c->stopper, &a->stop, a->include_stop);
}

void choice_fini(struct choice *c)
{
    strbuf_fini(&c->raw);
    strbuf_fini(&c->fresh);
    strbuf_fini(&c->kept);
    if (c->ask->thinks) tool_parser_fini(&c->parser);
    tool_parts_fini(&c->parts);
    strbuf_fini(&c->said.text);
    strbuf_fini(&c->said.reason);
    free(c->said.call);
    free(c->token);
    free(c->offset);
    c->token = NULL;
    c->offset = NULL;
}

size_t choice_bytes(const struct choice *c)
{
    return (size_t)c->cap_token * (sizeof *c->token + sizeof *c->offset) + c->raw.cap + c->fresh.cap +
           c->kept.cap + c->said.text.cap + c->said.reason.cap + tool_parts_bytes(&c->parts);
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
        if (p) c->token = p;
        int32_t *at = p ? realloc(c->offset, (size_t)cap * sizeof *at) : NULL;
        if (!at) return false;
        c->offset = at;
        c->cap_token = cap;
    }
    c->offset[c->n_held] = c->n_char;
    c->token[c->n_held++] = *s;
    c->n_token++;
    return true;
}

static void tell_apart(struct choice *c)
{
    const char *text = c->kept.data ? c->kept.data : "";
    if (c->ask->thinks)
        tool_parser_feed(&c->parser, text, c->kept.len);
    else if (c->kept.len)
        tool_parts_take(&c->parts, &(struct tool_event){.kind = TOOL_TEXT, .p = text, .n = c->kept.len});
    strbuf_clear(&c->kept);
}

/* Moves n bytes of raw on; the first min_tokens tokens cannot end the answer. */
static void pass_on(struct choice *c, size_t n)
{
    strbuf_clear(&c->fresh);
    utf8_sanitize(c->raw.data ? c->raw.data : "", n, &c->fresh);
    strbuf_drop_front(&c->raw, n);
    const char *text = c->fresh.data ? c->fresh.data : "";
    c->n_char += (int32_t)utf8_count(text, c->fresh.len);
    if (c->n_token <= c->ask->min_tokens)
        strbuf_put(&c->kept, text, c->fresh.len);
    else
        c->stopped = stopper_feed(&c->stopper, text, c->fresh.len, &c->kept);
    tell_apart(c);
}

static void take_token(struct choice *c, const struct event *e)
{
    size_t n;
    const char *p = tokenizer_bytes(c->tokenizer, e->token.id, &n);
    const size_t cut = c->raw.len;
    const bool skip = c->ask->skip_special && tokenizer_is_special(c->tokenizer, e->token.id) &&
                      !(c->ask->thinks && tool_format_marks(c->ask->format, c->ask->tools != NULL, p, n));
    if (!keep_token(c, &e->token)) c->failed = ERR_NOMEM;
    c->ending = e->last || c->n_token == c->r->ask.max_new;
    if (skip || (e->last && !c->ask->include_stop)) return;
    strbuf_put(&c->raw, p, n);
    if (c->n_held > 0 && !c->failed && utf8_breaks(c->raw.data, c->raw.len, cut))
        c->offset[c->n_held - 1]++; /* the cut character ended before this token */
    pass_on(c, utf8_complete(c->raw.data ? c->raw.data : "", c->raw.len));
    if (c->ask->thinks && tool_parser_thinks(&c->parser)) c->n_thought = c->n_token;
    if (!c->stopped) return; /* the text is whole: what DONE says does not matter any more */
    if (c->ask->thinks) tool_parser_end(&c->parser);
    c->finish = "stop";
}

static void take_done(struct choice *c, const struct event *e)
{
    static const char *const word[] = {
        [FINISH_STOP] = "stop", [FINISH_LENGTH] = "length", [FINISH_ROUTED] = "routed"};
    c->done = true;
    if (c->stopped) return;
    pass_on(c, c->raw.len);
    if (c->stopped) c->finish = "stop";
    stopper_end(&c->stopper, &c->kept);
    tell_apart(c);
    if (c->ask->thinks) tool_parser_end(&c->parser);
    if (c->stopped) return;
    if (e->finish == FINISH_STOP && tool_parts_called(&c->parts))
        c->finish = "tool_calls";
    else if (e->finish == FINISH_STOP || e->finish == FINISH_LENGTH || e->finish == FINISH_ROUTED)
        c->finish = word[e->finish];
    else if (e->finish == FINISH_ERROR)
        c->failed = c->r->shared.note.code ? c->r->shared.note.code : ERR_INTERNAL;
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
    if (strbuf_failed(&c->raw) || strbuf_failed(&c->fresh) || strbuf_failed(&c->kept) || c->parts.failed ||
        (c->ask->thinks && tool_parser_failed(&c->parser)))
        c->failed = ERR_NOMEM;
    if (c->done) c->end = c->failed == ERR_NOMEM ? FINISH_ERROR : c->stopped ? FINISH_STOP : e->finish;
    return c->stopped && !before && !c->done;
}

void choice_call_id(const struct choice *c, const struct tool_part *p, char out[ANSWER_CALL_ID_BYTES])
{
    static const char digit[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    const struct hash128 h = hash128(c->id_key, &p->call, sizeof p->call);
    const enum tool_id kind = c->ask->format->id;
    uint64_t bits[2] = {h.lo, h.hi};
    if (kind == TOOL_ID_INDEX) {
        snprintf(out, ANSWER_CALL_ID_BYTES, "functions.%.*s:%d", (int)p->name.len, p->name.data,
                 c->ask->n_past_call + p->call);
        return;
    }
    const size_t from = kind == TOOL_ID_NINE ? 0 : 5, n = kind == TOOL_ID_NINE ? 9 : 24;
    memcpy(out, "call_", from);
    for (size_t i = 0; i < n; i++) { /* 12 digits of 36 out of 64 bits */
        out[from + i] = digit[bits[i / 12] % 36];
        bits[i / 12] /= 36;
    }
    out[from + n] = '\0';
}

static bool is_news(const struct tool_part *p)
{
    return p->kind == TOOL_CALL && (!p->told || p->text.len > 0);
}

static bool say_calls(struct choice *c)
{
    struct said *s = &c->said;
    int n = 0;
    for (int i = 0; i < c->parts.n; i++) n += is_news(&c->parts.v[i]);
    s->call = n ? calloc((size_t)n, sizeof *s->call) : NULL;
    if (n && !s->call) return false;
    for (int i = 0; i < c->parts.n; i++) {
        const struct tool_part *p = &c->parts.v[i];
        if (!is_news(p)) continue;
        struct answer_call *call = &s->call[s->n_call++];
        *call = (struct answer_call){.index = p->call,
                                     .begins = !p->told,
                                     .name = p->name.data,
                                     .n_name = p->name.len,
                                     .args = p->text.data ? p->text.data : "",
                                     .n_args = p->text.len};
        choice_call_id(c, p, call->id);
    }
    return true;
}

bool choice_say(struct choice *c)
{
    struct said *s = &c->said;
    if (s->full) return true;
    s->full = true;
    for (int i = 0; i < c->parts.n; i++) {
        struct tool_part *p = &c->parts.v[i];
        if (p->kind == TOOL_CALL || p->text.len == 0) continue;
        struct strbuf *to = p->kind == TOOL_TEXT ? &s->text : &s->reason;
        if (to->len == 0) { /* nearly always: the bytes move */
            const struct strbuf empty = *to;
            *to = p->text;
            p->text = empty;
        } else {
            strbuf_put(to, p->text.data, p->text.len);
        }
        strbuf_clear(&p->text);
    }
    return say_calls(c) && !strbuf_failed(&s->text) && !strbuf_failed(&s->reason);
}

void choice_was_told(struct choice *c) { choice_told(c, c->parts.n); }

void choice_told(struct choice *c, int n)
{
    strbuf_clear(&c->said.text);
    strbuf_clear(&c->said.reason);
    free(c->said.call);
    c->said.call = NULL;
    c->said.n_call = 0;
    c->said.full = false;
    for (int i = 0; i < n; i++) {
        c->parts.v[i].told = true;
        strbuf_clear(&c->parts.v[i].text);
    }
}
